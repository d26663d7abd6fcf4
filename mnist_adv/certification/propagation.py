"""Bounds of a network's values over regions of images: forward by intervals, backward by lines.

All bounds hold for the float32 network, whatever the order in which it sums: its rounding errors
are one more perturbation after every segment, bounded by `Affine.rounding`, and what follows
acts on them as on everything else. With the unit roundoff of float64 they hold for the exact
network, and count the errors of the bounds' own arithmetic.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

from mnist_adv.certification.hidden import UNDERFLOW, UNIT, Deviations, Through
from mnist_adv.certification.network import Network
from mnist_adv.certification.nonlinearities import (
    NONLINEARITIES,
    Lines,
    apply,
    choose_slopes,
    make_lines,
)
from mnist_adv.certification.region import Ball, Region
from mnist_adv.certification.result import Arithmetic
from mnist_adv.geometry.norms import Norm
from mnist_adv.tensors.lazy import tf

# Float64's own errors beside float32's: 2**-29 of them for each of some thirty operations.
FLOAT32 = 2.0**-24 * (1 + 1e-6)
FLOAT64 = 2.0**-49
UNITS = {Arithmetic.FLOAT32: FLOAT32, Arithmetic.EXACT: FLOAT64}
Slopes = tuple[Any, Any]


class Interval(NamedTuple):
    """What is known of the values after an affine segment.

    Attributes:
        lower: `[n, size]`.
        upper: `[n, size]`.
        rounding: `[n, size]`, the most by which rounding changes them in this segment.
    """

    lower: Any
    upper: Any
    rounding: Any


@dataclasses.dataclass(frozen=True)
class Propagation:
    """Bounds through one network over regions of one kind.

    Attributes:
        network: as read.
        ball: of the regions.
        unit: the unit roundoff of the network's arithmetic, `FLOAT32`; `FLOAT64` for an exact one.
    """

    network: Network
    ball: Ball
    unit: float

    @property
    def first_is_exact(self) -> bool:
        """Whether no bounds after the first segment are tighter than those of `first`."""
        return self.ball.norm is Norm.LINF and self.network.first_is_one_product

    def first(self, region: Region) -> Interval:
        """Bound the values after the first segment by intervals of the pixels.

        Args:
            region: of n images.

        Returns:
            The interval; the tightest one for L-inf and one product.
        """
        return self._segment(0, region.pixels - region.falls, region.pixels + region.rises)

    def through(self, number: int, interval: Interval) -> tuple[Slopes, Interval]:
        """Choose the lines of a nonlinearity, and go through it and the next segment by intervals.

        Args:
            number: of the nonlinearity, and of the segment before it.
            interval: of the values after that segment.

        Returns:
            The slopes of the lower and the upper lines, `[n, 1, size, window]`, and the interval
            after the next segment.
        """
        kind, window = self.network.kinds[number], self.network.windows[number]
        error = self._error(kind)
        lower = apply(kind, interval.lower, window) - error
        upper = apply(kind, interval.upper, window) + error
        slopes = choose_slopes(kind, *self._windows(number, interval))
        return slopes, self._segment(number + 1, lower, upper)

    def backward(
        self,
        region: Region,
        intervals: Sequence[Interval],
        slopes: Sequence[Slopes],
        rows: Any,
        multipliers: Sequence[Any] = (),
    ) -> Any:
        """Bound linear functions of the values after a segment from below.

        Args:
            region: of n images, or of one for all.
            intervals: after the segments up to this one, which is the last of them.
            slopes: of all nonlinearities before it, `[n, 1 or m, size, window]`.
            rows: coefficients, `[n, m, size]`, or `[1, m, size]` for all images.
            multipliers: as `linear` takes them.

        Returns:
            `[n, m]`.
        """
        total, pixels, _ = self.linear(intervals, slopes, rows, multipliers)
        return total + self.ball.minimum(region, pixels)

    def linear(
        self,
        intervals: Sequence[Interval],
        slopes: Sequence[Slopes],
        rows: Any,
        multipliers: Sequence[Any] = (),
    ) -> tuple[Any, Any, list[Any]]:
        """Bound linear functions of the values after a segment by linear ones of the pixels.

        Args:
            intervals: after the segments up to this one, which is the last of them.
            slopes: of all nonlinearities before it, `[n, 1 or m, size, window]`.
            rows: coefficients, `[n, m, size]`, or `[1, m, size]` for all images.
            multipliers: of the values before each nonlinearity, `[n, m, size]`: at least 0 where
                the value is given to be at least 0, at most 0 where at most 0, else 0; none: of no
                values.

        Returns:
            The constants `[n, m]` and coefficients `[n, m, D]` of functions below; and per
            nonlinearity the coefficients `[n, m, size]` by which it was multiplied.

        References:
            Zhang et al., "Efficient Neural Network Robustness Certification with General
            Activation Functions", 2018 (CROWN). Singh et al., "An Abstract Domain for Certifying
            Neural Networks", 2019 (DeepPoly). Wang et al., "Beta-CROWN: Efficient Bound Propagation
            with Per-neuron Split Constraints for Neural Network Robustness Verification", 2021.
        """
        total = tf.zeros([1, 1], tf.float64)
        passed = []
        for number in reversed(range(len(intervals))):
            segment, interval = self.network.segments[number], intervals[number]
            total += tf.linalg.matvec(rows, segment.bias)
            total -= _sum(tf.abs(rows), interval.rounding)
            flat = tf.reshape(rows, [-1, segment.out_size])
            rows = tf.reshape(segment.transposed(flat), [-1, rows.shape[1], segment.in_size])
            if number:
                passed.append(rows)
                lines = self._lines(number - 1, slopes[number - 1], intervals[number - 1])
                rows, gained = self._through(number - 1, lines, rows)
                total += gained
                if multipliers:
                    # Their product with the values is at least 0: what is left bounds from below.
                    rows -= multipliers[number - 1]
        return total, rows, passed[::-1]

    def deviations(
        self,
        terms: Sequence[int],
        region: Region,
        intervals: Sequence[Interval],
        slopes: Sequence[Slopes],
    ) -> Deviations:
        """See regions and lines from the values of one image of each region.

        Args:
            terms: of each segment, the most that a product of coefficients with its matrix sums.
            region: of n images.
            intervals: after the segments up to this one, which is the last of them.
            slopes: of all nonlinearities before it, `[n, 1, size, window]`.

        Returns:
            What `bound_neurons` takes; errors are those of the network's arithmetic and of float32
            coefficients.
        """
        values, falls, rises = region.pixels, region.falls, region.rises
        if self.ball.norm is Norm.LINF:
            values = values + (rises - falls) / 2
            falls = rises = (rises + falls) / 2
        most = tf.maximum(falls, rises)
        epsilon, through, underflow = region.epsilon[:, 0], [], 0.0
        for number, interval in enumerate(intervals):
            segment = self.network.segments[number]
            values = segment.linear(values) + segment.bias
            share = UNIT * (terms[number] + 2)
            errors = interval.rounding + share / (1 - share) * segment.radius(most)
            lost = UNDERFLOW * (1 + terms[number]) * tf.reduce_sum(most, axis=1, keepdims=True)
            errors, underflow = errors + lost, underflow + lost
            if number == len(intervals) - 1:
                break
            kind, window = self.network.kinds[number], self.network.windows[number]
            ends = tf.abs(interval.upper - values), tf.abs(interval.lower - values)
            # Slopes are rounded to float32, and their products with coefficients.
            errors += 3 * UNIT * tf.maximum(*ends)
            lower, upper = slopes[number]
            lines = self._lines(number, slopes[number], interval)
            after, error = apply(kind, values, window), self._error(kind)
            at, around = (tf.reshape(each, tf.shape(lower)) for each in (values, errors))
            below = tf.reduce_sum(lower * at, axis=-1) + lines.lower_shift
            above = tf.reduce_sum(upper * at, axis=-1) + lines.upper_shift
            down = tf.nn.relu(after - below[:, 0])
            up = tf.nn.relu(above[:, 0] - after)
            down += error + tf.reduce_sum(tf.abs(lower) * around, axis=-1)[:, 0]
            up += error + tf.reduce_sum(tf.abs(upper) * around, axis=-1)[:, 0]
            top = apply(kind, interval.upper, window) - after
            bottom = after - apply(kind, interval.lower, window)
            changing = (top != 0) | (bottom != 0) | (error > 0)
            cast = functools.partial(tf.cast, dtype=tf.float32)
            slopes32 = cast(lower[:, 0]), cast(upper[:, 0])
            through.append(Through(cast(down), cast(up), *slopes32, changing))
            most = tf.maximum(tf.abs(top), tf.abs(bottom)) + error
            values = after
        return Deviations(falls, rises, epsilon, through, values, errors + underflow)

    def interval_margins(self, region: Region, intervals: Sequence[Interval], rows: Any) -> Any:
        """Bound linear functions of the logits from below by intervals before the last segment.

        Args:
            region: of n images.
            intervals: after all segments.
            rows: `[n, m, k]`.

        Returns:
            `[n, m]`.

        References:
            Gowal et al., "On the Effectiveness of Interval Bound Propagation for Training
            Verifiably Robust Models", 2018.
        """
        segment = self.network.segments[-1]
        if len(intervals) == 1:
            return self.backward(region, intervals, [], rows)
        kind, window = self.network.kinds[-1], self.network.windows[-1]
        ends = [apply(kind, end, window) for end in intervals[-2][:2]]
        centre, reach = (ends[0] + ends[1]) / 2, (ends[1] - ends[0]) / 2 + self._error(kind)
        flat = segment.transposed(tf.reshape(rows, [-1, segment.out_size]))
        before = tf.reshape(flat, [-1, rows.shape[1], segment.in_size])
        return (
            tf.linalg.matvec(rows, segment.bias)
            - _sum(tf.abs(rows), intervals[-1].rounding)
            + tf.linalg.matvec(before, centre)
            - tf.linalg.matvec(tf.abs(before), reach)
        )

    def _lines(self, number: int, slopes: Slopes, interval: Interval) -> Lines:
        kind = self.network.kinds[number]
        return make_lines(kind, slopes, *self._windows(number, interval))

    def _through(self, number: int, lines: Lines, rows: Any) -> tuple[Any, Any]:
        """Replace a nonlinearity by the lines that bound it from the side that each sign needs."""
        up, down = tf.nn.relu(rows), -tf.nn.relu(-rows)
        gained = _sum(up, lines.lower_shift) + _sum(down, lines.upper_shift)
        error = self._error(self.network.kinds[number])
        if error:
            gained -= error * tf.reduce_sum(tf.abs(rows), axis=-1)
        up, down = up[..., tf.newaxis], down[..., tf.newaxis]
        before = up * lines.lower_slope + down * lines.upper_slope
        size = self.network.segments[number].out_size
        return tf.reshape(before, [-1, rows.shape[1], size]), gained

    def _segment(self, number: int, lower: Any, upper: Any) -> Interval:
        segment = self.network.segments[number]
        rounding = segment.rounding(tf.maximum(tf.abs(lower), tf.abs(upper)), self.unit)
        centre = segment.linear((lower + upper) / 2) + segment.bias
        reach = segment.radius((upper - lower) / 2) + rounding
        return Interval(centre - reach, centre + reach, rounding)

    def _windows(self, number: int, interval: Interval) -> tuple[Any, Any]:
        window = self.network.windows[number]
        shape = [-1, 1, interval.lower.shape[1] // window, window]
        return tf.reshape(interval.lower, shape), tf.reshape(interval.upper, shape)

    def _error(self, kind: str) -> float:
        return NONLINEARITIES[kind].error * min(1.0, self.unit / FLOAT32)


def _sum(rows: Any, values: Any) -> Any:
    """Multiply `[n or 1, m, size]` with `[n, size]` or `[n, 1 or m, size]`: `[n, m]`."""
    if values.shape.rank == 2:
        values = values[:, tf.newaxis]
    if rows.shape[0] == 1 and values.shape[1] == 1:
        return tf.matmul(values[:, 0], rows[0], transpose_b=True)
    return tf.reduce_sum(rows * values, axis=-1)
