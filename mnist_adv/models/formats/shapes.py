"""The shape of images in model files, and how messages list shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

# Height, width and channels of the images whose models are read and written.
IMAGE_SHAPE = (28, 28, 1)
NUM_PIXELS = math.prod(IMAGE_SHAPE)

_MOST_LISTED = 12


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
