"""The best image inside a ball: the largest margin of a class, or its largest log-odds.

Both are `max_d f(A d - g)` over the ball and the box. For the margin, f is the least entry; for the
log-odds `z_t - log sum_k exp z_k` it is `-log sum_k exp(-s_k)`, and the dual variables of the
constraints, which add to 1, are the shares of the other classes. Either way a primal-dual
interior-point method needs one system of K + 1 equations per problem and iteration: the constraints
and the ball, with the level nu beside them,

    (A d - g)_k + nu = surplus_k        (margin;  surplus_k lambda_k = 0)
    (A d - g)_k + nu = -log lambda_k    (log-odds)
    sum_k lambda_k = 1.

The log-odds' constraints start as `-T log lambda_k` with a temperature T that falls to 1: where
logits differ by hundreds, lambda is nearly a unit vector, and would jump from one class to another.

Boyd, Vandenberghe, "Convex Optimization", 2004, chapter 11; predictor and corrector as Mehrotra's.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mnist_adv.optimum.in_ball.problem import BallProblem

_MAX_ITERATIONS = 80
_TOLERANCE = 1e-10  # complementarity and residuals, relative to the size of the constraints
_PATIENCE = 20  # iterations without progress
_BACK_OFF = 0.995  # share of the way to the nearest bound
_FIRST_TEMPERATURE = 0.1  # the first temperature, in units of the size of the logits
_COOLING = 0.8  # the share of it that a whole step takes away
_SMALL = 1e-2  # shares below this change by their logarithms
_TINY = 1e-200
_REGULAR = 1e-15  # of the diagonal, at least added to it


@dataclasses.dataclass(frozen=True)
class _State:
    v: np.ndarray  # [n, m]
    duals: np.ndarray  # [2, n, m], of the bounds above and below
    lam: np.ndarray  # [n, K], of the constraints and, last, of the ball
    surplus: np.ndarray  # [n, K], of the constraints and the ball; unused for log-odds
    level: np.ndarray  # [n], nu
    temperature: np.ndarray  # [n], T

    def take(self, keep: np.ndarray) -> _State:
        return _State(
            self.v[keep],
            self.duals[:, keep],
            self.lam[keep],
            self.surplus[keep],
            self.level[keep],
            self.temperature[keep],
        )


def solve(problem: BallProblem) -> tuple[np.ndarray, np.ndarray]:
    """Solve a block of problems as far as float64 goes; closed forms bound the result.

    Args:
        problem: n problems.

    Returns:
        v `[n, m]`, inside its bounds, and the constraints' dual variables `[n, K - 1]`, which add
        to 1.
    """
    state = _start(problem)
    alive = np.arange(len(state.v))
    v, lam = state.v.copy(), state.lam[:, :-1].copy()
    least, since = np.full(len(alive), np.inf), np.zeros(len(alive), np.int64)
    for _ in range(_MAX_ITERATIONS):
        error = _error(problem, state)
        better = error < least[alive]
        won = alive[better]
        v[won], lam[won], least[won] = state.v[better], state.lam[better, :-1], error[better]
        since[alive] += 1
        since[won] = 0
        keep = (least[alive] > _TOLERANCE) & (since[alive] < _PATIENCE)
        if not keep.any():
            break
        if not keep.all():
            alive, problem, state = alive[keep], problem.take(keep), state.take(keep)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            state = _step(problem, state)
    lam = np.maximum(lam, 0)
    return v, lam / lam.sum(axis=1, keepdims=True)


def _start(problem: BallProblem) -> _State:
    v = (problem.low + problem.high) / 2
    if problem.order:
        share = problem.ball_constraint(v)[0][:, np.newaxis]
        v = v * np.minimum(1, 0.5 / np.maximum(share, _TINY) ** (1 / problem.order))
        v = np.clip(v, *(0.9 * end + 0.1 * v for end in (problem.low, problem.high)))
    margin = problem.gains(v) - problem.rhs
    count, num_constraints = margin.shape
    temperature = np.maximum(1, _FIRST_TEMPERATURE * problem.unit)
    lam = np.full((count, num_constraints), 1 / num_constraints)
    if problem.log_odds:
        lam = _shares(margin / temperature[:, np.newaxis])
    coefficients = problem.combine(lam)
    width = problem.high - problem.low
    # The size of the objective: each bound's product of slack and dual variable starts near it.
    stake = (np.abs(coefficients) * width).mean(axis=1, keepdims=True) + 1e-3 * problem.unit[
        :, np.newaxis
    ]
    ball_value, _ = problem.ball_constraint(v)
    ball_dual = np.full(count, 0.1 * coefficients.shape[1]) * stake[:, 0]
    duals = (
        np.stack([np.maximum(coefficients, 0), np.maximum(-coefficients, 0)]) + 0.1 * stake / width
    )
    level = -margin.min(axis=1) + problem.unit
    if problem.log_odds:
        level = -(margin + temperature[:, np.newaxis] * np.log(lam)).max(axis=1)
    ahead = np.ones_like(margin) if problem.log_odds else margin + level[:, np.newaxis]
    surplus = np.concatenate([ahead, 1 - ball_value[:, np.newaxis]], axis=1)
    lam = np.concatenate([lam, ball_dual[:, np.newaxis]], axis=1)
    return _State(v, duals, lam, surplus, level, temperature)


def _shares(margin: np.ndarray) -> np.ndarray:
    """Compute the other classes' shares of what is not the target, `[n, K - 1]`."""
    shares = np.exp(margin.min(axis=1, keepdims=True) - margin)
    return np.maximum(shares / shares.sum(axis=1, keepdims=True), _TINY)


