"""Choose among the pixels of each image without sorting them.

`tf.sort` compiled by XLA for a CPU is many times slower than these few passes over the pixels, and
each image's answer is exact and does not depend on its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mnist_adv.tensors.lazy import tf

_PIXELS = (1, 2, 3)
_MAX_ROUNDS = 100


def soft_threshold(sizes: Any, total: Any) -> Any:
    """Find t with `sum(max(sizes - t, 0)) = total` (Michelot, 1986).

    Starting from all pixels, those below the threshold that the rest implies drop out, until none
    does: Newton's method on a convex, piecewise linear function, which ends after finitely many
    rounds at the exact answer.

    Args:
        sizes: `[n, h, w, c]`, at least 0.
        total: `[n]`, at least 0.

    Returns:
        `[n]`, at least 0; 0 where the sizes sum to `total` or less.
    """

    def following(threshold: Any) -> Any:
        above = tf.cast(sizes > _wide(threshold), sizes.dtype)
        count = tf.reduce_sum(above, axis=_PIXELS)
        rest = tf.reduce_sum(above * sizes, axis=_PIXELS) - total
        return tf.maximum(threshold, tf.math.divide_no_nan(rest, count))

    def moving(round_: Any, before: Any, threshold: Any) -> Any:
        return (round_ < _MAX_ROUNDS) & tf.reduce_any(threshold > before)

    def body(round_: Any, before: Any, threshold: Any) -> tuple[Any, Any, Any]:
        return round_ + 1, threshold, following(threshold)

    zero = tf.zeros_like(total)
    _, _, threshold = tf.while_loop(moving, body, (0, zero - 1, following(zero)))
    return threshold


def capped_threshold(sizes: Any, slack: Any, total: Any) -> Any:
    """Find t with `sum(clip(sizes - t, 0, slack)) = total`.

    The sum falls with t, linearly between its bends, but is not convex as in `soft_threshold`:
    Newton's method, inside a bracket that closes in every round.

    Args:
        sizes: `[n, h, w, c]`, at least 0.
        slack: the same shape, at least 0.
        total: `[n]`, at least 0.

    Returns:
        `[n]`, at least 0; 0 where the sizes, cut to the slack, sum to `total` or less.
    """
    rounding = 2 * np.finfo(sizes.dtype.as_numpy_dtype).eps

    def going(round_: Any, done: Any, *_: Any) -> Any:
        return (round_ < _MAX_ROUNDS) & ~tf.reduce_all(done)

    def body(round_: Any, done: Any, low: Any, high: Any, at: Any) -> tuple[Any, ...]:
        left = sizes - _wide(at)
        excess = tf.reduce_sum(tf.clip_by_value(left, 0, slack), axis=_PIXELS) - total
        moving = tf.cast((left > 0) & (left < slack), sizes.dtype)
        count = tf.reduce_sum(moving, axis=_PIXELS)
        newton = at + tf.math.divide_no_nan(excess, count)
        settled = (tf.abs(excess) <= rounding * total) | (
            (count > 0) & (tf.abs(newton - at) <= rounding * at)
        )
        low = tf.where(excess > 0, at, low)
        high = tf.where(excess > 0, high, at)
        halved = (low + high) / 2
        following = tf.where((newton > low) & (newton < high), newton, halved)
        done |= settled | (following <= low) | (following >= high)
        return round_ + 1, done, low, high, tf.where(done, at, following)

    zero = tf.zeros_like(total)
    enough = tf.reduce_sum(tf.minimum(sizes, slack), axis=_PIXELS) <= total
    # The bracket is open: 0 itself has been tried.
    start = (0, enough, zero, tf.reduce_max(sizes, axis=_PIXELS), soft_threshold(sizes, total))
    *_, threshold = tf.while_loop(going, body, start)
    return tf.where(enough, zero, threshold)


def capped_scale(rates: Any, caps: Any, total: Any) -> Any:
    """Find s with `sum(min(s * rates, caps)) = total`.

    The sum is concave in s and linear between its bends: Newton's method from 0, where only the
    values that are not yet at their cap grow, ends after finitely many rounds.

    Args:
        rates: `[n, h, w, c]`, at least 0.
        caps: the same shape, at least 0.
        total: `[n]`, at least 0.

    Returns:
        `[n]`, at least 0; infinite where the caps sum to `total` or less.
    """

    def following(scale: Any) -> Any:
        free = tf.cast(_wide(scale) * rates < caps, rates.dtype)
        slope = _fast_sum(free * rates)
        rest = total - _fast_sum((1 - free) * caps)
        return tf.maximum(scale, tf.math.divide_no_nan(rest, slope))

    def moving(round_: Any, before: Any, scale: Any) -> Any:
        return (round_ < _MAX_ROUNDS) & tf.reduce_any(~enough & (scale > before))

    def body(round_: Any, before: Any, scale: Any) -> tuple[Any, Any, Any]:
        return round_ + 1, scale, following(scale)

    enough = tf.reduce_sum(caps, axis=_PIXELS) <= total
    zero = tf.zeros_like(total)
    _, _, scale = tf.while_loop(moving, body, (0, zero - 1, following(zero)))
    return tf.where(enough, tf.constant(np.inf, scale.dtype), scale)


def kth_largest(sizes: Any, rank: Any) -> Any:
    """Find the largest value that at least `rank` pixels reach.

    Floats that are not negative are ordered as their bits are, read as integers: 31 halvings of
    the range of bits find the exact value.

    Args:
        sizes: `[n, h, w, c]`, at least 0.
        rank: `[n]` int32.

    Returns:
        `[n]`; 0 where `rank` is larger than the number of pixels.
    """
    bits = _bits(sizes)

    def holds(bound: Any) -> Any:
        reach = tf.math.count_nonzero(bits >= _wide(bound), axis=_PIXELS, dtype=tf.int32)
        return reach >= rank

    return tf.bitcast(_largest_bound(holds, rank, bits.dtype), sizes.dtype)


def largest(sizes: Any, count: Any) -> Any:
    """Mark the `count` largest pixels of each image; of equal ones the first.

    Args:
        sizes: `[n, h, w, c]` float32, at least 0.
        count: `[n]` int32.

    Returns:
        `[n, h, w, c]` bool; pixels of size 0 are never marked.
    """
    bound = _wide(kth_largest(sizes, count))
    above = sizes > bound
    left = count - tf.math.count_nonzero(above, axis=_PIXELS, dtype=tf.int32)
    ties = tf.reshape(sizes == bound, [tf.shape(sizes)[0], -1])
    order = tf.cumsum(tf.cast(ties, tf.int32), axis=1)
    first = tf.reshape(ties & (order <= left[:, tf.newaxis]), tf.shape(sizes))
    return (above | first) & (sizes > 0) & _wide(count > 0)


def fill(priority: Any, slack: Any, total: Any) -> Any:
    """Spend a total on pixels in order of priority, each up to its slack.

    This is the exact solution of: maximise `sum(priority * amount)` subject to
    `0 <= amount <= slack` and `sum(amount) <= total`.

    Args:
        priority: `[n, h, w, c]` float32, at least 0.
        slack: the same shape, at least 0.
        total: `[n]`, at least 0.

    Returns:
        The amounts, `[n, h, w, c]`; nothing is spent on priority 0.
    """
    bits = _bits(priority)

    def exceeds(bound: Any) -> Any:
        return tf.reduce_sum(tf.where(bits >= _wide(bound), slack, 0), axis=_PIXELS) > total

    low = _largest_bound(exceeds, total, bits.dtype)
    above = tf.where(bits > _wide(low), slack, 0)
    left = tf.maximum(total - tf.reduce_sum(above, axis=_PIXELS), 0)
    at_bound = (bits == _wide(low)) & (priority > 0)
    ties = tf.reshape(tf.where(at_bound, slack, 0), [tf.shape(slack)[0], -1])
    before = tf.cumsum(ties, axis=1, exclusive=True)
    part = tf.clip_by_value(left[:, tf.newaxis] - before, 0, ties)
    return above + tf.reshape(part, tf.shape(slack))


def _fast_sum(values: Any) -> Any:
    # XLA's sums along rows take most of FAB's time besides the model; products take half of it.
    flat = tf.reshape(values, [-1, math.prod(values.shape[1:])])
    return tf.linalg.matvec(flat, tf.ones(flat.shape[1], flat.dtype))


def _bits(values: Any) -> Any:
    # Adding 0 turns -0 into 0: as an integer, -0 is the smallest of all.
    return tf.bitcast(values + 0, tf.int64 if values.dtype == tf.float64 else tf.int32)


def _largest_bound(holds: Callable[[Any], Any], like: Any, dtype: Any) -> Any:
    # The largest integer [n] for which a falling condition still holds, 0 if none.
    def body(power: Any, low: Any) -> tuple[Any, Any]:
        middle = low + tf.bitwise.left_shift(tf.ones([], dtype), power)
        return power - 1, tf.where(holds(middle), middle, low)

    start = (tf.constant(8 * dtype.size - 2, dtype), tf.zeros_like(like, dtype))
    _, low = tf.while_loop(lambda power, _: power >= 0, body, start)
    return low


def _wide(values: Any) -> Any:
    return tf.reshape(values, [-1, 1, 1, 1])
