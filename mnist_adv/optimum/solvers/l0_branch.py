"""Targeted L0: the fewest pixels, by a mixed-integer program that is small once bounds are known.

Each pixel moved one way is a column with a switch. With the switches relaxed this is the L1
program with costs 1 / room, so `columns.py` gives multipliers (a lower bound, easy to check) and a
rounded answer at most K - 1 pixels above it. The two bounds settle nearly all switches
(reduced-cost fixing: a switch whose price exceeds the gap cannot be on in a better answer); HiGHS
branches on the rest. What branch and bound proves has no short certificate, so it is reported
apart from what the multipliers prove.
"""

from __future__ import annotations

import numpy as np
import scipy.optimize
import scipy.sparse

from mnist_adv.optimum.certificate import bounds
from mnist_adv.optimum.solvers import l1_columns
from mnist_adv.optimum.problem import Block, Classifier, make_block, row_needs
from mnist_adv.optimum.solvers.feasibility import repair
from mnist_adv.optimum.solvers.targeted import Reached

_ROUNDING = 1e-6


def reach(
    classifier: Classifier, images: np.ndarray, targets: np.ndarray, margin: float, seconds: float
) -> tuple[Reached, np.ndarray]:
    """Find the fewest pixels whose change reaches the targets.

    Args:
        classifier: prepared.
        images: `[n, D]` float64, in the box.
        targets: `[n]` int64.
        margin: by which the targets' logits must lead.
        seconds: how long branch and bound may take for one image.

    Returns:
        The answers, and the lower bounds `[n]` that branch and bound claims.
    """
    count, num_classes = len(images), classifier.weights.shape[1]
    answer = Reached(
        np.zeros(images.shape), np.zeros((count, num_classes)), np.zeros(count, np.int64)
    )
    branch = np.zeros(count)
    away = (row_needs(classifier, images, targets, margin) > 0).any(axis=1)
    whole = make_block(classifier, images, targets, margin)
    answer.multipliers[whole.hopeless] = 1.0
    chosen = np.flatnonzero(away & ~whole.hopeless.any(axis=1))
    if not chosen.size:
        return answer, branch
    block = whole.take(chosen)
    room = block.room
    relaxed = l1_columns.solve(block, 1 / np.where(room > 0, room, 1))
    answer.multipliers[chosen] = relaxed.multipliers / classifier.unit
    answer.iterations[chosen] = relaxed.iterations
    points = repair("l0", block.rows, room, block.needs, relaxed.points, block.slack)
    proved = bounds.reach_bound(
        "l0",
        block.rows.weights,
        block.rows.targets,
        relaxed.multipliers,
        block.needs,
        (room[0], room[1]),
    )
    for i in np.flatnonzero(~relaxed.empty):
        one = block.take(np.array([i]))
        better, branch[chosen[i]] = _branch(
            one, points[i], relaxed.multipliers[i], float(proved[i]), seconds
        )
        wide = np.zeros(images.shape[1])
        wide[classifier.active] = better * classifier.width
        answer.perturbations[chosen[i]] = wide
    return answer, branch


def _branch(
    one: Block, point: np.ndarray, multipliers: np.ndarray, proved: float, seconds: float
) -> tuple[np.ndarray, float]:
    """Improve one answer, or prove that it cannot be improved.

    Args:
        one: a block of one problem.
        point: `[D]`, the answer so far.
        multipliers: `[K]`, of the relaxation.
        proved: the lower bound so far.
        seconds: the time allowed.

    Returns:
        The answer `[D]` and the lower bound.
    """
    reached = bool((one.rows.apply(point[np.newaxis]) >= one.needs - one.slack).all())
    best = float(np.count_nonzero(point)) if reached else float(point.size + 1)
    if best <= proved:
        return point, best
    room = np.concatenate([one.room[0, 0], one.room[1, 0]])
    target = one.rows.targets[0]
    rows = one.rows.weights[:, [target]] - one.rows.weights
    gains = np.concatenate([rows, -rows]) * room[:, np.newaxis]  # [2D, K]
    worth = gains @ multipliers - 1
    base = float(multipliers @ one.needs[0] - np.maximum(worth, 0).sum())
    # In any answer with fewer than `best` pixels ...
    possible = np.flatnonzero((base + np.maximum(-worth, 0) <= best - 1 + _ROUNDING) & (room > 0))
    certain = base + np.maximum(worth[possible], 0) > best - 1 + _ROUNDING  # ... these are on
    size = len(possible)
    if size == 0:
        return point, best
    amounts = scipy.optimize.LinearConstraint(
        np.hstack([gains[possible].T, np.zeros((gains.shape[1], size))]), lb=one.needs[0]
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
    if result.status == 2:  # infeasible: nobody has fewer
        return point, best
    claimed = proved
    if result.mip_dual_bound is not None and np.isfinite(result.mip_dual_bound):
        claimed = max(proved, float(np.ceil(result.mip_dual_bound - _ROUNDING)))
    claimed = min(claimed, best)
    if result.x is None:
        return point, claimed
    moves = np.zeros(len(room))
    moves[possible] = np.where(result.x[size:] > 0.5, result.x[:size], 0) * room[possible]
    trial = (moves[: point.size] - moves[point.size :])[np.newaxis]
    trial = repair("l0", one.rows, one.room, one.needs, trial, one.slack)
    if (one.rows.apply(trial) < one.needs - one.slack).any() or np.count_nonzero(trial) >= best:
        return point, claimed
    return trial[0], claimed
