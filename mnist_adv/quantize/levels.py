"""Round adversarial images to the 256 grey levels of a file so that they stay adversarial.

Plain rounding moves every pixel by up to 1/510, which can undo an attack that has just succeeded
or leave its budget. Here rounding stays inside the budget, and where it loses a goal that had been
reached, pixels are moved level by level along the gradient until the goal is met on the grid
itself. An image that had not reached its goal is rounded and nothing else: repair is no attack.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv.arguments import choose, real, shown, whole, yes_or_no
from mnist_adv.data.datasets import to_float
from mnist_adv.data.images import UNIT, Bounds, as_classes, to_unit
from mnist_adv.geometry.norms import Norm
from mnist_adv.gradients.goals import Goal, as_confidence
from mnist_adv.models.as_model import as_model
from mnist_adv.models.logits import predict
from mnist_adv.models.preprocessing import in_unit_box
from mnist_adv.quantize.ball import TOP, GridBudget, round_inside
from mnist_adv.quantize.moves import move, out_of_reach
from mnist_adv.tensors.lazy import tf
from mnist_adv.verdict.judge import as_pair, judge_final

if TYPE_CHECKING:
    from mnist_adv.models.model import Model

# Rounds without progress after which an image is given up.
_PATIENCE = 4
# What is wanted is overdone a little: gradients and float32 logits are rounded.
_SURPLUS = 1.01
# How near to the best other class, over the margin, another one counts: at least, at most 1.
_WIDTH, _NARROW = 4.0, 0.05
# How much longer than the attack or its rounding a repaired image may be, in levels, before the
# whole budget is opened to it.
_LONGER = (1, 2)
# Pixels nearer than this are the same float32 but for the rounding of units and levels.
_READ_BACK = 4 * float(np.finfo(np.float32).eps)
# So many float64 images stay in cache while they are rounded.
_BLOCK = 64


def to_levels(
    model: Model,
    images: Any,
    adversarial: Any,
    goal: Goal,
    *,
    norm: Norm | str,
    epsilon: Any,
    max_rounds: int = 100,
    bounds: Bounds = UNIT,
) -> np.ndarray:
    """Round to 8 bits inside the budget; repair on the grid what rounding undid.

    Each pixel goes to its nearest level; where that leaves the budget, as few as possible go to
    the next level towards the clean image instead, which is shorter in every norm. An image that
    met its goal before, as `judge` finds (with the wanted confidence, inside the budget and the
    bounds), and no longer does, is changed, in each round in as many pixels by one level as its
    gradient says are needed: first within the length that it has, and only if that is not enough,
    within the whole budget. Where the budget is spent, pixels that matter little give levels back.
    An image whose goal the gradient places beyond the budget is given up. An image that did not
    meet its goal before is only rounded.

    Args:
        model: images -> logits.
        images: clean, `[n, h, w, c]` floats inside the bounds.
        adversarial: the same shape, finite floats.
        goal: what the images are to be classified as.
        norm: "linf", "l2", "l1" or "l0", of the budget.
        epsilon: the budget in pixel units, one number or `[n]`, at least 0; may be infinite.
        max_rounds: most rounds of repair at each length; 0 only rounds.
        bounds: the least and the largest value of a pixel: levels 0 and 255.

    Returns:
        uint8 `[n, h, w, c]`. Where even repair did not meet the goal, the levels that came
        nearest to it; judge the result, as always.

    Raises:
        ValueError: images, adversarial images, norm or budget as `judge` refuses them; a goal
            whose classes are not one of the model's for each image; rounds that are no integer.

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
    images, adversarial, bounds = as_pair(images, adversarial, bounds)
    count, shape, norm = len(images), images.shape[1:], choose(Norm, norm, "norm")
    unit = 1.0 if norm is Norm.L0 else bounds[1] - bounds[0]
    budgets = real(epsilon, "epsilon", 0, count=count, infinite=True) / unit
    budgets = np.broadcast_to(budgets, (count,))
    max_rounds = int(whole(max_rounds, "max_rounds", 0))
    model = as_model(model, images)
    goal = _checked_goal(goal, count, predict(model, images[:1]).shape[1])
    images, adversarial = to_unit(images, bounds), to_unit(adversarial, bounds)
    model = in_unit_box(model, bounds)

    def flat_model(pixels: Any) -> Any:
        return model(tf.reshape(pixels, [-1, *shape]))

    levels, lengths = np.empty((count, math.prod(shape)), np.uint8), np.empty(count)
    for first in range(0, count, _BLOCK):
        block = slice(first, first + _BLOCK)
        budget = GridBudget(_origin(images[block]), norm, budgets[block])
        wanted = _in_levels(adversarial[block])
        rounded = round_inside(wanted, budget)
        lengths[block] = np.maximum(budget.lengths(wanted), budget.lengths(rounded))
        levels[block] = rounded
    if max_rounds and count:
        missed = np.flatnonzero(~_satisfied(flat_model, levels, goal))
        if len(missed):
            question = (images[missed], adversarial[missed], _part(goal, missed))
            before = judge_final(model, *question, norm=norm, epsilon=budgets[missed])
            missed = missed[before.success]
        for longer in (*_LONGER, math.inf):
            if not len(missed):
                break
            radius = np.minimum(lengths[missed] + longer / TOP, budgets[missed])
            budget = GridBudget(_origin(images[missed]), norm, radius)
            mended, left = _repair(
                flat_model, levels[missed], _part(goal, missed), budget, max_rounds
            )
            levels[missed] = mended
            missed = missed[left & (radius < budgets[missed])]  # others have had the whole budget
    return levels.reshape(images.shape)


