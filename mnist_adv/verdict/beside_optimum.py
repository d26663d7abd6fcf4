"""Compare attacks with the certified optimum: how far above it, and what share is found."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from mnist_adv.data.images import UNIT, Bounds
from mnist_adv.geometry.norms import Norm
from mnist_adv.gradients.goals import Goal
from mnist_adv.models.linear import linear_parts
from mnist_adv.optimum import Optimum, smallest_perturbation
from mnist_adv.optimum.certificate import bounds
from mnist_adv.verdict.judge import Verdict

_ROUNDING = 64  # float32 roundings of a logit by which a verified success may miss in float64
_TOLERANCE = 1e-9


class Verified(Protocol):
    """What is compared: an `AttackResult`, or anything that has these."""

    @property
    def images(self) -> np.ndarray:
        """The clean images, `[n, h, w, c]`."""

    @property
    def adversarial(self) -> np.ndarray:
        """The adversarial images, the same shape."""

    @property
    def goal(self) -> Goal:
        """The classes and whether they are targets."""

    @property
    def norm(self) -> Norm:
        """The norm whose distance is compared."""

    @property
    def verdict(self) -> Verdict:
        """The verdict on `adversarial`."""

    @property
    def bounds(self) -> Bounds:
        """The least and the largest value of a pixel."""

    @property
    def certificate(self) -> Optimum | None:
        """The optimum for these images, goal and norm, if the result has it."""


class BelowOptimumError(RuntimeError):
    """An attack claims what the certificate proves impossible: one of the two is wrong."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """An attack beside the certified optimum, one entry per image.

    Attributes:
        optimum: for the attack's images, goal and norm.
        distance: `[n]`, the norm of the attack's perturbation; NaN where it missed the goal.
        ratio: `[n]`, distance over the certified lower bound, at least 1 up to rounding; NaN where
            the attack missed the goal or nothing had to change.
    """

    optimum: Optimum
    distance: np.ndarray
    ratio: np.ndarray

    @property
    def sentence(self) -> str:
        """How far above the optimum the attack is, for a report."""
        known = self.ratio[np.isfinite(self.ratio)]
        if not known.size:
            return "no success to compare with the smallest possible change"
        ratio = float(np.median(known))
        excess = 100 * (ratio - 1)
        middle = "" if known.size == 1 else " (median)"
        if excess >= 99.5:
            return f"{ratio:.{1 if ratio < 9.95 else 0}f} times the smallest possible{middle}"
        return f"{max(excess, 0):.2g} % above the smallest possible{middle}"

    def share_found(self, epsilon: float) -> float:
        """Compute the share of the feasible images on which the attack succeeded inside a budget.

        An image is feasible if some image inside the budget is classified as wanted.

        Args:
            epsilon: the budget.

        Returns:
            In [0, 1]; NaN if no image is feasible.
        """
        feasible = self.optimum.upper_bound <= epsilon
        if not feasible.any():
            return float("nan")
        return float((self.distance[feasible] <= epsilon * (1 + 1e-6) + 1e-6).mean())


def compare(
    model: Any, result: Verified, *, optimum: Optimum | None = None, **settings: Any
) -> Comparison:
    """Compare an attack's perturbations with the smallest possible ones.

    An attack is verified by float32 logits, which may classify an image as wanted that lies a
    rounding short of the border. So each success is compared with the bound for the border that it
    crossed: the margin, less its own float64 shortfall.

    Args:
        model: a `SoftmaxRegression` or a `LinearModel`.
        result: of any attack on this model; every image that reached its goal counts, inside its
            budget or not.
        optimum: for these images, goal and norm, if it is there already; None: the result's own
            certificate, or else solved for.
        settings: for `smallest_perturbation`.

    Returns:
        The comparison.

    Raises:
        ValueError: the model is not linear, or the optimum belongs to something else.
        BelowOptimumError: a success is nearer than the certified bound allows.
    """
    W, b = require_linear(model)
    norm, goal = result.norm.value, result.goal
    wanted: dict[str, Any] = {"targets" if goal.targeted else "labels": goal.classes}
    box: dict[str, Any] = dict(zip(("lower", "upper"), result.bounds))
    if optimum is None and result.bounds == UNIT:
        optimum = result.certificate
    if optimum is None:
        optimum = smallest_perturbation(W, b, result.images, norm=norm, **wanted, **box, **settings)
    if (
        optimum.norm != norm
        or optimum.targeted != goal.targeted
        or not np.array_equal(optimum.classes, goal.classes)
        or not np.array_equal(np.reshape(optimum.images, result.images.shape), result.images)
    ):
        raise ValueError(
            "optimum must belong to the attack's images, classes and norm. "
            f"Received: {optimum!r} for {result!r}"
        )
    distance = result.verdict.norms[norm].astype(np.float64)
    reached = result.verdict.reached & result.verdict.in_range
    _require_feasible(W, b, result, optimum, distance, reached)
    distance = np.where(reached, distance, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(optimum.lower_bound > 0, distance / optimum.lower_bound, np.nan)
    return Comparison(optimum, distance, ratio)


def set_beside(model: Any, result: Verified, optimum: Optimum | None = None) -> Comparison | None:
    """Compare with the optimum where the model has a known one.

    Args:
        model: any.
        result: of any attack on it.
        optimum: for these images, goal and norm, if it is there already.

    Returns:
        The comparison; None if the model is not linear in the pixels.

    Raises:
        BelowOptimumError: a success is nearer than the certified bound allows.
    """
    return None if linear_parts(model) is None else compare(model, result, optimum=optimum)


def require_linear(model: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights of a linear model.

    Args:
        model: any.

    Returns:
        W `[D, K]` and b `[K]`.

    Raises:
        ValueError: the model is neither a `SoftmaxRegression` nor a `LinearModel`.
    """
    parts = linear_parts(model)
    if parts is None:
        raise ValueError(
            "model must be a SoftmaxRegression or a LinearModel: only there the smallest change is "
            f"known. Received: {type(model).__name__}"
        )
    return parts


