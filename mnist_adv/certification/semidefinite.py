"""Semidefinite bounds of networks with one hidden layer of ReLU, over an L-inf ball and the box.

With the centre x0 of a box of half widths r, `x = x0 + r t` and t in [-1, 1]. On the way from x0 to
x the hidden neuron j is active for a share s_j, so a margin `c . relu(x W + b) + c0` is exactly

    f(x) = f(x0) + sum_ij r_i t_i W_ij c_j s_j,    0 <= s_j <= 1,

where s_j is 1 or 0 for a neuron that is active or inactive in all of the box. With
`s = (1 + v) / 2` for the others, the sum is, up to the sign of t, a quadratic form `1/2 y' M y` of
`y = (t, v, 1)`, all of whose entries lie in [-1, 1]. If `diag(d) - M` is positive semidefinite, it
is at most `sum(d) / 2`: d is the certificate, and the best d is dual to the semidefinite relaxation
of Goemans and Williamson (1995).
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import time
from collections.abc import Sequence

import numpy as np
import scipy.optimize

from mnist_adv.certification.network import Network
from mnist_adv.certification.propagation import Interval
from mnist_adv.certification.quadratic import make_certain, raise_diagonal
from mnist_adv.certification.region import Region
from mnist_adv.tensors.lazy import tf

# Of the relaxation's vectors, and of the steps to its optimum, which end where the bound is above 0
# or no longer rises by this share.
_DIMENSION, _NUM_STEPS, _NUM_STEPS_OF_PART = 40, 400, 60
_STEPS_BETWEEN_BOUNDS, _RISE = 20, 0.03
_LARGEST = 5000  # of the matrix
_PRICE = 1e3
_ROUNDOFF = 2.0**-53


@dataclasses.dataclass(frozen=True)
class Hidden:
    """A network of one hidden layer, as matrices.

    Attributes:
        weights: `[D, m]` float64.
        bias: `[m]`.
        last_weights: `[m, k]`.
        last_bias: `[k]`.
    """

    weights: np.ndarray
    bias: np.ndarray
    last_weights: np.ndarray
    last_bias: np.ndarray


@dataclasses.dataclass(frozen=True)
class Margin:
    """One margin over one box: what is to be bounded from below.

    Attributes:
        hidden: the network.
        coefficients: c, `[m]`, of the hidden neurons.
        constant: c0.
        centre: x0, `[D]`.
        radius: r, `[D]`, at least 0.
        lower: `[m]`, of the values before ReLU.
        upper: `[m]`.
    """

    hidden: Hidden
    coefficients: np.ndarray
    constant: float
    centre: np.ndarray
    radius: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A case of a proof: some hidden neurons are given to be active, others to be inactive.

    Attributes:
        neurons: `[s]` int64, those that are given.
        active: `[s]` bool, which they are.
        slopes: `[s]`, the coefficient by which the value before ReLU replaces each of them: at most
            c for an active one, at least 0 for an inactive one.
        diagonal: d, of the pixels that can move, of the neurons that may change, and of 1.
        bound: what d proves of the margin.
    """

    neurons: np.ndarray
    active: np.ndarray
    slopes: np.ndarray
    diagonal: np.ndarray
    bound: float


@dataclasses.dataclass(frozen=True)
class _Case:
    """A leaf, and from where its two parts start.

    Attributes:
        leaf: what is proved.
        free: `[f]` int64, the neurons that may be active or inactive.
        vectors: `[f, _DIMENSION]`, the relaxation's.
        branch: the place in `free` of the neuron whose value is the farthest from ReLU's.
    """

    leaf: Leaf
    free: np.ndarray
    vectors: np.ndarray
    branch: int


def as_hidden(network: Network) -> Hidden:
    """Write a network of one hidden layer as matrices.

    Args:
        network: as read.

    Returns:
        Its matrices.

    Raises:
        ValueError: it has not exactly one nonlinearity, ReLU; or is too large.
    """
    size = network.segments[0].in_size + network.segments[0].out_size
    if network.kinds != ("relu",) or size > _LARGEST:
        raise ValueError(
            f"method sdp needs one hidden layer of ReLU, with at most {_LARGEST:,} pixels and "
            f"neurons. Received: {', '.join(network.kinds) or 'a linear model'}; {size:,}"
        )
    first, last = network.segments
    weights, last_weights = (
        np.asarray(segment.transposed(tf.eye(segment.out_size, dtype=tf.float64))).T
        for segment in (first, last)
    )
    return Hidden(weights, first.bias, last_weights, last.bias)


