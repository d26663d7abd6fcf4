"""The images that are reasoned about: a ball around each one, inside the box."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from mnist_adv.geometry.norms import Norm
from mnist_adv.tensors.lazy import tf

NORMS = (Norm.LINF, Norm.L2, Norm.L1)
_TINY = 1e-300
_ROUNDS = {Norm.L2: 16, Norm.L1: 40}


class Region(NamedTuple):
    """Per image a ball and a box.

    Attributes:
        pixels: `[n, D]` float64, the centres.
        falls: `[n, D]`, at least 0: how far each pixel may fall, by the box and L-inf epsilon.
        rises: `[n, D]`, likewise.
        epsilon: `[n, 1]`, the radius.
    """

    pixels: Any
    falls: Any
    rises: Any
    epsilon: Any


@dataclasses.dataclass(frozen=True)
class Ball:
    """How linear functions are minimised over a region.

    For L2 and L1 a dual variable is searched. Whatever is found, the bound holds: it is a dual one.

    Attributes:
        norm: one of `NORMS`.
        low: the least value of a pixel.
        high: the largest.
    """

    norm: Norm
    low: float
    high: float

    def region(self, pixels: Any, epsilon: Any) -> Region:
        """Make the regions around images.

        Args:
            pixels: `[n, D]` float64, inside the box.
            epsilon: `[n]` float64, the radii.

        Returns:
            The regions.
        """
        epsilon = epsilon[:, tf.newaxis]
        falls = tf.minimum(pixels - self.low, epsilon)
        return Region(pixels, falls, tf.minimum(self.high - pixels, epsilon), epsilon)

    def minimum(self, region: Region, coefficients: Any) -> Any:
        """Bound linear functions over the regions from below.

        Args:
            region: of n images.
            coefficients: `[n, m, D]` float64, or `[1, m, D]` for all images.

        Returns:
            `[n, m]`: the minima, but for what the search leaves.
        """
        at_centre = _products(coefficients, region.pixels)
        if self.norm is Norm.LINF:
            shift = (region.rises - region.falls) / 2
            reach = (region.rises + region.falls) / 2
            return (
                at_centre + _products(coefficients, shift) - _products(tf.abs(coefficients), reach)
            )
        sizes = tf.abs(coefficients)
        ranges = tf.where(
            coefficients > 0, region.falls[:, tf.newaxis], region.rises[:, tf.newaxis]
        )
        fall = (
            self._l2(sizes, ranges, region.epsilon)
            if self.norm is Norm.L2
            else self._l1(sizes, ranges, region.epsilon)
        )
        return at_centre - fall

    def inside(self, region: Region, images: Any) -> Any:
        """Draw images of the box towards the centre, until they are in the ball.

        Args:
            region: of one image.
            images: `[n, D]` float64, inside the box.

        Returns:
            The images, `[n, D]`.
        """
        moves = images - region.pixels
        length = {
            Norm.LINF: lambda: tf.reduce_max(tf.abs(moves), axis=1, keepdims=True),
            Norm.L2: lambda: tf.norm(moves, axis=1, keepdims=True),
            Norm.L1: lambda: tf.reduce_sum(tf.abs(moves), axis=1, keepdims=True),
        }[self.norm]()
        share = tf.minimum(region.epsilon / tf.maximum(length, _TINY), 1.0)
        return region.pixels + share * moves

    def _l2(self, sizes: Any, ranges: Any, epsilon: Any) -> Any:
        """Bound `max s . d` over `0 <= d <= r` and `||d|| <= epsilon` from above."""
        # There d is min(t s, r); the t that the pixels at their ends leave to the others rises.
        limit = tf.square(epsilon)[..., tf.newaxis]

        def step(t: Any) -> Any:
            ended = tf.cast(t * sizes >= ranges, sizes.dtype)
            spent = tf.reduce_sum(ended * tf.square(ranges), axis=-1, keepdims=True)
            rate = tf.reduce_sum((1 - ended) * tf.square(sizes), axis=-1, keepdims=True)
            left = tf.maximum(limit - spent, 0)
            return tf.maximum(t, tf.sqrt(left / tf.maximum(rate, _TINY)))

        t = self._search(step, tf.zeros_like(sizes[..., :1] * ranges[..., :1]))
        d = tf.minimum(t * sizes, ranges)
        excess = tf.reduce_sum(tf.square(d), axis=-1) - tf.square(epsilon)
        along = tf.reduce_sum(sizes * d, axis=-1)
        dual = along - excess / (2 * tf.maximum(t[..., 0], _TINY))
        box = tf.reduce_sum(sizes * ranges, axis=-1)
        return tf.minimum(dual, box)

    def _l1(self, sizes: Any, ranges: Any, epsilon: Any) -> Any:
        """Bound `max s . d` over `0 <= d <= r` and `sum d <= epsilon` from above."""
        # For any price p, at least 0, it is at most p epsilon + sum r max(s - p, 0).
        limit = epsilon[..., tf.newaxis]

        def step(ends: Any) -> Any:
            price = tf.reduce_mean(ends, axis=-1, keepdims=True)
            spent = tf.reduce_sum(tf.where(sizes > price, ranges, 0.0), axis=-1, keepdims=True)
            low, high = tf.split(ends, 2, axis=-1)
            above = spent > limit
            return tf.concat([tf.where(above, price, low), tf.where(above, high, price)], axis=-1)

        low = tf.zeros_like(sizes[..., :1] * ranges[..., :1])
        high = low + tf.reduce_max(sizes, axis=-1, keepdims=True)
        low, high = tf.split(self._search(step, tf.concat([low, high], axis=-1)), 2, axis=-1)
        ends = [
            price[..., 0] * epsilon + tf.reduce_sum(ranges * tf.nn.relu(sizes - price), axis=-1)
            for price in (low, high)
        ]
        return tf.minimum(*ends)

    def _search(self, step: Callable[[Any], Any], start: Any) -> Any:
        """Take steps towards the best dual variable, through which no gradient has to pass."""
        _, found = tf.while_loop(
            lambda number, _: number < _ROUNDS[self.norm],
            lambda number, value: (number + 1, step(value)),
            (tf.constant(0), tf.stop_gradient(start)),
        )
        return tf.stop_gradient(found)


def _products(coefficients: Any, pixels: Any) -> Any:
    """Multiply `[n, m, D]` or `[1, m, D]` with `[n, D]`: `[n, m]`."""
    if coefficients.shape[0] == 1:
        return tf.matmul(pixels, coefficients[0], transpose_b=True)
    return tf.linalg.matvec(coefficients, pixels)
