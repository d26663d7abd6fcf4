"""Optimise the slopes of the lines, for every margin by itself."""

from __future__ import annotations

from collections.abc import Sequence
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

    Every slope gives a bound, so that the best of all steps is one. Each slope moves by a share of
    its own range, as Adam (Kingma, Ba, 2015) scales it.

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
    count, wide = rows.shape[0], rows.shape[1]
    shape = [count, wide]
    every = [slope + tf.zeros([*shape, 1, 1], tf.float64) for pair in slopes for slope in pair]
    largest = [most for kind in propagation.network.kinds for most in _LARGEST[kind]]
    free = [place for place, most in enumerate(largest[: len(every)]) if most]
    start, scales = [every[place] for place in free], [largest[place] for place in free]

    def paired(values: Sequence[Any]) -> list[Slopes]:
        full = list(every)
        for place, value in zip(free, values):
            full[place] = value
        return list(zip(full[::2], full[1::2]))

    def bound(values: Sequence[Any]) -> Any:
        return propagation.backward(region, intervals, paired(values), rows)

    def step(number: Any, values: Any, mean: Any, square: Any, best: Any, kept: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(values)
            found = bound(values)
        gradients = tape.gradient(found, values)
        better = found > best
        choose = better[..., tf.newaxis, tf.newaxis]
        kept = [tf.where(choose, value, old) for value, old in zip(values, kept)]
        best = tf.maximum(best, found)
        mean = [_MEAN * m + (1 - _MEAN) * g for m, g in zip(mean, gradients)]
        square = [_SQUARE * s + (1 - _SQUARE) * g * g for s, g in zip(square, gradients)]
        count = tf.cast(number + 1, tf.float64)
        size = _RATE * _DECAY**count * tf.sqrt(1 - _SQUARE**count) / (1 - _MEAN**count)
        values = [
            tf.clip_by_value(value + scale * size * m / (tf.sqrt(s) + _TINY), 0.0, scale)
            for value, scale, m, s in zip(values, scales, mean, square)
        ]
        return number + 1, values, mean, square, best, kept

    zeros = [tf.zeros_like(value) for value in start]
    lowest = tf.fill(shape, tf.constant(-float("inf"), tf.float64))
    state = (tf.constant(0), start, zeros, zeros, lowest, start)
    _, last, _, _, best, kept = tf.while_loop(
        lambda number, *_: number < num_steps, step, state, parallel_iterations=1
    )
    found = bound(last)
    choose = (found > best)[..., tf.newaxis, tf.newaxis]
    kept = [tf.where(choose, value, old) for value, old in zip(last, kept)]
    return tf.maximum(best, found), paired(kept)
