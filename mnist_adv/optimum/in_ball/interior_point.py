"""The best image inside a budget: the largest lead of a class, or its largest log-odds.

Both are `max_d  soft(A d - g)` over the ball and the box. For the lead, soft is the least entry;
for the log-odds `z_t - log sum_k exp z_k` it is `-log sum_k exp(-s_k)`, and the multipliers of the
rows, which add to 1, are the shares of the other classes. Either way a primal-dual interior-point
method needs one system of K + 1 equations per problem and iteration: the rows and the budget, with
the level nu beside them,

    (A d - g)_k + nu = over_k           (lead;  over_k lambda_k = 0)
    (A d - g)_k + nu = -log lambda_k    (log-odds)
    sum_k lambda_k = 1.

The log-odds' rows begin hot, `-heat log lambda_k`, and cool to 1: where logits differ by hundreds,
all weight lies on one class, and jumps, unless it is spread while the others are found.

Boyd, Vandenberghe, "Convex Optimization", 2004, chapter 11; predictor and corrector as Mehrotra's.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mnist_adv.optimum.in_ball.problem import Budget

_MAX_ITERATIONS = 80
_TOLERANCE = 1e-10  # complementarity and residuals, relative to the size of the rows
_PATIENCE = 8  # iterations without progress
_BACK_OFF = 0.995  # share of the way to the nearest bound
_HOT = 0.1  # the first heat of the log-odds, in units of logits
_COOL = 0.8  # how much of it a whole step takes away
_SMALL = 1e-2  # a share of the other classes that hardly matters
_TINY = 1e-200


@dataclasses.dataclass(frozen=True)
class _State:
    v: np.ndarray  # [n, m]
    duals: np.ndarray  # [2, n, m], of the bounds above and below
    lam: np.ndarray  # [n, K], of the rows and, last, of the budget
    over: np.ndarray  # [n, K], their slacks; those of the log-odds' rows mean nothing
    level: np.ndarray  # [n], nu
    heat: np.ndarray  # [n], by which log lambda is multiplied, falling to 1

    def take(self, keep: np.ndarray) -> _State:
        return _State(
            self.v[keep],
            self.duals[:, keep],
            self.lam[keep],
            self.over[keep],
            self.level[keep],
            self.heat[keep],
        )


def solve(problem: Budget) -> tuple[np.ndarray, np.ndarray]:
    """Solve a block of problems as far as float64 goes; closed forms judge the result.

    Args:
        problem: n problems.

    Returns:
        v `[n, m]`, inside its bounds, and the rows' multipliers `[n, K - 1]`, adding to 1.
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


def _start(problem: Budget) -> _State:
    v = (problem.low + problem.high) / 2
    if problem.order:
        share = problem.spent(v)[0][:, np.newaxis]
        v = v * np.minimum(1, 0.5 / np.maximum(share, _TINY) ** (1 / problem.order))
        v = np.clip(v, *(0.9 * end + 0.1 * v for end in (problem.low, problem.high)))
    lead = problem.gains(v) - problem.needs
    count, num_rows = lead.shape
    heat = np.maximum(1, _HOT * problem.unit)
    lam = np.full((count, num_rows), 1 / num_rows)
    if problem.soft:
        lam = _shares(lead / heat[:, np.newaxis])
    row = problem.combine(lam)
    width = problem.high - problem.low
    # The order of what is at stake: each bound's product of slack and multiplier begins near it.
    stake = (np.abs(row) * width).mean(axis=1, keepdims=True) + 1e-3 * problem.unit[:, np.newaxis]
    spent, _ = problem.spent(v)
    price = np.full(count, 0.1 * row.shape[1]) * stake[:, 0]
    duals = np.stack([np.maximum(row, 0), np.maximum(-row, 0)]) + 0.1 * stake / width
    level = -lead.min(axis=1) + problem.unit
    if problem.soft:
        level = -(lead + heat[:, np.newaxis] * np.log(lam)).max(axis=1)
    ahead = np.ones_like(lead) if problem.soft else lead + level[:, np.newaxis]
    over = np.concatenate([ahead, 1 - spent[:, np.newaxis]], axis=1)
    lam = np.concatenate([lam, price[:, np.newaxis]], axis=1)
    return _State(v, duals, lam, over, level, heat)


def _shares(lead: np.ndarray) -> np.ndarray:
    """Compute the other classes' shares of what is not the target, `[n, K - 1]`."""
    shares = np.exp(lead.min(axis=1, keepdims=True) - lead)
    return np.maximum(shares / shares.sum(axis=1, keepdims=True), _TINY)


def _slacks(problem: Budget, v: np.ndarray) -> np.ndarray:
    return np.maximum(np.stack([problem.high - v, v - problem.low]), _TINY)


