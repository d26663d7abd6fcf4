"""One round of repair on the grid of levels: which pixels move, chosen by the gradient.

All numbers are of a weighted sum of margins that has to fall; `slope` is its derivative.
"""

from __future__ import annotations

import numpy as np

from mnist_adv.geometry.norms import Norm
from mnist_adv.quantize.ball import TOP, GridBudget


def out_of_reach(
    levels: np.ndarray, slope: np.ndarray, distance: np.ndarray, budget: GridBudget
) -> np.ndarray:
    """Say where even the best image of the ball would not be enough, if the slope stayed.

    Args:
        levels: `[n, pixels]`.
        slope: `[n, pixels]`, per pixel unit.
        distance: `[n]`, how far the sum has to fall.
        budget: the balls.

    Returns:
        `[n]` bool. For models that are linear in the pixels, there is no such image.
    """
    low, high = budget.ends()
    # What each pixel can add, at either end of its way; against the box it adds nothing.
    slack = np.where(slope > 0, budget.origin - low, high - budget.origin) / TOP
    worth = np.abs(slope) * slack
    done = (slope * (levels - budget.origin)).sum(axis=1) / TOP
    if budget.norm is Norm.LINF:
        most = worth.sum(axis=1)
    elif budget.norm is Norm.L0:
        most = _largest(worth, budget.allowed)
    else:
        open_slope = np.where(slack > 0, np.abs(slope), 0)
        by_length = (
            np.sqrt((open_slope**2).sum(axis=1))
            if budget.norm is Norm.L2
            else open_slope.max(axis=1)
        )
        longest = np.where(np.isfinite(budget.epsilon), budget.epsilon, TOP * slope.shape[1])
        most = np.minimum(by_length * longest, worth.sum(axis=1))
    beyond: np.ndarray = distance > done + most + 1e-6
    return beyond


def move(
    levels: np.ndarray, slope: np.ndarray, wanted: np.ndarray, budget: GridBudget
) -> tuple[np.ndarray, np.ndarray]:
    """Move pixels by one level each, as few as make the sum fall by what is wanted.

    First go the pixels that lower it most for what they take of the budget. When the budget is
    spent, pixels that matter little give levels back for them. In linf, where moving is free, an
    image that single levels do not help enough takes whole ways.

    Args:
        levels: `[n, pixels]` float64.
        slope: `[n, pixels]`, per pixel unit.
        wanted: `[n]`, by how much it is to fall.
        budget: the balls.

    Returns:
        The moved images, and which could not be moved, `[n]` bool.
    """
    low, high = budget.ends()
    there = np.clip(levels - np.sign(slope), low, high)
    gain = slope * (levels - there) / TOP
    if budget.norm is Norm.LINF:
        short = gain.sum(axis=1) < wanted
        far = np.where(slope > 0, low, np.where(slope < 0, high, levels))
        there[short] = far[short]
        gain = slope * (levels - there) / TOP
        pushed, pulled = _cheapest(gain, wanted), None
    else:
        spent = budget.spent(levels)
        cost = budget.spent(there) - spent
        back = levels + np.sign(np.rint(budget.origin) - levels)
        loss = slope * (back - levels) / TOP
        saving = spent - budget.spent(back)
        slack = budget.allowed - spent.sum(axis=1)
        pushed, pulled = _exchanged(gain, cost, loss, saving, slack, wanted)
    moved = np.where(pushed, there, levels)
    if pulled is not None:
        moved = np.where(pulled, back, moved)
    return moved, np.logical_not(pushed.any(axis=1))


def _cheapest(gain: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Choose the pixels that gain most until it is enough, `[n, pixels]`; all where it is not."""
    order = np.argsort(-gain, axis=1, kind="stable")
    total = np.cumsum(np.take_along_axis(gain, order, axis=1), axis=1)
    chosen = np.zeros(gain.shape, bool)
    np.put_along_axis(chosen, order, _shifted(total) < wanted[:, np.newaxis], axis=1)
    return chosen & (gain > 0)


def _exchanged(
    gain: np.ndarray,
    cost: np.ndarray,
    loss: np.ndarray,
    saving: np.ndarray,
    slack: np.ndarray,
    wanted: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose pixels that move on and those that give back for them; none where none helps."""
    useful, giving = gain > 0, (saving > 0) & (loss >= 0)
    ratio = np.where(useful, -gain / np.maximum(cost, 1e-9), np.inf)
    pushes = np.argsort(ratio, axis=1, kind="stable")
    gained = _summed(np.where(useful, gain, 0), pushes)
    needed = _summed(np.where(useful, cost, 0), pushes) - slack[:, np.newaxis]
    ratio = np.where(giving, loss / np.where(giving, saving, 1), np.inf)
    pulls = np.argsort(ratio, axis=1, kind="stable")
    saved = _started(_summed(np.where(giving, saving, 0), pulls))
    lost = _started(_summed(np.where(giving, loss, 0), pulls))
    number = np.stack([np.searchsorted(*pair) for pair in zip(saved, needed)])
    ranks = np.arange(gain.shape[1])
    possible = (number < saved.shape[1]) & (ranks < useful.sum(axis=1, keepdims=True))
    given = np.take_along_axis(lost, np.minimum(number, saved.shape[1] - 1), axis=1)
    net = np.where(possible, gained - given, -np.inf)
    enough = net >= wanted[:, np.newaxis]
    last = np.where(enough.any(axis=1), enough.argmax(axis=1), net.argmax(axis=1))[:, np.newaxis]
    helps = net.max(axis=1, keepdims=True) > 0
    pushed, pulled = np.zeros(gain.shape, bool), np.zeros(gain.shape, bool)
    np.put_along_axis(pushed, pushes, helps & (ranks <= last), axis=1)
    returned = np.take_along_axis(number, last, axis=1)
    np.put_along_axis(pulled, pulls, helps & (ranks < returned), axis=1)
    return pushed, pulled


def _summed(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    return np.cumsum(np.take_along_axis(values, order, axis=1), axis=1)


def _started(sums: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros((len(sums), 1)), sums], axis=1)


def _shifted(sums: np.ndarray) -> np.ndarray:
    return _started(sums)[:, :-1]


def _largest(values: np.ndarray, count: np.ndarray) -> np.ndarray:
    ordered = -np.sort(-values, axis=1)
    within = np.arange(values.shape[1]) < count[:, np.newaxis]
    return np.where(within, ordered, 0).sum(axis=1)
