"""Targeted L1 by columns: a sparse answer needs few pixels, so start with those that promise most.

Each column is one pixel moved one way. The smallest L1 change of a digit moves about fifteen of
them, so a program over the 128 most promising columns of 1,568 nearly always holds the answer.
Whether it does is decided by its multipliers, which are priced over all pixels: where some column
left out would pay, the problem is solved again over all of them.
"""

from __future__ import annotations

import numpy as np

from mnist_adv.optimum import interior
from mnist_adv.optimum.forms import linear
from mnist_adv.optimum.interior import Solution
from mnist_adv.optimum.problem import Block

_NUM_COLUMNS = 128
_PAYS = 1 + 1e-9
_NOTHING = 1e-7


def solve(block: Block, costs: np.ndarray | None = None) -> Solution:
    """Solve a block of problems whose objective adds up over pixels.

    Args:
        block: n problems.
        costs: `[2, n, D]`, of one unit up and down, positive; 1 (the L1 norm) if None.

    Returns:
        Points `[n, D]`, signed, with multipliers, iterations and emptiness proofs.
    """
    count, num_pixels = block.room.shape[1:]
    every = np.arange(count)
    full = 2 * num_pixels
    solution, pays = _solve(block, every, costs, min(_NUM_COLUMNS, full))
    again = np.flatnonzero(pays)
    if again.size and full > _NUM_COLUMNS:
        second, _ = _solve(block, again, costs, full)
        solution.points[again] = second.points
        solution.multipliers[again] = second.multipliers
        solution.iterations[again] += second.iterations
        solution.empty[again] = second.empty
    return solution


def _solve(
    block: Block, chosen: np.ndarray, costs: np.ndarray | None, num_columns: int
) -> tuple[Solution, np.ndarray]:
    weights, targets = block.rows.weights, block.rows.targets[chosen]
    room = np.concatenate(list(block.room[:, chosen]), axis=1)
    needs = block.needs[chosen]
    price = np.ones_like(room)
    if costs is not None:
        price = np.concatenate(list(costs[:, chosen]), axis=1)
    rows = weights[:, targets].T[:, :, np.newaxis] - weights  # [n, D, K]
    num_pixels = rows.shape[1]
    best = _promise(rows, room, price, needs, num_columns)
    index = np.arange(len(chosen))[:, np.newaxis]
    sign = np.where(best < num_pixels, 1.0, -1.0)
    here = room[index, best] > 0
    # A column without room would have no interior: it becomes one that does nothing.
    columns = rows[index, best % num_pixels] * (sign * here)[:, :, np.newaxis]
    form = linear(columns, np.where(here, room[index, best], 1.0), price[index, best])
    solution = interior.solve(form, needs)
    moves = np.zeros_like(room)
    # Interior points are never quite zero; what is lost by rounding down is repaired elsewhere.
    moves[index, best] = solution.points * (here & (solution.points > _NOTHING))
    points = moves[:, :num_pixels] - moves[:, num_pixels:]
    row = np.matmul(rows, solution.multipliers[:, :, np.newaxis])[:, :, 0]
    worth = np.where(room > 0, np.concatenate([row, -row], axis=1) - price * _PAYS, 0.0)
    worth[index, best] = 0
    pays = (worth > 0).any(axis=1) | solution.empty
    return Solution(points, solution.multipliers, solution.iterations, solution.empty), pays


def _promise(
    rows: np.ndarray, room: np.ndarray, price: np.ndarray, needs: np.ndarray, num_columns: int
) -> np.ndarray:
    """Choose the columns that do most, per cost, for one of the needy rows."""
    lengths = np.sqrt((rows**2).sum(axis=1))
    urgency = np.maximum(needs, 0) / np.maximum(lengths, 1e-30)
    weighted = rows * urgency[:, np.newaxis]
    gain = np.concatenate([weighted.max(axis=2), -weighted.min(axis=2)], axis=1) / price
    gain[room <= 0] = -np.inf
    if num_columns == gain.shape[1]:
        return np.broadcast_to(np.arange(num_columns), gain.shape)
    return np.argpartition(-gain, num_columns - 1, axis=1)[:, :num_columns]
