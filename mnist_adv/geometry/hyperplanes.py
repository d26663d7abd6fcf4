"""Projection onto a hyperplane inside the box, in the norm of an attack."""

from __future__ import annotations

from typing import Any

from mnist_adv.geometry.norms import Norm, per_image
from mnist_adv.geometry.selection import capped_scale, fill
from mnist_adv.tensors.lazy import tf


def project_on_hyperplane(norm: Norm, images: Any, normal: Any, gap: Any) -> Any:
    """Find the smallest change `d` with `sum(normal * d) = gap` that keeps images in [0, 1].

    Every pixel moves in the direction of the gap: in L-inf all by the same amount, in L2 in
    proportion to the normal, in L1 those with the largest normal first; none further than its
    bound. The one number that remains, the common amount, has a closed form between its bends.

    Args:
        norm: linf, l2 or l1.
        images: `[n, h, w, c]` float32 or float64 in [0, 1].
        normal: the same shape.
        gap: `[n]`.

    Returns:
        `[n, h, w, c]`; where no image of the box lies on the hyperplane, the change that comes
        nearest to it. Pixels whose normal is 0 do not move.

    Raises:
        ValueError: the norm is l0.

    References:
        Croce, Hein, "Minimally distorted adversarial examples with a fast adaptive boundary
        attack", 2020, section 2.2.
    """
    if norm is Norm.L0:
        raise ValueError(f"norm must be one of linf, l2, l1. Received: {norm.value!r}")
    # Scaled first, or squares of tiny normals underflow.
    largest = tf.reduce_max(tf.abs(normal), axis=(1, 2, 3))
    normal = tf.math.divide_no_nan(normal, per_image(largest))
    wanted = tf.math.divide_no_nan(tf.abs(gap), largest)
    direction = tf.sign(normal) * per_image(tf.sign(gap))
    weights = tf.abs(normal)
    slack = tf.where(direction > 0, 1 - images, images) * tf.abs(direction)
    gains = weights * slack
    if norm is Norm.L1:
        gained = fill(weights, gains, wanted)
        amounts = tf.where(gained < gains, tf.math.divide_no_nan(gained, weights), slack)
    elif norm is Norm.L2:
        scale = per_image(capped_scale(weights * weights, gains, wanted))
        amounts = tf.where(scale * weights < slack, scale * weights, slack)
    else:
        scale = per_image(capped_scale(weights, gains, wanted))
        amounts = tf.minimum(scale, slack)
    return direction * amounts