def _residuals(
    problem: Budget, state: _State
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Compute what v's equations, the rows and the multipliers' sum miss; and the budget's row."""
    spent, price = problem.spent(state.v)
    lam, over = state.lam, state.over
    pull = problem.combine(lam[:, :-1]) - lam[:, -1:] * price - state.duals[0] + state.duals[1]
    heat = state.heat[:, np.newaxis]
    link = heat * np.log(np.maximum(lam[:, :-1], _TINY)) if problem.soft else -over[:, :-1]
    rows = problem.gains(state.v) - problem.needs + link + state.level[:, np.newaxis]
    budget = 1 - spent - over[:, -1]
    return pull, np.concatenate([rows, budget[:, np.newaxis]], axis=1), price, lam[:, :-1].sum(1)


def _linear(problem: Budget) -> np.ndarray:
    """Which of the rows and the budget have a slack, `[K]`."""
    linear = np.full(problem.needs.shape[1] + 1, not problem.soft)
    linear[-1] = True
    return linear


def _error(problem: Budget, state: _State) -> np.ndarray:
    pull, rows, _, total = _residuals(problem, state)
    linear = _linear(problem)
    products = (state.duals * _slacks(problem, state.v)).sum(axis=(0, 2))
    products += (state.lam * state.over)[:, linear].sum(axis=1)
    wrong = (np.abs(pull) * (problem.high - problem.low)).sum(axis=1)
    wrong += np.abs(rows[:, -1]) * state.lam[:, -1]
    if problem.soft:
        shares = _shares(problem.gains(state.v) - problem.needs)
        wrong += problem.unit * np.abs(shares - state.lam[:, :-1]).sum(axis=1)
    else:
        wrong += np.abs(rows[:, :-1]).max(axis=1)
    error = (products + wrong) / problem.unit + np.abs(total - 1)
    return np.where(np.isfinite(error), error, np.inf)


def _step(problem: Budget, state: _State) -> _State:
    gaps = _slacks(problem, state.v)
    linear = _linear(problem)
    lam, over, duals = state.lam, state.over, state.duals
    pull, rows, price, total = _residuals(problem, state)
    give = 1 / ((duals / gaps).sum(axis=0) + problem.curvature * lam[:, -1:])
    count, num_rows = lam.shape
    matrix = np.zeros((count, num_rows + 1, num_rows + 1))
    matrix[:, :-2, :-2] = problem.gram(give)
    matrix[:, :-2, -2] = matrix[:, -2, :-2] = -problem.gains(give * price)
    matrix[:, -2, -2] = np.einsum("nm,nm,nm->n", give, price, price)
    diagonal = np.arange(num_rows)
    ease = np.where(linear, over, state.heat[:, np.newaxis]) / lam
    matrix[:, diagonal, diagonal] += np.maximum(ease, _TINY)
    matrix[:, :-2, -1] = matrix[:, -1, :-2] = 1

    def direction(bounds: np.ndarray, products: np.ndarray) -> tuple[np.ndarray, ...]:
        """Solve Newton's equations, given what slack times multiplier is to gain."""
        net = -pull + bounds[0] / gaps[0] - bounds[1] / gaps[1]
        moved = give * net
        right = np.empty((count, num_rows + 1))
        right[:, :-2] = -rows[:, :-1] + problem.gains(moved)
        right[:, -2] = -rows[:, -1] - np.einsum("nm,nm->n", price, moved)
        right[:, :-1] += np.where(linear, products / lam, 0)
        right[:, -1] = 1 - total
        found = np.linalg.solve(matrix, right[:, :, np.newaxis])[:, :, 0]
        d_lam, d_level = found[:, :-1], found[:, -1]
        d_v = give * (problem.combine(d_lam[:, :-1]) - d_lam[:, -1:] * price - net)
        d_gaps = np.stack([-d_v, d_v])
        d_duals = (bounds - duals * d_gaps) / gaps
        d_over = (products - over * d_lam) / lam
        return d_v, d_gaps, d_duals, d_lam, d_over, d_level

    products = over * lam
    bounds = duals * gaps
    pairs = bounds.shape[0] * bounds.shape[2] + int(linear.sum())
    mean = (bounds.sum(axis=(0, 2)) + products[:, linear].sum(axis=1)) / pairs
    d_v, d_gaps, d_duals, d_lam, d_over, _ = direction(-bounds, -products)
    length = _length(
        (gaps, d_gaps), (duals, d_duals), (lam, d_lam * linear), (over, d_over * linear)
    )
    step = np.minimum(length, 1)[:, np.newaxis]
    ahead = ((gaps + step * d_gaps) * (duals + step * d_duals)).sum(axis=(0, 2))
    ahead += ((over + step * d_over) * (lam + step * d_lam))[:, linear].sum(axis=1)
    center = np.clip(ahead / pairs / mean, 0, 1) ** 3 * mean
    aim = center[:, np.newaxis]
    # Of the second-order error as much as the predictor's step would make.
    d_v, d_gaps, d_duals, d_lam, d_over, d_level = direction(
        aim - bounds - step**2 * d_gaps * d_duals, aim - products - step**2 * d_over * d_lam
    )
    length = _length(
        (gaps, d_gaps), (duals, d_duals), (lam, d_lam * linear), (over, d_over * linear)
    )
    length = np.minimum(_BACK_OFF * length, 1)
    step = length[:, np.newaxis]
    return _State(
        state.v + step * d_v,
        duals + step * d_duals,
        np.where(linear, lam + step * d_lam, _grow(lam, step * d_lam)),
        over + step * d_over * linear,
        state.level + length * d_level,
        np.maximum(1, state.heat * (1 - _COOL * length)),
    )


def _grow(shares: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Change shares whose logarithms the rows hold, so that they stay positive.

    Falling, and as long as they are small, their logarithms move; else they do themselves.
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