def _checked_goal(goal: Any, count: int, num_classes: int) -> Goal:
    if not isinstance(goal, Goal):
        raise ValueError(
            f"goal must be the Goal of an attack's result, or of make_goal. Received: {shown(goal)}"
        )
    classes = as_classes(goal.classes, count, num_classes, "classes of the goal")
    confidence = None if goal.confidence is None else as_confidence(goal.confidence)
    return Goal(classes, yes_or_no(goal.targeted, "targeted"), confidence)


def _in_levels(images: np.ndarray) -> np.ndarray:
    return TOP * images.reshape(len(images), -1).astype(np.float64)


def _origin(images: np.ndarray) -> np.ndarray:
    # k / 255 is not a float32, nor is the way into the unit box and back exact: what reads back as
    # the clean pixel is that pixel, above all in l0.
    exact = _in_levels(images)
    nearest = np.rint(exact)
    return np.where(np.abs(exact - nearest) <= TOP * _READ_BACK, nearest, exact)


def _part(goal: Goal, rows: np.ndarray) -> Goal:
    return dataclasses.replace(goal, classes=goal.classes[rows])


def _pixels(levels: np.ndarray) -> np.ndarray:
    return to_float(levels.astype(np.uint8))


def _satisfied(model: Model, levels: np.ndarray, goal: Goal) -> np.ndarray:
    met: np.ndarray = goal.satisfied(model(_pixels(levels)), goal.classes).numpy()
    return met


def _repair(
    model: Model, levels: np.ndarray, goal: Goal, budget: GridBudget, max_rounds: int
) -> tuple[np.ndarray, np.ndarray]:
    """Move images that miss their goal; leave each at the best that was found.

    Returns:
        Levels, and which images still miss it, `[n]` bool.
    """
    now, best = levels.astype(np.float64), levels.copy()
    best_value = np.full(len(levels), np.inf)
    missed, waited = np.ones(len(levels), bool), np.zeros(len(levels), np.int64)
    beyond_before = np.zeros(len(levels), bool)
    rows = np.arange(len(levels))
    for _ in range(max_rounds + 1):
        seen = _evaluate(model, now[rows], _part(goal, rows))
        value = np.where(seen.satisfied, -np.inf, seen.margin)
        better = value < best_value[rows]
        best[rows[better]] = now[rows[better]]
        best_value[rows[better]] = value[better]
        waited[rows] = np.where(better, 0, waited[rows] + 1)
        missed[rows] = ~seen.satisfied
        beyond = out_of_reach(now[rows], seen.slope, seen.distance, budget.of(rows))
        # The gradient may be wrong about what is beyond reach: one more try, then the next image.
        going = ~seen.satisfied & (waited[rows] < _PATIENCE) & ~(beyond & beyond_before[rows])
        beyond_before[rows] = beyond
        rows, seen = rows[going], seen.of(going)
        if not len(rows):
            break
        wanted = _SURPLUS * np.maximum(seen.margin + _confident_margin(goal), 0) + 1e-6
        now[rows], stuck = move(now[rows], seen.slope, wanted, budget.of(rows))
        rows = rows[~stuck]
        if not len(rows):
            break
    return best, missed


@dataclasses.dataclass(frozen=True)
class _Evaluation:
    """What the model says of images on the grid.

    `margin` is the largest of those that have to fall below zero, or the only one; `distance` is
    how far a weighted sum of them, whose derivative is `slope`, has to fall.
    """

    satisfied: np.ndarray
    margin: np.ndarray
    distance: np.ndarray
    slope: np.ndarray  # [n, pixels], per pixel unit

    def of(self, rows: np.ndarray) -> _Evaluation:
        return _Evaluation(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))


def _evaluate(model: Model, levels: np.ndarray, goal: Goal) -> _Evaluation:
    pixels = tf.constant(_pixels(levels))
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(pixels)
        logits = model(pixels)
    satisfied = goal.satisfied(logits, goal.classes).numpy()
    seen = logits.numpy().astype(np.float64)
    weights, margin = _weights(seen, goal)
    upstream = tf.constant(weights, logits.dtype)
    gradient = tape.gradient(logits, pixels, upstream, tf.UnconnectedGradients.ZERO)
    return _Evaluation(
        satisfied=satisfied,
        margin=margin,
        distance=(weights * seen).sum(axis=1) + _confident_margin(goal),
        slope=gradient.numpy().reshape(len(levels), -1).astype(np.float64),
    )


def _weights(logits: np.ndarray, goal: Goal) -> tuple[np.ndarray, np.ndarray]:
    """Weigh logits so that their sum has to fall; the largest margin beside it."""
    rows = np.arange(len(logits))
    own = logits[rows, goal.classes]
    others = logits.copy()
    others[rows, goal.classes] = -np.inf
    best = others.max(axis=1)
    if not goal.targeted:
        weights = np.zeros_like(logits)
        weights[rows, others.argmax(axis=1)] = -1
        weights[rows, goal.classes] = 1
        return weights, own - best
    # All the other classes whose logits are near the largest: against that one alone, two would
    # take turns. One that is far below has no weight.
    width = np.clip(_WIDTH * (best - own), _NARROW, 1)
    powers = np.exp((others - best[:, np.newaxis]) / width[:, np.newaxis])
    weights = powers / powers.sum(axis=1, keepdims=True)
    weights[rows, goal.classes] = -1
    return weights, best - own


def _confident_margin(goal: Goal) -> float:
    # The margin of the first of two classes when it has the wanted probability.
    confidence = goal.confidence or 0.5
    return max(0.0, math.log(confidence / (1 - confidence)))
