"""Targeted L1 by column generation: a sparse answer needs few pixels.

What the most demanding constraint settles (`relaxation.py`) is settled. Elsewhere, each column is
one pixel changed in one direction. The smallest L1 change of a digit changes about fifteen of them,
so a program over the 128 most promising columns of 1,568 nearly always holds the answer. Whether it
does is decided by pricing all columns with its dual variables: where some column left out has a
negative reduced cost, the problem is solved again over all of them.
"""

from __future__ import annotations

import numpy as np

from mnist_adv.optimum.constraints import Constraints
from mnist_adv.optimum.problem import Block
from mnist_adv.optimum.solvers import interior_point
from mnist_adv.optimum.solvers.box_form import linear_form
from mnist_adv.optimum.solvers.interior_point import Solution
from mnist_adv.optimum.solvers.relaxation import solve_single

_NUM_COLUMNS = 128
_IMPROVES = 1 + 1e-9  # reduced costs within this share of the costs count as zero
_ZERO = 1e-7  # columns that an interior point leaves below this are not used


def solve(block: Block, costs: np.ndarray | None = None) -> Solution:
    """Solve a block of problems whose objective adds up over pixels.

    Args:
        block: n problems.
        costs: `[2, n, D]`, of one unit up and down, positive; 1 (the L1 norm) if None.

    Returns:
        Points `[n, D]`, signed, with dual variables, iterations and proofs of infeasibility.
    """
    count, num_pixels = block.ranges.shape[1:]
    solution = interior_point.empty_solution(count, num_pixels, block.rhs.shape[1])
    settled = np.zeros(count, bool)
    if costs is None:
        solution, _, settled = solve_single("l1", block)
    again = np.flatnonzero(~settled)
    full = 2 * num_pixels
    for num_columns in (min(_NUM_COLUMNS, full), full):
        if not again.size:
            break
        found, improves = _solve(block, again, costs, num_columns)
        solution.points[again] = found.points
        solution.dual_variables[again] = found.dual_variables
        solution.iterations[again] += found.iterations
        solution.infeasible[again] = found.infeasible
        again = again[improves & (num_columns < full)]
    return solution


def _solve(
    block: Block, chosen: np.ndarray, costs: np.ndarray | None, num_columns: int
) -> tuple[Solution, np.ndarray]:
    constraints = block.constraints.take(chosen)
    ranges = np.concatenate(list(block.ranges[:, chosen]), axis=1)
    rhs = block.rhs[chosen]
    column_costs = np.ones_like(ranges)
    if costs is not None:
        column_costs = np.concatenate(list(costs[:, chosen]), axis=1)
    num_pixels = len(constraints.weights)
    best = _choose_columns(constraints, ranges, column_costs, rhs, num_columns)
    index = np.arange(len(chosen))[:, np.newaxis]
    sign = np.where(best < num_pixels, 1.0, -1.0)
    here = ranges[index, best] > 0
    # A column without range would have no interior: it becomes one that does nothing.
    columns = constraints.columns(best % num_pixels)
    columns *= (sign * here)[:, :, np.newaxis]
    form = linear_form(columns, np.where(here, ranges[index, best], 1.0), column_costs[index, best])
    solution = interior_point.solve(form, rhs)
    perturbations = np.zeros_like(ranges)
    # Interior points are never quite zero; what is lost by rounding down is repaired elsewhere.
    perturbations[index, best] = solution.points * (here & (solution.points > _ZERO))
    points = perturbations[:, :num_pixels] - perturbations[:, num_pixels:]
    coefficients = constraints.combine(solution.dual_variables)
    values = np.concatenate([coefficients, -coefficients], axis=1)
    reduced_costs = np.where(ranges > 0, column_costs * _IMPROVES - values, 0.0)
    reduced_costs[index, best] = 0
    improves = (reduced_costs < 0).any(axis=1) | solution.infeasible
    return Solution(
        points, solution.dual_variables, solution.iterations, solution.infeasible
    ), improves


def _choose_columns(
    constraints: Constraints,
    ranges: np.ndarray,
    column_costs: np.ndarray,
    rhs: np.ndarray,
    num_columns: int,
) -> np.ndarray:
    """Choose the columns that do most, per cost, for one of the unmet constraints."""
    count = len(rhs)
    if num_columns == ranges.shape[1]:
        return np.broadcast_to(np.arange(num_columns), ranges.shape)
    distances = np.maximum(rhs, 0) / np.sqrt(np.maximum(constraints.squares(), 1e-30))
    own = constraints.weights.T[constraints.targets]
    upward, downward = np.zeros((2, count, len(constraints.weights)))
    for k in range(rhs.shape[1]):  # a reduction over so short an axis would take longer
        weighted = own - constraints.weights[:, k]
        weighted *= distances[:, k : k + 1]
        np.maximum(upward, weighted, out=upward)
        np.minimum(downward, weighted, out=downward)
    gain = np.concatenate([upward, -downward], axis=1)
    gain /= column_costs
    gain[ranges <= 0] = -np.inf
    return np.argpartition(-gain, num_columns - 1, axis=1)[:, :num_columns]
