"""Values that a caller may hand over by mistake, and other forms of what is right."""

from __future__ import annotations

import decimal
import fractions
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf


class _LikeAnArray:
    """What data frames and other libraries' tensors offer to NumPy."""

    def __init__(self, values: Any) -> None:
        self._values = values

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.asarray(self._values, dtype)


class _Failing:
    """An object that fails whatever it is asked for."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise RuntimeError("no array\nin two lines")

    def __repr__(self) -> str:
        raise RuntimeError("no text")


# No argument means any of these.
JUNK: tuple[Callable[[], Any], ...] = (
    lambda: "",
    lambda: "seven",
    lambda: "x" * 5000,
    lambda: b"7",
    lambda: object(),
    list,
    lambda: [[1.0], [1.0, 2.0]],
    lambda: ["a", "b"],
    lambda: [None, 1],
    lambda: [object()],
    lambda: {"a": 1},
    lambda: {1, 2},
    lambda: 1j,
    lambda: np.array([1j, 2]),
    lambda: True,
    lambda: np.array([True, False]),
    lambda: np.array([0.5, 1], object),
    lambda: np.ma.masked_array([1, 2], [True, False]),
    lambda: float("nan"),
    lambda: [float("nan")] * 2,
    lambda: -float("inf"),
    lambda: -1,
    lambda: 10**30,
    lambda: 10**5000,
    lambda: np.zeros([0]),
    lambda: np.zeros([2, 3, 4, 5, 6]),
    lambda: np.datetime64("2020-01-01"),
    lambda: np.zeros(2, [("a", int)]),
    lambda: np.array(["1", "2"]),
    lambda: decimal.Decimal("0.3"),
    lambda: fractions.Fraction(1, 3),
    lambda: int,
    lambda: lambda: 0,
    lambda: (number for number in (1, 2)),
    lambda: tf.constant("7"),
    lambda: tf.ragged.constant([[1.0], [1.0, 2.0]]),
    lambda: tf.sparse.from_dense([[0.0, 1.0]]),
    lambda: tf.TensorSpec([2]),
    lambda: _Failing(),
    lambda: _LikeAnArray("seven"),
)

# The same numbers in other forms.
FORMS: tuple[Callable[[np.ndarray], Any], ...] = (
    lambda values: values,
    lambda values: values.tolist(),
    lambda values: tf.constant(values),
    lambda values: tf.Variable(values),
    lambda values: _LikeAnArray(values),
    lambda values: np.array(values, order="F"),
    lambda values: np.ma.masked_array(values),
    lambda values: values[::-1].copy()[::-1] if values.ndim else values,
    lambda values: values.astype(values.dtype.newbyteorder()),
    lambda values: np.concatenate([values, values])[: len(values)] if values.ndim else values[()],
)


def read_only(values: np.ndarray) -> np.ndarray:
    """An array that nobody may change."""
    values.flags.writeable = False
    return values
