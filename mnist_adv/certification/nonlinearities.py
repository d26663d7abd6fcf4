"""Nonlinearities between affine segments, and lines that bound them on an interval.

For any slope the best line is known: over `[l, u]` the difference between a function and a line
has its extremes at the ends and where the function's slope is the line's. So a slope may be
anything, learned or wrong: the line it gives is a bound.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from mnist_adv.tensors.lazy import tf

# Eigen and XLA state a few units in the last place of float32, 6e-8 near 1.
_ERROR = 1e-6
# Relative, of what is computed here in float64.
_OUTWARD = 1e-14
_TINY = 1e-300


@dataclasses.dataclass(frozen=True)
class Nonlinearity:
    """A function of one number that never falls, or a maximum of several.

    Attributes:
        function: of float64 tensors; of a maximum, over the last axis.
        derivative: of the function; None for a maximum.
        points: slope -> where the function may have it; None for a maximum.
        error: the most by which a program's float32 function may differ from this one.
    """

    function: Callable[[Any], Any]
    derivative: Callable[[Any], Any] | None = None
    points: Callable[[Any], Sequence[Any]] | None = None
    error: float = 0.0


class Lines(NamedTuple):
    """Affine functions below and above a nonlinearity, `slope . x + shift`.

    Slopes are `[n, m, size, window]`, shifts `[n, m, size]`; m is 1 where all rows share them.
    """

    lower_slope: Any
    lower_shift: Any
    upper_slope: Any
    upper_shift: Any


def _sigmoid_points(slope: Any) -> Sequence[Any]:
    # s (1 - s) = a, so s = (1 + r) / 2, and x = log((1 + r) / (1 - r)); 1 - r would cancel.
    root = tf.sqrt(tf.clip_by_value(1 - 4 * slope, 0.0, 1.0))
    point = tf.math.log(tf.square(1 + root) / (4 * tf.clip_by_value(slope, _TINY, 0.25)))
    return point, -point


def _tanh_points(slope: Any) -> Sequence[Any]:
    return [point / 2 for point in _sigmoid_points(slope / 4)]


def _sigmoid_slope(values: Any) -> Any:
    return tf.sigmoid(values) * tf.sigmoid(-values)


NONLINEARITIES = {
    "relu": Nonlinearity(
        lambda values: tf.nn.relu(values),
        lambda values: tf.cast(values > 0, values.dtype),
        lambda slope: (tf.zeros_like(slope),),
    ),
    "sigmoid": Nonlinearity(
        lambda values: tf.sigmoid(values), _sigmoid_slope, _sigmoid_points, _ERROR
    ),
    "tanh": Nonlinearity(
        lambda values: tf.tanh(values),
        lambda values: 4 * _sigmoid_slope(2 * values),
        _tanh_points,
        _ERROR,
    ),
    "maximum": Nonlinearity(lambda values: tf.reduce_max(values, axis=-1)),
}


def apply(kind: str, values: Any, window: int) -> Any:
    """Apply a nonlinearity.

    Args:
        kind: a key of `NONLINEARITIES`.
        values: `[n, size * window]`.
        window: how many neighbouring values make one.

    Returns:
        `[n, size]`.
    """
    if kind == "maximum":
        values = tf.reshape(values, [-1, values.shape[1] // window, window])
    return NONLINEARITIES[kind].function(values)


def choose_slopes(kind: str, lower: Any, upper: Any) -> tuple[Any, Any]:
    """Choose the slopes of the lines with the least area between them and the function.

    Args:
        kind: a key of `NONLINEARITIES`.
        lower: `[n, 1, size, window]`, of the inputs.
        upper: the same shape.

    Returns:
        The slopes of the lower and the upper lines, in that shape.
    """
    row = NONLINEARITIES[kind]
    if row.derivative is None:
        best = tf.one_hot(tf.argmax(lower, axis=-1), lower.shape[-1], dtype=lower.dtype)
        below = tf.constant(-np.inf, lower.dtype)
        others = tf.reduce_max(tf.where(best > 0, below, upper), axis=-1, keepdims=True)
        wins = tf.reduce_max(lower, axis=-1, keepdims=True) >= others
        return best, tf.where(wins, best, tf.zeros_like(best))
    width, middle = upper - lower, (lower + upper) / 2
    chord = (row.function(upper) - row.function(lower)) / tf.maximum(width, _TINY)
    ends = row.derivative(lower), row.derivative(upper)
    candidates = [
        tf.where(width > 1e-9, chord, ends[0]),
        row.derivative(middle),
        tf.minimum(*ends),
    ]
    if kind == "relu":
        candidates.append(tf.ones_like(lower))
    lines = [make_lines(kind, (slope, slope), lower, upper) for slope in candidates]
    # The area below a line is its value in the middle times the width.
    below = [line.lower_slope * middle + line.lower_shift[..., tf.newaxis] for line in lines]
    above = [-line.upper_slope * middle - line.upper_shift[..., tf.newaxis] for line in lines]
    return _largest(candidates, below), _largest(candidates, above)


def _largest(candidates: Sequence[Any], values: Sequence[Any]) -> Any:
    found, best = candidates[0], values[0]
    for slope, value in zip(candidates[1:], values[1:]):
        better = value > best
        found, best = tf.where(better, slope, found), tf.where(better, value, best)
    return found


def make_lines(kind: str, slopes: tuple[Any, Any], lower: Any, upper: Any) -> Lines:
    """Find the tightest lines of given slopes.

    Args:
        kind: a key of `NONLINEARITIES`.
        slopes: of the lower and the upper lines, `[n, m, size, window]`. Those of a maximum are
            shares of its inputs: from 0 to 1, and the lower ones' sum is 1.
        lower: `[n, 1, size, window]`, of the inputs.
        upper: the same shape.

    Returns:
        Lines that bound the function everywhere between `lower` and `upper`.
    """
    row = NONLINEARITIES[kind]
    below, above = slopes
    largest = 1 + tf.maximum(tf.abs(lower), tf.abs(upper))
    outward = [_OUTWARD * tf.reduce_sum((1 + tf.abs(s)) * largest, axis=-1) for s in slopes]
    if row.points is None:
        # Of max_i x_i - a . x the largest value over a box is where x_i is at its top, and each
        # other x_j at its bottom, for the best i.
        top = tf.reduce_max((1 - above) * upper + above * lower, axis=-1)
        low_shift = tf.zeros_like(below[..., 0])
        high_shift = top - tf.reduce_sum(above * lower, axis=-1)
    else:
        low_shift = _extreme(row, below, lower, upper, tf.minimum)[..., 0]
        high_shift = _extreme(row, above, lower, upper, tf.maximum)[..., 0]
    return Lines(below, low_shift - outward[0], above, high_shift + outward[1])


def _extreme(row: Any, slope: Any, lower: Any, upper: Any, best: Any) -> Any:
    """Find the least or the largest difference between a function and lines through 0."""
    at_ends = best(row.function(lower) - slope * lower, row.function(upper) - slope * upper)
    for point in row.points(tf.stop_gradient(slope)):
        # Where the best point lies changes with the slope, and the difference there does not.
        inside = tf.stop_gradient(tf.clip_by_value(point, lower, upper))
        at_ends = best(at_ends, row.function(inside) - slope * inside)
    return at_ends
