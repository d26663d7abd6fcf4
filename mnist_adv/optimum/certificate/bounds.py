"""Distances and their lower bounds, by closed forms that no solver shares.

For any dual variables lambda >= 0, an image d away that is classified as wanted satisfies
`c . d >= h` with `c = sum lambda_k (w_t - w_k)` and `h = sum lambda_k g_k`. The least norm at which
the box allows that one constraint is found here by sorting: a lower bound on the distance, whatever
lambda. The best lambda attains the optimum (convex duality) of L-inf, L2, L1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_CHUNK = 512  # problems at a time, to bound memory
_ROUNDING = 1e-12  # of sums of hundreds of float64 numbers, as a share


def measure(norm: str, perturbation: np.ndarray) -> np.ndarray:
    """Measure perturbations.

    Args:
        norm: "linf", "l2", "l1" or "l0".
        perturbation: `[n, D]`.

    Returns:
        `[n]`.
    """
    if norm == "linf":
        return np.abs(perturbation).max(axis=1, initial=0)
    if norm == "l2":
        return np.sqrt((perturbation**2).sum(axis=1))
    if norm == "l1":
        return np.abs(perturbation).sum(axis=1)
    return np.count_nonzero(perturbation, axis=1).astype(np.float64)


def margins(W: Any, b: Any, images: Any, *, targets: Any = None, labels: Any = None) -> np.ndarray:
    """Compute the margin of the wanted class over all others, in float64 logits.

    Args:
        W: `[D, K]`.
        b: `[K]`.
        images: `[n, D]` or image-shaped.
        targets: `[n]`: the target's logit minus the largest other; or
        labels: `[n]`: the largest other logit minus the label's.

    Returns:
        `[n]`.
    """
    weights = np.asarray(W, np.float64)
    logits = np.asarray(images, np.float64).reshape(-1, len(weights)) @ weights
    classes = np.asarray(labels if targets is None else targets)
    each = _margins_each(logits + np.asarray(b, np.float64), classes)
    each[np.arange(len(each)), classes] = np.inf
    return each.min(axis=1) if labels is None else (-each).max(axis=1)


def lower_bounds(
    W: Any,
    b: Any,
    images: Any,
    *,
    norm: str,
    targets: Any = None,
    labels: Any = None,
    dual_variables: Any = None,
    margin: Any = 0.0,
    lower: Any = 0.0,
    upper: Any = 1.0,
) -> np.ndarray:
    """Bound the distance to the nearest image that is classified as wanted from below.

    Args:
        W: `[D, K]`.
        b: `[K]`.
        images: clean, `[n, D]` or image-shaped.
        norm: "linf", "l2", "l1" or "l0".
        targets: `[n]`, the classes to reach, with `dual_variables`; or
        labels: `[n]`, the classes to leave.
        dual_variables: `[n, K]`, any scale; for targets.
        margin: of the wanted logit over the others, one number or `[n]`.
        lower: the box, one number or `[D]`.
        upper: likewise.

    Returns:
        `[n]`; infinity where no such image exists.
    """
    weights, bias = np.asarray(W, np.float64), np.asarray(b, np.float64)
    clean = np.asarray(images).reshape(-1, len(weights))
    classes = np.asarray(labels if targets is None else targets)
    wanted = np.broadcast_to(np.asarray(margin, np.float64), (len(clean),))[:, np.newaxis]
    low, high = (np.asarray(side, np.float64).reshape(-1) for side in (lower, upper))
    below = np.zeros(len(clean))
    for start in range(0, len(clean), _CHUNK):
        part = slice(start, start + _CHUNK)
        x, k = clean[part].astype(np.float64), classes[part]
        ahead = _margins_each(x @ weights + bias, k)
        ranges = (high - x, x - low)
        if targets is None:
            below[part] = _untargeted_bound(norm, weights, k, wanted[part] + ahead, ranges)
        else:
            rhs = wanted[part] - ahead
            rhs[np.arange(len(k)), k] = 0
            below[part] = targeted_bound(norm, weights, k, dual_variables[part], rhs, ranges)
    return below


def targeted_bound(
    norm: str,
    weights: np.ndarray,
    targets: np.ndarray,
    dual_variables: np.ndarray,
    rhs: np.ndarray,
    ranges: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Bound the distance to images of the target class from below, by weak duality.

    Args:
        norm: of the distance.
        weights: `[D, K]`.
        targets: `[n]`.
        dual_variables: `[n, K]`; negative ones count as 0.
        rhs: `[n, K]`, what `(w_t - w_k) . d` must reach.
        ranges: `[n, D]` up and down.

    Returns:
        `[n]`.
    """
    lambdas = np.maximum(np.nan_to_num(dual_variables), 0)
    signed = -lambdas
    signed[np.arange(len(signed)), targets] += lambdas.sum(axis=1)
    return _single_constraint_bound(norm, signed @ weights.T, ranges, (lambdas * rhs).sum(axis=1))


