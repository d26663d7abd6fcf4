"""Measure attacks against the truth: how far above the smallest possible, and how much missed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv.gradients.goals import make_goal
from mnist_adv.data.images import as_batch
from mnist_adv.models.linear import linear_parts
from mnist_adv.geometry.norms import Norm
from mnist_adv.optimum.certificate import bounds
from mnist_adv.optimum.result import Optimum
from mnist_adv.optimum.float32 import to_float32
from mnist_adv.optimum.api import smallest_perturbation
from mnist_adv.verdict.judge import judge

if TYPE_CHECKING:
    from mnist_adv.attacks import AttackResult

_ROUNDING = 64  # float32 roundings of a logit by which a judged success may miss in float64
_TOLERANCE = 1e-9


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
        excess = 100 * (float(np.median(known)) - 1)
        middle = "" if known.size == 1 else " (median)"
        return f"{max(excess, 0):.2g} % above the smallest possible{middle}"

    def share_found(self, epsilon: float) -> float:
        """Return the share that the attack found of the changes that exist inside a budget.

        Args:
            epsilon: the budget.

        Returns:
            In [0, 1]; NaN where none exists.
        """
        exists = self.optimum.upper_bound <= epsilon
        if not exists.any():
            return float("nan")
        return float((self.distance[exists] <= epsilon * (1 + 1e-6) + 1e-6).mean())


def compare(
    model: Any, result: AttackResult, *, optimum: Optimum | None = None, **settings: Any
) -> Comparison:
    """Set an attack's perturbations beside the smallest possible ones.

    An attack is judged by float32 logits, which may call an image reached that lies a rounding
    short of the border. So each success is held against the bound for the border that it really
    crossed: the margin, less its own float64 shortfall.

    Args:
        model: a `SoftmaxRegression` or a `LinearModel`.
        result: of any attack on this model; every image that reached its goal counts, inside its
            budget or not.
        optimum: for these images, goal and norm, if it is there already.
        settings: for `smallest_perturbation`.

    Returns:
        The comparison.

    Raises:
        ValueError: the model is not linear, or the optimum belongs to something else.
        BelowOptimumError: a success is nearer than the certified bound allows.
    """
    W, b = _parts(model)
    norm, goal = result.norm.value, result.goal
    wanted: dict[str, Any] = {"targets" if goal.targeted else "labels": goal.classes}
    if optimum is None:
        optimum = smallest_perturbation(W, b, result.images, norm=norm, **wanted, **settings)
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
    hit = result.verdict.reached & result.verdict.in_range
    _require_possible(W, b, result, optimum, distance, hit)
    distance = np.where(hit, distance, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(optimum.lower_bound > 0, distance / optimum.lower_bound, np.nan)
    return Comparison(optimum, distance, ratio)


def set_beside(
    model: Any, result: AttackResult, optimum: Optimum | None = None
) -> Comparison | None:
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


def as_attack(
    model: Any,
    images: Any,
    *,
    targets: Any = None,
    labels: Any = None,
    norm: Norm | str = Norm.L2,
    epsilon: float | None = None,
    margin: float = 0.0,
    trace: bool = False,
    **settings: Any,
) -> tuple[AttackResult, Optimum]:
    """Produce the optimum in the form of an attack's result, judged like any other.

    Args:
        model: a `SoftmaxRegression` or a `LinearModel` of 28 x 28 images.
        images: one image or a batch, floats in [0, 1].
        targets: the class to reach, one integer or `[n]`.
        labels: the class to leave, one integer or `[n]`.
        norm: "linf", "l2", "l1" or "l0".
        epsilon: the budget; images whose optimum is larger fail. None: as large as needed.
        margin: lead of the wanted logit.
        trace: whether to keep the clean image and the optimum as a trace of two iterates.
        settings: for `smallest_perturbation`.

    Returns:
        The result, its adversarial images in float32, and the optimum with its certificate.

    Raises:
        ValueError: as `smallest_perturbation`; or the model is not linear.
    """
    from mnist_adv.attacks import AttackResult
    from mnist_adv.attacks.traced_run import from_start_to_end

    W, b = _parts(model)
    clean = as_batch(images).astype(np.float32)
    goal = make_goal(len(clean), W.shape[1], targets=targets, labels=labels)
    wanted: dict[str, Any] = {"targets" if goal.targeted else "labels": goal.classes}
    optimum = smallest_perturbation(W, b, clean, norm=norm, margin=margin, **wanted, **settings)
    adversarial, _ = to_float32(W, b, optimum)
    epsilon = math.inf if epsilon is None else epsilon
    none = np.zeros(len(clean), np.int64)  # a linear model is solved from its weights
    result = AttackResult(
        images=clean,
        adversarial=adversarial,
        goal=goal,
        norm=Norm(optimum.norm),
        epsilon=epsilon,
        num_steps=optimum.iterations,
        num_queries=none,
        num_gradients=none,
        verdict=judge(model, clean, adversarial, norm=optimum.norm, epsilon=epsilon, **wanted),
        method="optimum",
        trace=from_start_to_end(model, goal, clean, adversarial) if trace else None,
    )
    return result, optimum


def _parts(model: Any) -> tuple[np.ndarray, np.ndarray]:
    parts = linear_parts(model)
    if parts is None:
        raise ValueError(
            "model must be a SoftmaxRegression or a LinearModel: only there the smallest change is "
            f"known. Received: {type(model).__name__}"
        )
    return parts


def _require_possible(
    W: np.ndarray,
    b: np.ndarray,
    result: AttackResult,
    optimum: Optimum,
    distance: np.ndarray,
    hit: np.ndarray,
) -> None:
    if not hit.any():
        return
    goal, final, index = result.goal, result.adversarial[hit], np.flatnonzero(hit)
    wanted: dict[str, Any] = {"targets" if goal.targeted else "labels": goal.classes[hit]}
    short = -bounds.leads(W, b, final, **wanted)
    denied = short > float32_rounding(W, b, final)
    if denied.any():
        first = int(np.argmax(denied))
        raise BelowOptimumError(
            f"image {index[first]} counts as reached, but in float64 the wanted logit trails by "
            f"{short[first]:.3g}, more than float32 rounding explains"
        )
    bound = bounds_with_rounding(W, b, optimum, short, index)
    require_bounds(bound, distance[hit], optimum.norm, [f"image {each}" for each in index])


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
) -> np.ndarray:
    """Bound from below the distance of images that may miss their goal by some rounding.

    Args:
        W: `[pixels, k]`.
        b: `[k]`.
        optimum: of n images, with its certificate.
        shortfall: `[m]` or `[1]`, by how much the wanted logit may trail.
        chosen: which m of the n images; all if not given.

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
        multipliers=optimum.multipliers[chosen],
        margin=np.broadcast_to(np.minimum(-shortfall, optimum.margin), (len(images),)),
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
            f"{names[first]} claims a {norm} distance of {distance[first]:.9g}, but the "
            f"multipliers prove that no distance below {bound[first]:.9g} is feasible: the attack, its "
            "measurement or the certificate is wrong"
        )