def _bound_slacks(problem: BallProblem, v: np.ndarray) -> np.ndarray:
    return np.maximum(np.stack([problem.high - v, v - problem.low]), _TINY)


def _residuals(
    problem: BallProblem, state: _State
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Compute the residuals of Newton's equations.

    Args:
        problem: n problems.
        state: their iterates.

    Returns:
        Of v, `[n, m]`; of the constraints and the ball, `[n, K]`; the ball's gradient, `[n, m]`;
        and the sum of the dual variables, `[n]`.
    """
    ball_value, ball_gradient = problem.ball_constraint(state.v)
    lam, surplus = state.lam, state.surplus
    dual_residual = problem.combine(lam[:, :-1]) - lam[:, -1:] * ball_gradient
    dual_residual += state.duals[1] - state.duals[0]
    temperature = state.temperature[:, np.newaxis]
    dual_term = (
        temperature * np.log(np.maximum(lam[:, :-1], _TINY))
        if problem.log_odds
        else -surplus[:, :-1]
    )
    residual = problem.gains(state.v) - problem.rhs + dual_term + state.level[:, np.newaxis]
    ball_residual = 1 - ball_value - surplus[:, -1]
    return (
        dual_residual,
        np.concatenate([residual, ball_residual[:, np.newaxis]], axis=1),
        ball_gradient,
        lam[:, :-1].sum(1),
    )


def _linear(problem: BallProblem) -> np.ndarray:
    """Say which of the constraints and the ball have a surplus, `[K]`."""
    linear = np.full(problem.rhs.shape[1] + 1, not problem.log_odds)
    linear[-1] = True
    return linear


def _error(problem: BallProblem, state: _State) -> np.ndarray:
    dual_residual, residual, _, total = _residuals(problem, state)
    linear = _linear(problem)
    products = (state.duals * _bound_slacks(problem, state.v)).sum(axis=(0, 2))
    products += (state.lam * state.surplus)[:, linear].sum(axis=1)
    wrong = (np.abs(dual_residual) * (problem.high - problem.low)).sum(axis=1)
    wrong += np.abs(residual[:, -1]) * state.lam[:, -1]
    if problem.log_odds:
        shares = _shares(problem.gains(state.v) - problem.rhs)
        wrong += problem.unit * np.abs(shares - state.lam[:, :-1]).sum(axis=1)
    else:
        wrong += np.abs(residual[:, :-1]).max(axis=1)
    error = (products + wrong) / problem.unit + np.abs(total - 1)
    return np.where(np.isfinite(error), error, np.inf)


def _step(problem: BallProblem, state: _State) -> _State:
    slacks = _bound_slacks(problem, state.v)
    linear = _linear(problem)
    lam, surplus, duals = state.lam, state.surplus, state.duals
    dual_residual, residual, ball_gradient, total = _residuals(problem, state)
    inverse_hessian = 1 / ((duals / slacks).sum(axis=0) + problem.curvature * lam[:, -1:])
    count, num_constraints = lam.shape
    matrix = np.zeros((count, num_constraints + 1, num_constraints + 1))
    matrix[:, :-2, :-2] = problem.gram(inverse_hessian)
    matrix[:, :-2, -2] = matrix[:, -2, :-2] = -problem.gains(inverse_hessian * ball_gradient)
    matrix[:, -2, -2] = np.einsum("nm,nm,nm->n", inverse_hessian, ball_gradient, ball_gradient)
    diagonal = np.arange(num_constraints)
    ease = np.where(linear, surplus, state.temperature[:, np.newaxis]) / lam
    # Equal columns of W, or pixels at their bounds, would leave the system singular.
    matrix[:, diagonal, diagonal] += np.maximum(
        ease, _TINY + _REGULAR * matrix[:, diagonal, diagonal]
    )
    matrix[:, :-2, -1] = matrix[:, -1, :-2] = 1

    def direction(bounds: np.ndarray, products: np.ndarray) -> tuple[np.ndarray, ...]:
        """Solve Newton's equations, given what slack times dual variable is to gain."""
        net = -dual_residual + bounds[0] / slacks[0] - bounds[1] / slacks[1]
        moved = inverse_hessian * net
        right = np.empty((count, num_constraints + 1))
        right[:, :-2] = -residual[:, :-1] + problem.gains(moved)
        right[:, -2] = -residual[:, -1] - np.einsum("nm,nm->n", ball_gradient, moved)
        right[:, :-1] += np.where(linear, products / lam, 0)
        right[:, -1] = 1 - total
        found = np.linalg.solve(matrix, right[:, :, np.newaxis])[:, :, 0]
        d_lam, d_level = found[:, :-1], found[:, -1]
        d_v = inverse_hessian * (
            problem.combine(d_lam[:, :-1]) - d_lam[:, -1:] * ball_gradient - net
        )
        d_slacks = np.stack([-d_v, d_v])
        d_duals = (bounds - duals * d_slacks) / slacks
        d_surplus = (products - surplus * d_lam) / lam
        return d_v, d_slacks, d_duals, d_lam, d_surplus, d_level

    products = surplus * lam
    bounds = duals * slacks
    pairs = bounds.shape[0] * bounds.shape[2] + int(linear.sum())
    mean = (bounds.sum(axis=(0, 2)) + products[:, linear].sum(axis=1)) / pairs
    d_v, d_slacks, d_duals, d_lam, d_surplus, _ = direction(-bounds, -products)
    length = _length(
        (slacks, d_slacks), (duals, d_duals), (lam, d_lam * linear), (surplus, d_surplus * linear)
    )
    step = np.minimum(length, 1)[:, np.newaxis]
    ahead = ((slacks + step * d_slacks) * (duals + step * d_duals)).sum(axis=(0, 2))
    ahead += ((surplus + step * d_surplus) * (lam + step * d_lam))[:, linear].sum(axis=1)
    center = np.clip(ahead / pairs / mean, 0, 1) ** 3 * mean
    aim = center[:, np.newaxis]
    # Of the second-order error as much as the predictor's step would make.
    d_v, d_slacks, d_duals, d_lam, d_surplus, d_level = direction(
        aim - bounds - step**2 * d_slacks * d_duals, aim - products - step**2 * d_surplus * d_lam
    )
    length = _length(
        (slacks, d_slacks), (duals, d_duals), (lam, d_lam * linear), (surplus, d_surplus * linear)
    )
    length = np.minimum(_BACK_OFF * length, 1)
    step = length[:, np.newaxis]
    return _State(
        state.v + step * d_v,
        duals + step * d_duals,
        np.where(linear, lam + step * d_lam, _grow(lam, step * d_lam)),
        surplus + step * d_surplus * linear,
        state.level + length * d_level,
        np.maximum(1, state.temperature * (1 - _COOLING * length)),
    )


def _grow(shares: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Change shares whose logarithms the constraints hold, so that they stay positive.

    Falling, and as long as they are small, their logarithms move; else they do themselves.

    Args:
        shares: `[n, K - 1]`, positive.
        change: the same shape.

    Returns:
        The same shape, positive.
    """
    ratio = change / shares
    with np.errstate(over="ignore"):
        factor = np.exp(np.minimum(ratio, np.log(np.maximum(_SMALL / shares, 1))))
    return np.maximum(shares * np.where(ratio > 0, np.maximum(factor, 1 + ratio), factor), _TINY)


def _length(*pairs: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Find the step, at most 1 / _BACK_OFF, that leaves every value positive, or brings one to 0.

    Args:
        pairs: values and their changes, `[..., n, m]`.

    Returns:
        `[n]`.
    """
    lowest = [(change / value).min(axis=-1) for value, change in pairs]
    least = np.min([one if one.ndim == 1 else one.min(axis=0) for one in lowest], axis=0)
    return np.asarray(1 / np.maximum(-least, _BACK_OFF))
