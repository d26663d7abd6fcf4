"""The most demanding row alone: a lower bound for all rows together, and often their answer.

The least change for one row has a closed form (`halfspace.py`). Where it happens to meet the other
rows too, it is the optimum; so it is for four of ten pairs of digit and class in L-inf, and for
half of them in L1.
"""

from __future__ import annotations

import numpy as np

from mnist_adv.optimum.solvers import one_constraint, interior_point
from mnist_adv.optimum.solvers.interior_point import Solution
from mnist_adv.optimum.problem import Block

_MOST_ROWS = 3  # the neediest, then each time the one that the last answer missed most
_NONE = 1 - 1e-12  # all rooms together reach less than this share of the need: no rounding


def one_row(norm: str, block: Block) -> tuple[Solution, np.ndarray, np.ndarray]:
    """Solve for single rows.

    Args:
        norm: "linf" or "l1".
        block: n problems, none of which needs nothing.

    Returns:
        Answers to the most demanding row that was found, with its multiplier; a lower bound on the
        norm, `[n]`; and which problems are settled by that, `[n]`.
    """
    rows, needs = block.rows, block.needs
    weights, targets = rows.weights, rows.targets
    solution = interior_point.nothing(len(needs), len(weights), needs.shape[1])
    low, settled = np.zeros(len(needs)), np.zeros(len(needs), bool)
    candidate = (needs / _lengths(norm, weights, targets)).argmax(axis=1)
    todo = np.arange(len(needs))
    for _ in range(_MOST_ROWS):
        part = block.take(todo)
        need = part.needs[np.arange(len(todo)), candidate]
        row = (weights[:, targets[todo]] - weights[:, candidate]).T
        strengths, rooms = np.abs(row), np.where(row > 0, part.room[0], part.room[1])
        least, moves = one_constraint.smallest(norm, strengths, rooms, need)
        price = _price(norm, strengths, rooms, least, moves)
        empty = np.einsum("nd,nd->n", strengths, rooms) < _NONE * need
        moves *= np.sign(row)
        short = part.needs - part.rows.apply(moves)
        better = least > low[todo]
        met = better & (short.max(axis=1) <= part.slack)
        won = todo[better]
        low[won], solution.points[won] = least[better], moves[better]
        solution.multipliers[won] = 0
        solution.multipliers[won, candidate[better]] = price[better]
        solution.empty[todo] |= empty
        settled[todo] = met | empty
        solution.iterations[todo] += 1
        onward = better & ~met & ~empty
        todo, candidate = todo[onward], short[onward].argmax(axis=1)
        if not todo.size:
            break
    low[~np.isfinite(low)] = block.room.max()
    return solution, low, settled


def _lengths(norm: str, weights: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Compute the dual norms of all rows, `[n, K]`, at least a little."""
    lengths = np.empty((len(targets), weights.shape[1]))
    for target in np.unique(targets):
        row = np.abs(weights - weights[:, [target]])
        lengths[targets == target] = row.sum(axis=0) if norm == "linf" else row.max(axis=0)
    return np.maximum(lengths, 1e-300)


def _price(
    norm: str, strengths: np.ndarray, rooms: np.ndarray, least: np.ndarray, moves: np.ndarray
) -> np.ndarray:
    """Compute what a unit of need costs of the norm; where it costs nothing, any price will do."""
    if norm == "linf":
        rate = (strengths * (rooms > least[:, np.newaxis])).sum(axis=1)
    else:
        rate = np.where(moves > 0, strengths, np.inf).min(axis=1)
    return 1 / np.where((rate > 0) & np.isfinite(rate), rate, 1)
