"""Targeted L-inf: one row alone where that suffices, else an interior point with little to carry.

The least e of the most demanding row alone is a lower bound, and its closed form (`halfspace.py`)
reaches the target for four of ten pairs of digit and class. Elsewhere the optimum is rarely half
as much again, so nearly every side of every pixel has one bound that can matter: its room where
that is below the lower bound, else e (`ball.py`). That halves an iteration's work. After six of
them, most pixels are decided, and the rest of the iterations leave them out (`narrow.py`). What
these two shortcuts assume is checked; where it fails, that problem is solved again without them.
"""

from __future__ import annotations

import numpy as np

from mnist_adv.optimum import halfspace, interior
from mnist_adv.optimum.ball import BallForm, make_ball
from mnist_adv.optimum.interior import Solution
from mnist_adv.optimum.narrow import narrow
from mnist_adv.optimum.problem import Block

_MOST_ROWS = 3  # tried alone: the neediest, then each time the one that the last answer missed most
_SURE = 0.99  # share of the lower bound up to which a room is certain to be less than e
_HOPE = 1.5  # multiple of the lower bound beyond which a room is hoped to be more than e
_WIDE = 6  # iterations with all pixels
_KEPT = 160  # pixels that are undecided after these
_NARROW = 25  # iterations with them: most problems take half as many
_NONE = 1 - 1e-12  # all rooms together reach less than this share of the need: no rounding


def solve(block: Block) -> Solution:
    """Solve a block of targeted L-inf problems, none of which needs nothing.

    Args:
        block: n problems.

    Returns:
        Points `[n, D]`, multipliers, iterations and emptiness proofs.
    """
    solution, low, settled = _one_row(block)
    for hope in (_HOPE, np.inf):
        again = np.flatnonzero(~settled)
        if not again.size:
            break
        part = block.take(again)
        hoped = hope * low[again]
        sure = _SURE * low[again]
        form = make_ball(part.rows, part.room, solution.multipliers[again], sure, hoped)
        found, sound = _in_two_parts(form, part.needs, quick=hope < np.inf)
        solution.iterations[again] += found.iterations
        kept = found.empty | (sound & (found.points[:, -1] <= hoped))
        won = again[kept]
        solution.points[won] = found.points[kept, :-1]
        solution.multipliers[won] = found.multipliers[kept]
        solution.empty[won] = found.empty[kept]
        settled[won] = True
    return solution


def _in_two_parts(form: BallForm, needs: np.ndarray, *, quick: bool) -> tuple[Solution, np.ndarray]:
    """Solve with all pixels, or first with all and then with the undecided; which are sound."""
    count, num_pixels = form.room.shape[1:]
    sound = np.ones(count, bool)
    if not quick or num_pixels < 2 * (_KEPT + 2 * form.extra.shape[2]):
        return interior.solve(form, needs), sound
    solution = interior.nothing(count, num_pixels + 1, needs.shape[1])
    state = interior.advance(interior.begin(form, needs), solution, _WIDE)
    index = state.index
    if not index.size:
        return solution, sound
    state, decided = narrow(state, _KEPT)
    part = interior.nothing(len(index), state.point.shape[1], needs.shape[1])
    left = interior.advance(state, part, _NARROW)
    solution.points[index] = decided.widen(part.points)
    solution.multipliers[index] = part.multipliers
    solution.iterations[index] += part.iterations
    sound[index] = decided.right(part.multipliers)
    sound[index[left.index]] = False
    return solution, sound


def _one_row(block: Block) -> tuple[Solution, np.ndarray, np.ndarray]:
    """Solve for single rows; return also a lower bound `[n]` and what is settled by it `[n]`."""
    rows, needs = block.rows, block.needs
    weights, targets = rows.weights, rows.targets
    count, num_classes = needs.shape
    solution = interior.nothing(count, len(weights), num_classes)
    low, settled = np.zeros(count), np.zeros(count, bool)
    lengths = np.empty(needs.shape)
    for target in np.unique(targets):
        lengths[targets == target] = np.abs(weights - weights[:, [target]]).sum(axis=0)
    candidate = (needs / np.maximum(lengths, 1e-300)).argmax(axis=1)
    todo = np.arange(count)
    for _ in range(_MOST_ROWS):
        part = block.take(todo)
        need = part.needs[np.arange(len(todo)), candidate]
        row = (weights[:, targets[todo]] - weights[:, candidate]).T
        strengths, rooms = np.abs(row), np.where(row > 0, part.room[0], part.room[1])
        least, moves = halfspace.smallest("linf", strengths, rooms, need)
        # What the least e costs per unit of need; where no pixel is at e, any price will do.
        rate = (strengths * (rooms > least[:, np.newaxis])).sum(axis=1)
        empty = np.einsum("nd,nd->n", strengths, rooms) < _NONE * need
        moves *= np.sign(row)
        short = part.needs - part.rows.apply(moves)
        better = least > low[todo]
        met = better & (short.max(axis=1) <= part.slack)
        won = todo[better]
        low[won], solution.points[won] = least[better], moves[better]
        solution.multipliers[won] = 0
        solution.multipliers[won, candidate[better]] = 1 / np.where(rate > 0, rate, 1)[better]
        solution.empty[todo] |= empty
        settled[todo] = met | empty
        solution.iterations[todo] += 1
        onward = better & ~met & ~empty
        todo, candidate = todo[onward], short[onward].argmax(axis=1)
        if not todo.size:
            break
    low[~np.isfinite(low)] = block.room.max()
    return solution, low, settled
