"""A primal-dual interior-point method for many small convex programs at once.

Each problem is `min cost . v` subject to bounds on v and the K rows `A d(v) >= g`. A form (see
`forms.py`) says what v is for its norm; this file knows only that its bounds have slacks z
`[s, n, m]` that are affine in v, and that Newton's equations reduce to a K x K system per problem.
Both start feasible in the bounds and in the dual equations and stay so; only the K rows have a
residual. Mehrotra's predictor and corrector (1992), written in the ratios r = dz / z, in which the
change of a bound's multiplier y is known without another division: dy / y = q - r.

NumPy, not a compiled graph: a block of problems stays in the processor's cache from one pass to
the next, finished problems leave it, and nobody waits for a compiler. XLA's fusions of the same
iteration took 45 microseconds per problem on two cores, NumPy 67 on one of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

import numpy as np

_TOLERANCE = 1e-9  # relative gap at which a problem leaves
_EXHAUSTED = 1e-14  # relative gap beyond which float64 has nothing to give
_MET = 1e-8  # residual of the rows that can be repaired afterwards
_MAX_ITERATIONS = 60
_PATIENCE = 8  # iterations before anybody looks for a proof that no point exists
_TINY = 1e-200
_BACK_OFF = 0.9995  # share of the way to the nearest bound


Finish = Callable[[np.ndarray], np.ndarray]


class Form(Protocol):
    """What the method has to know of n problems with K rows; s slacks for each of m columns."""

    def start(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return v, the bounds' multipliers `[s, n, m]` and the rows' `[n, K]`, dual feasible."""

    def slacks(self, point: np.ndarray) -> np.ndarray:
        """Return the distances `[s, n, m]` of v to its bounds, all positive inside."""

    def change(self, direction: np.ndarray) -> np.ndarray:
        """Return how the slacks change, `[s, n, m]`, when v moves along a direction."""

    def rows(self, point: np.ndarray) -> np.ndarray:
        """Return the K rows' values at v, `[n, K]`."""

    def cost(self, point: np.ndarray) -> np.ndarray:
        """Return the objective, `[n]`."""

    def most(self, multipliers: np.ndarray) -> np.ndarray:
        """Return the largest value in the bounds of the rows' weighted sum, `[n]`."""

    def reduce(self, scaling: np.ndarray) -> Reduced:
        """Eliminate v from Newton's equations, given y / z."""

    def take(self, keep: np.ndarray) -> Form:
        """Keep some of the problems."""


class Reduced(Protocol):
    """Newton's equations with v eliminated."""

    matrix: np.ndarray  # [n, K, K]

    def pulled(self, pull: np.ndarray) -> tuple[np.ndarray, Finish]:
        """Eliminate the bounds' pull `[s, n, m]`.

        Returns:
            What it takes off the rows' right-hand side, `[n, K]`, and the function that turns the
            rows' change of multipliers `[n, K]` into the change of v.
        """


@dataclasses.dataclass
class Solution:
    """What is known when a problem leaves.

    Attributes:
        points: v, strictly inside the bounds.
        multipliers: `[n, K]`.
        iterations: `[n]` int64.
        empty: `[n]` bool, where the multipliers prove that no point meets all rows.
    """

    points: np.ndarray
    multipliers: np.ndarray
    iterations: np.ndarray
    empty: np.ndarray


def solve(form: Form, needs: np.ndarray, *, joint: bool = False) -> Solution:
    """Solve a block of linear programs as far as float64 goes; a certificate judges the result.

    Args:
        form: the norm's form of the problems.
        needs: g, `[n, K]`.
        joint: take primal and dual steps of one length, as a quadratic objective demands.

    Returns:
        Points and multipliers in the order of the problems.
    """
    count, num_classes = needs.shape
    alive = np.arange(count)
    point, duals, lam = form.start()
    solution = Solution(
        np.zeros_like(point),
        np.zeros((count, num_classes)),
        np.zeros(count, np.int64),
        np.zeros(count, bool),
    )
    # A start that is generous to every row: its residual shrinks with the first long steps.
    over = np.maximum(form.rows(point) - needs, 0.3)
    for iteration in range(_MAX_ITERATIONS + 1):
        gaps = form.slacks(point)
        np.maximum(gaps, _TINY, out=gaps)
        weights = duals * gaps
        total = weights.sum(axis=(0, 2)) + (lam * over).sum(axis=1)
        missing = needs + over - form.rows(point)
        met = np.abs(missing).max(axis=1) <= _MET
        cost = form.cost(point)
        empty = np.zeros(len(alive), bool)
        if iteration >= _PATIENCE and not met.all():
            empty = form.most(lam) < (lam * needs).sum(axis=1)
        leave = (total <= _TOLERANCE * cost) & met | empty | (total <= _EXHAUSTED * cost)
        leave |= iteration == _MAX_ITERATIONS
        if leave.any():
            gone = alive[leave]
            solution.points[gone] = point[leave]
            solution.multipliers[gone] = lam[leave]
            solution.iterations[gone] = iteration
            solution.empty[gone] = empty[leave]
            keep = ~leave
            if not keep.any():
                break
            alive, form, point = alive[keep], form.take(keep), point[keep]
            duals, gaps, weights = duals[:, keep], gaps[:, keep], weights[:, keep]
            lam, over, needs, missing = lam[keep], over[keep], needs[keep], missing[keep]
            total = total[keep]
        # A problem without a solution runs off to infinity; what it returns proves itself or not.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            point, duals, lam, over = _step(
                form, point, duals, lam, over, gaps, weights, missing, total, joint
            )
    return solution