def _require_feasible(
    W: np.ndarray,
    b: np.ndarray,
    result: Verified,
    optimum: Optimum,
    distance: np.ndarray,
    reached: np.ndarray,
) -> None:
    if not reached.any():
        return
    goal, final, index = result.goal, result.adversarial[reached], np.flatnonzero(reached)
    wanted: dict[str, Any] = {"targets" if goal.targeted else "labels": goal.classes[reached]}
    short = -bounds.margins(W, b, final, **wanted)
    denied = short > float32_rounding(W, b, final)
    if denied.any():
        first = int(np.argmax(denied))
        raise BelowOptimumError(
            f"image {index[first]} counts as reached, but in float64 the wanted logit is short by "
            f"{short[first]:.3g}, more than float32 rounding explains"
        )
    bound = bounds_with_rounding(W, b, optimum, short, index, result.bounds)
    require_bounds(bound, distance[reached], optimum.norm, [f"image {each}" for each in index])


def float32_rounding(W: np.ndarray, b: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Bound the error of a linear model's float32 logits.

    Args:
        W: `[pixels, k]`.
        b: `[k]`.
        images: `[n, ...]` with as many pixels.

    Returns:
        `[n]`, in units of the logits.
    """
    size = np.abs(images.reshape(len(images), -1)).astype(np.float64) @ np.abs(W)
    return np.asarray(_ROUNDING * np.finfo(np.float32).eps * (size + np.abs(b)).max(axis=1))


def bounds_with_rounding(
    W: np.ndarray,
    b: np.ndarray,
    optimum: Optimum,
    shortfall: np.ndarray,
    chosen: slice | np.ndarray = slice(None),
    box: Bounds = UNIT,
) -> np.ndarray:
    """Bound from below the distance of images that may miss their goal by some rounding.

    Args:
        W: `[pixels, k]`.
        b: `[k]`.
        optimum: of n images, with its certificate.
        shortfall: `[m]` or `[1]`, by how much the wanted logit may trail.
        chosen: which m of the n images; all if not given.
        box: the least and the largest value of a pixel.

    Returns:
        `[m]`, in the optimum's norm.
    """
    wanted: dict[str, Any] = {"targets" if optimum.targeted else "labels": optimum.classes[chosen]}
    images = optimum.images[chosen]
    return bounds.lower_bounds(
        W,
        b,
        images,
        norm=optimum.norm,
        dual_variables=optimum.dual_variables[chosen],
        margin=np.broadcast_to(np.minimum(-shortfall, optimum.margin), (len(images),)),
        lower=box[0],
        upper=box[1],
        **wanted,
    )


def require_bounds(
    bound: np.ndarray, distance: np.ndarray, norm: str, names: Sequence[str]
) -> None:
    """Refuse distances that the certificate proves infeasible.

    Args:
        bound: `[n]`, from `bounds_with_rounding`.
        distance: `[n]`, as attacks report it; infinite where the goal was missed.
        norm: of both.
        names: of the n images, for the error message.

    Raises:
        BelowOptimumError: a distance is below its bound.
    """
    infeasible = distance < bound * (1 - _TOLERANCE)
    if infeasible.any():
        first = int(np.argmax(infeasible))
        raise BelowOptimumError(
            f"{names[first]} claims a {norm} distance of {distance[first]:.9g}, but the dual "
            f"variables prove that no distance below {bound[first]:.9g} is feasible: the attack, "
            "its measurement or the certificate is wrong"
        )
