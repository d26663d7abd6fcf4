"""Targeted L-inf: a single constraint where that suffices, else an interior point.

The least e of the constraint that needs most (`relaxation.py`) is a lower bound, and the optimum is
rarely half as much again. So nearly every side of every pixel has one bound that can matter: its
range where that is below the lower bound, else e (`linf_form.py`). That halves an iteration's work.
Where e ends above what was assumed, that problem is solved again with both bounds everywhere.
"""

from __future__ import annotations

import numpy as np

from mnist_adv.optimum.solvers import interior_point, one_constraint
from mnist_adv.optimum.solvers.relaxation import one_row
from mnist_adv.optimum.solvers.linf_form import make_ball
from mnist_adv.optimum.solvers.interior_point import Solution
from mnist_adv.optimum.problem import Block
from mnist_adv.optimum.solvers.feasibility import repair

_SURE = 0.99  # share of the lower bound up to which a room is certain to be less than e
_HOPE = 1.5  # multiple of the lower bound beyond which a room is hoped to be more than e
_STALLED = 1e-8  # share of e that rows which are not met exactly may cost
_ALLOWED = (3e-7, 1e-7, 3e-8, 1e-8, 1e-9)  # of e beyond its bound, tried in turn


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
        found = interior_point.solve(form, part.needs)
        solution.iterations[again] += found.iterations
        kept = found.empty | (found.points[:, -1] <= hoped)
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
