"""The smallest margins of a linear classifier inside ball and box, to be trained on.

The margin of label y over class k at x + d is `m + u . d` with `u = w_y - w_k`. Its minimum over
`||d|| <= epsilon` and `0 <= x + d <= 1` needs only pixels that move against u: each can fall by x
where u > 0, and rise by 1 - x where u < 0. Every norm is one row of the table at the end:

- L-inf, exact: each pixel moves by epsilon, or to the end of its range.
- L2, a lower bound: pixels with next to no range move to its end, for the others Hoelder's
  inequality. On MNIST it takes 0.3 to 0.7 % more from a margin than the exact minimum.
- L1, exact: the pixels with the largest |u| move to the ends of their ranges, until epsilon is
  spent. What is left after the strongest is counted at the last one's |u|, a lower bound.

`optimum/` measures robust accuracy with code of its own, in float64, exact in every norm.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mnist_adv.geometry.norms import Norm
from mnist_adv.tensors.lazy import tf

# Below it a length counts as zero: the root has no finite derivative there.
_TINY = 1e-12


@dataclasses.dataclass(frozen=True)
class _Pairs:
    """The K (K - 1) / 2 pairs of classes j < k, each once: u only changes its sign with the order.

    Attributes:
        differences: u of each pair, `[D, P]`.
        rows: `[n, K]` int32, the pair of each image's label and class k; any for the label itself.
        signs: `[n, K]`: 1 where the label comes first in the pair, -1 where second, 0 for itself.
    """

    differences: Any
    rows: Any
    signs: Any


def worst_margins(
    norm: Norm, weights: Any, bias: Any, pixels: Any, labels: Any, epsilon: Any, largest: float
) -> Any:
    """Bound each image's margins over all other classes inside ball and box from below.

    Args:
        norm: a key of `WORST_MARGINS`.
        weights: `[D, K]` float.
        bias: `[K]`.
        pixels: `[n, D]` in [0, 1].
        labels: `[n]` int32.
        epsilon: scalar tensor, the radius, from 0 to `largest`.
        largest: the largest radius that will be asked for.

    Returns:
        `[n, K]`, differentiable in weights and bias; 0 for the label itself.
    """
    pairs = _pairs(weights, labels)
    losses = WORST_MARGINS[norm](pairs, pixels, epsilon, largest)
    return _margins(pixels @ weights + bias, labels) - tf.abs(pairs.signs) * losses


def margins_in_box(weights: Any, bias: Any, lower: Any, upper: Any, labels: Any) -> Any:
    """Find the smallest margins over all other classes inside a box of inputs per image.

    Args:
        weights: `[D, K]` float.
        bias: `[K]`.
        lower: `[n, D]`, the least inputs.
        upper: `[n, D]`, the largest.
        labels: `[n]` integers.

    Returns:
        `[n, K]`, differentiable in all but the labels; 0 for the label itself.
    """
    pairs = _pairs(weights, labels)
    radius = (upper - lower) / 2
    losses = _of_pairs(pairs, radius @ tf.abs(pairs.differences))
    return _margins((lower + upper) / 2 @ weights + bias, labels) - tf.abs(pairs.signs) * losses


def _pairs(weights: Any, labels: Any) -> _Pairs:
    num_classes = weights.shape[1]
    pairs = list(itertools.combinations(range(num_classes), 2))
    row = np.zeros([num_classes, num_classes], np.int32)
    for number, (first, second) in enumerate(pairs):
        row[first, second] = row[second, first] = number
    sign = np.sign(np.arange(num_classes) - np.arange(num_classes)[:, np.newaxis])
    first, second = np.array(pairs).T
    return _Pairs(
        differences=tf.gather(weights, first, axis=1) - tf.gather(weights, second, axis=1),
        rows=tf.gather(row, labels),
        signs=tf.gather(tf.constant(sign, weights.dtype), labels),
    )


def _margins(logits: Any, labels: Any) -> Any:
    return tf.gather(logits, labels, batch_dims=1)[:, tf.newaxis] - logits


def _of_pairs(pairs: _Pairs, even: Any, odd: Any = None) -> Any:
    """Pick each image's pairs of values `[n, P]`, of which the odd ones change sign with u."""
    picked = tf.gather(even, pairs.rows, batch_dims=1)
    if odd is not None:
        picked += tf.gather(odd, pairs.rows, batch_dims=1) * pairs.signs
    return picked


def _sum_of(pairs: _Pairs, fall: Any, rise: Any) -> Any:
    """Compute `sum fall max(u, 0) + rise max(-u, 0)`, as what is even in u and what is odd."""
    even = ((fall + rise) / 2) @ tf.abs(pairs.differences)
    return _of_pairs(pairs, even, ((fall - rise) / 2) @ pairs.differences)


def _linf(pairs: _Pairs, pixels: Any, epsilon: Any, largest: float) -> Any:
    return _sum_of(pairs, tf.minimum(pixels, epsilon), tf.minimum(1 - pixels, epsilon))


def _l2(pairs: _Pairs, pixels: Any, epsilon: Any, largest: float) -> Any:
    # Any split of the pixels is a bound. Without a box, a pixel's mean share of the perturbation
    # is epsilon / sqrt(D): with less range than that, most move to their ends.
    share = epsilon / math.sqrt(pixels.shape[1])
    falls, rises = (tf.cast(side > share, pixels.dtype) for side in (pixels, 1 - pixels))
    to_ends = _sum_of(pairs, (1 - falls) * pixels, (1 - rises) * (1 - pixels))
    differences = pairs.differences
    even = ((falls + rises) / 2) @ tf.square(differences)
    odd = ((falls - rises) / 2) @ (differences * tf.abs(differences))
    return to_ends + epsilon * tf.sqrt(tf.maximum(_of_pairs(pairs, even, odd), _TINY))


def _l1(pairs: _Pairs, pixels: Any, epsilon: Any, largest: float) -> Any:
    # A pixel can move by half its range on average: so many spend epsilon, with room to spare.
    count = min(pixels.shape[1], 32 + 4 * math.ceil(min(largest, pixels.shape[1])))
    rows = tf.transpose(pairs.differences)
    order = tf.math.top_k(tf.abs(rows), count).indices
    strongest = tf.gather(rows, order, batch_dims=1)
    signed = tf.gather(strongest, pairs.rows) * pairs.signs[..., tf.newaxis]
    values = tf.gather(pixels, tf.gather(order, pairs.rows), batch_dims=1)
    ranges = tf.where(signed > 0, values, 1 - values)
    left = epsilon - tf.cumsum(ranges, axis=-1, exclusive=True)
    moves = tf.minimum(tf.maximum(left, 0), ranges)
    sizes = tf.abs(signed)
    spent = tf.reduce_sum(sizes * moves, axis=-1)
    if count == pixels.shape[1]:
        return spent
    return spent + tf.maximum(left[..., -1] - ranges[..., -1], 0) * sizes[..., -1]


WORST_MARGINS: dict[Norm, Callable[[_Pairs, Any, Any, float], Any]] = {
    Norm.LINF: _linf,
    Norm.L2: _l2,
    Norm.L1: _l1,
}
