"""Optimise slopes of lines, and multipliers of given signs, for every margin by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mnist_adv.certification.propagation import Interval, Propagation, Slopes
from mnist_adv.certification.region import Region
from mnist_adv.tensors.lazy import tf

_RATE, _DECAY = 0.2, 0.95
_MEAN, _SQUARE, _TINY = 0.9, 0.999, 1e-30
# The largest useful slopes of the lower and the upper lines; 0 where they stay as they are.
_LARGEST = {
    "relu": (1.0, 0.0),
    "sigmoid": (0.25, 0.25),
    "tanh": (1.0, 1.0),
    "maximum": (0.0, 0.0),
}


def optimise(
    propagation: Propagation,
    region: Region,
    intervals: Sequence[Interval],
    slopes: Sequence[Slopes],
    rows: Any,
    num_steps: int,
) -> tuple[Any, list[Slopes]]:
    """Raise lower bounds by ascent along their gradients in the slopes.

    Args:
        propagation: through the network.
        region: of n images.
        intervals: after the segments up to that of the rows.
        slopes: where the ascent starts, `[n, 1, size, window]`.
        rows: `[n, m, size]`.
        num_steps: at least 1.

    Returns:
        The best bounds, `[n, m]`, and their slopes, `[n, m, size, window]`.

    References:
        Xu et al., "Fast and Complete: Enabling Complete Verification with Rapid and Massively
        Parallel Incomplete Verifiers", 2021 (alpha-CROWN).
    """
    best, found, _ = optimise_case(
        propagation, region, intervals, slopes, rows, (), (), (), num_steps
    )
    return best, found


def optimise_case(
    propagation: Propagation,
    region: Region,
    intervals: Sequence[Interval],
    slopes: Sequence[Slopes],
    rows: Any,
    signs: Sequence[Any],
    multipliers: Sequence[Any],
    sizes: Sequence[Any],
    num_steps: int,
) -> tuple[Any, list[Slopes], list[Any]]:
    """Raise lower bounds in cases where signs of values before ReLU are given.

    Args:
        propagation: through the network.
        region: of n images, or of one for all.
        intervals: after the segments up to that of the rows, as the signs leave them.
        slopes: where the ascent starts, `[n, 1, size, window]`.
        rows: `[n, m, size]`.
        signs: per nonlinearity 1, -1, or 0 where none is given, `[n, m, size]`.
        multipliers: where the ascent starts, at least 0, `[n, m, size]`.
        sizes: by which multipliers are measured, one per nonlinearity.
        num_steps: at least 1.

    Returns:
        The best bounds, `[n, m]`, and their slopes and multipliers.

    References:
        Wang et al., "Beta-CROWN: Efficient Bound Propagation with Per-neuron Split Constraints for
        Neural Network Robustness Verification", 2021.
    """
    count, wide = rows.shape[0], rows.shape[1]
    every = [slope + tf.zeros([count, wide, 1, 1], tf.float64) for pair in slopes for slope in pair]
    largest = [most for kind in propagation.network.kinds for most in _LARGEST[kind]]
    free = [place for place, most in enumerate(largest[: len(every)]) if most]
    start = [every[place] for place in free] + list(multipliers)
    scales = [largest[place] for place in free] + list(sizes)
    most = [largest[place] for place in free] + [float("inf")] * len(multipliers)

    def parts(values: Sequence[Any]) -> tuple[list[Slopes], list[Any]]:
        full = list(every)
        for place, value in zip(free, values):
            full[place] = value
        return list(zip(full[::2], full[1::2])), list(values[len(free) :])

    def bound(values: Sequence[Any]) -> Any:
        lines, positive = parts(values)
        signed = [sign * value for sign, value in zip(signs, positive)]
        return propagation.backward(region, intervals, lines, rows, signed)

    best, kept = _ascend(bound, start, scales, most, [count, wide], num_steps)
    return best, *parts(kept)


def _ascend(
    bound: Callable[[Sequence[Any]], Any],
    start: Sequence[Any],
    scales: Sequence[Any],
    most: Sequence[float],
    shape: Sequence[int],
    num_steps: int,
) -> tuple[Any, list[Any]]:
    """Find values from 0 to their most that raise bounds `[n, m]`, by Adam (Kingma, Ba, 2015)."""
    # Any values give a bound, so that the best of all steps is one.

    def keep(value: Any, old: Any, better: Any) -> Any:
        return tf.where(tf.reshape(better, [*shape, *[1] * (value.shape.rank - 2)]), value, old)

    def step(number: Any, values: Any, mean: Any, square: Any, best: Any, kept: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(values)
            found = bound(values)
        gradients = tape.gradient(found, values)
        kept = [keep(value, old, found > best) for value, old in zip(values, kept)]
        best = tf.maximum(best, found)
        mean = [_MEAN * m + (1 - _MEAN) * g for m, g in zip(mean, gradients)]
        square = [_SQUARE * s + (1 - _SQUARE) * g * g for s, g in zip(square, gradients)]
        count = tf.cast(number + 1, tf.float64)
        size = _RATE * _DECAY**count * tf.sqrt(1 - _SQUARE**count) / (1 - _MEAN**count)
        values = [
            tf.clip_by_value(value + scale * size * m / (tf.sqrt(s) + _TINY), 0.0, top)
            for value, scale, top, m, s in zip(values, scales, most, mean, square)
        ]
        return number + 1, values, mean, square, best, kept

    start = list(start)
    zeros = [tf.zeros_like(value) for value in start]
    lowest = tf.fill(shape, tf.constant(-float("inf"), tf.float64))
    state = (tf.constant(0), start, zeros, zeros, lowest, start)
    _, last, _, _, best, kept = tf.while_loop(
        lambda number, *_: number < num_steps, step, state, parallel_iterations=1
    )
    found = bound(last)
    kept = [keep(value, old, found > best) for value, old in zip(last, kept)]
    return tf.maximum(best, found), kept
