"""The shapes of images that models take, and how messages list shapes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from mnist_adv.data.images import Shape
from mnist_adv.tensors.lazy import tf

MNIST_SHAPE: Shape = (28, 28, 1)

_GREY_OR_COLOUR = (1, 3)
_MOST_LISTED = 12


@dataclasses.dataclass(frozen=True)
class Layout:
    """How images `[n, h, w, c]` become the inputs of a model.

    Attributes:
        shape: of an image, `(h, w, c)`.
        inputs: shape of what the model takes of one image.
        channels_first: whether that is `(c, h, w)`, as PyTorch has it.
    """

    shape: Shape
    inputs: tuple[int, ...]
    channels_first: bool = False

    def arrange(self, images: Any) -> Any:
        """Bring images into the form that the model takes.

        Args:
            images: `[n, h, w, c]`.

        Returns:
            `[n, *inputs]`.
        """
        if self.channels_first:
            return tf.transpose(images, [0, 3, 1, 2])
        return tf.reshape(images, [-1, *self.inputs])


def find_layout(inputs: Sequence[int | None] | None, hint: Shape | None, where: str) -> Layout:
    """Find the shape of the images that a model takes.

    Args:
        inputs: shape of what the model takes of one image: `[pixels]`, with or without lengths of 1
            beside them, `[h, w]`, `[h, w, c]` or `[c, h, w]`; None in it where any length is taken,
            or for an unknown shape.
        hint: `(h, w, c)` of the images at hand, where the model leaves a choice; None: there are
            none.
        where: the model, for the message.

    Returns:
        The shape, and how images become inputs. Pixels in one row are of the hint's shape if they
        are as many, else of a square, grey or coloured.

    Raises:
        ValueError: they cannot be images, or nothing says of which size.
    """
    given = None if inputs is None else tuple(inputs)
    found = None if given is None else _layout(given, hint)
    if found is None:
        received = "unknown inputs" if given is None else listed(given) or "one number for an image"
        sizes = "" if hint is None else f" and images {listed(hint)}"
        raise ValueError(
            f"{where} must take images [h, w], [h, w, c] or [c, h, w] of a known size, or their "
            f"pixels in one row; where it takes several, the data set says which. Received: a "
            f"model of {received}{sizes}"
        )
    return found


def _layout(inputs: tuple[int | None, ...], hint: Shape | None) -> Layout | None:
    long = [length for length in inputs if length != 1] or [1]
    if len(inputs) == 1 or (1 in inputs and len(long) == 1):
        shape = _of_row(long[0], hint)
        if shape is not None:
            row = [math.prod(shape) if length == long[0] else 1 for length in inputs]
            return Layout(shape, tuple(row))
        if len(inputs) < 3:
            return None
    if len(inputs) == 2:
        filled = _filled(inputs, hint and hint[:2])
        return Layout((filled[0], filled[1], 1), filled) if filled else None
    if len(inputs) != 3:
        return None
    first = inputs[0] in _GREY_OR_COLOUR and inputs[2] not in _GREY_OR_COLOUR
    filled = _filled(inputs, (hint[2], *hint[:2]) if hint and first else hint)
    if filled is None:
        return None
    one, two, three = filled
    return Layout((two, three, one) if first else (one, two, three), filled, first)


def _of_row(pixels: int | None, hint: Shape | None) -> Shape | None:
    if hint is not None and pixels in (None, math.prod(hint)):
        return hint
    for channels in _GREY_OR_COLOUR if pixels else ():
        side = math.isqrt((pixels or 0) // channels)
        if side * side * channels == pixels:
            return (side, side, channels)
    return None


def _filled(
    inputs: tuple[int | None, ...], known: tuple[int, ...] | None
) -> tuple[int, ...] | None:
    """Put known lengths where any is taken."""
    lengths = [have if length is None else length for length, have in zip(inputs, known or inputs)]
    filled = tuple(length for length in lengths if length)
    return filled if len(filled) == len(inputs) else None


def listed(shape: Sequence[int | None]) -> str:
    """Write a shape.

    Args:
        shape: its lengths.

    Returns:
        "32 x 32 x 3"; "any" for a length that is not known.
    """
    return " x ".join("any" if length is None else str(int(length)) for length in shape)


def listing(shapes: Mapping[str, Sequence[int]]) -> str:
    """List variables by name and shape, in one line.

    Args:
        shapes: name -> shape.

    Returns:
        "W [784, 10], b [10]"; a long list is cut, and says so.
    """
    # A name from a file may hold anything, control characters for the terminal among it.
    shown = [
        f"{name if name.isprintable() else ascii(name)} {list(map(int, shape))}"
        for name, shape in sorted(shapes.items())
    ]
    more = len(shown) - _MOST_LISTED
    return ", ".join(shown[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "") or "nothing"
