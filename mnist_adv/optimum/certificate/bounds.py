"""Distances and their lower bounds, by closed forms that no solver shares.

For any multipliers lambda >= 0, an image d away that is classified as wanted satisfies
`c . d >= h` with `c = sum lambda_k (w_t - w_k)` and `h = sum lambda_k g_k`. The least norm at which
the box allows that one constraint is found here by sorting: a lower bound on the distance, whoever
made the multipliers. The best multipliers attain the optimum (convex duality) of L-inf, L2, L1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_ROWS = 512  # problems at a time, to bound memory


def measure(norm: str, perturbation: np.ndarray) -> np.ndarray:
    """Measure perturbations `[n, D]` in a norm: `[n]`."""
    if norm == "linf":
        return np.abs(perturbation).max(axis=1, initial=0)
    if norm == "l2":
        return np.sqrt((perturbation**2).sum(axis=1))
    if norm == "l1":
        return np.abs(perturbation).sum(axis=1)
    return np.count_nonzero(perturbation, axis=1).astype(np.float64)


def leads(
    W: Any, b: Any, images: Any, *, targets: Any = None, labels: Any = None
) -> np.ndarray:
    """Compute by how much the wanted class leads, in float64.

    Args:
        W: `[D, K]`.
        b: `[K]`.
        images: `[n, D]` or image-shaped.
        targets: `[n]`: the target's lead on the best other class; or
        labels: `[n]`: the best other class's lead on the label.

    Returns:
        `[n]`.
    """
    weights = np.asarray(W, np.float64)
    logits = np.asarray(images, np.float64).reshape(-1, len(weights)) @ weights
    classes = np.asarray(labels if targets is None else targets)
    each = _leads_each(logits + np.asarray(b, np.float64), classes)
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
    multipliers: Any = None,
    margin: Any = 0.0,
    lower: Any = 0.0,
    upper: Any = 1.0,
) -> np.ndarray:
    """Prove how far the nearest image that is classified as wanted is at least.

    Args:
        W: `[D, K]`.
        b: `[K]`.
        images: clean, `[n, D]` or image-shaped.
        norm: "linf", "l2", "l1" or "l0".
        targets: `[n]`, the classes to reach, with `multipliers`; or
        labels: `[n]`, the classes to leave.
        multipliers: `[n, K]`, any scale; for targets.
        margin: by which the wanted class leads, one number or `[n]`.
        lower: the box, one number or `[D]`.
        upper: likewise.

    Returns:
        `[n]`; infinity where no such image exists.
    """
    weights, bias = np.asarray(W, np.float64), np.asarray(b, np.float64)
    clean = np.asarray(images).reshape(-1, len(weights))
    classes = np.asarray(labels if targets is None else targets)
    margins = np.broadcast_to(np.asarray(margin, np.float64), (len(clean),))[:, np.newaxis]
    low, high = (np.asarray(side, np.float64).reshape(-1) for side in (lower, upper))
    below = np.zeros(len(clean))
    for start in range(0, len(clean), _ROWS):
        part = slice(start, start + _ROWS)
        x, k = clean[part].astype(np.float64), classes[part]
        ahead = _leads_each(x @ weights + bias, k)
        room = (high - x, x - low)
        if targets is None:
            below[part] = _leave_bound(norm, weights, k, margins[part] + ahead, room)
        else:
            needs = margins[part] - ahead
            needs[np.arange(len(k)), k] = 0
            below[part] = reach_bound(norm, weights, k, multipliers[part], needs, room)
    return below


def reach_bound(
    norm: str,
    weights: np.ndarray,
    targets: np.ndarray,
    multipliers: np.ndarray,
    needs: np.ndarray,
    room: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Bound the distance to images of the target class from below, by weak duality.

    Args:
        norm: of the distance.
        weights: `[D, K]`.
        targets: `[n]`.
        multipliers: `[n, K]`; negative ones count as 0.
        needs: `[n, K]`, what `(w_t - w_k) . d` must reach.
        room: `[n, D]` up and down.

    Returns:
        `[n]`.
    """
    lambdas = np.maximum(np.nan_to_num(multipliers), 0)
    signed = -lambdas
    signed[np.arange(len(signed)), targets] += lambdas.sum(axis=1)
    return _one_row_bound(norm, signed @ weights.T, room, (lambdas * needs).sum(axis=1))


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


