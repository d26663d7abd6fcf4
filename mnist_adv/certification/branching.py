"""Branch and bound on hidden neurons of ReLU: in each case some are active, others inactive.

A neuron whose value before ReLU is given to be at least 0, or at most 0, is linear, and the product
of its value with a multiplier of that sign may be taken off a bound. Slopes and multipliers are
optimised for each case (beta-CROWN); intervals of the values are those of the whole region.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from mnist_adv.certification.blocks import blocks
from mnist_adv.certification.optimisation import optimise_case
from mnist_adv.certification.propagation import Interval, Propagation, Slopes
from mnist_adv.certification.read_model import logits_of
from mnist_adv.certification.region import Region
from mnist_adv.tensors.compilation import compiled
from mnist_adv.tensors.lazy import tf

# Cases that are bounded at one time: few, or many.
_SIZES = (16, 128)
_NUM_CANDIDATES = 4  # neurons that are tried before one of them is branched on
_NUM_STEPS, _NUM_STEPS_WHOLE = 12, 40
_MOST_CASES = 2**18
# A bound that proves: a checker that sums in another order finds it above 0, too.
ENOUGH = 1e-9


@dataclasses.dataclass(frozen=True)
class Whole:
    """What is known of all images of a region.

    Attributes:
        region: of one image.
        intervals: after every segment.
        slopes: of all nonlinearities, `[1, 1, size, window]`.
        hidden: per segment but the last, the neurons whose bounds have slopes of their own `[s]`,
            and these slopes, `[2 s, size, window]` of each nonlinearity before: of lower bounds,
            then of upper ones.
    """

    region: Region
    intervals: Sequence[Interval]
    slopes: Sequence[Slopes]
    hidden: Sequence[tuple[np.ndarray, list[Any]]] = ()


@dataclasses.dataclass(frozen=True)
class Cases:
    """Cases of margins, c in all.

    Attributes:
        rows: `[c]` int64, the margin that each is of.
        bounds: `[c]`, of it.
        signs: per nonlinearity 1 where a neuron is given to be active, -1 where inactive, else 0,
            `[c, size]` int8.
        slopes: per nonlinearity those of the lower lines, and of the upper ones but for ReLU,
            `[c, 1 or 2, size, window]` float32.
        multipliers: per nonlinearity, at least 0, `[c, size]` float32.
        candidates: `[c, s]` int64, what could be branched on, the most promising first: places in
            the row of all neurons; -1 for none.
    """

    rows: np.ndarray
    bounds: np.ndarray
    signs: list[np.ndarray]
    slopes: list[np.ndarray]
    multipliers: list[np.ndarray]
    candidates: np.ndarray

    def take(self, which: np.ndarray) -> Cases:
        """Take some of the cases.

        Args:
            which: `[s]` int64 or `[c]` bool.

        Returns:
            Them.
        """
        return Cases(
            self.rows[which],
            self.bounds[which],
            [part[which] for part in self.signs],
            [part[which] for part in self.slopes],
            [part[which] for part in self.multipliers],
            self.candidates[which],
        )


def _join(parts: Sequence[Cases]) -> Cases:
    return Cases(
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.bounds for part in parts]),
        [np.concatenate(some) for some in zip(*(part.signs for part in parts))],
        [np.concatenate(some) for some in zip(*(part.slopes for part in parts))],
        [np.concatenate(some) for some in zip(*(part.multipliers for part in parts))],
        np.concatenate([part.candidates for part in parts]),
    )


@dataclasses.dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes:
        bounds: `[m]`, of the margins.
        cases: that cover all of each margin, if they were to be kept.
        image: `[D]`, the one with the least margin that was met.
        margin: its least one.
    """

    bounds: np.ndarray
    cases: Cases | None
    image: np.ndarray
    margin: float