def make_margin(
    hidden: Hidden, region: Region, intervals: Sequence[Interval], label: int, other: int
) -> Margin:
    """Set up the margin of an image's label over another class.

    Args:
        hidden: the network.
        region: of one image, L-inf.
        intervals: after both segments.
        label: whose logit is to be the larger one.
        other: class.

    Returns:
        The margin, less what rounding can take from it.
    """
    falls, rises, pixels = (
        np.asarray(values)[0] for values in (region.falls, region.rises, region.pixels)
    )
    coefficients = hidden.last_weights[:, label] - hidden.last_weights[:, other]
    first, last = (np.asarray(interval.rounding)[0] for interval in intervals)
    rounding = np.abs(coefficients) @ first + last[label] + last[other]
    return Margin(
        hidden,
        coefficients,
        float(hidden.last_bias[label] - hidden.last_bias[other] - rounding),
        pixels + (rises - falls) / 2,
        (rises + falls) / 2,
        np.asarray(intervals[0].lower)[0],
        np.asarray(intervals[0].upper)[0],
    )


def search(margin: Margin, seconds: float) -> tuple[list[Leaf], float]:
    """Bound a margin from below, branching on hidden neurons until it is above 0 or time is up.

    Args:
        margin: what is bounded.
        seconds: after which no more cases are split; 0: none is.

    Returns:
        Leaves that cover all cases, and the least of their bounds.

    References:
        Raghunathan, Steinhardt, Liang, "Certified Defenses against Adversarial Examples", 2018.
        Burer, Monteiro, "A Nonlinear Programming Algorithm for Solving Semidefinite Programs via
        Low-Rank Factorization", 2003.
    """
    end, ties = time.monotonic() + seconds, itertools.count()
    none = np.zeros(0, np.int64)
    free = free_neurons(margin, none)
    vectors = np.random.default_rng(0).normal(size=(len(free), _DIMENSION))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    case = _relax(margin, none, none.astype(bool), np.zeros(0), free, vectors)
    waiting = [(case.leaf.bound, next(ties), case)]
    while waiting[0][0] <= 0 and len(waiting[0][2].free) and time.monotonic() < end:
        _, _, case = heapq.heappop(waiting)
        for active in (False, True):
            part = _part(margin, case, active)
            heapq.heappush(waiting, (part.leaf.bound, next(ties), part))
    return [case.leaf for _, _, case in waiting], waiting[0][0]


def _part(margin: Margin, case: _Case, active: bool) -> _Case:
    """Bound a margin in one of the two parts of a case."""
    neuron = case.free[case.branch]
    place = case.leaf.neurons.searchsorted(neuron)
    slope = margin.coefficients[neuron] if active else 0.0
    return _relax(
        margin,
        np.insert(case.leaf.neurons, place, neuron),
        np.insert(case.leaf.active, place, active),
        np.insert(case.leaf.slopes, place, slope),
        np.delete(case.free, case.branch),
        np.delete(case.vectors, case.branch, axis=0),
    )


def _relax(
    margin: Margin,
    neurons: np.ndarray,
    active: np.ndarray,
    slopes: np.ndarray,
    free: np.ndarray,
    vectors: np.ndarray,
) -> _Case:
    """Bound a margin in one case, from where the case that it is a part of has ended."""
    c = margin.coefficients[neurons]
    moving = margin.radius > 0
    reach = margin.hidden.weights[moving] * margin.radius[moving, np.newaxis]
    if not len(free):
        slopes = _best_slopes(margin, neurons, active)
    product = reach[:, free] * (margin.coefficients[free] / 2)
    before = margin.centre @ margin.hidden.weights + margin.hidden.bias
    best, found, step = -np.inf, (slopes, np.zeros(0)), 0.0  # the last: of the slopes
    for number in range(1, (_NUM_STEPS_OF_PART if len(neurons) else _NUM_STEPS) + 1):
        linear = _linear(margin, neurons, slopes, free)[moving]
        sums = product @ vectors
        sums[:, 0] += linear
        of_pixels = np.linalg.norm(sums, axis=1)
        pixels = sums / np.maximum(of_pixels, 1e-300)[:, np.newaxis]
        sums = product.T @ pixels
        of_neurons = np.linalg.norm(sums, axis=1)
        vectors = sums / np.maximum(of_neurons, 1e-300)[:, np.newaxis]
        if number % _STEPS_BETWEEN_BOUNDS == 0:
            diagonal = np.concatenate([of_pixels, of_neurons, [max(linear @ pixels[:, 0], 0.0)]])
            diagonal = raise_diagonal(product, linear, diagonal)
            bound, last = _bound(margin, neurons, slopes, diagonal), best
            if bound > last:
                best, found = bound, (slopes, diagonal)
            if bound > 0 or bound - last <= _RISE * abs(bound) or not len(free):
                break
        if number % 10 == 0 and len(neurons) and len(free):
            # Where the relaxation's image breaks a given sign, the slope pays for it.
            at = before[neurons] - pixels[:, 0] @ reach[:, neurons]
            most = max(float(np.abs(at).max()), 1e-9)
            step = step or 0.3 * float(np.abs(margin.coefficients).max()) / most
            slopes = slopes + step * at
            slopes = np.where(active, np.minimum(slopes, c), np.maximum(slopes, 0.0))
            step *= 0.9
    slopes, diagonal = found
    linear = _linear(margin, neurons, slopes, free)[moving]
    diagonal = make_certain(product, linear, diagonal)
    leaf = Leaf(neurons, active, slopes, diagonal, _bound(margin, neurons, slopes, diagonal))
    # The relaxation's value of a neuron, times c, and ReLU's at its image.
    c = margin.coefficients[free]
    relaxed = c * np.maximum(before[free], 0) - sums[:, 0] - of_neurons
    doubt = np.abs(relaxed - c * np.maximum(before[free] - 2 * sums[:, 0] / c, 0))
    return _Case(leaf, free, vectors, int(doubt.argmax()) if len(free) else -1)


