"""Targeted L0: the fewest pixels, by a mixed-integer program that is small once bounds are known.

Each pixel in each direction is a column with a switch. With the switches relaxed this is the L1
program with costs 1 / range, so `l1_columns.py` gives dual variables (a lower bound, easy to check)
and a rounded answer at most K - 1 pixels above it. The two bounds fix nearly all switches
(reduced-cost fixing: a switch whose reduced cost exceeds the gap is off in any better answer);
HiGHS branches on the rest. What branch and bound proves has no short certificate, so it is reported
apart from what the dual variables prove.
"""

from __future__ import annotations

import numpy as np
import scipy.optimize
import scipy.sparse

from mnist_adv.optimum.certificate import bounds
from mnist_adv.optimum.problem import Block, Classifier, make_block, right_hand_side
from mnist_adv.optimum.solvers import l1_columns
from mnist_adv.optimum.solvers.feasibility import repair
from mnist_adv.optimum.solvers.targeted import TargetedSolution

_ROUNDING = 1e-6


def solve_block(
    classifier: Classifier, images: np.ndarray, targets: np.ndarray, margin: float, seconds: float
) -> tuple[TargetedSolution, np.ndarray]:
    """Find the fewest pixels whose change reaches the targets.

    Args:
        classifier: prepared.
        images: `[n, D]` float64, in the box.
        targets: `[n]` int64.
        margin: of the targets' logits over the others.
        seconds: how long branch and bound may take for one image.

    Returns:
        The answers, and the lower bounds `[n]` that branch and bound claims.
    """
    count, num_classes = len(images), classifier.weights.shape[1]
    answer = TargetedSolution(
        np.zeros(images.shape), np.zeros((count, num_classes)), np.zeros(count, np.int64)
    )
    branch = np.zeros(count)
    away = (right_hand_side(classifier, images, targets, margin) > 0).any(axis=1)
    whole = make_block(classifier, images, targets, margin)
    answer.dual_variables[whole.unsatisfiable] = 1.0
    chosen = np.flatnonzero(away & ~whole.unsatisfiable.any(axis=1))
    if not chosen.size:
        return answer, branch
    block = whole.take(chosen)
    ranges = block.ranges
    relaxed = l1_columns.solve(block, 1 / np.where(ranges > 0, ranges, 1))
    answer.dual_variables[chosen] = relaxed.dual_variables / classifier.unit
    answer.iterations[chosen] = relaxed.iterations
    points = repair("l0", block.constraints, ranges, block.rhs, relaxed.points, block.tolerance)
    proved = bounds.targeted_bound(
        "l0",
        block.constraints.weights,
        block.constraints.targets,
        relaxed.dual_variables,
        block.rhs,
        (ranges[0], ranges[1]),
    )
    for i in np.flatnonzero(~relaxed.infeasible):
        one = block.take(np.array([i]))
        better, branch[chosen[i]] = _branch(
            one, points[i], relaxed.dual_variables[i], float(proved[i]), seconds
        )
        wide = np.zeros(images.shape[1])
        wide[classifier.active] = better * classifier.width
        answer.perturbations[chosen[i]] = wide
    return answer, branch


def _branch(
    one: Block, point: np.ndarray, dual_variables: np.ndarray, proved: float, seconds: float
) -> tuple[np.ndarray, float]:
    """Improve one answer, or prove that it cannot be improved.

    Args:
        one: a block of one problem.
        point: `[D]`, the answer so far.
        dual_variables: `[K]`, of the relaxation.
        proved: the lower bound so far.
        seconds: the time allowed.

    Returns:
        The answer `[D]` and the lower bound.
    """
    reached = bool((one.constraints.apply(point[np.newaxis]) >= one.rhs - one.tolerance).all())
    best = float(np.count_nonzero(point)) if reached else float(point.size + 1)
    if best <= proved:
        return point, best
    ranges = np.concatenate([one.ranges[0, 0], one.ranges[1, 0]])
    target = one.constraints.targets[0]
    constraints = one.constraints.weights[:, [target]] - one.constraints.weights
    gains = np.concatenate([constraints, -constraints]) * ranges[:, np.newaxis]  # [2D, K]
    reduced_costs = gains @ dual_variables - 1
    base = float(dual_variables @ one.rhs[0] - np.maximum(reduced_costs, 0).sum())
    # In any answer with fewer than `best` pixels ...
    possible = np.flatnonzero(
        (base + np.maximum(-reduced_costs, 0) <= best - 1 + _ROUNDING) & (ranges > 0)
    )
    certain = (
        base + np.maximum(reduced_costs[possible], 0) > best - 1 + _ROUNDING
    )  # ... these are on
    size = len(possible)
    if size == 0:
        return point, best
    amounts = scipy.optimize.LinearConstraint(
        np.hstack([gains[possible].T, np.zeros((gains.shape[1], size))]), lb=one.rhs[0]
    )
    switches = scipy.optimize.LinearConstraint(
        scipy.sparse.hstack([scipy.sparse.eye(size), -scipy.sparse.eye(size)]), ub=0
    )
    fewer = scipy.optimize.LinearConstraint(
        np.concatenate([np.zeros(size), np.ones(size)])[np.newaxis], ub=best - 1
    )
    result = scipy.optimize.milp(
        np.concatenate([np.zeros(size), np.ones(size)]),
        integrality=np.concatenate([np.zeros(size), np.ones(size)]),
        bounds=scipy.optimize.Bounds(np.concatenate([np.zeros(size), 1.0 * certain]), 1),
        constraints=[amounts, switches, fewer],
        options={"time_limit": seconds, "mip_rel_gap": 0.0},
    )
    if result.status == 2:  # infeasible: no fewer pixels suffice
        return point, best
    claimed = proved
    if result.mip_dual_bound is not None and np.isfinite(result.mip_dual_bound):
        claimed = max(proved, float(np.ceil(result.mip_dual_bound - _ROUNDING)))
    claimed = min(claimed, best)
    if result.x is None:
        return point, claimed
    perturbations = np.zeros(len(ranges))
    perturbations[possible] = np.where(result.x[size:] > 0.5, result.x[:size], 0) * ranges[possible]
    trial = (perturbations[: point.size] - perturbations[point.size :])[np.newaxis]
    trial = repair("l0", one.constraints, one.ranges, one.rhs, trial, one.tolerance)
    if (one.constraints.apply(trial) < one.rhs - one.tolerance).any() or np.count_nonzero(
        trial
    ) >= best:
        return point, claimed
    return trial[0], claimed
