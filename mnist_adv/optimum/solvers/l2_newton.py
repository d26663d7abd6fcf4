"""Targeted L2: semismooth Newton on the K multipliers of each problem.

With multipliers lambda >= 0 and `c = sum lambda_k a_k`, the best d for the Lagrangian of
`min 1/2 ||d||^2` is c clipped to the rooms. So the dual is a convex function of K numbers,

    phi(lambda) = sum_i (c_i d_i - d_i^2 / 2) - lambda . g,     d = clip(c),

once differentiable (its gradient is A d - g), with piecewise constant second derivative
`A diag(unclipped) A^T`. Newton's step, projected onto lambda >= 0 and shortened until phi falls,
ends after finitely many pieces (Qi and Sun, 1993; the projection as in Bertsekas, 1982). Where
the box leaves fewer free pixels than rows, that second derivative is singular and the iteration may
stall; those few problems go to the interior-point method.
"""

from __future__ import annotations

import numpy as np

from mnist_adv.optimum.solvers import interior_point
from mnist_adv.optimum.solvers.box_form import quadratic
from mnist_adv.optimum.solvers.interior_point import Solution
from mnist_adv.optimum.problem import Block
from mnist_adv.optimum.constraints import Rows, most

_MAX_EVALUATIONS = 60
_STALLED = 1e-3  # a step shortened to this is no Newton step any more
_TOLERANCE = 1e-13  # complementarity relative to ||d||^2
_SUFFICIENT = 1e-4  # Armijo's share of the predicted fall


def solve(block: Block) -> Solution:
    """Solve a block of targeted L2 problems.

    Args:
        block: n problems.

    Returns:
        Points `[n, D]`, multipliers `[n, K]` of `1/2 ||d||^2`, iterations and emptiness proofs.
    """
    rows, room, needs, slack = block.rows, block.room, block.needs, block.slack
    count, num_classes = needs.shape
    solution = interior_point.nothing(count, room.shape[2], num_classes)
    settled = np.zeros(count, bool)
    alive = np.arange(count)
    lam = _start(rows, needs)
    point, value, gradient = _evaluate(rows, room, needs, lam)
    step = _step(rows, room, lam, gradient)
    length = np.ones(count)
    for number in range(1, _MAX_EVALUATIONS + 1):
        trial = np.maximum(lam + length[:, np.newaxis] * step, 0)
        there, trial_value, trial_gradient = _evaluate(rows, room, needs, trial)
        predicted = (gradient * (trial - lam)).sum(axis=1)
        noise = 1e-14 * np.abs(value)
        better = trial_value <= value + _SUFFICIENT * np.minimum(predicted, 0) + noise
        length = np.where(better, 1.0, length / 2)
        lam = np.where(better[:, np.newaxis], trial, lam)
        point[better], value[better] = there[better], trial_value[better]
        gradient[better] = trial_gradient[better]
        open_gap = (lam * np.abs(gradient)).sum(axis=1)
        met = gradient.min(axis=1) >= -slack
        empty = most(rows.combine(lam), room) < (lam * needs).sum(axis=1)
        done = met & (open_gap <= _TOLERANCE * (point**2).sum(axis=1)) | empty
        leave = done | (length < _STALLED) | (number == _MAX_EVALUATIONS)
        if leave.any():
            gone = alive[leave]
            solution.points[gone] = point[leave]
            solution.multipliers[gone] = lam[leave]
            solution.iterations[gone] = number
            solution.empty[gone] = empty[leave]
            settled[gone] = done[leave]
            keep = ~leave
            if not keep.any():
                break
            alive, rows, room = alive[keep], rows.take(keep), room[:, keep]
            needs, slack, lam, length = needs[keep], slack[keep], lam[keep], length[keep]
            point, value, gradient = point[keep], value[keep], gradient[keep]
            step, better = step[keep], better[keep]
        if better.any():
            chosen = rows.take(better)
            step[better] = _step(chosen, room[:, better], lam[better], gradient[better])
    again = np.flatnonzero(~settled)
    if again.size:
        form = quadratic(block.rows.take(again), block.room[:, again])
        second = interior_point.solve(form, block.needs[again], joint=True)
        solution.points[again], solution.empty[again] = second.points, second.empty
        solution.multipliers[again] = second.multipliers
        solution.iterations[again] += second.iterations
    return solution


def _start(rows: Rows, needs: np.ndarray) -> np.ndarray:
    """Meet the neediest row alone, as if there were no box."""
    lengths = np.sqrt(np.maximum(rows.squares(), 1e-30))
    alone = np.maximum(needs, 0) / lengths
    worst = alone.argmax(axis=1)
    index = np.arange(len(needs))
    lam = np.zeros_like(needs)
    lam[index, worst] = alone[index, worst] / lengths[index, worst]
    return lam


def _evaluate(
    rows: Rows, room: np.ndarray, needs: np.ndarray, lam: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    row = rows.combine(lam)
    point = np.clip(row, -room[1], room[0])
    row -= 0.5 * point
    value = np.einsum("nd,nd->n", row, point) - (lam * needs).sum(axis=1)
    return point, value, rows.apply(point) - needs


def _step(rows: Rows, room: np.ndarray, lam: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    row = rows.combine(lam)
    unclipped = ((row > -room[1]) & (row < room[0])).astype(np.float64)
    matrix = rows.gram(unclipped)
    held = (lam <= 0) & (gradient >= 0)
    free = (~held).astype(np.float64)
    matrix *= free[:, :, np.newaxis] * free[:, np.newaxis, :]
    diagonal = np.arange(lam.shape[1])
    # Regular where rows repeat, or where every pixel of a row is clipped.
    matrix[:, diagonal, diagonal] += (1 - free) + 1e-13 + 1e-12 * matrix[:, diagonal, diagonal]
    return np.linalg.solve(matrix, (-gradient * free)[:, :, np.newaxis])[:, :, 0]
