"""Backward bounds of hidden neurons, image by image, in float32 and through receptive fields.

A row of coefficients C starts as a neuron's weights and acts on what values differ from those of
one image of the region, the reference. So the errors of float32 products are small beside the
region: each is at most `t u` of the terms' absolute values (Higham, 2002), and all of them are
taken off the bounds, as everything else is that lines lose. Products are NumPy's: float32 there
is rounded to nearest on whatever machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from threadpoolctl import threadpool_limits

from mnist_adv.certification.network import Network
from mnist_adv.geometry.norms import Norm
from mnist_adv.optimum.parallel import blocks, in_parallel

UNIT = 2.0**-24
# Far more than what float32 loses of numbers near 0, of which it has fewer digits.
UNDERFLOW = 2.0**-100
# Terms that are counted beyond those of a sum: float64 numbers are rounded to float32, and such.
_MORE_TERMS = 8
_AT_ONCE = 8  # images and groups that one thread takes at a time
_MOST_ROWS, _FEWEST_ROWS = 512, 32
# By how much rows of one group may have more inputs than the first of them.
_WIDER = 1.2
# Of the search for a dual variable: where it ends, the bound holds.
_ROUNDS, _TINY = 8, 1e-300
_OUTWARD = 1 + 1e-12  # of what float64 sums
# Of the matrices that are kept for all groups of a segment's neurons.
_MOST_NUMBERS = 2**26
# How many times as many numbers a group's matrices may hold as those of the whole segments hold
# that are not 0: where more, and many, products with the segments themselves are quicker.
_MOST_TIMES, _FEW_NUMBERS = 4, 2**20


class _Hop(NamedTuple):
    """A part of a segment: what some of its outputs are, as far as they depend on its inputs.

    Attributes:
        inputs: `[i]` int64, places among all inputs.
        matrix: `[o, i]` float32; None where the outputs are the inputs.
    """

    inputs: np.ndarray
    matrix: np.ndarray | None


class _Group(NamedTuple):
    """Neurons that share a receptive field.

    Attributes:
        rows: `[r]` int64, places among the outputs of the segment.
        hops: of the segments up to theirs, from the pixels.
    """

    rows: np.ndarray
    hops: list[_Hop]


class Through(NamedTuple):
    """What lines lose and keep at a nonlinearity.

    Attributes:
        falls: `[n, size]` float32, at least 0, what the lower lines lose at the reference, and what
            errors before the nonlinearity can take of it.
        rises: `[n, size]` float32, the same of the upper lines.
        lower: slopes of the lower lines, `[n, size, window]` float32.
        upper: and of the upper ones.
        changing: `[n, size]` bool, whether a value can be another than at the reference.
    """

    falls: Any
    rises: Any
    lower: Any
    upper: Any
    changing: Any


class Deviations(NamedTuple):
    """Regions and lines, seen from one image of each region, its reference.

    Attributes:
        falls: `[n, D]` float64, the most by which pixels fall below the reference.
        rises: `[n, D]` float64, and rise above it; in L-inf the same.
        epsilon: `[n]` float64, the radius.
        through: of each nonlinearity before the neurons.
        values: `[n, size]` float64, of the neurons at the reference.
        errors: `[n, size]` float64, how far errors of the last segment can move them.
    """

    falls: Any
    rises: Any
    epsilon: Any
    through: list[Through]
    values: Any
    errors: Any


class Fields:
    """The receptive fields of a network's neurons.

    Args:
        network: as read.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._matrices: dict[int, Any] = {}
        self._groups: dict[int, list[_Group] | None] = {}

    def num_terms(self, number: int) -> int:
        """Count the terms of a product of coefficients with a segment's matrix.

        Args:
            number: of the segment.

        Returns:
            The most that are not 0.
        """
        return int((self._matrix(number) != 0).sum(axis=0).max(initial=0))

    def groups(self, number: int) -> list[_Group] | None:
        """Cut the outputs of a segment into groups that share receptive fields.

        Args:
            number: of the segment.

        Returns:
            The groups; None if their matrices would be too large.
        """
        if number not in self._groups:
            self._groups[number] = self._cut(number)
        return self._groups[number]

    def _matrix(self, number: int) -> Any:
        if number not in self._matrices:
            product = None
            for matrix, _, _ in self._network.segments[number].matrices():
                product = matrix if product is None else matrix @ product
            self._matrices[number] = scipy.sparse.csr_array(product)
        return self._matrices[number]

    def _cut(self, number: int) -> list[_Group] | None:
        matrix = self._matrix(number)
        full = sum(self._matrix(before).nnz for before in range(number))
        allowed = max(_MOST_TIMES * full, _FEW_NUMBERS)
        groups, numbers, first = [], 0, 0
        while first < matrix.shape[0]:
            last = inputs = matrix.indices[matrix.indptr[first] : matrix.indptr[first + 1]]
            most, end = _WIDER * max(1, len(inputs)), first + 1
            while end < min(first + _MOST_ROWS, matrix.shape[0]):
                row = matrix.indices[matrix.indptr[end] : matrix.indptr[end + 1]]
                if not np.array_equal(row, last):
                    last, inputs = row, np.union1d(inputs, row)
                    if end - first >= _FEWEST_ROWS and len(inputs) > most:
                        break
                end += 1
            rows = np.arange(first, end)
            limit = min(allowed + (end - first) * matrix.shape[1], _MOST_NUMBERS - numbers)
            hops = self._follow(number, rows, limit)
            if hops is None:
                return None
            numbers += sum(hop.matrix.size for hop in hops if hop.matrix is not None)
            groups.append(_Group(rows, hops))
            first = end
        return groups

    def _follow(self, number: int, outputs: np.ndarray, most: int) -> list[_Hop] | None:
        """Follow outputs of a segment back to the pixels, within so many numbers."""
        hops = []
        for before in reversed(range(number + 1)):
            part = self._matrix(before)[outputs]
            inputs = np.unique(part.indices).astype(np.int64)
            single = len(inputs) == len(outputs) and (np.diff(part.indptr) == 1).all()
            if single and (part.data == 1).all():
                inputs, dense = part.indices.astype(np.int64), None
            else:
                most -= len(outputs) * len(inputs)
                if most < 0:
                    return None
                dense = part[:, inputs].toarray().astype(np.float32)
            hops.append(_Hop(inputs, dense))
            if before:
                window = self._network.windows[before - 1]
                outputs = (inputs[:, np.newaxis] * window + np.arange(window)).reshape(-1)
        return hops[::-1]