def _bound(margin: Margin, neurons: np.ndarray, slopes: np.ndarray, diagonal: np.ndarray) -> float:
    at_centre = value_at_centre(margin, neurons, slopes)
    return float(at_centre - diagonal.sum() / 2 - own_rounding(margin))


def _best_slopes(margin: Margin, neurons: np.ndarray, active: np.ndarray) -> np.ndarray:
    """Find the best lines where no neuron is free: a linear program, or its dual, says them."""
    hidden, c = margin.hidden, margin.coefficients
    share = np.where(margin.lower >= 0, c, 0.0)
    share[neurons] = np.where(active, c[neurons], 0.0)
    sign = np.where(active, -1.0, 1.0)
    size = len(margin.centre)
    # Where no image is such a case, one more variable lets it break the signs, at a price.
    price = _PRICE * max(float(np.abs(c).max()), 1.0)
    ends = np.stack([margin.centre - margin.radius, margin.centre + margin.radius], axis=1)
    answer = scipy.optimize.linprog(
        np.append(hidden.weights @ share, price),
        np.concatenate([sign * hidden.weights[:, neurons], -np.ones((1, len(neurons)))]).T,
        -sign * hidden.bias[neurons],
        bounds=np.concatenate([ends, [[0, np.inf]]]).reshape(size + 1, 2),
    )
    paid = np.zeros(len(neurons)) if answer.x is None else -answer.ineqlin.marginals
    return share[neurons] + sign * np.maximum(paid, 0)


def free_neurons(margin: Margin, neurons: np.ndarray) -> np.ndarray:
    """List the neurons that may be active or inactive.

    Args:
        margin: what is bounded.
        neurons: those that are given.

    Returns:
        Their numbers, rising.
    """
    unstable = (margin.lower < 0) & (margin.upper > 0) & (margin.coefficients != 0)
    unstable[neurons] = False
    return np.flatnonzero(unstable)


def _linear(
    margin: Margin, neurons: np.ndarray, slopes: np.ndarray, free: np.ndarray
) -> np.ndarray:
    """Sum what the margin gains by each pixel's t, but for the products with v."""
    share = np.where(margin.lower >= 0, margin.coefficients, 0.0)
    share[free] = margin.coefficients[free] / 2
    share[neurons] = slopes
    return (margin.hidden.weights @ share) * margin.radius


def value_at_centre(margin: Margin, neurons: np.ndarray, slopes: np.ndarray) -> float:
    """Compute the margin at the centre, with the given neurons replaced by lines.

    Args:
        margin: what is bounded.
        neurons: those that are given.
        slopes: of their lines.

    Returns:
        The value.
    """
    before = margin.centre @ margin.hidden.weights + margin.hidden.bias
    after = np.maximum(before, 0) * margin.coefficients
    after[neurons] = slopes * before[neurons]
    return float(after.sum() + margin.constant)


def own_rounding(margin: Margin) -> float:
    """Bound the rounding errors of the quadratic form's entries, by what they can add to it.

    Args:
        margin: what is bounded.

    Returns:
        The bound.
    """
    sizes = margin.radius @ np.abs(margin.hidden.weights) @ np.abs(margin.coefficients)
    return float(4 * sum(margin.hidden.weights.shape) * _ROUNDOFF * sizes)
