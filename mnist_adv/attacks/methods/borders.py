"""The borders of a model's classes, linearised at an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mnist_adv.attacks.methods import first_layer
from mnist_adv.attacks.task import Task
from mnist_adv.geometry.norms import GEOMETRY, Norm, per_image
from mnist_adv.tensors.lazy import tf

# The norm by whose length of the gradient a gap between two logits becomes a distance.
_DUAL = {Norm.LINF: Norm.L1, Norm.L2: Norm.L2, Norm.L1: Norm.LINF}


def nearest_border(
    task: Task,
    images: Any,
    values: Any,
    classes: Any,
    movable: Callable[[Any, Any], Any] | None = None,
) -> tuple[Any, Any]:
    """Find the nearest border of the model linearised at each image: its gap and its normal.

    Args:
        task: what all images share; its norm is linf, l2 or l1.
        images: `[n, *flat]`.
        values: of them, by `first_layer.first_values`.
        classes: `[n]` int64, to be left.
        movable: images, normal -> the normal without the pixels that do not take part.

    Returns:
        `[n]`, the logit of the class less that of the other class at the border; `[n, *flat]`,
        its gradient. Both 0 where no border has a gradient.
    """
    rest = first_layer.after_first(task)

    def body(rival: Any, distance: Any, gap: Any, normal: Any) -> tuple[Any, Any, Any, Any]:
        # One class after the other: the gradients of all of them would not stay in cache.
        ahead, gradient = _margin(rest, values, classes, rival)
        towards = first_layer.to_pixels(task, gradient)
        if movable is not None:
            towards = movable(images, towards)
        length = dual_length(task.norm, towards)
        blocked = (classes == tf.cast(rival, classes.dtype)) | (length == 0)
        far = tf.where(blocked, float("inf"), tf.math.divide_no_nan(tf.abs(ahead), length))
        nearer = far < distance
        return (
            rival + 1,
            tf.where(nearer, far, distance),
            tf.where(nearer, ahead, gap),
            tf.where(per_image(nearer), towards, normal),
        )

    nothing = tf.zeros_like(images[:, 0, 0, 0])
    start = 0, nothing + float("inf"), nothing, tf.zeros_like(images)
    _, _, gap, normal = tf.while_loop(lambda rival, *_: rival < task.num_classes, body, start)
    return gap, normal


def dual_length(norm: Norm, normal: Any) -> Any:
    """Measure a gradient in the dual norm.

    Args:
        norm: linf, l2 or l1.
        normal: `[n, *flat]`.

    Returns:
        `[n]`.
    """
    return GEOMETRY[_DUAL[norm]].length(normal)


def _margin(task: Task, images: Any, classes: Any, rival: Any) -> tuple[Any, Any]:
    """Measure the margin of the class over another one, and its gradient."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        logits = task.logits(images)
        ahead = tf.gather(logits, classes, batch_dims=1) - tf.gather(logits, rival, axis=1)
    return ahead, tape.gradient(ahead, images)
