"""Targeted L2: semismooth Newton on the K dual variables of each problem.

With dual variables lambda >= 0 and `c = sum lambda_k a_k`, the best d for the Lagrangian of
`min 1/2 ||d||^2` is c clipped to the ranges. So the dual is a convex function of K numbers,

    phi(lambda) = sum_i (c_i d_i - d_i^2 / 2) - lambda . g,     d = clip(c),

once differentiable (its gradient is A d - g), with piecewise constant second derivative
`A diag(unclipped) A^T`. Newton's step, projected onto lambda >= 0 and shortened until phi falls,
ends after finitely many pieces (Qi and Sun, 1993; the projection as in Bertsekas, 1982). Where
the box leaves fewer free pixels than constraints, that second derivative is singular and the
iteration may stall; those few problems go to the interior-point method.
"""

from __future__ import annotations

import numpy as np

from mnist_adv.optimum.constraints import Constraints, box_support
from mnist_adv.optimum.problem import Block
from mnist_adv.optimum.solvers import interior_point
from mnist_adv.optimum.solvers.box_form import quadratic_form
from mnist_adv.optimum.solvers.interior_point import Solution

_MAX_EVALUATIONS = 60
_STALLED = 1e-3  # a step shortened to this is no Newton step any more
_TOLERANCE = 1e-13  # complementarity relative to ||d||^2
_SUFFICIENT = 1e-4  # Armijo's share of the predicted fall


def solve(block: Block) -> Solution:
    """Solve a block of targeted L2 problems.

    Args:
        block: n problems.

    Returns:
        Points `[n, D]`, dual variables `[n, K]` of `1/2 ||d||^2`, iterations and proofs of
        infeasibility.
    """
    constraints, ranges = block.constraints, block.ranges
    rhs, tolerance = block.rhs, block.tolerance
    count, num_classes = rhs.shape
    solution = interior_point.empty_solution(count, ranges.shape[2], num_classes)
    settled = np.zeros(count, bool)
    alive = np.arange(count)
    lam = _start(constraints, rhs)
    point, value, gradient = _evaluate(constraints, ranges, rhs, lam)
    step = _step(constraints, ranges, lam, gradient)
    length = np.ones(count)
    for number in range(1, _MAX_EVALUATIONS + 1):
        trial = np.maximum(lam + length[:, np.newaxis] * step, 0)
        there, trial_value, trial_gradient = _evaluate(constraints, ranges, rhs, trial)
        predicted = (gradient * (trial - lam)).sum(axis=1)
        noise = 1e-14 * np.abs(value)
        better = trial_value <= value + _SUFFICIENT * np.minimum(predicted, 0) + noise
        length = np.where(better, 1.0, length / 2)
        lam = np.where(better[:, np.newaxis], trial, lam)
        point[better], value[better] = there[better], trial_value[better]
        gradient[better] = trial_gradient[better]
        open_gap = (lam * np.abs(gradient)).sum(axis=1)
        met = gradient.min(axis=1) >= -tolerance
        infeasible = box_support(constraints.combine(lam), ranges) < (lam * rhs).sum(axis=1)
        done = met & (open_gap <= _TOLERANCE * (point**2).sum(axis=1)) | infeasible
        leave = done | (length < _STALLED) | (number == _MAX_EVALUATIONS)
        if leave.any():
            gone = alive[leave]
            solution.points[gone] = point[leave]
            solution.dual_variables[gone] = lam[leave]
            solution.iterations[gone] = number
            solution.infeasible[gone] = infeasible[leave]
            settled[gone] = done[leave]
            keep = ~leave
            if not keep.any():
                break
            alive, constraints, ranges = alive[keep], constraints.take(keep), ranges[:, keep]
            rhs, tolerance, lam, length = rhs[keep], tolerance[keep], lam[keep], length[keep]
            point, value, gradient = point[keep], value[keep], gradient[keep]
            step, better = step[keep], better[keep]
        if better.any():
            chosen = constraints.take(better)
            step[better] = _step(chosen, ranges[:, better], lam[better], gradient[better])
    again = np.flatnonzero(~settled)
    if again.size:
        form = quadratic_form(block.constraints.take(again), block.ranges[:, again])
        second = interior_point.solve(form, block.rhs[again], joint=True)
        solution.points[again], solution.infeasible[again] = second.points, second.infeasible
        solution.dual_variables[again] = second.dual_variables
        solution.iterations[again] += second.iterations
    return solution


def _start(constraints: Constraints, rhs: np.ndarray) -> np.ndarray:
    """Meet the farthest constraint alone, as if there were no box."""
    lengths = np.sqrt(np.maximum(constraints.squares(), 1e-30))
    alone = np.maximum(rhs, 0) / lengths
    worst = alone.argmax(axis=1)
    index = np.arange(len(rhs))
    lam = np.zeros_like(rhs)
    lam[index, worst] = alone[index, worst] / lengths[index, worst]
    return lam


def _evaluate(
    constraints: Constraints, ranges: np.ndarray, rhs: np.ndarray, lam: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    coefficients = constraints.combine(lam)
    point = np.clip(coefficients, -ranges[1], ranges[0])
    coefficients -= 0.5 * point
    value = np.einsum("nd,nd->n", coefficients, point) - (lam * rhs).sum(axis=1)
    return point, value, constraints.apply(point) - rhs


def _step(
    constraints: Constraints, ranges: np.ndarray, lam: np.ndarray, gradient: np.ndarray
) -> np.ndarray:
    coefficients = constraints.combine(lam)
    unclipped = ((coefficients > -ranges[1]) & (coefficients < ranges[0])).astype(np.float64)
    matrix = constraints.gram(unclipped)
    held = (lam <= 0) & (gradient >= 0)
    free = (~held).astype(np.float64)
    matrix *= free[:, :, np.newaxis] * free[:, np.newaxis, :]
    diagonal = np.arange(lam.shape[1])
    # Regular where constraints repeat, or where every pixel of a constraint is clipped.
    matrix[:, diagonal, diagonal] += (1 - free) + 1e-13 + 1e-12 * matrix[:, diagonal, diagonal]
    return np.linalg.solve(matrix, (-gradient * free)[:, :, np.newaxis])[:, :, 0]
