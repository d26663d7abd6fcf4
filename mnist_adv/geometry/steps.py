"""How a gradient becomes a step: one row per rule."""

from __future__ import annotations

from typing import Any

from mnist_adv.arguments import NamedChoice
from mnist_adv.geometry.norms import GEOMETRY, Norm, per_image
from mnist_adv.tensors.lazy import tf


class Step(NamedChoice):
    """The rule that turns a gradient into a direction.

    STEEPEST: the norm's own direction of steepest ascent, of norm 1: for linf the sign, for l2
        the gradient divided by its length.
    SIGN: the sign of each pixel's derivative, whatever the norm.
    UNIT: the gradient divided by its L2 length, whatever the norm.
    RAW: the gradient itself; its length fades as the objective flattens.
    """

    STEEPEST = "steepest"
    SIGN = "sign"
    UNIT = "unit"
    RAW = "raw"


def direction(step: Step, norm: Norm, gradient: Any) -> Any:
    """Turn gradients into the directions that `step_size` multiplies.

    Args:
        step: the rule.
        norm: the norm of the budget; only STEEPEST depends on it.
        gradient: `[n, h, w, c]`.

    Returns:
        `[n, h, w, c]`; an attack moves against it.
    """
    if step is Step.STEEPEST:
        return GEOMETRY[norm].steepest(gradient)
    if step is Step.UNIT:
        return GEOMETRY[Norm.L2].steepest(gradient)
    return tf.sign(gradient) if step is Step.SIGN else gradient


def apply_step(step: Step, norm: Norm, images: Any, gradient: Any, size: Any) -> Any:
    """Take one step against the gradient.

    Args:
        step: the rule.
        norm: the norm of the budget; only STEEPEST depends on it.
        images: `[n, h, w, c]`.
        gradient: the same shape.
        size: `[n]`, of the step, in pixel units.

    Returns:
        The images after the step, not yet projected onto any ball.
    """
    own = GEOMETRY[norm].step
    if step is Step.STEEPEST and own is not None:
        return own(images, gradient, size)
    return images - per_image(size) * direction(step, norm, gradient)


def keep_momentum(velocity: Any, gradient: Any, momentum: float) -> Any:
    """Add a gradient, divided by its L1 length, to what is kept of the earlier direction.

    Args:
        velocity: `[n, h, w, c]`, the earlier direction.
        gradient: the same shape.
        momentum: share of the earlier direction that is kept.

    Returns:
        The same shape; an attack moves against it.

    References:
        Dong et al., "Boosting adversarial attacks with momentum", 2018.
    """
    length = per_image(GEOMETRY[Norm.L1].length(gradient))
    return momentum * velocity + tf.math.divide_no_nan(gradient, length)


def default_step_size(step: Step, norm: Norm, epsilon: Any) -> Any:
    """Choose a step size for people who gave none.

    A thirtieth of the budget: forty steps reach its border and slide along it (the setting of
    Madry et al., 2018: epsilon 0.3, steps of 0.01). Rules whose direction is not of norm 1 get a
    constant that suits softmax regression on digits.

    Args:
        step: the rule.
        norm: the norm of the budget.
        epsilon: the budget, one number or `[n]`.

    Returns:
        The step size, in the form of epsilon.
    """
    own_unit = {Step.STEEPEST, Step.SIGN if norm is Norm.LINF else Step.UNIT}
    if step in own_unit:
        return epsilon / 30
    constant = {Step.SIGN: 0.01, Step.UNIT: 0.1, Step.RAW: 0.1}[step]
    return constant + 0 * epsilon
