"""Round adversarial images to the 256 grey levels of a file so that they stay adversarial.

Plain rounding moves every pixel by up to 1/510, which can undo an attack that has just succeeded
or leave its budget. Here rounding stays inside the budget, and where it loses the goal, pixels are
moved level by level along the gradient until the goal is met on the grid itself.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from mnist_adv._lazy import tf
from mnist_adv.data import to_float
from mnist_adv.goals import Goal
from mnist_adv.gradients import GradientSource
from mnist_adv.losses import Loss, Objective, probability
from mnist_adv.norms import GEOMETRY, Norm
from mnist_adv.verdict import TOLERANCE

if TYPE_CHECKING:
    from mnist_adv.models import Model

_TOP = 255
# Rounds without progress after which an image is given up.
_PATIENCE = 8
# What is wanted is overdone a little: gradients and float32 logits are rounded.
_SURPLUS = 1.01


def to_levels(
    model: Model,
    images: np.ndarray,
    adversarial: np.ndarray,
    goal: Goal,
    *,
    norm: Norm,
    epsilon: float | np.ndarray,
    max_rounds: int = 100,
) -> np.ndarray:
    """Round to 8 bits inside the budget; repair on the grid what rounding undid.

    Each pixel goes to its nearest level; where that leaves the budget, as few as possible go to
    the next level towards the clean image instead, which is shorter in every norm. An image that
    no longer meets its goal then moves, in each round as many pixels by one level as its gradient
    says are needed: first within the length that it has, and only if that is not enough, within
    the whole budget. Where the budget is spent, pixels that matter little give levels back.

    Args:
        model: images -> logits.
        images: clean, `[n, 28, 28, 1]` in [0, 1].
        adversarial: the same shape.
        goal: what the images are to be classified as.
        norm: of the budget.
        epsilon: the budget in pixel units, one number or `[n]`; may be infinite.
        max_rounds: most rounds of repair at either length; 0 only rounds.

    Returns:
        uint8 `[n, 28, 28, 1]`. Where even repair did not meet the goal, the rounding that came
        nearest to it; judge the result, as always.

    Example:
        >>> import mnist_adv
        >>> model = mnist_adv.restore("checkpoints")
        >>> seven = mnist_adv.load("mnist", "test").images[0]
        >>> found = mnist_adv.attack(model, seven, targets=2)
        >>> levels = mnist_adv.to_levels(
        ...     model, found.images, found.adversarial, found.goal,
        ...     norm=found.norm, epsilon=found.epsilon)
        >>> levels.dtype
        dtype('uint8')
        >>> int(model(levels / 255).numpy().argmax())
        2
    """
    origin, wanted = (_TOP * values.astype(np.float64) for values in (images, adversarial))
    whole = np.broadcast_to(np.asarray(epsilon, np.float64), (len(images),))
    budget = _Budget(origin, norm, whole)
    levels = budget.clip(np.rint(wanted))
    outside = np.flatnonzero(~budget.holds(levels))
    if len(outside):
        inner = budget.clip(_towards(wanted, origin))[outside]
        levels[outside] = _shortened(levels[outside], inner, wanted[outside], budget.of(outside))
    lengths = np.maximum(budget.lengths(wanted), budget.lengths(levels))
    rows = np.arange(len(levels))
    for radius in (np.minimum(lengths + 1 / _TOP, whole), whole) if max_rounds else ():
        if len(rows):
            rows = _repair(model, levels, rows, goal, _Budget(origin, norm, radius), max_rounds)
            rows = rows[radius[rows] < whole[rows]]  # the others have had the whole budget
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

    def spent(self, levels: np.ndarray) -> np.ndarray:
        """What each pixel takes of the budget, `[n, 784]`, in the unit of `allowed`."""
        return _SPENT[self.norm]((levels - self.origin).reshape(len(levels), -1))

    @property
    def allowed(self) -> np.ndarray:
        """What all pixels may take together, `[n]`."""
        return _ALLOWED[self.norm](self.epsilon + TOLERANCE / 2)

    def of(self, rows: np.ndarray) -> _Budget:
        return _Budget(self.origin[rows], self.norm, self.epsilon[rows])


# Norms add up over pixels, but for linf, which `clip` alone keeps.
_SPENT: dict[Norm, Callable[[np.ndarray], np.ndarray]] = {
    Norm.LINF: np.zeros_like,
    Norm.L2: np.square,
    Norm.L1: np.abs,
    Norm.L0: lambda difference: (difference != 0).astype(np.float64),
}
_ALLOWED: dict[Norm, Callable[[np.ndarray], np.ndarray]] = {
    Norm.LINF: np.zeros_like,
    Norm.L2: lambda epsilon: np.square(_TOP * epsilon),
    Norm.L1: lambda epsilon: _TOP * epsilon,
    Norm.L0: np.floor,
}


def _shortened(
    nearest: np.ndarray, inner: np.ndarray, wanted: np.ndarray, budget: _Budget
) -> np.ndarray:
    """Take inner levels for nearest ones, first where the two are equally near, until it fits."""
    count = len(nearest)
    saving = budget.spent(nearest) - budget.spent(inner)
    further = (np.abs(inner - wanted) - np.abs(nearest - wanted)).reshape(count, -1)
    order = np.argsort(np.where(saving > 0, further, np.inf), axis=1, kind="stable")
    saved = np.cumsum(np.take_along_axis(saving, order, axis=1), axis=1)
    needed = budget.spent(nearest).sum(axis=1) - budget.allowed
    before = np.concatenate([np.zeros((count, 1)), saved[:, :-1]], axis=1)
    chosen = np.zeros(saving.shape, bool)
    np.put_along_axis(chosen, order, before < needed[:, np.newaxis], axis=1)
    shorter = np.where(chosen.reshape(nearest.shape), inner, nearest)
    # Clean pixels between the levels can make the inner level the longer one: then all inner.
    fits = budget.holds(shorter).reshape(-1, 1, 1, 1)
    return np.where(fits, shorter, inner)


def _repair(
    model: Model,
    levels: np.ndarray,
    rows: np.ndarray,
    goal: Goal,
    budget: _Budget,
    max_rounds: int,
) -> np.ndarray:
    """Move the rows that miss their goal, in place; leave each at the best that was found.

    Returns:
        The rows that still miss it.
    """
    smooth, hard = (
        Objective.to_descend(loss, targeted=goal.targeted)
        for loss in (Loss.CROSS_ENTROPY, Loss.MARGIN)
    )
    best, best_value = levels.copy(), np.full(len(levels), np.inf)
    missed, waited = np.ones(len(levels), bool), np.zeros(len(levels), np.int64)
    asked = rows
    for _ in range(max_rounds + 1):
        pixels = tf.constant(to_float(levels[rows].astype(np.uint8)))
        classes = tf.constant(goal.classes[rows])
        logits, gradient = GradientSource()(model, smooth, pixels, classes)
        satisfied = goal.satisfied(logits, classes).numpy()
        margin = hard(logits, classes).numpy().astype(np.float64)
        value = np.where(satisfied, -np.inf, margin)
        better = value < best_value[rows]
        best[rows[better]] = levels[rows[better]]
        best_value[rows[better]] = value[better]
        waited[rows] = np.where(better, 0, waited[rows] + 1)
        missed[rows] = ~satisfied
        going = ~satisfied & (waited[rows] < _PATIENCE)
        rows = rows[going]
        if not len(rows):
            break
        # Divided by what the other classes have, this is the slope of the margin over all of them,
        # each as far as it matters: against the best of them alone, two would take turns.
        others = np.maximum(1 - probability(logits, classes).numpy()[going], 1e-6)
        slope = gradient.numpy()[going].reshape(len(rows), -1).astype(np.float64) / others[:, None]
        wanted = _SURPLUS * np.maximum(margin[going] + _lead(goal), 0) + 1e-6
        levels[rows], stuck = _move(levels[rows], slope, wanted, budget.of(rows))
        rows = rows[~stuck]
        if not len(rows):
            break
    levels[asked] = best[asked]
    return asked[missed[asked]]


def _lead(goal: Goal) -> float:
    # How far the first of two classes leads when it has the wanted probability.
    confidence = goal.confidence or 0.5
    return max(0.0, math.log(confidence / (1 - confidence)))


def _move(
    levels: np.ndarray, slope: np.ndarray, wanted: np.ndarray, budget: _Budget
) -> tuple[np.ndarray, np.ndarray]:
    """Move pixels by one level each, as few as lower the margin by what is wanted.

    First go the pixels that lower it most for what they take of the budget. When the budget is
    spent, pixels that matter little give levels back for them.

    Args:
        levels: `[n, 28, 28, 1]`.
        slope: `[n, 784]`, of the margin, per pixel unit.
        wanted: `[n]`, by how much it is to fall.
        budget: theirs.

    Returns:
        The moved images, and which could not be moved, `[n]` bool.
    """
    shape, count = levels.shape, len(levels)
    flat, origin = levels.reshape(count, -1), budget.origin.reshape(count, -1)
    spent = budget.spent(levels)
    there = budget.clip(levels - np.sign(slope).reshape(shape)).reshape(count, -1)
    gain = slope * (flat - there) / _TOP
    cost = budget.spent(there.reshape(shape)) - spent
    back = flat + np.sign(np.rint(origin) - flat)
    loss = slope * (back - flat) / _TOP
    saving = spent - budget.spent(back.reshape(shape))
    moved, stuck = flat.copy(), np.ones(count, bool)
    slack = budget.allowed - spent.sum(axis=1)
    for row in range(count):
        pushed, pulled = _choose(
            gain[row], cost[row], loss[row], saving[row], slack[row], wanted[row]
        )
        if len(pushed):
            moved[row, pushed], moved[row, pulled] = there[row, pushed], back[row, pulled]
            stuck[row] = False
    return moved.reshape(shape), stuck


def _choose(
    gain: np.ndarray,
    cost: np.ndarray,
    loss: np.ndarray,
    saving: np.ndarray,
    slack: float,
    wanted: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the pixels of one image that move on and those that give back; none if none helps."""
    useful = np.flatnonzero(gain > 0)
    pushes = useful[np.argsort(-gain[useful] / np.maximum(cost[useful], 1e-9), kind="stable")]
    giving = np.flatnonzero((saving > 0) & (loss >= 0))
    pulls = giving[np.argsort(loss[giving] / saving[giving], kind="stable")]
    needed = np.cumsum(cost[pushes]) - slack
    saved = np.concatenate([[0.0], np.cumsum(saving[pulls])])
    lost = np.concatenate([[0.0], np.cumsum(loss[pulls])])
    number = np.searchsorted(saved, needed)
    possible = number < len(saved)
    net = np.where(
        possible, np.cumsum(gain[pushes]) - lost[np.minimum(number, len(saved) - 1)], -np.inf
    )
    if not len(net) or net.max() <= 0:
        return pushes[:0], pulls[:0]
    enough = net >= wanted
    last = int(enough.argmax()) if enough.any() else int(net.argmax())
    return pushes[: last + 1], pulls[: number[last]]


def _towards(values: np.ndarray, origin: np.ndarray) -> np.ndarray:
    # Clean 8-bit images are whole numbers up to float32 rounding: snap before comparing.
    origin = np.where(np.abs(origin - np.rint(origin)) < 1e-3, np.rint(origin), origin)
    nearest = np.rint(origin)
    return np.where(
        values > origin,
        np.maximum(np.floor(values), nearest),
        np.minimum(np.ceil(values), nearest),
    )
