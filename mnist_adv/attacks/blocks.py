"""Evaluate a model on the images that still need it, a few at once.

A library's products round differently in batches of other sizes. In blocks of one size they always
round alike, however many images there are, and lanes that are done cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mnist_adv.tensors.lazy import tf

# So few that a single image hardly costs less, so many that a convolution is not slower per image.
SIZE = 8


def in_blocks(
    function: Callable[..., tuple[Any, ...]],
    arguments: Sequence[Any],
    done: Any,
    results: Sequence[Any],
) -> tuple[Any, ...]:
    """Call a function on the images that are not done, in blocks of one size.

    Args:
        function: `SIZE` images' arguments -> as many results.
        arguments: tensors `[n, ...]`, n a multiple of `SIZE`.
        done: `[n]` bool, whose results are not needed.
        results: a `tf.TensorSpec` of each result for one image.

    Returns:
        The results, `[n, ...]`; zeros, or anything, where an image is done.
    """
    lanes = done.shape[0]
    # The ones that are not done come first, in their order.
    order = tf.argsort(tf.cast(done, tf.int32), stable=True)
    count = lanes - tf.math.count_nonzero(done, dtype=tf.int32)

    def block(number: Any) -> tuple[Any, ...]:
        here = tf.slice(order, [number * SIZE], [SIZE])
        return function(*(tf.gather(argument, here) for argument in arguments))

    found = tf.map_fn(
        block,
        tf.range((count + SIZE - 1) // SIZE),
        fn_output_signature=tuple(
            tf.TensorSpec([SIZE, *spec.shape], spec.dtype) for spec in results
        ),
    )
    places = order[: tf.shape(found[0])[0] * SIZE, tf.newaxis]
    return tuple(
        tf.scatter_nd(places, tf.reshape(values, [-1, *spec.shape]), [lanes, *spec.shape])
        for values, spec in zip(found, results)
    )