def bound_neurons(
    groups: Sequence[_Group], deviations: Deviations, wanted: np.ndarray, norm: Norm
) -> tuple[np.ndarray, np.ndarray]:
    """Bound neurons from below and above.

    Args:
        groups: of all neurons of a segment.
        deviations: of n images.
        wanted: `[n, size]` bool, the neurons that are bounded.
        norm: of the balls.

    Returns:
        The bounds `[n, size]` float64; infinite where none is wanted.

    References:
        Zhang et al., "Efficient Neural Network Robustness Certification with General Activation
        Functions", 2018 (CROWN).
    """
    lower, upper = (np.full(wanted.shape, end) for end in (-np.inf, np.inf))
    count = len(wanted)
    lines = [
        [Through(*(each[image] for each in part)) for part in deviations.through]
        for image in range(count)
    ]

    def work(part: slice) -> None:
        for place in range(part.start, part.stop):
            image, group = place % count, groups[place // count]
            here = np.flatnonzero(wanted[image, group.rows])
            if len(here):
                rows, inputs = group.rows[here], group.hops[0].inputs
                coefficients, losses = _losses(group.hops, here, lines[image])
                most = _MOST[norm](
                    coefficients,
                    deviations.falls[image, inputs],
                    deviations.rises[image, inputs],
                    deviations.epsilon[image],
                )
                losses = (losses + most).reshape(2, -1) + deviations.errors[image, rows]
                value = deviations.values[image, rows]
                lower[image, rows], upper[image, rows] = value - losses[0], value + losses[1]

    # Images on all cores, and not their small products, whose threads would wait for one another.
    with threadpool_limits(1, "blas"):
        in_parallel(work, blocks(count * len(groups), _AT_ONCE), "neurons", progress=False)
    return lower, upper


def _losses(
    hops: Sequence[_Hop], rows: np.ndarray, lines: Sequence[Through]
) -> tuple[np.ndarray, np.ndarray]:
    """Follow neurons, and their negatives, back to the pixels.

    Returns:
        The pixels' coefficients `[2 r, i]` float32, and what was lost on the way `[2 r]`.
    """
    after = hops[-1]
    places = np.arange(len(after.inputs))
    if lines:
        places = np.flatnonzero(lines[-1].changing[after.inputs])
    identity = np.eye(len(after.inputs), dtype=np.float32)
    start = _part(identity if after.matrix is None else after.matrix, rows, places)
    coefficients = np.concatenate([start, -start])
    losses = np.zeros(len(coefficients))
    for number in reversed(range(len(lines))):
        line, inputs, before = lines[number], after.inputs[places], hops[number]
        up = np.maximum(coefficients, 0)
        down = up - coefficients
        losses += _sum(up, line.falls[inputs]) + _sum(down, line.rises[inputs])
        window = line.lower.shape[1]
        outputs = (places[:, np.newaxis] * window + np.arange(window)).reshape(-1)
        lower, upper = line.lower[inputs].reshape(-1), line.upper[inputs].reshape(-1)
        kept = np.flatnonzero((lower != 0) | (upper != 0))
        if window > 1 or len(kept) < len(lower):
            outputs, lower, upper = outputs[kept], lower[kept], upper[kept]
            up, down = up[:, kept // window], down[:, kept // window]
        coefficients = up * lower - down * upper
        places = np.arange(len(before.inputs))
        if before.matrix is None and number:
            places = outputs
        elif before.matrix is None:
            every = np.zeros((len(coefficients), len(places)), np.float32)
            every[:, outputs] = coefficients
            coefficients = every
        else:
            if number:
                places = np.flatnonzero(lines[number - 1].changing[before.inputs])
            coefficients = coefficients @ _part(before.matrix, outputs, places)
        after = before
    return coefficients, losses


def _part(matrix: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Take rows and columns of a matrix, and copy no more than that takes."""
    if len(columns) == matrix.shape[1]:
        return matrix if len(rows) == len(matrix) else matrix[rows]
    return matrix[np.ix_(rows, columns)]


def _sum(coefficients: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Multiply `[m, s]` with `[s]`, both at least 0, and round upwards."""
    share = UNIT * (len(losses) + _MORE_TERMS)
    return (coefficients @ losses).astype(np.float64) * (1 + share / (1 - share))


def _most_linf(
    coefficients: np.ndarray, falls: np.ndarray, rises: np.ndarray, epsilon: float
) -> np.ndarray:
    """Bound from above how far linear functions of the pixels fall: `[m]`."""
    # The ends are as far from the reference.
    return _sum(np.abs(coefficients), np.maximum(falls, rises).astype(np.float32))


def _most_l2(
    coefficients: np.ndarray, falls: np.ndarray, rises: np.ndarray, epsilon: float
) -> np.ndarray:
    """The same in L2, by a dual variable."""
    sizes, ranges = _moves(coefficients, falls, rises)
    # Of any t > 0 the dual is s . d + (e^2 - |d|^2) / 2t with d = min(t s, r).
    length = np.sqrt((sizes**2).sum(axis=1, keepdims=True))
    t = epsilon / np.maximum(length, _TINY)
    for _ in range(_ROUNDS):
        ended = t * sizes >= ranges
        left = np.maximum(epsilon**2 - (ended * ranges**2).sum(axis=1, keepdims=True), 0)
        rate = (~ended * sizes**2).sum(axis=1, keepdims=True)
        t = np.maximum(t, np.sqrt(left / np.maximum(rate, _TINY)))
    d = np.minimum(t * sizes, ranges)
    excess = (d**2).sum(axis=1) - epsilon**2
    dual = (sizes * d).sum(axis=1) - excess / (2 * np.maximum(t[:, 0], _TINY))
    return _OUTWARD * np.minimum(dual, (sizes * ranges).sum(axis=1))


def _most_l1(
    coefficients: np.ndarray, falls: np.ndarray, rises: np.ndarray, epsilon: float
) -> np.ndarray:
    """The same in L1, by the best price of a change."""
    sizes, ranges = _moves(coefficients, falls, rises)
    order = np.argsort(-sizes, axis=1)
    spent = np.take_along_axis(ranges, order, axis=1).cumsum(axis=1)
    place = np.minimum((spent <= epsilon).sum(axis=1, keepdims=True), sizes.shape[1] - 1)
    price = np.take_along_axis(sizes, np.take_along_axis(order, place, axis=1), axis=1)
    # Of any price p, at least 0, the dual is p e + sum r max(s - p, 0).
    dual = price[:, 0] * epsilon + (ranges * np.maximum(sizes - price, 0)).sum(axis=1)
    return _OUTWARD * np.minimum(dual, (sizes * ranges).sum(axis=1))


def _moves(
    coefficients: np.ndarray, falls: np.ndarray, rises: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Tell by how much each pixel counts, and how far it can go in the direction that lowers."""
    wide = coefficients.astype(np.float64)
    return np.abs(wide), np.where(wide > 0, falls, rises)


_MOST = {Norm.LINF: _most_linf, Norm.L2: _most_l2, Norm.L1: _most_l1}