def _step(
    form: Form,
    point: np.ndarray,
    duals: np.ndarray,
    lam: np.ndarray,
    over: np.ndarray,
    gaps: np.ndarray,
    weights: np.ndarray,
    missing: np.ndarray,
    total: np.ndarray,
    joint: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    inverse = np.reciprocal(gaps)
    reduced = form.reduce(duals * inverse)
    ease = over / lam
    solve_rows = _Factor(reduced.matrix, ease)

    # Predictor: aim at the bounds themselves.
    pull = -duals
    taken, finish = reduced.pulled(pull)
    d_lam = solve_rows(missing - over - taken)
    ratios = form.change(finish(d_lam))
    ratios *= inverse
    d_over = -over - ease * d_lam
    low, high = ratios.min(axis=(0, 2)), ratios.max(axis=(0, 2))
    primal = _length(np.minimum(low, (d_over / over).min(axis=1)))
    dual = _length(np.minimum(-1 - high, (d_lam / lam).min(axis=1)))
    if joint:
        primal = dual = np.minimum(primal, dual)
    first = np.einsum("bnd,bnd->n", weights, ratios)
    ratios_squared = ratios * ratios
    second = np.einsum("bnd,bnd->n", weights, ratios_squared)
    bound_total = weights.sum(axis=(0, 2))
    ahead = bound_total + primal * first - dual * (bound_total + first)
    ahead -= primal * dual * (first + second)
    ahead += (
        (over + primal[:, np.newaxis] * d_over) * (lam + dual[:, np.newaxis] * d_lam)
    ).sum(axis=1)
    count = weights.shape[0] * weights.shape[2] + lam.shape[1]
    center = np.clip(ahead / total, 0, 1) ** 3 * total / count

    # Corrector: aim at the central path, and allow for the predictor's second-order error.
    aim = np.reciprocal(np.maximum(weights, _TINY))
    aim *= center[:, np.newaxis]
    aim += ratios_squared
    aim += ratios
    aim -= 1
    pull = duals * aim
    row_pull = (center[:, np.newaxis] - d_over * d_lam) / over - lam
    taken, finish = reduced.pulled(pull)
    d_lam = solve_rows(missing + ease * row_pull - taken)
    direction = finish(d_lam)
    ratios = form.change(direction)
    ratios *= inverse
    d_over = ease * (row_pull - d_lam)
    primal = _length(np.minimum(ratios.min(axis=(0, 2)), (d_over / over).min(axis=1)), _BACK_OFF)
    aim -= ratios
    dual = _length(np.minimum(aim.min(axis=(0, 2)), (d_lam / lam).min(axis=1)), _BACK_OFF)
    if joint:
        primal = dual = np.minimum(primal, dual)
    aim *= dual[:, np.newaxis]
    aim += 1
    primal, dual = primal[:, np.newaxis], dual[:, np.newaxis]
    return point + primal * direction, duals * aim, lam + dual * d_lam, over + primal * d_over


def _length(lowest: np.ndarray, share: float = 1.0) -> np.ndarray:
    """Turn the most negative relative change into the longest step, at most 1."""
    return share / np.maximum(-lowest, share)


class _Factor:
    """Solve `(matrix + diag(ease)) x = right` for several right-hand sides."""

    def __init__(self, matrix: np.ndarray, ease: np.ndarray) -> None:
        diagonal = np.arange(ease.shape[1])
        matrix = matrix.copy()
        matrix[:, diagonal, diagonal] += ease
        self._scale = 1 / np.sqrt(np.maximum(matrix[:, diagonal, diagonal], _TINY))
        matrix *= self._scale[:, :, np.newaxis] * self._scale[:, np.newaxis, :]
        # Equal columns of W make equal rows: keep the system regular, whatever they share.
        matrix[:, diagonal, diagonal] = 1 + 1e-13
        self._matrix, self._inverse = matrix, np.linalg.inv(matrix)

    def __call__(self, right: np.ndarray) -> np.ndarray:
        wanted = (right * self._scale)[:, :, np.newaxis]
        scaled = self._inverse @ wanted
        scaled += self._inverse @ (wanted - self._matrix @ scaled)  # an inverse alone loses digits
        return scaled[:, :, 0] * self._scale
