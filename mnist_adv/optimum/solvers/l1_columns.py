"""Targeted L1 by columns: a sparse answer needs few pixels, so start with those that promise most.

What the most demanding row alone settles (`alone.py`) is settled. Elsewhere, each column is one
pixel moved one way. The smallest L1 change of a digit moves about fifteen of them, so a program
over the 128 most promising columns of 1,568 nearly always holds the answer.
Whether it does is decided by its multipliers, which are priced over all pixels: where some column
left out would pay, the problem is solved again over all of them.
"""

from __future__ import annotations

import numpy as np

from mnist_adv.optimum.solvers import interior_point
from mnist_adv.optimum.solvers.relaxation import one_row
from mnist_adv.optimum.solvers.box_form import linear
from mnist_adv.optimum.solvers.interior_point import Solution
from mnist_adv.optimum.problem import Block
from mnist_adv.optimum.constraints import Rows

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
    solution = interior_point.nothing(count, num_pixels, block.needs.shape[1])
    settled = np.zeros(count, bool)
    if costs is None:
        solution, _, settled = one_row("l1", block)
    again = np.flatnonzero(~settled)
    full = 2 * num_pixels
    for num_columns in (min(_NUM_COLUMNS, full), full):
        if not again.size:
            break
        found, pays = _solve(block, again, costs, num_columns)
        solution.points[again] = found.points
        solution.multipliers[again] = found.multipliers
        solution.iterations[again] += found.iterations
        solution.empty[again] = found.empty
        again = again[pays & (num_columns < full)]
    return solution


def _solve(
    block: Block, chosen: np.ndarray, costs: np.ndarray | None, num_columns: int
) -> tuple[Solution, np.ndarray]:
    rows = block.rows.take(chosen)
    room = np.concatenate(list(block.room[:, chosen]), axis=1)
    needs = block.needs[chosen]
    price = np.ones_like(room)
    if costs is not None:
        price = np.concatenate(list(costs[:, chosen]), axis=1)
    num_pixels = len(rows.weights)
    best = _promise(rows, room, price, needs, num_columns)
    index = np.arange(len(chosen))[:, np.newaxis]
    sign = np.where(best < num_pixels, 1.0, -1.0)
    here = room[index, best] > 0
    # A column without room would have no interior: it becomes one that does nothing.
    columns = rows.columns(best % num_pixels)
    columns *= (sign * here)[:, :, np.newaxis]
    form = linear(columns, np.where(here, room[index, best], 1.0), price[index, best])
    solution = interior_point.solve(form, needs)
    moves = np.zeros_like(room)
    # Interior points are never quite zero; what is lost by rounding down is repaired elsewhere.
    moves[index, best] = solution.points * (here & (solution.points > _NOTHING))
    points = moves[:, :num_pixels] - moves[:, num_pixels:]
    row = rows.combine(solution.multipliers)
    worth = np.where(room > 0, np.concatenate([row, -row], axis=1) - price * _PAYS, 0.0)
    worth[index, best] = 0
    pays = (worth > 0).any(axis=1) | solution.empty
    return Solution(points, solution.multipliers, solution.iterations, solution.empty), pays


def _promise(
    rows: Rows, room: np.ndarray, price: np.ndarray, needs: np.ndarray, num_columns: int
) -> np.ndarray:
    """Choose the columns that do most, per cost, for one of the needy rows."""
    count = len(needs)
    if num_columns == room.shape[1]:
        return np.broadcast_to(np.arange(num_columns), room.shape)
    urgency = np.maximum(needs, 0) / np.sqrt(np.maximum(rows.squares(), 1e-30))
    own = rows.weights.T[rows.targets]
    most, least = np.zeros((2, count, len(rows.weights)))
    for k in range(needs.shape[1]):  # a reduction over so short an axis would take longer
        weighted = own - rows.weights[:, k]
        weighted *= urgency[:, k : k + 1]
        np.maximum(most, weighted, out=most)
        np.minimum(least, weighted, out=least)
    gain = np.concatenate([most, -least], axis=1)
    gain /= price
    gain[room <= 0] = -np.inf
    return np.argpartition(-gain, num_columns - 1, axis=1)[:, :num_columns]