class Brancher:
    """Branch and bound through one network over regions of one kind, compiled once.

    Args:
        propagation: through the network.
    """

    def __init__(self, propagation: Propagation) -> None:
        self._propagation = propagation
        self._network = propagation.network
        self._compiled: set[tuple[Any, int]] = set()
        self._compiling = 0.0
        xla = not self._network.convolutions
        self._assess = compiled(self._assessed, xla=xla)
        self._raise = compiled(self._raised, xla=xla)
        self._raise_whole = compiled(
            functools.partial(self._raised, num_steps=_NUM_STEPS_WHOLE), xla=xla
        )

    def clock(self) -> float:
        """Tell seconds of a clock that stands still while programs are compiled.

        Returns:
            Them, from some moment on.
        """
        return time.monotonic() - self._compiling

    def search(
        self,
        whole: Whole,
        rows: np.ndarray,
        seconds: float,
        *,
        keep: bool = False,
        start: Search | None = None,
    ) -> Search:
        """Bound margins from below, branching until all are above 0 or time is up.

        An image with a margin below 0 ends the search, too.

        Args:
            whole: what is known of the region.
            rows: `[m, k]` float64, which make margins of logits.
            seconds: after which no more cases are branched on, but for what compiling takes; 0:
                none is.
            keep: whether the cases are wanted.
            start: an earlier search of the same, with its cases, that goes on.

        Returns:
            What was found.
        """
        end = self.clock() + seconds
        parts = [np.zeros(0)], [np.zeros((0, self._network.segments[0].in_size))]
        if start is None or start.cases is None:
            uncut = self._uncut(whole, len(rows))
            waiting = self._bounded(whole, rows, uncut, parts, self._raise_whole)
        else:
            parts = [np.array([start.margin])], [start.image[np.newaxis]]
            waiting = start.cases
        bounds, done = np.full(len(rows), np.inf), []
        while True:
            proved = waiting.bounds > ENOUGH
            if keep and proved.any():
                done.append(waiting.take(proved))
            np.minimum.at(bounds, waiting.rows[proved], waiting.bounds[proved])
            waiting = waiting.take(~proved)
            met = np.concatenate(parts[0])
            parts = [met], [np.concatenate(parts[1])]
            if len(met):
                least = met.argmin()
                parts = [met[[least]]], [parts[1][0][[least]]]
            number = len(waiting.rows)
            if not number or number > _MOST_CASES or met.min() < 0 or self.clock() >= end:
                break
            order = np.argsort(waiting.bounds)
            few = _SIZES[0] if number < _SIZES[1] // 2 else _SIZES[1]
            chosen, left = waiting.take(order[: few // 2]), waiting.take(order[few // 2 :])
            cut = self._branched(whole, rows, chosen, parts)
            after = self._bounded(whole, rows, cut, parts, self._raise)
            # What bounds a case bounds its parts.
            after = dataclasses.replace(after, bounds=np.maximum(after.bounds, cut.bounds))
            waiting = _join([left, after])
        np.minimum.at(bounds, waiting.rows, waiting.bounds)
        cases = _join([*done, waiting]) if keep else None
        return Search(bounds, cases, parts[1][0][0], float(parts[0][0][0]))

    def _uncut(self, whole: Whole, count: int) -> Cases:
        """Make one case of each margin, in which nothing is given."""
        sizes = [segment.out_size for segment in self._network.segments[:-1]]
        slopes = [
            np.repeat(
                np.stack([np.asarray(end)[0, 0] for end in self._free(kind, pair)])[None], count, 0
            )
            for kind, pair in zip(self._network.kinds, whole.slopes)
        ]
        return Cases(
            np.arange(count),
            np.full(count, -np.inf),
            [np.zeros((count, size), np.int8) for size in sizes],
            [part.astype(np.float32) for part in slopes],
            [np.zeros((count, size), np.float32) for size in sizes],
            np.full((count, _NUM_CANDIDATES), -1),
        )

    @staticmethod
    def _free(kind: str, pair: Slopes) -> Sequence[Any]:
        return pair[:1] if kind == "relu" else pair

    def _branched(self, whole: Whole, rows: np.ndarray, cases: Cases, parts: Any) -> Cases:
        """Give each case's most useful neuron either sign; a case without any stays as it is."""
        cut = cases.candidates[:, 0] >= 0
        whole_cases, cases = cases.take(~cut), cases.take(cut)
        count, tries = cases.candidates.shape
        if not count:
            return whole_cases
        repeated = cases.take(np.repeat(np.arange(count), tries))
        places = np.maximum(cases.candidates, cases.candidates[:, :1]).reshape(-1)
        gains = np.zeros((count, tries))
        for sign in (1, -1):
            tried = self._bounded(whole, rows, _given(repeated, places, sign), parts, self._assess)
            gains += np.minimum(tried.bounds, 0).reshape(count, tries)
        best = places.reshape(count, tries)[np.arange(count), gains.argmax(axis=1)]
        return _join([whole_cases, _given(cases, best, 1), _given(cases, best, -1)])

    def _bounded(
        self, whole: Whole, rows: np.ndarray, cases: Cases, parts: Any, program: Any
    ) -> Cases:
        """Bound cases, and note the images at which linear bounds are least."""
        if not len(cases.rows):
            return cases
        size = next((s for s in _SIZES if len(cases.rows) <= s), _SIZES[-1])
        found = []
        for part, kept in blocks(len(cases.rows), size):
            block, began = cases.take(part), time.monotonic()
            bounds, slopes, multipliers, candidates, margins, images = program(
                whole.region,
                list(whole.intervals),
                list(whole.slopes),
                tf.constant(rows[block.rows][:, np.newaxis]),
                [tf.constant(each) for each in block.signs],
                [tf.constant(each) for each in block.slopes],
                [tf.constant(each) for each in block.multipliers],
            )
            if (program, size) not in self._compiled:
                self._compiled.add((program, size))
                self._compiling += time.monotonic() - began
            least = int(np.asarray(margins).argmin())
            parts[0].append(np.asarray(margins)[[least]])
            parts[1].append(np.asarray(images)[[least]])
            after = dataclasses.replace(
                block,
                bounds=np.asarray(bounds),
                slopes=[np.asarray(each) for each in slopes],
                multipliers=[np.asarray(each) for each in multipliers],
                candidates=np.asarray(candidates, np.int64),
            )
            found.append(after.take(np.arange(kept)))
        return _join(found)

    def _cut(self, intervals: Any, signs: Any) -> list[Interval]:
        """Narrow intervals to what signs say."""
        narrow = []
        for interval, sign in zip(intervals, signs):
            lower = tf.where(sign > 0, tf.maximum(interval.lower, 0.0), interval.lower)
            upper = tf.where(sign < 0, tf.minimum(interval.upper, 0.0), interval.upper)
            narrow.append(Interval(lower, upper, interval.rounding))
        return [*narrow, intervals[-1]]

    def _full(self, whole_slopes: Any, signs: Any, slopes: Any) -> list[Slopes]:
        """Make slopes of all lines, in which a neuron of a given sign has its own."""
        pairs = []
        for kind, whole, sign, free in zip(self._network.kinds, whole_slopes, signs, slopes):
            free = tf.cast(free, tf.float64)
            if kind != "relu":
                pairs.append((free[:, :1], free[:, 1:]))
                continue
            sign = sign[:, tf.newaxis, :, tf.newaxis]
            pairs.append(
                tuple(
                    tf.where(
                        sign > 0, tf.ones_like(free), tf.where(sign < 0, tf.zeros_like(free), each)
                    )
                    for each in (free, whole[1])
                )
            )
        return pairs

    def _raised(
        self,
        region: Any,
        intervals: Any,
        whole_slopes: Any,
        rows: Any,
        signs: Any,
        slopes: Any,
        multipliers: Any,
        num_steps: int = _NUM_STEPS,
    ) -> Any:
        """Optimise slopes and multipliers, round them to float32, and assess what they give."""
        narrow = self._cut(intervals, signs)
        full = self._full(whole_slopes, signs, slopes)
        signed = [tf.cast(sign, tf.float64)[:, tf.newaxis] for sign in signs]
        positive = [tf.cast(each, tf.float64)[:, tf.newaxis] for each in multipliers]
        _, _, passed = self._propagation.linear(narrow, full, rows)
        sizes = [tf.reduce_max(tf.abs(each), axis=(1, 2), keepdims=True) for each in passed]
        _, best, positive = optimise_case(
            self._propagation, region, narrow, full, rows, signed, positive, sizes, num_steps
        )
        slopes = [
            tf.cast(tf.concat(self._free(kind, pair), axis=1), tf.float32)
            for kind, pair in zip(self._network.kinds, best)
        ]
        multipliers = [tf.cast(each[:, 0], tf.float32) for each in positive]
        return self._assessed(region, intervals, whole_slopes, rows, signs, slopes, multipliers)

    def _assessed(
        self,
        region: Any,
        intervals: Any,
        whole_slopes: Any,
        rows: Any,
        signs: Any,
        slopes: Any,
        multipliers: Any,
    ) -> Any:
        """Bound cases, find what to branch on, and the image at which each bound is least."""
        narrow = self._cut(intervals, signs)
        full = self._full(whole_slopes, signs, slopes)
        signed = [
            (tf.cast(sign, tf.float64) * tf.cast(each, tf.float64))[:, tf.newaxis]
            for sign, each in zip(signs, multipliers)
        ]
        total, pixels, passed = self._propagation.linear(narrow, full, rows, signed)
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            least = self._propagation.ball.minimum(region, pixels)
        bounds = (total + least)[:, 0]
        # The derivative of a minimum of linear functions is where it is attained, in L1 nearly.
        images = self._propagation.ball.inside(region, tape.gradient(least, pixels)[:, 0])
        scores = [
            self._score(kind, interval, pair[0][:, 0, :, 0], coefficients[:, 0])
            for kind, interval, pair, coefficients in zip(self._network.kinds, narrow, full, passed)
        ]
        none = tf.zeros([tf.shape(rows)[0], _NUM_CANDIDATES], tf.float64)
        best, candidates = tf.math.top_k(tf.concat([*scores, none], axis=1), _NUM_CANDIDATES)
        candidates = tf.where(best > 0, candidates, -1)
        margins = tf.reduce_sum(logits_of(self._network, images) * rows[:, 0], axis=1)
        return bounds, slopes, multipliers, candidates, margins, images

    def _score(self, kind: str, interval: Interval, slope: Any, coefficients: Any) -> Any:
        """Estimate what a bound loses by the lines of each neuron."""
        if kind != "relu":
            return tf.zeros_like(interval.lower)
        low, high = interval.lower, interval.upper
        unstable = (low < 0) & (high > 0)
        above = -low * high / tf.where(unstable, high - low, 1.0)
        below = tf.minimum((1 - slope) * high, -slope * low)
        loss = above * tf.nn.relu(-coefficients) + below * tf.nn.relu(coefficients)
        return tf.where(unstable, loss, 0.0)


def _given(cases: Cases, places: np.ndarray, sign: int) -> Cases:
    """Give one more neuron of each case a sign."""
    signs = [each.copy() for each in cases.signs]
    first = 0
    for each in signs:
        here = np.flatnonzero((places >= first) & (places < first + each.shape[1]))
        each[here, places[here] - first] = sign
        first += each.shape[1]
    return dataclasses.replace(cases, signs=signs)
