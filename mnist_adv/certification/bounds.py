"""Bounds of margins over regions of images, block by block, compiled."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from mnist_adv.certification.blocks import blocks
from mnist_adv.certification.branching import Brancher, Whole
from mnist_adv.certification.hidden import Deviations, Fields, bound_neurons
from mnist_adv.certification.method import Method
from mnist_adv.certification.optimisation import optimise
from mnist_adv.certification.propagation import Interval, Propagation, Slopes
from mnist_adv.certification.region import Region
from mnist_adv.tensors.compilation import compiled
from mnist_adv.tensors.lazy import tf

# Of coefficients that are in memory at one time, and of the rows and images among them.
_MOST_NUMBERS, _MOST_ROWS, _MOST_IMAGES = 2**23, 512, 256
_MOST_ROWS_HIDDEN = 128
# Of the optimisation of slopes, and of those for hidden neurons.
_NUM_STEPS, _NUM_STEPS_HIDDEN = 20, 10


class Bounder:
    """Bounds through one network over regions of one kind, compiled once.

    Args:
        propagation: through the network.

    Attributes:
        block: the most images that are bounded at one time.
    """

    def __init__(self, propagation: Propagation) -> None:
        self._propagation = propagation
        network = propagation.network
        widths = [segment.out_size for segment in network.segments[:-1]]
        largest = max([network.segments[0].in_size, *widths])
        rows = min(_MOST_ROWS, max(widths, default=1))
        self.block = max(1, min(_MOST_IMAGES, _MOST_NUMBERS // (rows * largest)))
        self._rows = max(1, min(_MOST_ROWS, _MOST_NUMBERS // (self.block * largest)))

        def tightened(
            region: Region, intervals: Sequence[Interval], slopes: Sequence[Slopes], index: Any
        ) -> tuple[Any, Any]:
            rows = tf.one_hot(index, intervals[-1].lower.shape[1], dtype=tf.float64)[tf.newaxis]
            lower = propagation.backward(region, intervals, slopes, rows)
            return lower, -propagation.backward(region, intervals, slopes, -rows)

        def optimised(
            region: Region, intervals: Sequence[Interval], slopes: Sequence[Slopes], rows: Any
        ) -> Any:
            return optimise(propagation, region, intervals, slopes, rows, _NUM_STEPS)

        self._fields = Fields(network)
        self._deviations: dict[int, Any] = {}
        self._first = self._compiled(lambda region: propagation.first(region))
        self._through = [
            self._compiled(functools.partial(propagation.through, number))
            for number in range(len(network.kinds))
        ]

        def refined(
            region: Region, intervals: Sequence[Interval], slopes: Sequence[Slopes], rows: Any
        ) -> tuple[Any, list[Slopes]]:
            _, best = optimise(propagation, region, intervals, slopes, rows, _NUM_STEPS_HIDDEN)
            # As a proof has them.
            rounded = [
                (tf.cast(tf.cast(lower, tf.float32), tf.float64), upper) for lower, upper in best
            ]
            return propagation.backward(region, intervals, rounded, rows), rounded

        self.brancher = Brancher(propagation)
        self._refined = self._compiled(refined)
        self._tightened = self._compiled(tightened)
        self._optimised = self._compiled(optimised)
        self._margins = {
            Method.IBP: self._compiled(
                lambda region, intervals, slopes, rows: propagation.interval_margins(
                    region, intervals, rows
                )
            ),
            Method.CROWN: self._compiled(
                lambda *arguments: propagation.backward(*arguments),
            ),
        }

    def margins(
        self, pixels: np.ndarray, labels: np.ndarray, epsilon: np.ndarray, method: Method
    ) -> np.ndarray:
        """Bound the margins of each label's logit over all others from below.

        Args:
            pixels: `[n, D]` inside the box.
            labels: `[n]` int64.
            epsilon: `[n]`, the radii, at least 0.
            method: how.

        Returns:
            `[n, k]` float64; infinite for the label itself.
        """
        num_classes = self._propagation.network.num_classes
        found = np.full((len(pixels), num_classes), np.inf)
        rows, others = margin_rows(labels, num_classes)
        # Of one size each, and of few sizes in all: programs are compiled for each.
        size = min(self.block, 2 ** max(0, len(pixels) - 1).bit_length())
        for part, kept in blocks(len(pixels), size):
            region = self._region(pixels[part], epsilon[part])
            margins = np.asarray(self._bound(region, tf.constant(rows[part]), method))
            images = part[:kept, np.newaxis]
            found[images, others[part[:kept]]] = margins[:kept]
        return found

    def intervals(self, pixels: np.ndarray, epsilon: np.ndarray) -> tuple[Region, list[Interval]]:
        """Bound the values after every segment.

        Args:
            pixels: `[n, D]` inside the box.
            epsilon: `[n]`, the radii, at least 0.

        Returns:
            The regions, and the intervals after every segment, the last by intervals alone.
        """
        region = self._region(pixels, epsilon)
        return region, self.propagate(region, Method.CROWN)[0]

    def refine(self, pixels: np.ndarray, epsilon: float) -> Whole:
        """Bound the values after every segment by slopes that are optimised for each neuron.

        Args:
            pixels: `[D]` inside the box.
            epsilon: the radius, at least 0.

        Returns:
            What is then known.
        """
        region = self._region(pixels[np.newaxis], np.array([epsilon]))
        intervals = [self._first(region)]
        slopes: list[Slopes] = []
        hidden = []
        for number, through in enumerate(self._through):
            intervals[-1] = self._tighten(number, region, intervals, slopes)
            intervals[-1], kept = self._refine(number, region, intervals, slopes)
            hidden.append(kept)
            slope, interval = through(intervals[-1])
            slopes.append(slope)
            intervals.append(interval)
        return Whole(region, intervals, slopes, hidden)

    def _refine(
        self,
        number: int,
        region: Region,
        intervals: Sequence[Interval],
        slopes: Sequence[Slopes],
    ) -> tuple[Interval, tuple[np.ndarray, list[Any]]]:
        """Optimise the slopes for the bounds of the neurons whose sign is not known."""
        found = intervals[-1]
        lower, upper = np.array(found.lower[0]), np.array(found.upper[0])
        relu = self._propagation.network.kinds[number] == "relu"
        index = np.flatnonzero(((lower < 0) & (upper > 0)) | (not relu))
        if not number or not len(index):
            return found, (np.zeros(0, np.int64), [])
        identity = np.eye(len(lower))
        rows = np.concatenate([identity[index], -identity[index]])
        bounds, kept = [], []
        for part, count in blocks(len(rows), min(_MOST_ROWS_HIDDEN, 2 * self._rows)):
            some, best = self._refined(region, intervals, slopes, tf.constant(rows[part])[None])
            bounds.append(np.asarray(some)[0, :count])
            kept.append([np.asarray(pair[0])[0, :count].astype(np.float32) for pair in best])
        below, above = np.split(np.concatenate(bounds), 2)
        lower[index] = np.maximum(lower[index], below)
        upper[index] = np.minimum(upper[index], -above)
        interval = Interval(tf.constant(lower)[None], tf.constant(upper)[None], found.rounding)
        return interval, (index, [np.concatenate(some) for some in zip(*kept)])

    def propagate(self, region: Region, method: Method) -> tuple[list[Interval], list[Slopes]]:
        """Bound the values after every segment, and choose the slopes of all nonlinearities.

        Args:
            region: of n images.
            method: how.

        Returns:
            The intervals after every segment, the last by intervals alone; and the slopes.
        """
        intervals = [self._first(region)]
        slopes: list[Slopes] = []
        for number, through in enumerate(self._through):
            if method is not Method.IBP:
                intervals[-1] = self._tighten(number, region, intervals, slopes)
            slope, interval = through(intervals[-1])
            slopes.append(slope)
            intervals.append(interval)
        return intervals, slopes

    def lines(
        self, pixels: np.ndarray, label: int, epsilon: float
    ) -> tuple[np.ndarray, list[Slopes], list[Slopes]]:
        """Bound the margins of one image, and keep the slopes that prove the bounds.

        Args:
            pixels: `[D]` inside the box.
            label: of the image.
            epsilon: the radius.

        Returns:
            The margins over the other classes `[k - 1]`; the slopes of the lines by which values
            after hidden segments are bounded, and those of each margin, `[1, 1 or k - 1, ...]`.
        """
        region = self._region(pixels[np.newaxis], np.array([epsilon]))
        rows = tf.constant(margin_rows(np.array([label]), self._propagation.network.num_classes)[0])
        intervals, shared = self.propagate(region, Method.CROWN)
        margins = np.asarray(self._margins[Method.CROWN](region, intervals, shared, rows))[0]
        if not shared or (margins > 0).all():
            return margins, shared, shared
        best, slopes = self._optimised(region, intervals, shared, rows)
        return np.asarray(best)[0], shared, slopes

    def _region(self, pixels: np.ndarray, epsilon: np.ndarray) -> Region:
        return self._propagation.ball.region(
            tf.constant(pixels, tf.float64), tf.constant(epsilon, tf.float64)
        )

    def _bound(self, region: Region, rows: Any, method: Method) -> Any:
        intervals, slopes = self.propagate(region, method)
        start = Method.IBP if method is Method.IBP else Method.CROWN
        margins = self._margins[start](region, intervals, slopes, rows)
        if method is Method.ALPHA_CROWN and slopes and (np.asarray(margins) <= 0).any():
            margins, _ = self._optimised(region, intervals, slopes, rows)
        return margins

    def _tighten(
        self,
        number: int,
        region: Region,
        intervals: Sequence[Interval],
        slopes: Sequence[Slopes],
    ) -> Interval:
        found = intervals[-1]
        if not number and self._propagation.first_is_exact:
            return found
        network = self._propagation.network
        if number and not network.segments[number].num_products:
            # Each value is one value of before, which is known as well.
            return found
        lower, upper = np.array(found.lower), np.array(found.upper)
        loose = np.full(lower.shape, True)
        if network.kinds[number] == "relu":
            # Where the next segment mixes nothing, the next intervals are no tighter than these.
            passed = network.segments[number + 1].num_products == 0
            loose = (upper > 0) & ((lower < 0) | passed)
        groups = self._fields.groups(number)
        if groups is not None:
            seen = self._deviate(number, region, intervals, slopes)
            low, high = bound_neurons(groups, seen, loose, self._propagation.ball.norm)
            # What overflowed in float32 is no number, and bounds nothing.
            lower, upper = np.fmax(lower, low), np.fmin(upper, high)
            return Interval(tf.constant(lower), tf.constant(upper), found.rounding)
        index = np.flatnonzero(loose.any(axis=0))
        for part, kept in blocks(len(index), min(self._rows, lower.shape[1])):
            ends = self._tightened(region, intervals, slopes, tf.constant(index[part]))
            low, high = (np.asarray(end)[:, :kept] for end in ends)
            chosen = index[part[:kept]]
            lower[:, chosen] = np.maximum(lower[:, chosen], low)
            upper[:, chosen] = np.minimum(upper[:, chosen], high)
        return Interval(tf.constant(lower), tf.constant(upper), found.rounding)

    def _deviate(
        self,
        number: int,
        region: Region,
        intervals: Sequence[Interval],
        slopes: Sequence[Slopes],
    ) -> Deviations:
        if number not in self._deviations:
            terms = [self._fields.num_terms(before) for before in range(number + 1)]
            self._deviations[number] = self._compiled(
                functools.partial(self._propagation.deviations, terms)
            )
        found = self._deviations[number](region, intervals, slopes)
        return tf.nest.map_structure(np.asarray, found)

    def _compiled(self, function: Any) -> Any:
        return compiled(function, xla=not self._propagation.network.convolutions)


def margin_rows(labels: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Make the rows that turn logits into margins.

    Args:
        labels: `[n]` int64.
        num_classes: k.

    Returns:
        `[n, k - 1, k]` float64, and the other classes `[n, k - 1]`.
    """
    every = np.arange(num_classes - 1)
    others = every + (every >= labels[:, np.newaxis])
    return np.eye(num_classes)[labels][:, np.newaxis] - np.eye(num_classes)[others], others
