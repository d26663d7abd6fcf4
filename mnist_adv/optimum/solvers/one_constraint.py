"""The smallest d with `sum_i s_i d_i >= h`, `0 <= d_i <= r_i`: one constraint, closed forms.

s is the strength of each pixel (the absolute entry of the row), r its room in the useful
direction. Moving a pixel the other way never helps, so d counts the useful direction only.

- L-inf: everybody moves by e or to the end of its room; `sum s min(e, r) = h`.
- L2: everybody moves in proportion to its strength; `sum s min(t s, r) = h`.
- L1: the strongest pixels move to the ends of their rooms, until h is reached.
- L0: the pixels with the largest `s r` move, until h is reached: fewest pixels, exactly.

The first two sums are concave and piecewise linear in e and t, so Newton's iteration from zero
climbs to the root through finitely many pieces, without sorting anything.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_MAX_PIECES = 200
_STRONGEST = 128


def smallest(
    norm: str, strengths: np.ndarray, rooms: np.ndarray, needs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Solve n problems with one constraint each.

    Args:
        norm: "linf", "l2", "l1" or "l0".
        strengths: s, `[n, D]`, or `[D]` for all, at least 0.
        rooms: r, `[n, D]`, at least 0.
        needs: h, `[n]`.

    Returns:
        The norm of the smallest move, `[n]`: 0 where the need is not positive, infinity where all
        rooms together do not meet it; and the move, `[n, D]`, at least 0 (all rooms used up
        where they do not suffice).
    """
    return _TABLE[norm](strengths, rooms, np.asarray(needs, np.float64))


def _climb(
    strengths: np.ndarray, rooms: np.ndarray, needs: np.ndarray, powers: np.ndarray | float
) -> np.ndarray:
    """Find t with `sum s min(t p, r) = h` for each problem; infinity if there is none."""
    rates = strengths * powers
    start = np.maximum(needs, 0)
    slopes = np.broadcast_to(rates, rooms.shape).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.where(start > 0, start / slopes, 0.0)
    open_ = np.flatnonzero((start > 0) & np.isfinite(root))
    for _ in range(_MAX_PIECES):
        if not open_.size:
            break
        chosen = strengths if strengths.ndim == 1 else strengths[open_]
        power = powers if np.ndim(powers) < 2 else powers[open_]  # type: ignore[index]
        room = rooms[open_]
        reach = root[open_][:, np.newaxis] * power
        moving = reach < room
        value = np.einsum(_SUM[chosen.ndim], chosen, np.minimum(reach, room))
        slope = np.einsum(_SUM[chosen.ndim], chosen * power, moving)
        lacking = start[open_] - value
        with np.errstate(divide="ignore", invalid="ignore"):
            ahead = np.where(lacking > 0, lacking / slope, 0.0)
        following = root[open_] + ahead
        # Within rounding of the need counts as met: the last piece may have no slope left.
        settled = (lacking <= 4e-16 * start[open_]) | (following == root[open_])
        root[open_] = np.where(settled, root[open_], following)
        open_ = open_[~settled & np.isfinite(following)]
    return root


_SUM = {1: "d,nd->n", 2: "nd,nd->n"}


def _linf(
    strengths: np.ndarray, rooms: np.ndarray, needs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    root = _climb(strengths, rooms, needs, 1.0)
    # Pixels without strength stay where they are.
    moves = np.minimum(root[:, np.newaxis], rooms) * (strengths > 0)
    return root, moves


def _l2(
    strengths: np.ndarray, rooms: np.ndarray, needs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    root = _climb(strengths, rooms, needs, strengths)
    with np.errstate(invalid="ignore"):
        moves = np.minimum(root[:, np.newaxis] * strengths, rooms)
    moves = np.where(strengths > 0, moves, 0.0)
    return np.where(np.isfinite(root), np.sqrt((moves**2).sum(axis=1)), np.inf), moves


def _l1(
    strengths: np.ndarray, rooms: np.ndarray, needs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    if strengths.ndim == 1 or strengths.shape[1] < 2 * _STRONGEST:
        return _fill(strengths, rooms, needs)
    # The strongest nearly always suffice, and only they have to be sorted.
    strongest = np.argpartition(-strengths, _STRONGEST, axis=1)[:, :_STRONGEST]
    least, some = _fill(_arrange(strengths, strongest), _arrange(rooms, strongest), needs)
    moves = np.zeros(strengths.shape)
    _scatter(moves, strongest, some)
    more = np.flatnonzero(np.isinf(least))
    if more.size:
        least[more], moves[more] = _fill(strengths[more], rooms[more], needs[more])
    return least, moves


def _fill(
    strengths: np.ndarray, rooms: np.ndarray, needs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(-strengths, axis=-1, kind="stable")
    sorted_rooms, sorted_strengths = _arrange(rooms, order), _arrange(strengths, order)
    gains = np.cumsum(sorted_strengths * sorted_rooms, axis=1)
    before = np.concatenate([np.zeros((len(gains), 1)), gains[:, :-1]], axis=1)
    lacking = np.maximum(needs, 0)[:, np.newaxis] - before
    with np.errstate(divide="ignore", invalid="ignore"):
        wanted = np.where(lacking > 0, lacking / sorted_strengths, 0.0)
    sorted_moves = np.where(sorted_strengths > 0, np.minimum(wanted, sorted_rooms), 0.0)
    moves = np.empty_like(sorted_moves)
    _scatter(moves, order, sorted_moves)
    return np.where(_reachable(gains, needs), sorted_moves.sum(axis=1), np.inf), moves


def _l0(
    strengths: np.ndarray, rooms: np.ndarray, needs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    products = strengths * rooms
    order = np.argsort(-products, axis=1, kind="stable")
    gains = np.cumsum(_arrange(products, order), axis=1)
    before = np.concatenate([np.zeros((len(gains), 1)), gains[:, :-1]], axis=1)
    used = (before < np.maximum(needs, 0)[:, np.newaxis]) & (_arrange(products, order) > 0)
    moves = np.empty_like(products)
    _scatter(moves, order, np.where(used, _arrange(rooms, order), 0.0))
    return np.where(_reachable(gains, needs), used.sum(axis=1), np.inf), moves


def _reachable(gains: np.ndarray, needs: np.ndarray) -> np.ndarray:
    return gains[:, -1] >= np.maximum(needs, 0) * (1 - 4e-16)


def _arrange(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    if order.ndim == 1:
        return values[..., order]
    return np.take_along_axis(values, order, axis=1)


def _scatter(target: np.ndarray, order: np.ndarray, values: np.ndarray) -> None:
    if order.ndim == 1:
        target[:, order] = values
    else:
        np.put_along_axis(target, order, values, axis=1)


_TABLE: dict[
    str, Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
] = {"linf": _linf, "l2": _l2, "l1": _l1, "l0": _l0}
