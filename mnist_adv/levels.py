"""Round adversarial images to the 256 grey levels of a file so that they stay adversarial.

Plain rounding moves every pixel by up to 1/510, which can undo an attack that has just succeeded
or leave its budget. Here rounding stays inside the budget, and where it loses the goal, pixels are
moved level by level along the gradient until the goal is met on the grid itself.
"""

from __future__ import annotations

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
_MOVES_PER_ROUND = 8


def to_levels(
    model: Model,
    images: np.ndarray,
    adversarial: np.ndarray,
    goal: Goal,
    *,
    norm: Norm,
    epsilon: float,
    max_rounds: int = 200,
) -> np.ndarray:
    """Round to 8 bits inside the budget; repair on the grid what rounding undid.

    Each pixel goes to its nearest level if the result keeps the budget, else to the next level
    towards the clean image, which shortens the perturbation in every norm. An image that no longer
    meets its goal then moves, up to eight pixels a round, one level each along the gradient.

    Args:
        model: images -> logits.
        images: clean, `[n, 28, 28, 1]` in [0, 1].
        adversarial: the same shape.
        goal: what the images are to be classified as.
        norm: of the budget.
        epsilon: the budget, in pixel units (1 is 255 levels).
        max_rounds: most rounds of repair; 0 only rounds.

    Returns:
        uint8 `[n, 28, 28, 1]`. Where even repair did not meet the goal, the rounding that came
        nearest to it; judge the result, as always.
    """
    return np.stack(
        [
            _round_one(model, images[i], adversarial[i], goal, i, norm, epsilon, max_rounds)
            for i in range(len(images))
        ]
    )


def _round_one(
    model: Model,
    clean: np.ndarray,
    adversarial: np.ndarray,
    goal: Goal,
    index: int,
    norm: Norm,
    epsilon: float,
    max_rounds: int,
) -> np.ndarray:
    origin = clean.astype(np.float64) * _TOP
    floor, ceiling = _allowed(origin, norm, epsilon)
    levels = np.clip(np.rint(adversarial.astype(np.float64) * _TOP), floor, ceiling)
    if not _inside(levels, origin, norm, epsilon):
        levels = np.clip(_towards(adversarial.astype(np.float64) * _TOP, origin), floor, ceiling)
    objective = Objective.to_descend(Loss.CROSS_ENTROPY, targeted=goal.targeted)
    classes = tf.constant(goal.classes[index : index + 1])
    best, best_value = levels, np.inf
    for _ in range(max_rounds + 1):
        pixels = tf.constant(to_float(levels.astype(np.uint8))[np.newaxis])
        logits, gradient = GradientSource()(model, objective, pixels, classes)
        if bool(goal.satisfied(logits, classes)[0]):
            return levels.astype(np.uint8)
        value = float(objective(logits, classes)[0])
        if value < best_value:
            best, best_value = levels, value
        moved = _move(levels, origin, gradient.numpy()[0], floor, ceiling, norm, epsilon)
        if moved is None:
            break
        levels = moved
    return best.astype(np.uint8)


def _move(
    levels: np.ndarray,
    origin: np.ndarray,
    gradient: np.ndarray,
    floor: np.ndarray,
    ceiling: np.ndarray,
    norm: Norm,
    epsilon: float,
) -> np.ndarray | None:
    following = np.clip(levels - np.sign(gradient), floor, ceiling)
    gain = np.abs(gradient * (following - levels)).ravel()
    order = [pixel for pixel in np.argsort(-gain, kind="stable") if gain[pixel] > 0]
    for count in range(min(_MOVES_PER_ROUND, len(order)), 0, -1):
        candidate = levels.copy()
        candidate.flat[order[:count]] = following.flat[order[:count]]
        if _inside(candidate, origin, norm, epsilon):
            return candidate
    return _exchange(levels, origin, gradient, following, order, norm, epsilon)


def _exchange(
    levels: np.ndarray,
    origin: np.ndarray,
    gradient: np.ndarray,
    following: np.ndarray,
    order: list[int],
    norm: Norm,
    epsilon: float,
) -> np.ndarray | None:
    # The budget is spent: give back a level where it buys little, spend it where it buys most.
    back = np.sign(origin - levels)
    given = [p for p in np.argsort(np.abs(gradient).ravel(), kind="stable") if back.flat[p] != 0]
    for spend in order[:_MOVES_PER_ROUND]:
        candidate = levels.copy()
        candidate.flat[spend] = following.flat[spend]
        change = float(gradient.flat[spend] * (following.flat[spend] - levels.flat[spend]))
        for pixel in given[: 4 * _MOVES_PER_ROUND]:
            if pixel == spend:
                continue
            change += float(gradient.flat[pixel] * back.flat[pixel])
            if change >= 0:
                break
            candidate.flat[pixel] += back.flat[pixel]
            if _inside(candidate, origin, norm, epsilon):
                return candidate
    return None


def _allowed(origin: np.ndarray, norm: Norm, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    if norm is not Norm.LINF:
        return np.zeros_like(origin), np.full_like(origin, _TOP)
    radius = _TOP * (epsilon + TOLERANCE / 2)
    floor, ceiling = np.ceil(origin - radius), np.floor(origin + radius)
    # Clean pixels off the grid may have no level in reach: then the nearest one, and the verdict.
    nearest = np.rint(origin)
    floor, ceiling = np.minimum(floor, nearest), np.maximum(ceiling, nearest)
    return np.maximum(floor, 0), np.minimum(ceiling, _TOP)


def _inside(levels: np.ndarray, origin: np.ndarray, norm: Norm, epsilon: float) -> bool:
    perturbation = tf.constant((levels - origin)[np.newaxis] / _TOP)
    return bool(GEOMETRY[norm].length(perturbation)[0] <= epsilon + TOLERANCE / 2)


def _towards(values: np.ndarray, origin: np.ndarray) -> np.ndarray:
    # Origins of 8-bit images are whole up to float32 rounding: snap before comparing.
    origin = np.where(np.abs(origin - np.rint(origin)) < 1e-3, np.rint(origin), origin)
    return np.where(values > origin, np.floor(values), np.ceil(values))
