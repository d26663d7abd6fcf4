"""The support function of ball and box: the maximum of `sum_i s_i d_i` over both.

The counterpart of `one_constraint.py`: there the right-hand side is given and the norm sought, here
the norm is given and the gain sought. s are the absolute coefficients, r each pixel's range in the
useful direction.
"""

from __future__ import annotations

import numpy as np


def support_function(
    norm: str, magnitudes: np.ndarray, ranges: np.ndarray, epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
    """Maximise n linear functions, each over the ball of its image inside the box.

    Args:
        norm: "linf", "l2", "l1" or "l0".
        magnitudes: s, `[n, D]`, at least 0.
        ranges: r, `[n, D]`, at least 0.
        epsilon: the radius, at least 0; for l0 a number of pixels.

    Returns:
        The maxima `[n]` and where they are, `[n, D]`, at least 0.
    """
    if norm == "linf":
        perturbations = np.minimum(ranges, epsilon)
    elif norm == "l2":
        perturbations = _l2_argmax(magnitudes, ranges, epsilon)
    else:
        order = np.argsort(-(magnitudes if norm == "l1" else magnitudes * ranges), axis=1)
        sorted_ranges = np.take_along_axis(ranges, order, axis=1)
        if norm == "l1":
            left = epsilon - (np.cumsum(sorted_ranges, axis=1) - sorted_ranges)
            chosen = np.clip(left, 0, sorted_ranges)
        else:
            chosen = np.where(np.arange(sorted_ranges.shape[1]) < int(epsilon), sorted_ranges, 0.0)
        perturbations = np.empty_like(ranges)
        np.put_along_axis(perturbations, order, chosen, axis=1)
    perturbations = np.where(magnitudes > 0, perturbations, 0.0)
    return np.einsum("nd,nd->n", magnitudes, perturbations), perturbations


def _l2_argmax(magnitudes: np.ndarray, ranges: np.ndarray, epsilon: float) -> np.ndarray:
    """Find `min(t s, r)` of length epsilon; pixels reach their ends in the order of r / s."""
    live = (magnitudes > 0) & (ranges > 0)
    turning = np.where(live, ranges / np.where(live, magnitudes, 1), np.inf)
    order = np.argsort(turning, axis=1)
    turn, magnitude, sorted_ranges = (
        np.take_along_axis(a, order, axis=1)
        for a in (turning, np.where(live, magnitudes, 0), np.where(live, ranges, 0))
    )
    ended = np.cumsum(sorted_ranges**2, axis=1) - sorted_ranges**2
    moving = np.cumsum((magnitude**2)[:, ::-1], axis=1)[:, ::-1]
    with np.errstate(invalid="ignore"):
        lengths = ended + np.where(moving > 0, moving * np.square(turn), 0)
    count = (lengths < epsilon**2).sum(axis=1)
    last = np.minimum(count, ranges.shape[1] - 1)[:, np.newaxis]
    left = np.maximum(epsilon**2 - np.take_along_axis(ended, last, axis=1), 0)
    rate = np.take_along_axis(moving, last, axis=1)
    t = np.where(rate > 0, np.sqrt(left / np.where(rate > 0, rate, 1)), np.inf)
    # All pixels at their ends and length left: t has no bound.
    t = np.where((count == ranges.shape[1])[:, np.newaxis] | (rate <= 0), np.inf, t)
    return np.where(live, np.minimum(np.where(live, magnitudes, 1) * t, ranges), 0.0)
