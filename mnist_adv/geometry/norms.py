"""The geometry of each norm: length, projection onto a ball, steepest direction.

A norm is one row of the table at the end. Everything works on whole batches: perturbations are
`[n, h, w, c]`, lengths and radii `[n]`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from mnist_adv.arguments import NamedChoice
from mnist_adv.geometry.selection import capped_threshold, fill, largest, soft_threshold
from mnist_adv.tensors.lazy import tf

_PIXELS = (1, 2, 3)


class Norm(NamedChoice):
    """How the size of a perturbation is measured."""

    LINF = "linf"
    L2 = "l2"
    L1 = "l1"
    L0 = "l0"


@dataclasses.dataclass(frozen=True)
class Geometry:
    """What an attack needs of a norm, for images in the unit box.

    Attributes:
        length: perturbation `[n, h, w, c]` -> its norm `[n]`.
        project: perturbation, radius `[n]` -> the nearest perturbation (in L2) in the ball.
        steepest: gradient -> the direction of norm 1 with the largest inner product with it;
            zero where the gradient is zero.
        shrink: perturbation, amount `[n]` -> the proximal operator: the z that minimises
            `amount * norm(z) + |z - perturbation|_2^2 / 2`; None: no convex norm.
        default_epsilon: a budget that lets nearly every digit become any other.
        step: images, gradient, size `[n]` -> the images after the step of that norm, inside
            [0, 1], that most lowers a linear objective; None: the steepest direction
            times the size comes close enough, as every pixel takes part.
    """

    length: Callable[[Any], Any]
    project: Callable[[Any, Any], Any]
    steepest: Callable[[Any], Any]
    shrink: Callable[[Any, Any], Any] | None
    default_epsilon: float
    step: Callable[[Any, Any, Any], Any] | None = None


def per_image(values: Any) -> Any:
    """Shape one number per image, `[n]`, so that it broadcasts over pixels: `[n, 1, 1, 1]`.

    Args:
        values: `[n]`.

    Returns:
        `[n, 1, 1, 1]`.
    """
    return tf.reshape(values, [-1, 1, 1, 1])


def _linf_length(perturbation: Any) -> Any:
    return tf.reduce_max(tf.abs(perturbation), axis=_PIXELS)


def _linf_project(perturbation: Any, epsilon: Any) -> Any:
    return tf.clip_by_value(perturbation, -per_image(epsilon), per_image(epsilon))


def _linf_steepest(gradient: Any) -> Any:
    return tf.sign(gradient)


def _linf_shrink(perturbation: Any, amount: Any) -> Any:
    # By Moreau's identity, what the projection onto the dual ball leaves.
    return perturbation - _l1_project(perturbation, amount)


def _l2_length(perturbation: Any) -> Any:
    # Scaled first, or squares of tiny gradients underflow and the length reads 0.
    size = _sum(tf.abs(perturbation))
    scaled = tf.math.divide_no_nan(perturbation, per_image(size))
    return size * tf.sqrt(_sum(scaled * scaled))


def _sum(values: Any) -> Any:
    # A product with ones: compiled, it uses whole vectors, where a plain sum adds one by one.
    pixels = math.prod(values.shape[1:])
    return tf.reshape(tf.reshape(values, [-1, pixels]) @ tf.ones([pixels, 1], values.dtype), [-1])


def _l2_project(perturbation: Any, epsilon: Any) -> Any:
    # Shorten only what is too long: clip, do not normalise.
    length = _l2_length(perturbation)
    shrink = tf.minimum(tf.math.divide_no_nan(epsilon, length), 1)
    return tf.where(per_image(length <= epsilon), perturbation, perturbation * per_image(shrink))


def _l2_steepest(gradient: Any) -> Any:
    return tf.math.divide_no_nan(gradient, per_image(_l2_length(gradient)))


def _l2_shrink(perturbation: Any, amount: Any) -> Any:
    share = tf.math.divide_no_nan(amount, _l2_length(perturbation))
    return perturbation * per_image(tf.maximum(1 - share, 0))


def _l1_length(perturbation: Any) -> Any:
    return _sum(tf.abs(perturbation))


def _l1_project(perturbation: Any, epsilon: Any) -> Any:
    sizes = tf.abs(perturbation)
    threshold = per_image(soft_threshold(sizes, epsilon))
    shrunk = tf.sign(perturbation) * tf.maximum(sizes - threshold, 0)
    # Subtracting rounds at the size of the pixels, which may be large beside epsilon.
    excess = tf.math.divide_no_nan(epsilon, _l1_length(shrunk))
    shrunk *= per_image(tf.minimum(excess, 1))
    inside = _l1_length(perturbation) <= epsilon
    return tf.where(per_image(inside), perturbation, shrunk)


def l1_project_in_box(clean: Any, perturbation: Any, epsilon: Any) -> Any:
    """Project onto the L1 ball and the box at once, where one after the other goes too far.

    Args:
        clean: images `[n, h, w, c]` in [0, 1].
        perturbation: the same shape.
        epsilon: `[n]`, the radius.

    Returns:
        The nearest perturbation (in L2) of norm at most epsilon that keeps the image in [0, 1].

    References:
        Croce, Hein, "Mind the box: l1-APGD for sparse adversarial attacks on image classifiers",
        2021, proposition 2.1.
    """
    sizes = tf.abs(perturbation)
    slack = tf.where(perturbation > 0, 1 - clean, clean)
    threshold = per_image(capped_threshold(sizes, slack, epsilon))
    amounts = tf.clip_by_value(sizes - threshold, 0, slack)
    excess = tf.math.divide_no_nan(epsilon, _sum(amounts))
    return tf.sign(perturbation) * amounts * per_image(tf.minimum(excess, 1))


def _l1_steepest(gradient: Any) -> Any:
    return tf.sign(gradient) * _first_of(tf.abs(gradient))


def _l1_shrink(perturbation: Any, amount: Any) -> Any:
    return tf.sign(perturbation) * tf.maximum(tf.abs(perturbation) - per_image(amount), 0)


def _l1_step(images: Any, gradient: Any, size: Any) -> Any:
    # One pixel cannot take the whole step inside its bounds: spend it pixel by pixel.
    slack = _slack_against(images, gradient)
    return images - tf.sign(gradient) * fill(tf.abs(gradient), slack, size)


def _slack_against(images: Any, gradient: Any) -> Any:
    """Measure how far each pixel can move against the gradient."""
    return tf.where(gradient > 0, images, 1 - images)


def _l0_length(perturbation: Any) -> Any:
    perturbation = tf.convert_to_tensor(perturbation)
    return tf.math.count_nonzero(perturbation, axis=_PIXELS, dtype=perturbation.dtype)


def _l0_project(perturbation: Any, epsilon: Any) -> Any:
    chosen = largest(tf.abs(perturbation), _pixels_of(epsilon, perturbation))
    return tf.where(chosen, perturbation, tf.zeros_like(perturbation))


def _pixels_of(size: Any, images: Any) -> Any:
    # A float beyond int32 has no whole number there, and no image has more pixels than it has.
    return tf.cast(tf.minimum(size, float(math.prod(images.shape[1:]))), tf.int32)


def _l0_steepest(gradient: Any) -> Any:
    # Of all directions that change one pixel by at most 1, the best.
    return _l1_steepest(gradient)


def _l0_step(images: Any, gradient: Any, size: Any) -> Any:
    # The pixels that lower a linear objective most when they go to their bound.
    slack = _slack_against(images, gradient)
    chosen = largest(tf.abs(gradient) * slack, _pixels_of(size, images))
    return tf.where(chosen, images - tf.sign(gradient) * slack, images)


def _first_of(values: Any) -> Any:
    flat = tf.reshape(values, [-1, values.shape[1] * values.shape[2] * values.shape[3]])
    chosen = tf.one_hot(tf.argmax(flat, axis=1), flat.shape[1], dtype=values.dtype)
    return tf.reshape(chosen, tf.shape(values))


GEOMETRY = {
    Norm.LINF: Geometry(_linf_length, _linf_project, _linf_steepest, _linf_shrink, 0.3),
    Norm.L2: Geometry(_l2_length, _l2_project, _l2_steepest, _l2_shrink, 3.0),
    Norm.L1: Geometry(_l1_length, _l1_project, _l1_steepest, _l1_shrink, 30.0, _l1_step),
    Norm.L0: Geometry(_l0_length, _l0_project, _l0_steepest, None, 60.0, _l0_step),
}
