"""Round adversarial images to the 256 grey levels of a file so that they stay adversarial.

Plain rounding moves every pixel by up to 1/510, which can undo an attack that has just succeeded
or leave its budget. Here rounding stays inside the budget, and where it loses the goal, pixels are
moved level by level along the gradient until the goal is met on the grid itself.
"""

from __future__ import annotations

import bisect
import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from mnist_adv._lazy import tf
from mnist_adv.data import to_float
from mnist_adv.goals import Goal
from mnist_adv.gradients import GradientSource
from mnist_adv.losses import Loss, Objective
from mnist_adv.norms import GEOMETRY, Norm
from mnist_adv.verdict import TOLERANCE

if TYPE_CHECKING:
    from mnist_adv.models import Model

_TOP = 255
# Pixels moved per round: tried in this order until the budget allows it.
_MOVES = (8, 4, 2, 1)


def to_levels(
    model: Model,
    images: np.ndarray,
    adversarial: np.ndarray,
    goal: Goal,
    *,
    norm: Norm,
    epsilon: float,
    max_rounds: int = 100,
) -> np.ndarray:
    """Round to 8 bits inside the budget; repair on the grid what rounding undid.

    Each pixel goes to its nearest level if the result keeps the budget, else to the next level
    towards the clean image, which shortens the perturbation in every norm. An image that no longer
    meets its goal then moves, up to eight pixels a round, one level each along the gradient: first
    within the length that it has, and only if that is not enough, within the whole budget.

    Args:
        model: images -> logits.
        images: clean, `[n, 28, 28, 1]` in [0, 1].
        adversarial: the same shape.
        goal: what the images are to be classified as.
        norm: of the budget.
        epsilon: the budget, in pixel units (1 is 255 levels).
        max_rounds: most rounds of repair at either length; 0 only rounds.

    Returns:
        uint8 `[n, 28, 28, 1]`. Where even repair did not meet the goal, the rounding that came
        nearest to it; judge the result, as always.
    """
    origin, wanted = (_TOP * values.astype(np.float64) for values in (images, adversarial))
    whole = np.full(len(images), float(epsilon))
    budget = _Budget(origin, norm, whole)
    levels = budget.clip(np.rint(wanted))
    outside = ~budget.holds(levels)
    levels[outside] = budget.clip(_towards(wanted, origin))[outside]
    lengths = np.maximum(budget.lengths(wanted), budget.lengths(levels)) + 1 / _TOP
    objective = Objective.to_descend(Loss.CROSS_ENTROPY, targeted=goal.targeted)
    for radius in (np.minimum(lengths, whole), whole):
        _repair(model, levels, goal, objective, _Budget(origin, norm, radius), max_rounds)
    return levels.astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class _Budget:
    """The ball around each clean image, on the grid of levels."""

    origin: np.ndarray  # [n, 28, 28, 1], clean, in levels
    norm: Norm
    epsilon: np.ndarray  # [n], in pixel units

    def lengths(self, levels: np.ndarray) -> np.ndarray:
        return GEOMETRY[self.norm].length(tf.constant((levels - self.origin) / _TOP)).numpy()

    def holds(self, levels: np.ndarray) -> np.ndarray:
        return self.lengths(levels) <= self.epsilon + TOLERANCE / 2

    def clip(self, levels: np.ndarray) -> np.ndarray:
        floor, ceiling = np.zeros_like(levels), np.full_like(levels, _TOP)
        if self.norm is Norm.LINF:
            radius = _TOP * (self.epsilon + TOLERANCE / 2).reshape(-1, 1, 1, 1)
            # A clean pixel between the levels may have none in reach: then its nearest.
            nearest = np.rint(self.origin)
            floor = np.maximum(floor, np.minimum(np.ceil(self.origin - radius), nearest))
            ceiling = np.minimum(ceiling, np.maximum(np.floor(self.origin + radius), nearest))
        return np.clip(levels, floor, ceiling)

    def of(self, rows: np.ndarray) -> _Budget:
        return _Budget(self.origin[rows], self.norm, self.epsilon[rows])


