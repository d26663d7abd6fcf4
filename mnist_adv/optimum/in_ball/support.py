"""The most that one row can gain inside a ball and the rooms: `max sum_i s_i d_i`.

The counterpart of `halfspace.py`: there the need is given and the norm sought, here the norm is the
budget and the gain sought. s is the strength of each pixel, r its room in the useful direction.
"""

from __future__ import annotations

import numpy as np


def largest_gain(
    norm: str, strengths: np.ndarray, rooms: np.ndarray, epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
    """Maximise n rows, each over the ball of its image inside the box.

    Args:
        norm: "linf", "l2", "l1" or "l0".
        strengths: s, `[n, D]`, at least 0.
        rooms: r, `[n, D]`, at least 0.
        epsilon: the radius, at least 0; for l0 a number of pixels.

    Returns:
        The gains `[n]` and the moves `[n, D]`, at least 0, that reach them.
    """
    if norm == "linf":
        moves = np.minimum(rooms, epsilon)
    elif norm == "l2":
        moves = _l2_moves(strengths, rooms, epsilon)
    else:
        order = np.argsort(-(strengths if norm == "l1" else strengths * rooms), axis=1)
        room = np.take_along_axis(rooms, order, axis=1)
        if norm == "l1":
            left = epsilon - (np.cumsum(room, axis=1) - room)
            chosen = np.clip(left, 0, room)
        else:
            chosen = np.where(np.arange(room.shape[1]) < int(epsilon), room, 0.0)
        moves = np.empty_like(rooms)
        np.put_along_axis(moves, order, chosen, axis=1)
    moves = np.where(strengths > 0, moves, 0.0)
    return np.einsum("nd,nd->n", strengths, moves), moves


def _l2_moves(strengths: np.ndarray, rooms: np.ndarray, epsilon: float) -> np.ndarray:
    """Find `min(t s, r)` of length epsilon; pixels reach their ends in the order of r / s."""
    live = (strengths > 0) & (rooms > 0)
    turning = np.where(live, rooms / np.where(live, strengths, 1), np.inf)
    order = np.argsort(turning, axis=1)
    turn, strength, room = (
        np.take_along_axis(a, order, axis=1)
        for a in (turning, np.where(live, strengths, 0), np.where(live, rooms, 0))
    )
    ended = np.cumsum(room**2, axis=1) - room**2
    moving = np.cumsum((strength**2)[:, ::-1], axis=1)[:, ::-1]
    with np.errstate(invalid="ignore"):
        lengths = ended + np.where(moving > 0, moving * np.square(turn), 0)
    count = (lengths < epsilon**2).sum(axis=1)
    last = np.minimum(count, rooms.shape[1] - 1)[:, np.newaxis]
    left = np.maximum(epsilon**2 - np.take_along_axis(ended, last, axis=1), 0)
    rate = np.take_along_axis(moving, last, axis=1)
    t = np.where(rate > 0, np.sqrt(left / np.where(rate > 0, rate, 1)), np.inf)
    # All pixels at their ends and length to spare: t has no bound.
    t = np.where((count == rooms.shape[1])[:, np.newaxis] | (rate <= 0), np.inf, t)
    return np.where(live, np.minimum(np.where(live, strengths, 1) * t, rooms), 0.0)
