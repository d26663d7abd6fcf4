"""The borders of a model's classes, linearised at an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mnist_adv.attacks.blocks import in_blocks
from mnist_adv.attacks.methods import first_layer
from mnist_adv.attacks.task import Inputs, State, Task
from mnist_adv.geometry.norms import GEOMETRY, Norm, per_image
from mnist_adv.tensors.lazy import tf

# The norm by whose length of the gradient a gap between two logits becomes a distance.
_DUAL = {Norm.LINF: Norm.L1, Norm.L2: Norm.L2, Norm.L1: Norm.LINF}


def nearest_border(
    task: Task,
    inputs: Inputs,
    images: Any,
    values: Any,
    movable: Callable[[Any, Any], Any] | None = None,
) -> State:
    """Find the nearest border of the model linearised at each image: its gap and its normal.

    Args:
        task: what all images share; its norm is linf, l2 or l1.
        inputs: "classes", to be left, and "done" among them.
        images: `[n, *flat]`.
        values: of them, by `first_layer.first_values`.
        movable: images, normal -> the normal without the pixels that do not take part.

    Returns:
        "logits" `[n, k]`; "gap" `[n]`, the logit of the class less that of the other class at the
        border; "gradient" `[n, *flat]`, that of the gap. The latter two are 0 where no border has
        a gradient. Anything where an image is done.
    """

    def find(images: Any, values: Any, classes: Any) -> tuple[Any, Any, Any]:
        return _nearest(task, images, values, classes, movable)

    arguments = images, values, inputs["classes"]
    if task.blocked:
        shapes: tuple[tuple[int, ...], ...] = (task.num_classes,), (), task.flat
        results = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
        found = in_blocks(find, arguments, inputs["done"], results)
    else:
        found = find(*arguments)
    return dict(zip(("logits", "gap", "gradient"), found))


def _nearest(
    task: Task,
    images: Any,
    values: Any,
    classes: Any,
    movable: Callable[[Any, Any], Any] | None,
) -> tuple[Any, Any, Any]:
    rest = first_layer.after_first(task)
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(values)
        logits = rest.logits(values)
    own = tf.one_hot(classes, task.num_classes)

    def body(further: Any, distance: Any, gap: Any, normal: Any) -> tuple[Any, Any, Any, Any]:
        # One class after the other: the gradients of all of them would not stay in cache.
        rival = tf.math.floormod(classes + tf.cast(further, classes.dtype), task.num_classes)
        apart = own - tf.one_hot(rival, task.num_classes)
        ahead = tf.reduce_sum(apart * logits, axis=1)
        towards = first_layer.to_pixels(task, tape.gradient(logits, values, apart))
        if movable is not None:
            towards = movable(images, towards)
        length = dual_length(task.norm, towards)
        far = tf.where(length == 0, float("inf"), tf.math.divide_no_nan(tf.abs(ahead), length))
        nearer = far < distance
        return (
            further + 1,
            tf.where(nearer, far, distance),
            tf.where(nearer, ahead, gap),
            tf.where(per_image(nearer), towards, normal),
        )

    nothing = tf.zeros_like(images[:, 0, 0, 0])
    start = 1, nothing + float("inf"), nothing, tf.zeros_like(images)
    _, _, gap, normal = tf.while_loop(lambda further, *_: further < task.num_classes, body, start)
    return logits, gap, normal


def dual_length(norm: Norm, normal: Any) -> Any:
    """Measure a gradient in the dual norm.

    Args:
        norm: linf, l2 or l1.
        normal: `[n, *flat]`.

    Returns:
        `[n]`.
    """
    return GEOMETRY[_DUAL[norm]].length(normal)
