"""Square Attack's steps in L2 and L1: the budget of one window is spent in another.

L2: Andriushchenko et al., 2020, sections 3.4 and algorithm 3. L1: Croce, Hein, "Mind the Box",
2021, as in their AutoAttack.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from mnist_adv.attacks.task import Inputs
from mnist_adv.geometry.norms import GEOMETRY, Norm, l1_project_in_box, per_image
from mnist_adv.tensors.lazy import tf
from mnist_adv.tensors.randomness import signs, uniform

_SMALLEST = 3  # window
_TILES = 5  # along each side, of the first guess
# The power whose sum over the pixels windows share; how fast a pattern falls from its middle.
_POWER = {Norm.L2: 2, Norm.L1: 1}
_FALL = {Norm.L2: 2, Norm.L1: 4}


@dataclasses.dataclass(frozen=True)
class Windows:
    """Square windows of images, as masks and patterns over flat images.

    Attributes:
        shape: of an image, `(h, w, c)`.
        norm: of the budget.
    """

    shape: tuple[int, int, int]
    norm: Norm

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

    def pixel(self, row: Any, column: Any, side: Any, number: Any) -> Any:
        """Find one pixel of each window.

        Args:
            row: `[n]`, of the window's first row.
            column: `[n]`, of its first column.
            side: `[n]`.
            number: int32, counted along the window's rows; channels count as pixels.

        Returns:
            Its place in a flat image, `[n]` int32, inside the image whatever the number is.
        """
        height, width, channels = self.shape
        row, column, side = (tf.cast(values, tf.int32) for values in (row, column, side))
        along = side * channels
        place = (row + number // along) * width * channels + column * channels + number % along
        return tf.minimum(place, height * width * channels - 1)

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
            table[size, 0, :size, :size] = pattern(size, self.norm)
            table[size, 1, :size, :size] = pattern(size, self.norm).T

        def whole(values: Any) -> Any:
            return tf.cast(values, tf.int32)[:, tf.newaxis]

        down = tf.clip_by_value(tf.constant(self.rows, tf.int32) - whole(row), 0, most - 1)
        along = tf.clip_by_value(tf.constant(self.columns, tf.int32) - whole(column), 0, most - 1)
        place = ((whole(side) * 2 + whole(turned)) * most + down) * most + along
        return tf.gather(tf.constant(table.ravel()), place)[:, tf.newaxis, tf.newaxis]


def spend_budget(norm: Norm, inputs: Inputs, perturbation: Any) -> Any:
    """Bring a perturbation into the budget and the image into [0, 1].

    Args:
        norm: L2: the perturbation is scaled to the whole budget, then the image clipped; L1: it is
            projected onto the ball and the box at once.
        inputs: "clean" and "epsilon" among them.
        perturbation: `[n, *flat]`.

    Returns:
        Images `[n, *flat]`.
    """
    clean, epsilon = inputs["clean"], inputs["epsilon"]
    if norm is Norm.L1:
        spent = l1_project_in_box(clean, perturbation, epsilon)
    else:
        spent = per_image(epsilon) * _unit(norm, perturbation)
    return tf.clip_by_value(clean + spent, 0, 1)


def _unit(norm: Norm, perturbation: Any) -> Any:
    return tf.math.divide_no_nan(perturbation, per_image(GEOMETRY[norm].length(perturbation)))


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
        drawn = pattern(size, windows.norm)
        both[0][here], both[1][here] = drawn, drawn.T
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
    norm, power = windows.norm, _POWER[windows.norm]
    length = GEOMETRY[norm].length
    mixed = _unit(norm, shape + _unit(norm, in_gaining))
    unused = tf.maximum(inputs["epsilon"] ** power - length(away) ** power, 0)
    freed = length(tf.where(gaining | losing, away, 0.0)) ** power
    budget = (unused + freed) ** (1 / power)
    elsewhere = tf.where(losing, 0.0, away)
    spent = tf.where(gaining, per_image(budget) * mixed, elsewhere)
    return spend_budget(norm, inputs, spent)


def pattern(side: int, norm: Norm) -> np.ndarray:
    """Make the pattern of a window: two halves of opposite sign, each largest in its middle.

    Args:
        side: at least 2.
        norm: in L1 it falls faster from its middle than in L2.

    Returns:
        `[side, side]` float32, of norm 1.
    """
    upper = _half(side // 2, side, norm)
    lower = _half(side - side // 2, side, norm)
    both = np.concatenate([upper, -lower])
    found: np.ndarray = (both / _size(both, norm)).astype(np.float32)
    return found


def _half(height: int, width: int, norm: Norm) -> np.ndarray:
    # Squares around the middle, ever larger and ever smaller in value, added up.
    half = np.zeros((height, width))
    row, column = height // 2, width // 2
    for number in range(max(row, column) + 1):
        rows = slice(max(row - number, 0), row + number + 1)
        columns = slice(max(column - number, 0), column + number + 1)
        half[rows, columns] += 1 / (number + 1) ** _FALL[norm]
    found: np.ndarray = half / _size(half, norm)
    return found


def _size(values: np.ndarray, norm: Norm) -> float:
    return float(np.linalg.norm(values.ravel(), _POWER[norm]))
