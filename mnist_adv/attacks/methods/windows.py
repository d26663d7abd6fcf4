"""Square Attack's steps in L2: the budget of one window is spent in another.

Andriushchenko et al., 2020, sections 3.4 and algorithm 3.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from mnist_adv.attacks.task import Inputs
from mnist_adv.geometry.norms import GEOMETRY, Norm, per_image
from mnist_adv.tensors.lazy import tf
from mnist_adv.tensors.randomness import signs, uniform

_SMALLEST = 3  # window
_TILES = 5  # along each side, of the first guess


@dataclasses.dataclass(frozen=True)
class Windows:
    """Square windows of images, as masks and patterns over flat images.

    Attributes:
        shape: of an image, `(h, w, c)`.
    """

    shape: tuple[int, int, int]

    @property
    def side(self) -> int:
        """The shorter side of an image; windows are smaller."""
        return min(self.shape[:2])

    @property
    def rows(self) -> np.ndarray:
        """The row of each flat pixel, `[h * w * c]`."""
        height, width, channels = self.shape
        return np.arange(height * width * channels) // (width * channels)

    @property
    def columns(self) -> np.ndarray:
        """The column of each flat pixel, `[h * w * c]`."""
        height, width, channels = self.shape
        return np.arange(height * width * channels) // channels % width

    def per_channel(self, values: Any) -> Any:
        """Spread one number per channel over flat images.

        Args:
            values: `[n, c]`.

        Returns:
            `[n, 1, 1, h * w * c]`.
        """
        height, width, _ = self.shape
        return tf.tile(values, [1, height * width])[:, tf.newaxis, tf.newaxis]

    def place(self, draws: Any, side: Any) -> tuple[Any, Any]:
        """Place a window anywhere inside the image.

        Args:
            draws: `[n, 2 or more]` in [0, 1); the first two are used.
            side: `[n]`, a whole number.

        Returns:
            Its first row and column, `[n]` each, whole numbers.
        """
        height, width, _ = self.shape
        return (
            tf.floor(draws[:, 0] * (height - side + 1)),
            tf.floor(draws[:, 1] * (width - side + 1)),
        )

    def mark(self, row: Any, column: Any, side: Any) -> Any:
        """Mark the pixels of a window.

        Args:
            row: `[n]`, its first.
            column: `[n]`, its first.
            side: `[n]`.

        Returns:
            `[n, 1, 1, h * w * c]` bool.
        """
        inside: Any = True
        for at, first in ((self.rows, row), (self.columns, column)):
            position = tf.constant(at.reshape(1, 1, 1, -1).astype(np.float32))
            inside = inside & (position >= per_image(first)) & (position < per_image(first + side))
        return inside

    def patterns(self, row: Any, column: Any, side: Any, turned: Any) -> Any:
        """Give every window its pattern, looked up in one table.

        Args:
            row: `[n]`, of the window's first row.
            column: `[n]`, of its first column.
            side: `[n]`, odd.
            turned: `[n]` bool, whether the pattern lies on its side.

        Returns:
            `[n, 1, 1, h * w * c]`; outside the windows it means nothing.
        """
        most = self.side
        table = np.zeros((most, 2, most, most), np.float32)
        for size in range(_SMALLEST, most, 2):
            table[size, 0, :size, :size] = pattern(size)
            table[size, 1, :size, :size] = pattern(size).T

        def whole(values: Any) -> Any:
            return tf.cast(values, tf.int32)[:, tf.newaxis]

        down = tf.clip_by_value(tf.constant(self.rows, tf.int32) - whole(row), 0, most - 1)
        along = tf.clip_by_value(tf.constant(self.columns, tf.int32) - whole(column), 0, most - 1)
        place = ((whole(side) * 2 + whole(turned)) * most + down) * most + along
        return tf.gather(tf.constant(table.ravel()), place)[:, tf.newaxis, tf.newaxis]


def spend_budget(inputs: Inputs, perturbation: Any) -> Any:
    """Scale a perturbation to the whole budget, then clip the image to [0, 1].

    Args:
        inputs: "clean" and "epsilon" among them.
        perturbation: `[n, *flat]`.

    Returns:
        Images `[n, *flat]`.
    """
    full = per_image(inputs["epsilon"]) * GEOMETRY[Norm.L2].steepest(perturbation)
    return tf.clip_by_value(inputs["clean"] + full, 0, 1)


def tiles(windows: Windows, keys: Any, stream: Any) -> Any:
    """Make the first guess: tiles, each with a pattern, a sign and a direction of its own.

    Args:
        windows: of the images.
        keys: `[n, 2]` uint32.
        stream: `[n]` int32.

    Returns:
        `[n, *flat]`, not yet of any length.
    """
    height, width, channels = windows.shape
    count = max(1, min(_TILES, windows.side // 2))
    size = windows.side // count
    both = np.zeros((2, height, width), np.float32)
    number = np.full((height, width), -1)
    top, left = (height - size * count) // 2, (width - size * count) // 2
    for index in range(count**2):
        row, column = top + size * (index // count), left + size * (index % count)
        here = slice(row, row + size), slice(column, column + size)
        both[0][here], both[1][here] = pattern(size), pattern(size).T
        number[here] = index
    draws = signs(keys, stream, (2, count**2))
    # A pixel's draw is its tile's: a product with the tiles' indicators.
    spread = np.repeat(number.ravel(), channels)
    member = tf.constant((spread == np.arange(count**2)[:, np.newaxis]).astype(np.float32))
    sign, upright = ((draws[:, i] @ member)[:, tf.newaxis, tf.newaxis] for i in (0, 1))
    straight, turned = (
        tf.constant(np.repeat(one.ravel(), channels).reshape(1, 1, 1, -1)) for one in both
    )
    return sign * tf.where(upright > 0, straight, turned)


def repaint(windows: Windows, inputs: Inputs, kept: Any, side: Any, stream: Any) -> Any:
    """Take the budget of one window and spend it, with what is left over, in another.

    Args:
        windows: of the images.
        inputs: "clean", "epsilon" and "keys" among them.
        kept: the best images so far, `[n, *flat]`.
        side: `[n]`, wanted of the windows; made odd, and at least 3.
        stream: `[n]` int32.

    Returns:
        Images `[n, *flat]`.
    """
    channels = windows.shape[2]
    side = tf.clip_by_value(side + 1 - side % 2, _SMALLEST, windows.side - 1)
    draws = uniform(inputs["keys"], stream, (5 + channels,))
    to, source = windows.place(draws[:, :2], side), windows.place(draws[:, 2:4], side)
    gaining, losing = windows.mark(*to, side), windows.mark(*source, side)
    away = kept - inputs["clean"]
    in_gaining = tf.where(gaining, away, 0.0)
    drawn = tf.concat([draws[:, 4:5], draws[:, 6:]], axis=1)
    sign = windows.per_channel(tf.where(drawn < 0.5, -1.0, 1.0))
    shape = sign * tf.where(gaining, windows.patterns(*to, side, draws[:, 5] < 0.5), 0.0)
    unit, length = GEOMETRY[Norm.L2].steepest, GEOMETRY[Norm.L2].length
    mixed = unit(shape + unit(in_gaining))
    unused = tf.maximum(inputs["epsilon"] ** 2 - length(away) ** 2, 0)
    budget = tf.sqrt(unused + length(tf.where(gaining | losing, away, 0.0)) ** 2)
    elsewhere = tf.where(losing, 0.0, away)
    return spend_budget(inputs, tf.where(gaining, per_image(budget) * mixed, elsewhere))


def pattern(side: int) -> np.ndarray:
    """Make the pattern of a window: two halves of opposite sign, each largest in its middle.

    Args:
        side: at least 2.

    Returns:
        `[side, side]` float32, of L2 norm 1.
    """
    upper = _half(side // 2, side)
    lower = _half(side - side // 2, side)
    both = np.concatenate([upper, -lower])
    found: np.ndarray = (both / np.linalg.norm(both)).astype(np.float32)
    return found


def _half(height: int, width: int) -> np.ndarray:
    # Squares around the middle, ever larger and ever smaller in value, added up.
    half = np.zeros((height, width))
    row, column = height // 2, width // 2
    for number in range(max(row, column) + 1):
        rows = slice(max(row - number, 0), row + number + 1)
        columns = slice(max(column - number, 0), column + number + 1)
        half[rows, columns] += 1 / (number + 1) ** 2
    found: np.ndarray = half / np.linalg.norm(half)
    return found
