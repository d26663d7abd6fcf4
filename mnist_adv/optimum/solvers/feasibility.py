"""Make nearly feasible points feasible, with the least change.

Interior points end within rounding of their constraints, and a float32 image within rounding of a
float64 one. A correction `h A^T nu`, with h the squared distance of each pixel to its nearest
bound, changes the few pixels that are free at the optimum and not those at their bounds: the norm
changes in proportion to the shortfall. Only if that fails may every pixel change.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mnist_adv.optimum.constraints import Constraints

_ROUNDS = 4
_NEAR = (
    30  # constraints with less to spare than this many times the worst lack must not be pushed back
)


def repair(
    norm: str,
    constraints: Constraints,
    ranges: np.ndarray,
    rhs: np.ndarray,
    points: np.ndarray,
    tolerance: np.ndarray,
) -> np.ndarray:
    """Make points meet their constraints.

    Args:
        norm: decides which bounds hold pixels.
        constraints: of n problems.
        ranges: `[2, n, D]` up and down.
        rhs: `[n, K]`.
        points: `[n, D]`, inside the ranges; not changed.
        tolerance: `[n]`, what may stay unmet.

    Returns:
        `[n, D]`, inside the ranges; constraints stay unmet where no repair succeeded.
    """
    points = points.copy()
    for freedom in _FREEDOMS[norm]:
        for _ in range(_ROUNDS):
            shortfall = rhs - constraints.apply(points)
            wrong = np.flatnonzero(shortfall.max(axis=1) > tolerance)
            if not wrong.size:
                return points
            part, chosen_ranges = points[wrong], ranges[:, wrong]
            chosen = constraints.take(wrong)
            scaling = freedom(part, chosen_ranges)
            limit = np.sqrt(scaling)
            change = np.clip(_correction(chosen, scaling, shortfall[wrong]), -limit, limit)
            points[wrong] = np.clip(part + change, -chosen_ranges[1], chosen_ranges[0])
    return points


def _correction(constraints: Constraints, scaling: np.ndarray, shortfall: np.ndarray) -> np.ndarray:
    matrix = constraints.gram(scaling)
    near = (shortfall > -_NEAR * shortfall.max(axis=1, keepdims=True)).astype(np.float64)
    matrix *= near[:, :, np.newaxis] * near[:, np.newaxis, :]
    diagonal = np.arange(shortfall.shape[1])
    size = matrix[:, diagonal, diagonal].max(axis=1, keepdims=True)
    matrix[:, diagonal, diagonal] += 1e-12 * size + np.where(near > 0, 1e-200, 1.0)
    right = (np.maximum(shortfall, 0) * near)[:, :, np.newaxis]
    return scaling * constraints.combine(np.linalg.solve(matrix, right)[:, :, 0])


def _inside_box(points: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    return np.maximum(np.minimum(ranges[0] - points, ranges[1] + points), 0) ** 2


def _inside_ball(points: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    return _inside_box(points, np.minimum(ranges, np.abs(points).max(axis=1, keepdims=True)))


def _moved_inside_box(points: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    return _inside_box(points, ranges) * (points != 0)


def _moved(points: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    return (points != 0).astype(np.float64)


def _anywhere(points: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    return np.minimum(ranges[0], 1) + np.minimum(ranges[1], 1)


# The square of how far each pixel may move, from the least harm to the norm to the most. The fewest
# pixels are kept even where they do not suffice.
_FREEDOMS: dict[str, tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], ...]] = {
    "linf": (_inside_ball, _inside_box, _anywhere),
    "l2": (_inside_box, _anywhere),
    "l1": (_moved_inside_box, _moved, _anywhere),
    "l0": (_moved_inside_box, _moved),
}
