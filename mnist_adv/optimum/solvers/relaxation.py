"""Relax to the most demanding constraint: a lower bound for all together, and often their answer.

The least change for one constraint has a closed form (`one_constraint.py`). Where it meets the
other constraints too, it is the optimum; so it is for four of ten pairs of digit and class in
L-inf, and for half of them in L1.
"""

from __future__ import annotations

import numpy as np

from mnist_adv.optimum.problem import Block
from mnist_adv.optimum.solvers import interior_point, one_constraint
from mnist_adv.optimum.solvers.interior_point import Solution

_MAX_CONSTRAINTS = 3  # the farthest, then each time the one that the last answer missed most
_INFEASIBLE = 1 - 1e-12  # all ranges together reach less than this share of what is required


def solve_single(norm: str, block: Block) -> tuple[Solution, np.ndarray, np.ndarray]:
    """Solve for the most demanding constraint alone.

    Args:
        norm: "linf" or "l1".
        block: n problems, none of which is met already.

    Returns:
        Answers to the most demanding constraint that was found, with its dual variable; a lower
        bound on the norm, `[n]`; and which problems are settled by that, `[n]`.
    """
    constraints, rhs = block.constraints, block.rhs
    weights, targets = constraints.weights, constraints.targets
    solution = interior_point.empty_solution(len(rhs), len(weights), rhs.shape[1])
    low, settled = np.zeros(len(rhs)), np.zeros(len(rhs), bool)
    candidate = (rhs / _lengths(norm, weights, targets)).argmax(axis=1)
    todo = np.arange(len(rhs))
    for _ in range(_MAX_CONSTRAINTS):
        part = block.take(todo)
        required = part.rhs[np.arange(len(todo)), candidate]
        coefficients = (weights[:, targets[todo]] - weights[:, candidate]).T
        magnitudes, ranges = (
            np.abs(coefficients),
            np.where(coefficients > 0, part.ranges[0], part.ranges[1]),
        )
        least, perturbations = one_constraint.smallest(norm, magnitudes, ranges, required)
        duals = _dual_variables(norm, magnitudes, ranges, least, perturbations)
        infeasible = np.einsum("nd,nd->n", magnitudes, ranges) < _INFEASIBLE * required
        perturbations *= np.sign(coefficients)
        short = part.rhs - part.constraints.apply(perturbations)
        better = least > low[todo]
        met = better & (short.max(axis=1) <= part.tolerance)
        won = todo[better]
        low[won], solution.points[won] = least[better], perturbations[better]
        solution.dual_variables[won] = 0
        solution.dual_variables[won, candidate[better]] = duals[better]
        solution.infeasible[todo] |= infeasible
        settled[todo] = met | infeasible
        solution.iterations[todo] += 1
        onward = better & ~met & ~infeasible
        todo, candidate = todo[onward], short[onward].argmax(axis=1)
        if not todo.size:
            break
    low[~np.isfinite(low)] = block.ranges.max()
    return solution, low, settled


def _lengths(norm: str, weights: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Compute the dual norms of all constraints, `[n, K]`, at least a little."""
    lengths = np.empty((len(targets), weights.shape[1]))
    for target in np.unique(targets):
        coefficients = np.abs(weights - weights[:, [target]])
        lengths[targets == target] = (
            coefficients.sum(axis=0) if norm == "linf" else coefficients.max(axis=0)
        )
    return np.maximum(lengths, 1e-300)


def _dual_variables(
    norm: str,
    magnitudes: np.ndarray,
    ranges: np.ndarray,
    least: np.ndarray,
    perturbations: np.ndarray,
) -> np.ndarray:
    """Compute the derivative of the norm by the right-hand side; any number where it is zero."""
    if norm == "linf":
        rate = (magnitudes * (ranges > least[:, np.newaxis])).sum(axis=1)
    else:
        rate = np.where(perturbations > 0, magnitudes, np.inf).min(axis=1)
    return 1 / np.where((rate > 0) & np.isfinite(rate), rate, 1)
