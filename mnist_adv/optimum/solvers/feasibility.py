"""Move nearly feasible points until they are feasible, by as little as possible.

Interior points end within rounding of their rows, and a float32 image within rounding of a float64
one. A correction `h A^T nu`, with h the squared distance of each pixel to its nearest bound,
uses the few pixels that are free at the optimum and leaves those at their bounds alone: the norm
changes in proportion to what was missing. Only if that fails may every pixel move.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mnist_adv.optimum.constraints import Rows

_ROUNDS = 4
_NEAR = 30  # rows with less to spare than this many times the worst lack must not be pushed back


def repair(
    norm: str,
    rows: Rows,
    room: np.ndarray,
    needs: np.ndarray,
    points: np.ndarray,
    slack: np.ndarray,
) -> np.ndarray:
    """Make points meet their rows.

    Args:
        norm: decides which bounds hold pixels.
        rows: of n problems.
        room: `[2, n, D]` up and down.
        needs: `[n, K]`.
        points: `[n, D]`, inside the rooms; not changed.
        slack: `[n]`, what may stay unmet.

    Returns:
        `[n, D]`, inside the rooms; a point that could not be repaired misses its rows still.
    """
    points = points.copy()
    for freedom in _FREEDOMS[norm]:
        for _ in range(_ROUNDS):
            short = needs - rows.apply(points)
            wrong = np.flatnonzero(short.max(axis=1) > slack)
            if not wrong.size:
                return points
            part, rooms = points[wrong], room[:, wrong]
            chosen = rows.take(wrong)
            give = freedom(part, rooms)
            limit = np.sqrt(give)
            move = np.clip(_correction(chosen, give, short[wrong]), -limit, limit)
            points[wrong] = np.clip(part + move, -rooms[1], rooms[0])
    return points


def _correction(rows: Rows, give: np.ndarray, short: np.ndarray) -> np.ndarray:
    matrix = rows.gram(give)
    near = (short > -_NEAR * short.max(axis=1, keepdims=True)).astype(np.float64)
    matrix *= near[:, :, np.newaxis] * near[:, np.newaxis, :]
    diagonal = np.arange(short.shape[1])
    size = matrix[:, diagonal, diagonal].max(axis=1, keepdims=True)
    matrix[:, diagonal, diagonal] += 1e-12 * size + np.where(near > 0, 1e-200, 1.0)
    right = (np.maximum(short, 0) * near)[:, :, np.newaxis]
    return give * rows.combine(np.linalg.solve(matrix, right)[:, :, 0])


def _inside_box(points: np.ndarray, room: np.ndarray) -> np.ndarray:
    return np.maximum(np.minimum(room[0] - points, room[1] + points), 0) ** 2


def _inside_ball(points: np.ndarray, room: np.ndarray) -> np.ndarray:
    return _inside_box(points, np.minimum(room, np.abs(points).max(axis=1, keepdims=True)))


def _moved_inside_box(points: np.ndarray, room: np.ndarray) -> np.ndarray:
    return _inside_box(points, room) * (points != 0)


def _moved(points: np.ndarray, room: np.ndarray) -> np.ndarray:
    return (points != 0).astype(np.float64)


def _anywhere(points: np.ndarray, room: np.ndarray) -> np.ndarray:
    return np.minimum(room[0], 1) + np.minimum(room[1], 1)


# The square of how far each pixel may move, from the least harm to the norm to the most. The fewest
# pixels are kept even where they do not suffice.
_FREEDOMS: dict[str, tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], ...]] = {
    "linf": (_inside_ball, _inside_box, _anywhere),
    "l2": (_inside_box, _anywhere),
    "l1": (_moved_inside_box, _moved, _anywhere),
    "l0": (_moved_inside_box, _moved),
}
