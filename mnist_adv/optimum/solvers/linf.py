"""Targeted L-inf: one row alone where that suffices, else an interior point with little to carry.

The least e of the most demanding row alone (`alone.py`) is a lower bound, and the optimum is rarely
half as much again. So nearly every side of every pixel has one bound that can matter: its room
where that is below the lower bound, else e (`ball.py`). That halves an iteration's work. After six
of them, in float32, most pixels are decided, and the others go on without (`narrow.py`). What these
shortcuts assume is checked; where it fails, that problem is solved again without them.
"""

from __future__ import annotations

import numpy as np

from mnist_adv.optimum.solvers import one_constraint, interior_point, variable_fixing
from mnist_adv.optimum.solvers.relaxation import one_row
from mnist_adv.optimum.solvers.linf_form import BallForm, make_ball
from mnist_adv.optimum.solvers.interior_point import Solution
from mnist_adv.optimum.problem import Block
from mnist_adv.optimum.solvers.feasibility import repair

_SURE = 0.99  # share of the lower bound up to which a room is certain to be less than e
_HOPE = 1.5  # multiple of the lower bound beyond which a room is hoped to be more than e
_STALLED = 1e-8  # share of e that rows which are not met exactly may cost
_ALLOWED = (3e-7, 1e-7, 3e-8, 1e-8, 1e-9)  # of e beyond its bound, tried in turn
_WIDE = 6  # iterations with all pixels
_KEPT = 160  # pixels that are undecided after these
_NARROW = 25  # iterations with them: most problems take half as many


def solve(block: Block) -> Solution:
    """Solve a block of targeted L-inf problems, none of which needs nothing.

    Args:
        block: n problems.

    Returns:
        Points `[n, D]`, multipliers, iterations and emptiness proofs.
    """
    solution, low, settled = one_row("linf", block)
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
        if hope < np.inf:  # else there is no better way left
            sound &= _missed(part, found.points[:, :-1], found.multipliers) <= _STALLED
        kept = found.empty | (sound & (found.points[:, -1] <= hoped))
        won = again[kept]
        solution.points[won] = found.points[kept, :-1]
        solution.multipliers[won] = found.multipliers[kept]
        solution.empty[won] = found.empty[kept]
        settled[won] = True
    return _tighten(block, solution)


def _missed(block: Block, points: np.ndarray, multipliers: np.ndarray) -> np.ndarray:
    """Compute by how much rows with a price are not met exactly, in shares of the norm, `[n]`."""
    missed = np.abs(block.rows.apply(points) - block.needs)
    return (multipliers * missed).sum(axis=1) / np.maximum(np.abs(points).max(axis=1), 1e-300)


def _tighten(block: Block, solution: Solution) -> Solution:
    """Take back what a stalled iteration has left in rows that are met by too much."""
    missed = _missed(block, solution.points, solution.multipliers)
    loose = np.flatnonzero(~solution.empty & (missed > _STALLED))
    if not loose.size:
        return solution
    part, lam = block.take(loose), solution.multipliers[loose]
    row = part.rows.combine(lam)
    rooms = np.where(row > 0, part.room[0], part.room[1])
    need = (lam * part.needs).sum(axis=1)
    low, _ = one_constraint.smallest("linf", np.abs(row), rooms, need)
    for more in _ALLOWED:
        ball = low[:, np.newaxis] * (1 + more)
        points = np.clip(solution.points[loose], -ball, ball)
        points = repair("linf", part.rows, part.room, part.needs, points, part.slack)
        met = (part.needs - part.rows.apply(points)).max(axis=1) <= part.slack
        better = met & (np.abs(points).max(axis=1) < np.abs(solution.points[loose]).max(axis=1))
        solution.points[loose[better]] = points[better]
    return solution


def _in_two_parts(form: BallForm, needs: np.ndarray, *, quick: bool) -> tuple[Solution, np.ndarray]:
    """Solve with all pixels, or first with all and then with the undecided; which are sound."""
    count, num_pixels = form.room.shape[1:]
    if not quick or num_pixels < 2 * (_KEPT + 2 * form.extra.shape[2]):
        return interior_point.solve(form, needs), np.ones(count, bool)
    sound = np.zeros(count, bool)  # not what float32 has solved
    solution = interior_point.nothing(count, num_pixels + 1, needs.shape[1])
    rough = interior_point.advance(variable_fixing.rough(interior_point.begin(form, needs)), solution, _WIDE)
    index = rough.index
    if not index.size:
        return solution, sound
    state, decided = variable_fixing.narrow(rough, form.take(index), _KEPT)
    part = interior_point.nothing(len(index), state.point.shape[1], needs.shape[1])
    left = interior_point.advance(state, part, _NARROW)
    solution.points[index] = decided.widen(part.points)
    solution.multipliers[index] = part.multipliers
    solution.iterations[index] += part.iterations
    sound[index] = decided.right(part.multipliers)
    sound[index[left.index]] = False
    return solution, sound
