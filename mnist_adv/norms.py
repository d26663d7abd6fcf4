"""The geometry of each norm: length, projection onto a ball, steepest direction.

A norm is one row of the table at the end. Everything works on whole batches: perturbations are
`[n, 28, 28, 1]`, lengths and radii `[n]`.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from typing import Any

from mnist_adv._lazy import tf

_PIXELS = (1, 2, 3)


class Norm(enum.Enum):
    """How the size of a perturbation is measured."""

    LINF = "linf"
    L2 = "l2"


@dataclasses.dataclass(frozen=True)
class Geometry:
    """The three functions that an attack needs of a norm.

    Attributes:
        length: perturbation `[n, 28, 28, 1]` -> its norm `[n]`.
        project: perturbation, radius `[n]` -> the nearest perturbation (in L2) in the ball.
        steepest: gradient -> the direction of norm 1 with the largest inner product with it;
            zero where the gradient is zero.
        default_epsilon: a budget that lets nearly every digit become any other.
    """

    length: Callable[[Any], Any]
    project: Callable[[Any, Any], Any]
    steepest: Callable[[Any], Any]
    default_epsilon: float


def per_image(values: Any) -> Any:
    """Shape one number per image, `[n]`, so that it broadcasts over pixels: `[n, 1, 1, 1]`."""
    return tf.reshape(values, [-1, 1, 1, 1])


def _linf_length(perturbation: Any) -> Any:
    return tf.reduce_max(tf.abs(perturbation), axis=_PIXELS)


def _linf_project(perturbation: Any, epsilon: Any) -> Any:
    return tf.clip_by_value(perturbation, -per_image(epsilon), per_image(epsilon))


def _linf_steepest(gradient: Any) -> Any:
    return tf.sign(gradient)


def _l2_length(perturbation: Any) -> Any:
    # Scaled by the largest entry, or squares of tiny gradients underflow and the length reads 0.
    largest = tf.reduce_max(tf.abs(perturbation), axis=_PIXELS)
    scaled = tf.math.divide_no_nan(perturbation, per_image(largest))
    return largest * tf.sqrt(tf.reduce_sum(scaled * scaled, axis=_PIXELS))


def _l2_project(perturbation: Any, epsilon: Any) -> Any:
    # Shorten only what is too long: clip, do not normalise.
    shrink = tf.minimum(tf.math.divide_no_nan(epsilon, _l2_length(perturbation)), 1)
    inside = _l2_length(perturbation) <= epsilon
    return tf.where(per_image(inside), perturbation, perturbation * per_image(shrink))


def _l2_steepest(gradient: Any) -> Any:
    return tf.math.divide_no_nan(gradient, per_image(_l2_length(gradient)))


GEOMETRY = {
    Norm.LINF: Geometry(_linf_length, _linf_project, _linf_steepest, 0.3),
    Norm.L2: Geometry(_l2_length, _l2_project, _l2_steepest, 3.0),
}
