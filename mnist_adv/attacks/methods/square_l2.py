"""Square Attack's moves in L2: budget from one window is heaped up in another.

Andriushchenko et al., 2020, sections 3.4 and algorithm 3.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mnist_adv.tensors.lazy import tf
from mnist_adv.attacks.base import ROW, Rows
from mnist_adv.data.datasets import IMAGE_SHAPE
from mnist_adv.geometry.norms import GEOMETRY, Norm, per_image
from mnist_adv.tensors.randomness import signs, uniform

_SIDE = IMAGE_SHAPE[0]
_SMALLEST = 3  # window
_TILES = 5  # along each side, of the first guess
_TILE = _SIDE // _TILES
_AT = np.arange(ROW[-1])


def place(draws: Any, side: Any) -> tuple[Any, Any]:
    """Place a window anywhere inside the image.

    Args:
        draws: `[n, 2 or more]` in [0, 1); the first two are used.
        side: `[n]`, a whole number.

    Returns:
        Its first row and column, `[n]` each, whole numbers.
    """
    return tf.floor(draws[:, 0] * (_SIDE - side + 1)), tf.floor(draws[:, 1] * (_SIDE - side + 1))


def window(row: Any, column: Any, side: Any) -> Any:
    """Mark the pixels of a window.

    Args:
        row: `[n]`, its first.
        column: `[n]`, its first.
        side: `[n]`.

    Returns:
        `[n, *ROW]` bool.
    """
    inside: Any = True
    for at, first in ((_AT // _SIDE, row), (_AT % _SIDE, column)):
        position = tf.constant(at.reshape(1, *ROW).astype(np.float32))
        inside = inside & (position >= per_image(first)) & (position < per_image(first + side))
    return inside


def inside(rows: Rows, perturbation: Any) -> Any:
    """Give a perturbation the whole budget, then cut the image to [0, 1].

    Args:
        rows: "clean" and "epsilon" among them.
        perturbation: `[n, *ROW]`.

    Returns:
        Images `[n, *ROW]`.
    """
    full = per_image(rows["epsilon"]) * GEOMETRY[Norm.L2].steepest(perturbation)
    return tf.clip_by_value(rows["clean"] + full, 0, 1)


def tiles(keys: Any, stream: Any) -> Any:
    """Make the first guess: five times five heaps, each with a sign and a direction of its own.

    Args:
        keys: `[n, 2]` uint32.
        stream: `[n]` int32.

    Returns:
        `[n, *ROW]`, not yet of any length.
    """
    heaps = np.zeros((2, _SIDE, _SIDE), np.float32)
    number = np.full((_SIDE, _SIDE), -1)
    border = (_SIDE - _TILE * _TILES) // 2
    for index in range(_TILES**2):
        row, column = (border + _TILE * part for part in divmod(index, _TILES))
        here = slice(row, row + _TILE), slice(column, column + _TILE)
        heaps[0][here], heaps[1][here] = heap(_TILE), heap(_TILE).T
        number[here] = index
    draws = signs(keys, stream, (2, _TILES**2))
    # A pixel's draw is its tile's: a product with the tiles' indicators.
    member = tf.constant((number.ravel() == np.arange(_TILES**2)[:, np.newaxis]).astype(np.float32))
    sign, upright = (tf.reshape(draws[:, i] @ member, [-1, *ROW]) for i in (0, 1))
    straight, turned = (tf.constant(one.reshape(1, *ROW)) for one in heaps)
    return sign * tf.where(upright > 0, straight, turned)


def repaint(rows: Rows, kept: Any, side: Any, stream: Any) -> Any:
    """Take the budget of one window away and heap it up, with what is left over, in another.

    Args:
        rows: "clean", "epsilon" and "keys" among them.
        kept: the best images so far, `[n, *ROW]`.
        side: `[n]`, wanted of the windows; made odd, and at least 3.
        stream: `[n]` int32.

    Returns:
        Images `[n, *ROW]`.
    """
    side = tf.clip_by_value(side + 1 - side % 2, _SMALLEST, _SIDE - 1)
    draws = uniform(rows["keys"], stream, (6,))
    to, source = place(draws[:, :2], side), place(draws[:, 2:4], side)
    gaining, losing = window(*to, side), window(*source, side)
    away = kept - rows["clean"]
    in_gaining = tf.where(gaining, away, 0.0)
    sign = tf.where(draws[:, 4] < 0.5, -1.0, 1.0)
    shape = per_image(sign) * tf.where(gaining, _heaps(*to, side, draws[:, 5] < 0.5), 0.0)
    unit = GEOMETRY[Norm.L2].steepest
    length = GEOMETRY[Norm.L2].length
    mixed = unit(shape + unit(in_gaining))
    unused = tf.maximum(rows["epsilon"] ** 2 - length(away) ** 2, 0)
    budget = tf.sqrt(unused + length(tf.where(gaining | losing, away, 0.0)) ** 2)
    elsewhere = tf.where(losing, 0.0, away)
    return inside(rows, tf.where(gaining, per_image(budget) * mixed, elsewhere))


def heap(side: int) -> np.ndarray:
    """Make the pattern of a window: a hill beside a valley, of length 1.

    Args:
        side: at least 2.

    Returns:
        `[side, side]` float32.
    """
    upper = _hill(side // 2, side)
    lower = _hill(side - side // 2, side)
    both = np.concatenate([upper, -lower])
    found: np.ndarray = (both / np.linalg.norm(both)).astype(np.float32)
    return found


def _hill(height: int, width: int) -> np.ndarray:
    # squares around the middle, ever larger and ever flatter, one upon the other
    hill = np.zeros((height, width))
    row, column = height // 2, width // 2
    for number in range(max(row, column) + 1):
        rows = slice(max(row - number, 0), row + number + 1)
        columns = slice(max(column - number, 0), column + number + 1)
        hill[rows, columns] += 1 / (number + 1) ** 2
    found: np.ndarray = hill / np.linalg.norm(hill)
    return found


def _heaps(row: Any, column: Any, side: Any, turned: Any) -> Any:
    # The pattern of each image's window where that window lies: looked up in one table.
    table = np.zeros((_SIDE, 2, _SIDE, _SIDE), np.float32)
    for size in range(_SMALLEST, _SIDE, 2):
        table[size, 0, :size, :size] = heap(size)
        table[size, 1, :size, :size] = heap(size).T

    def whole(values: Any) -> Any:
        return tf.cast(values, tf.int32)[:, tf.newaxis]

    down = tf.clip_by_value(tf.constant(_AT // _SIDE, tf.int32) - whole(row), 0, _SIDE - 1)
    along = tf.clip_by_value(tf.constant(_AT % _SIDE, tf.int32) - whole(column), 0, _SIDE - 1)
    place_ = ((whole(side) * 2 + whole(turned)) * _SIDE + down) * _SIDE + along
    return tf.reshape(tf.gather(tf.constant(table.ravel()), place_), [-1, *ROW])