def _leave_bound(
    norm: str,
    weights: np.ndarray,
    labels: np.ndarray,
    needs: np.ndarray,
    room: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    best = np.full(len(labels), np.inf)
    for rival in range(weights.shape[1]):
        row = weights[:, rival] - weights[:, labels].T
        bound = _one_row_bound(norm, row, room, needs[:, rival])
        best = np.where(labels == rival, best, np.minimum(best, bound))
    return best


def _leads_each(logits: np.ndarray, classes: np.ndarray) -> np.ndarray:
    return logits[np.arange(len(logits)), classes][:, np.newaxis] - logits


def _one_row_bound(
    norm: str, row: np.ndarray, room: tuple[np.ndarray, np.ndarray], need: np.ndarray
) -> np.ndarray:
    """Find the least norm of d in the rooms with `row . d >= need`: `[n]`."""
    strength = np.abs(row)
    reach = np.where(row > 0, room[0], np.where(row < 0, room[1], 0.0))
    need = np.maximum(need, 0)
    if norm in ("l1", "l0"):
        # Fill whole rooms in the best order; L1 may stop within the last one.
        gains = strength * reach
        order = np.argsort(-(strength if norm == "l1" else gains), axis=1)
        gains, each = _sorted(gains, order), _sorted(reach, order)
        filled = np.cumsum(gains, axis=1)
        count = (filled < need[:, np.newaxis]).sum(axis=1)
        last = np.minimum(count, row.shape[1] - 1)[:, np.newaxis]
        if norm == "l0":
            bound = count + 1.0
        else:
            before = _sorted(filled - gains, last)[:, 0]
            rate = _sorted(_sorted(strength, order), last)[:, 0]
            whole = _sorted(np.cumsum(each, axis=1) - each, last)[:, 0]
            bound = whole + np.maximum(need - before, 0) / np.where(rate > 0, rate, 1)
    else:
        # d_i = min(t p_i, reach_i): pixels reach the ends of their rooms in the order of their
        # turning points t; between two of them everything is linear in t.
        power = np.ones_like(strength) if norm == "linf" else strength
        moves = (strength > 0) & (reach > 0)
        turning = np.where(moves, reach / np.where(moves, power, 1), np.inf)
        order = np.argsort(turning, axis=1)
        turn, room_, rate, speed = (_sorted(a, order) for a in (turning, reach, strength, power))
        live = np.isfinite(turn)
        ended = np.cumsum(np.where(live, rate * room_, 0), axis=1)
        slope = np.cumsum(np.where(live, rate * speed, 0)[:, ::-1], axis=1)[:, ::-1]
        earlier = np.concatenate([np.zeros((len(row), 1)), ended[:, :-1]], axis=1)
        filled = np.where(live, earlier + slope * np.where(live, turn, 0), np.inf)
        last = np.minimum((filled < need[:, np.newaxis]).sum(axis=1), row.shape[1] - 1)
        here = last[:, np.newaxis]
        slope_here = _sorted(slope, here)[:, 0]
        t = (need - _sorted(earlier, here)[:, 0]) / np.where(slope_here > 0, slope_here, 1)
        t = np.where(need > 0, np.maximum(t, 0), 0)
        bound = t if norm == "linf" else measure(
            "l2", np.minimum(t[:, np.newaxis] * power, reach)
        )
    # Beyond all rooms together (and beyond rounding): no such image exists.
    total = (strength * reach).sum(axis=1)
    bound = np.where(need > total * (1 + 1e-12), np.inf, bound)
    return np.where(need > 0, bound, 0.0)


def _sorted(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    return np.take_along_axis(values, order, axis=1)
