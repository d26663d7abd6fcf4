"""Targeted L-inf: a single constraint where that suffices, else an interior point.

The least e of the most demanding constraint (`relaxation.py`) is a lower bound, and the optimum is
rarely half as much again. So nearly every side of every pixel has one bound that can matter: its
range where that is below the lower bound, else e (`linf_form.py`). That halves an iteration's work.
Where e ends above what was assumed, that problem is solved again with both bounds everywhere.
"""

from __future__ import annotations

import numpy as np

from mnist_adv.optimum.problem import Block
from mnist_adv.optimum.solvers import interior_point, one_constraint
from mnist_adv.optimum.solvers.feasibility import repair
from mnist_adv.optimum.solvers.interior_point import Solution
from mnist_adv.optimum.solvers.linf_form import make_linf_form
from mnist_adv.optimum.solvers.relaxation import solve_single

_E_LOWER = 0.99  # share of the lower bound below which a range is certain to be less than e
_E_UPPER = 1.5  # multiple of the lower bound above which a range is assumed to exceed e
_STALLED = 1e-8  # complementarity, as a share of e, above which an answer is tightened
_ALLOWED = (3e-7, 1e-7, 3e-8, 1e-8, 1e-9)  # of e beyond its bound, tried in turn


def solve(block: Block) -> Solution:
    """Solve a block of targeted L-inf problems, none of which is met already.

    Args:
        block: n problems.

    Returns:
        Points `[n, D]`, dual variables, iterations and proofs of infeasibility.
    """
    solution, low, settled = solve_single("linf", block)
    for multiple in (_E_UPPER, np.inf):
        again = np.flatnonzero(~settled)
        if not again.size:
            break
        part = block.take(again)
        e_upper = multiple * low[again]
        e_lower = _E_LOWER * low[again]
        form = make_linf_form(
            part.constraints, part.ranges, solution.dual_variables[again], e_lower, e_upper
        )
        found = interior_point.solve(form, part.rhs)
        solution.iterations[again] += found.iterations
        kept = found.infeasible | (found.points[:, -1] <= e_upper)
        won = again[kept]
        solution.points[won] = found.points[kept, :-1]
        solution.dual_variables[won] = found.dual_variables[kept]
        solution.infeasible[won] = found.infeasible[kept]
        settled[won] = True
    return _tighten(block, solution)


def _complementarity(block: Block, points: np.ndarray, dual_variables: np.ndarray) -> np.ndarray:
    """Compute `sum_k lambda_k |a_k . d - g_k| / ||d||`, `[n]`."""
    products = dual_variables * np.abs(block.constraints.apply(points) - block.rhs)
    return products.sum(axis=1) / np.maximum(np.abs(points).max(axis=1), 1e-300)


def _tighten(block: Block, solution: Solution) -> Solution:
    """Shorten answers whose constraints a stalled iteration left met by too much."""
    complementarity = _complementarity(block, solution.points, solution.dual_variables)
    loose = np.flatnonzero(~solution.infeasible & (complementarity > _STALLED))
    if not loose.size:
        return solution
    part, lam = block.take(loose), solution.dual_variables[loose]
    coefficients = part.constraints.combine(lam)
    ranges = np.where(coefficients > 0, part.ranges[0], part.ranges[1])
    rhs = (lam * part.rhs).sum(axis=1)
    low, _ = one_constraint.smallest("linf", np.abs(coefficients), ranges, rhs)
    for more in _ALLOWED:
        ball = low[:, np.newaxis] * (1 + more)
        points = np.clip(solution.points[loose], -ball, ball)
        points = repair("linf", part.constraints, part.ranges, part.rhs, points, part.tolerance)
        met = (part.rhs - part.constraints.apply(points)).max(axis=1) <= part.tolerance
        better = met & (np.abs(points).max(axis=1) < np.abs(solution.points[loose]).max(axis=1))
        solution.points[loose[better]] = points[better]
    return solution