def list_reasons(faults: dict[str, np.ndarray], count: int) -> tuple[str, ...]:
    """Write down what is wrong with each image.

    Args:
        faults: what can be wrong -> where it is, `[n]` bool.
        count: n.

    Returns:
        n strings, empty where nothing is wrong.
    """
    return tuple(
        "; ".join(fault for fault, where in faults.items() if where[i]) for i in range(count)
    )


def _untargeted_bound(
    norm: str,
    weights: np.ndarray,
    labels: np.ndarray,
    rhs: np.ndarray,
    ranges: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    best = np.full(len(labels), np.inf)
    for rival in range(weights.shape[1]):
        coefficients = weights[:, rival] - weights[:, labels].T
        bound = _single_constraint_bound(norm, coefficients, ranges, rhs[:, rival])
        best = np.where(labels == rival, best, np.minimum(best, bound))
    return best


def _margins_each(logits: np.ndarray, classes: np.ndarray) -> np.ndarray:
    return logits[np.arange(len(logits)), classes][:, np.newaxis] - logits


def _single_constraint_bound(
    norm: str, coefficients: np.ndarray, ranges: tuple[np.ndarray, np.ndarray], rhs: np.ndarray
) -> np.ndarray:
    """Find the least norm of d in the ranges with `c . d >= h`: `[n]`."""
    magnitude = np.abs(coefficients)
    usable = np.where(coefficients > 0, ranges[0], np.where(coefficients < 0, ranges[1], 0.0))
    rhs = np.maximum(rhs, 0)
    if norm in ("l1", "l0"):
        # Fill whole ranges in the best order; L1 may stop within the last one.
        gains = magnitude * usable
        order = np.argsort(-(magnitude if norm == "l1" else gains), axis=1)
        gains, each = _sorted(gains, order), _sorted(usable, order)
        filled = np.cumsum(gains, axis=1)
        count = (filled < rhs[:, np.newaxis]).sum(axis=1)
        last = np.minimum(count, coefficients.shape[1] - 1)[:, np.newaxis]
        if norm == "l0":
            bound = count + 1.0
        else:
            before = _sorted(filled - gains, last)[:, 0]
            rate = _sorted(_sorted(magnitude, order), last)[:, 0]
            whole = _sorted(np.cumsum(each, axis=1) - each, last)[:, 0]
            bound = whole + np.maximum(rhs - before, 0) / np.where(rate > 0, rate, 1)
    else:
        # d_i = min(t p_i, usable_i): pixels reach the ends of their ranges in the order of their
        # turning points t; between two of them everything is linear in t.
        power = np.ones_like(magnitude) if norm == "linf" else magnitude
        changes = (magnitude > 0) & (usable > 0)
        turning = np.where(changes, usable / np.where(changes, power, 1), np.inf)
        order = np.argsort(turning, axis=1)
        turn, range_, rate, speed = (_sorted(a, order) for a in (turning, usable, magnitude, power))
        live = np.isfinite(turn)
        ended = np.cumsum(np.where(live, rate * range_, 0), axis=1)
        slope = np.cumsum(np.where(live, rate * speed, 0)[:, ::-1], axis=1)[:, ::-1]
        earlier = np.concatenate([np.zeros((len(coefficients), 1)), ended[:, :-1]], axis=1)
        filled = np.where(live, earlier + slope * np.where(live, turn, 0), np.inf)
        last = np.minimum((filled < rhs[:, np.newaxis]).sum(axis=1), coefficients.shape[1] - 1)
        here = last[:, np.newaxis]
        slope_here = _sorted(slope, here)[:, 0]
        t = (rhs - _sorted(earlier, here)[:, 0]) / np.where(slope_here > 0, slope_here, 1)
        t = np.where(rhs > 0, np.maximum(t, 0), 0)
        bound = t if norm == "linf" else measure("l2", np.minimum(t[:, np.newaxis] * power, usable))
    # Beyond all ranges together (and beyond rounding): no such image exists.
    total = (magnitude * usable).sum(axis=1)
    bound = np.where(rhs > total * (1 + _ROUNDING), np.inf, bound)
    return np.where(rhs > 0, bound, 0.0)


def _sorted(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    return np.take_along_axis(values, order, axis=1)
