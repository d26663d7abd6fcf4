"""A primal-dual interior-point method for many small convex programs at once.

Each problem is `min cost . v` subject to bounds on v and the K rows `A d(v) >= g`. A form (see
`forms.py`) says what v is for its norm; this file knows only that its bounds have slacks z
`[s, n, m]` that are affine in v, and that Newton's equations reduce to a K x K system per problem.
Both start feasible in the bounds and in the dual equations and stay so; only the K rows have a
residual. Mehrotra's predictor and corrector (1992), written in the ratios r = dz / z, in which the
change of a bound's multiplier y is known without another division: dy / y = q - r.

NumPy, not a compiled graph: a block of problems stays in the processor's cache from one pass to
the next, finished problems leave it, and nobody waits for a compiler. XLA's fusions of an iteration
over all bounds of an L-inf problem took 45 microseconds on two cores, NumPy 67 on one of them.
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
_GENEROUS = 0.1  # the rows' first slacks, at least
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


@dataclasses.dataclass
class State:
    """Where the iteration stands for the problems that it has not left.

    Attributes:
        index: `[n]`, their numbers in the solution.
        form: of these problems.
        needs: g, `[n, K]`.
        point: v.
        duals: the bounds' multipliers, `[s, n, m]`.
        lam: the rows' multipliers, `[n, K]`.
        over: the rows' slacks, `[n, K]`.
    """

    index: np.ndarray
    form: Form
    needs: np.ndarray
    point: np.ndarray
    duals: np.ndarray
    lam: np.ndarray
    over: np.ndarray

    def leave(self, gone: np.ndarray) -> State:
        """Keep the problems that are not gone, given `[n]` bool."""
        keep = ~gone
        return State(
            self.index[keep],
            self.form.take(keep),
            self.needs[keep],
            self.point[keep],
            self.duals[:, keep],
            self.lam[keep],
            self.over[keep],
        )


def nothing(count: int, width: int, num_classes: int) -> Solution:
    """Make room for the solutions of n problems: zeros so far."""
    return Solution(
        np.zeros((count, width)),
        np.zeros((count, num_classes)),
        np.zeros(count, np.int64),
        np.zeros(count, bool),
    )


def begin(form: Form, needs: np.ndarray) -> State:
    """Start with a point that is generous to every row: most residuals are zero at once."""
    point, duals, lam = form.start()
    over = np.maximum(form.rows(point) - needs, _GENEROUS)
    return State(np.arange(len(needs)), form, needs, point, duals, lam, over)


def solve(form: Form, needs: np.ndarray, *, joint: bool = False) -> Solution:
    """Solve a block of convex programs as far as float64 goes; a certificate judges the result.

    Args:
        form: the norm's form of the problems.
        needs: g, `[n, K]`.
        joint: take primal and dual steps of one length, as a quadratic objective demands.

    Returns:
        Points and multipliers in the order of the problems.
    """
    state = begin(form, needs)
    solution = nothing(*state.point.shape, needs.shape[1])
    for iteration in range(_MAX_ITERATIONS + 1):
        form, point, needs = state.form, state.point, state.needs
        gaps = form.slacks(point)
        np.maximum(gaps, _TINY, out=gaps)
        weights = state.duals * gaps
        total = weights.sum(axis=(0, 2)) + (state.lam * state.over).sum(axis=1)
        missing = needs + state.over - form.rows(point)
        met = np.abs(missing).max(axis=1) <= _MET
        cost = form.cost(point)
        empty = np.zeros(len(needs), bool)
        if iteration >= _PATIENCE and not met.all():
            empty = form.most(state.lam) < (state.lam * needs).sum(axis=1)
        leave = (total <= _TOLERANCE * cost) & met | empty | (total <= _EXHAUSTED * cost)
        if leave.any():
            gone = state.index[leave]
            solution.points[gone] = point[leave]
            solution.multipliers[gone] = state.lam[leave]
            solution.empty[gone] = empty[leave]
            keep = ~leave
            state = state.leave(leave)
            gaps, weights = gaps[:, keep], weights[:, keep]
            missing, total = missing[keep], total[keep]
        if iteration == _MAX_ITERATIONS or not len(state.index):
            break
        solution.iterations[state.index] += 1
        # A problem without a solution runs off to infinity; what it returns proves itself or not.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            state = _step(state, gaps, weights, missing, total, joint)
    solution.points[state.index], solution.multipliers[state.index] = state.point, state.lam
    return solution


def _step(
    state: State,
    gaps: np.ndarray,
    weights: np.ndarray,
    missing: np.ndarray,
    total: np.ndarray,
    joint: bool,
) -> State:
    form, duals, lam, over = state.form, state.duals, state.lam, state.over
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
    ahead += ((over + primal[:, np.newaxis] * d_over) * (lam + dual[:, np.newaxis] * d_lam)).sum(
        axis=1
    )
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
    aim *= duals
    return dataclasses.replace(
        state,
        point=state.point + primal * direction,
        duals=aim,
        lam=lam + dual * d_lam,
        over=over + primal * d_over,
    )


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
