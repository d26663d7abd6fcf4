"""A classifier as affine segments with one nonlinearity between each two of them.

Values between segments are flat, `[n, size]`: a segment shapes them as its steps need them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.sparse

from mnist_adv.tensors.lazy import tf

_ROWS = 256  # of a matrix that are computed at one time


@dataclasses.dataclass(frozen=True)
class Step:
    """An affine map of shaped values, `linear(x) + shift`.

    Attributes:
        linear: `[n, ...]` -> `[n, ...]` in float64.
        absolute: the same with the absolute value of every coefficient.
        mixes: whether an output may depend on several inputs.
        terms: the most rounded operations on the way from one input to one output; 0 for what only
            moves numbers.
        shift: that is added to each image's values; broadcasts to their shape.
        matrix: of one image's flat values, sparse, `[outputs, inputs]`; None where it is found by
            trying.
    """

    linear: Callable[[Any], Any]
    absolute: Callable[[Any], Any]
    mixes: bool = False
    terms: int = 0
    shift: np.ndarray | float = 0.0
    matrix: Callable[[], Any] | None = None

    def find_matrix(self, shape: tuple[int, ...]) -> Any:
        """Write the map without its shift as a sparse matrix.

        Args:
            shape: of one image's values before it.

        Returns:
            `[outputs, inputs]`, in float64.
        """
        if self.matrix:
            return self.matrix()
        size = int(np.prod(shape))
        if not self.mixes:
            # Each output is one input times a number, or 0.
            tried = np.stack([np.ones(size), 1.0 + np.arange(size)])
            factors, products = np.asarray(self.linear(tried.reshape(2, *shape))).reshape(2, -1)
            rows = np.flatnonzero(factors)
            columns = np.rint(products[rows] / factors[rows]).astype(np.int64) - 1
            return scipy.sparse.csr_array(
                (factors[rows], (rows, columns)), shape=(len(factors), size)
            )
        parts = []
        for first in range(0, size, _ROWS):
            some = np.arange(first, min(first + _ROWS, size))
            images = tf.reshape(tf.one_hot(some, size, dtype=tf.float64), [-1, *shape])
            outputs = np.asarray(self.linear(images))
            parts.append(scipy.sparse.csr_array(outputs.reshape(len(some), -1)))
        return scipy.sparse.vstack(parts).T.tocsr()


class Affine:
    """Affine steps one after another, as one map of flat values, `linear(x) + bias`.

    Args:
        in_shape: of one image's values before the first step.
        steps: one after another.

    Attributes:
        in_size: numbers that one image has before the segment.
        out_size: and after it.
        num_products: how many of the steps mix their inputs.
        bias: `[out_size]` float64.
    """

    def __init__(self, in_shape: Sequence[int], steps: Sequence[Step]) -> None:
        self._in_shape = tuple(in_shape)
        self._steps = tuple(steps)
        self.in_size = int(np.prod(self._in_shape))
        self.num_products = sum(step.mixes for step in self._steps)
        values = tf.zeros([1, *self._in_shape], tf.float64)
        for step in self._steps:
            values = step.linear(values) + step.shift
        self.bias = np.asarray(values).reshape(-1)
        self.out_size = self.bias.size

    def matrices(self) -> list[tuple[Any, np.ndarray, int]]:
        """Write every step as a sparse matrix.

        Returns:
            For each step the matrix `[outputs, inputs]`, the shift `[outputs]`, and its terms.
        """
        found = []
        shape = self._in_shape
        for step in self._steps:
            matrix = step.find_matrix(shape)
            shape = step.linear(tf.zeros([1, *shape], tf.float64)).shape[1:]
            shift = np.broadcast_to(step.shift, shape).reshape(-1).astype(np.float64)
            found.append((matrix, shift, step.terms))
        identity = scipy.sparse.eye_array(self.in_size, format="csr")
        return found or [(identity, np.zeros(self.in_size), 0)]

    def linear(self, values: Any) -> Any:
        """Apply the map without its bias.

        Args:
            values: `[n, in_size]` float64.

        Returns:
            `[n, out_size]`.
        """
        values = tf.reshape(values, [-1, *self._in_shape])
        for step in self._steps:
            values = step.linear(values)
        return tf.reshape(values, [-1, self.out_size])

    def transposed(self, coefficients: Any) -> Any:
        """Apply the transpose: turn coefficients of outputs into those of inputs.

        Args:
            coefficients: `[n, out_size]` float64.

        Returns:
            `[n, in_size]`.
        """
        at = tf.zeros([tf.shape(coefficients)[0], self.in_size], tf.float64)
        with tf.GradientTape() as tape:
            tape.watch(at)
            outputs = self.linear(at)
        return tf.convert_to_tensor(tape.gradient(outputs, at, coefficients))

    def radius(self, values: Any) -> Any:
        """Bound how far outputs move when each input moves by at most so much.

        Args:
            values: `[n, in_size]`, at least 0.

        Returns:
            `[n, out_size]`; exact where the steps are one product.
        """
        values = tf.reshape(values, [-1, *self._in_shape])
        for step in self._steps:
            values = step.absolute(values)
        return tf.reshape(values, [-1, self.out_size])

    def rounding(self, largest: Any, unit: float) -> Any:
        """Bound the rounding errors of the steps, in whatever order they sum.

        Each output of a step is a sum of t terms; its error is at most `t u / (1 - t u)` times the
        sum of the terms' absolute values.

        Args:
            largest: `[n, in_size]`, the most that each input's absolute value can be.
            unit: u, the unit roundoff of the arithmetic.

        Returns:
            `[n, out_size]`.

        References:
            Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 3.1.
        """
        values = tf.reshape(largest, [-1, *self._in_shape])
        errors = tf.zeros_like(values)
        for step in self._steps:
            share = step.terms * unit / (1 - step.terms * unit)
            values = step.absolute(values) + np.abs(step.shift)
            errors = step.absolute(errors) + share * values
            values += errors
        return tf.reshape(errors, [-1, self.out_size])


@dataclasses.dataclass(frozen=True)
class Network:
    """Affine segments, and the nonlinearities between them.

    Attributes:
        segments: from the pixels to the logits, at least one.
        kinds: a key of `NONLINEARITIES` after each segment but the last.
        windows: how many neighbouring inputs each output of a nonlinearity has; 1 but for a
            maximum.
        convolutions: whether there are convolutions, which run faster without XLA.
        digest: of what it was read from: equal ones are of equal networks.
    """

    segments: tuple[Affine, ...]
    kinds: tuple[str, ...]
    windows: tuple[int, ...]
    convolutions: bool
    digest: str

    @property
    def first_is_one_product(self) -> bool:
        """Whether intervals through the first segment are the tightest ones."""
        return self.segments[0].num_products <= 1

    @property
    def num_classes(self) -> int:
        """The number of logits."""
        return self.segments[-1].out_size