def _repair(
    model: Model,
    levels: np.ndarray,
    goal: Goal,
    objective: Objective,
    budget: _Budget,
    max_rounds: int,
) -> None:
    """Move the images that miss their goal, in place; leave each at the best that was found."""
    best, best_value = levels.copy(), np.full(len(levels), np.inf)
    rows = np.arange(len(levels))
    for _ in range(max_rounds + 1):
        pixels = tf.constant(to_float(levels[rows].astype(np.uint8)))
        classes = tf.constant(goal.classes[rows])
        logits, gradient = GradientSource()(model, objective, pixels, classes)
        satisfied = goal.satisfied(logits, classes).numpy()
        value = np.where(satisfied, -np.inf, objective(logits, classes).numpy())
        better = value < best_value[rows]
        best[rows[better]] = levels[rows[better]]
        best_value[rows[better]] = value[better]
        rows, slope = rows[~satisfied], gradient.numpy()[~satisfied].astype(np.float64)
        if not len(rows):
            break
        moved, stuck = _move(levels[rows], slope, budget.of(rows))
        levels[rows] = moved
        rows = rows[~stuck]
    levels[:] = best


def _move(
    levels: np.ndarray, gradient: np.ndarray, budget: _Budget
) -> tuple[np.ndarray, np.ndarray]:
    """Move the pixels that gain most by one level; say which images could not be moved."""
    following = budget.clip(levels - np.sign(gradient))
    gain = np.abs(gradient * (following - levels)).reshape(len(levels), -1)
    order = np.argsort(-gain, axis=1, kind="stable")
    moved, waiting = levels.copy(), gain.max(axis=1) > 0
    for count in _MOVES:
        candidate = levels.copy().reshape(gain.shape)
        chosen = order[:, :count]
        values = np.take_along_axis(following.reshape(gain.shape), chosen, axis=1)
        np.put_along_axis(candidate, chosen, values, axis=1)
        candidate = candidate.reshape(levels.shape)
        ready = waiting & budget.holds(candidate)
        moved[ready] = candidate[ready]
        waiting &= ~ready
    for row in np.flatnonzero(waiting):
        exchanged = _exchange(
            levels[row], gradient[row], following[row], order[row], budget.of(np.array([row]))
        )
        if exchanged is not None:
            moved[row], waiting[row] = exchanged, False
    stuck = waiting | (gain.max(axis=1) == 0)
    return moved, stuck


def _exchange(
    levels: np.ndarray,
    gradient: np.ndarray,
    following: np.ndarray,
    order: np.ndarray,
    budget: _Budget,
) -> np.ndarray | None:
    """Spend a level where it buys most, and give levels back where they buy little.

    For one image whose budget is spent. None if no such exchange lowers the objective.
    """
    slope = gradient.ravel()
    back = np.sign(np.rint(budget.origin[0]) - levels).ravel()
    spent = order[0]
    back[spent] = 0
    cheapest = np.argsort(np.abs(slope), kind="stable")
    cheapest = cheapest[back[cheapest] != 0]
    change = slope[spent] * (following.flat[spent] - levels.flat[spent])
    affordable = change + np.cumsum(slope[cheapest] * back[cheapest]) < 0
    most = int(affordable.argmin()) if not affordable.all() else len(cheapest)

    def giving(count: int) -> np.ndarray:
        candidate = levels.copy()
        candidate.flat[spent] = following.flat[spent]
        candidate.flat[cheapest[:count]] += back[cheapest[:count]]
        return candidate

    # More given back is shorter: the fewest that keep the budget, by bisection.
    fewest = bisect.bisect_left(
        range(most + 1), True, key=lambda count: bool(budget.holds(giving(count)[np.newaxis])[0])
    )
    return giving(fewest) if fewest <= most else None


def _towards(values: np.ndarray, origin: np.ndarray) -> np.ndarray:
    # Clean 8-bit images are whole numbers up to float32 rounding: snap before comparing.
    origin = np.where(np.abs(origin - np.rint(origin)) < 1e-3, np.rint(origin), origin)
    return np.where(values > origin, np.floor(values), np.ceil(values))
