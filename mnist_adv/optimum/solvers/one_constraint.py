"""The smallest d with `sum_i s_i d_i >= h`, `0 <= d_i <= r_i`: one constraint, closed forms.

s are the absolute coefficients of the constraint, r each pixel's range in the useful direction.
Changing a pixel the other way never helps, so d counts the useful direction only.

- L-inf: every pixel changes by e or to the end of its range; `sum s min(e, r) = h`.
- L2: every pixel changes in proportion to s; `sum s min(t s, r) = h`.
- L1: the pixels with the largest s change to the ends of their ranges, until h is reached.
- L0: the pixels with the largest `s r` change, until h is reached: fewest pixels, exactly.

The first two sums are concave and piecewise linear in e and t, so Newton's iteration from zero
climbs to the root through finitely many pieces, without sorting anything.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_MAX_PIECES = 200
_STRONGEST = 128


def smallest(
    norm: str, magnitudes: np.ndarray, ranges: np.ndarray, rhs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Solve n problems with one constraint each.

    Args:
        norm: "linf", "l2", "l1" or "l0".
        magnitudes: s, `[n, D]`, or `[D]` for all, at least 0.
        ranges: r, `[n, D]`, at least 0.
        rhs: h, `[n]`.

    Returns:
        The least norm, `[n]`: 0 where h is not positive, infinity where all ranges together do not
        reach h; and d, `[n, D]`, at least 0 (r where all ranges do not suffice).
    """
    return _TABLE[norm](magnitudes, ranges, np.asarray(rhs, np.float64))


def _find_root(
    magnitudes: np.ndarray, ranges: np.ndarray, rhs: np.ndarray, rates_per_t: np.ndarray | float
) -> np.ndarray:
    """Find t with `sum s min(t p, r) = h` for each problem; infinity if there is none."""
    rates = magnitudes * rates_per_t
    start = np.maximum(rhs, 0)
    slopes = np.broadcast_to(rates, ranges.shape).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.where(start > 0, start / slopes, 0.0)
    open_ = np.flatnonzero((start > 0) & np.isfinite(root))
    for _ in range(_MAX_PIECES):
        if not open_.size:
            break
        chosen = magnitudes if magnitudes.ndim == 1 else magnitudes[open_]
        rate_per_t = rates_per_t
        if isinstance(rates_per_t, np.ndarray) and rates_per_t.ndim == 2:
            rate_per_t = rates_per_t[open_]
        own_ranges = ranges[open_]
        reach = root[open_][:, np.newaxis] * rate_per_t
        moving = reach < own_ranges
        value = np.einsum(_SUM[chosen.ndim], chosen, np.minimum(reach, own_ranges))
        slope = np.einsum(_SUM[chosen.ndim], chosen * rate_per_t, moving)
        lacking = start[open_] - value
        with np.errstate(divide="ignore", invalid="ignore"):
            ahead = np.where(lacking > 0, lacking / slope, 0.0)
        following = root[open_] + ahead
        # Within rounding of h counts as met: the last piece may have no slope left.
        settled = (lacking <= 4e-16 * start[open_]) | (following == root[open_])
        root[open_] = np.where(settled, root[open_], following)
        open_ = open_[~settled & np.isfinite(following)]
    return root


_SUM = {1: "d,nd->n", 2: "nd,nd->n"}


def _linf(
    magnitudes: np.ndarray, ranges: np.ndarray, rhs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    root = _find_root(magnitudes, ranges, rhs, 1.0)
    # Pixels that the constraint does not depend on stay where they are.
    perturbations = np.minimum(root[:, np.newaxis], ranges) * (magnitudes > 0)
    return root, perturbations


def _l2(
    magnitudes: np.ndarray, ranges: np.ndarray, rhs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    root = _find_root(magnitudes, ranges, rhs, magnitudes)
    with np.errstate(invalid="ignore"):
        perturbations = np.minimum(root[:, np.newaxis] * magnitudes, ranges)
    perturbations = np.where(magnitudes > 0, perturbations, 0.0)
    lengths = np.sqrt((perturbations**2).sum(axis=1))
    return np.where(np.isfinite(root), lengths, np.inf), perturbations


def _l1(
    magnitudes: np.ndarray, ranges: np.ndarray, rhs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    if magnitudes.ndim == 1 or magnitudes.shape[1] < 2 * _STRONGEST:
        return _fill(magnitudes, ranges, rhs)
    # The strongest nearly always suffice, and only they have to be sorted.
    strongest = np.argpartition(-magnitudes, _STRONGEST, axis=1)[:, :_STRONGEST]
    least, some = _fill(_arrange(magnitudes, strongest), _arrange(ranges, strongest), rhs)
    perturbations = np.zeros(magnitudes.shape)
    _scatter(perturbations, strongest, some)
    more = np.flatnonzero(np.isinf(least))
    if more.size:
        least[more], perturbations[more] = _fill(magnitudes[more], ranges[more], rhs[more])
    return least, perturbations


def _fill(
    magnitudes: np.ndarray, ranges: np.ndarray, rhs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(-magnitudes, axis=-1, kind="stable")
    sorted_ranges, sorted_magnitudes = _arrange(ranges, order), _arrange(magnitudes, order)
    gains = np.cumsum(sorted_magnitudes * sorted_ranges, axis=1)
    before = np.concatenate([np.zeros((len(gains), 1)), gains[:, :-1]], axis=1)
    lacking = np.maximum(rhs, 0)[:, np.newaxis] - before
    with np.errstate(divide="ignore", invalid="ignore"):
        wanted = np.where(lacking > 0, lacking / sorted_magnitudes, 0.0)
    sorted_perturbations = np.where(sorted_magnitudes > 0, np.minimum(wanted, sorted_ranges), 0.0)
    perturbations = np.empty_like(sorted_perturbations)
    _scatter(perturbations, order, sorted_perturbations)
    return np.where(_reachable(gains, rhs), sorted_perturbations.sum(axis=1), np.inf), perturbations


def _l0(
    magnitudes: np.ndarray, ranges: np.ndarray, rhs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    products = magnitudes * ranges
    order = np.argsort(-products, axis=1, kind="stable")
    gains = np.cumsum(_arrange(products, order), axis=1)
    before = np.concatenate([np.zeros((len(gains), 1)), gains[:, :-1]], axis=1)
    used = (before < np.maximum(rhs, 0)[:, np.newaxis]) & (_arrange(products, order) > 0)
    perturbations = np.empty_like(products)
    _scatter(perturbations, order, np.where(used, _arrange(ranges, order), 0.0))
    return np.where(_reachable(gains, rhs), used.sum(axis=1), np.inf), perturbations


def _reachable(gains: np.ndarray, rhs: np.ndarray) -> np.ndarray:
    return gains[:, -1] >= np.maximum(rhs, 0) * (1 - 4e-16)


def _arrange(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    if order.ndim == 1:
        return values[..., order]
    return np.take_along_axis(values, order, axis=1)


def _scatter(target: np.ndarray, order: np.ndarray, values: np.ndarray) -> None:
    if order.ndim == 1:
        target[:, order] = values
    else:
        np.put_along_axis(target, order, values, axis=1)


_TABLE: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "linf": _linf,
    "l2": _l2,
    "l1": _l1,
    "l0": _l0,
}
