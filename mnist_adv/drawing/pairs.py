"""Clean images, what was added to them, and what became of them, one column each."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from mnist_adv.arguments import as_array, shown
from mnist_adv.drawing.canvas import clipped, show

_SIDE, _ABOVE, _MARGIN = 1.5, 0.42, 0.12  # inches: an image, its caption, the edge of the figure
_LEFT = 1.0  # inches for the names of the rows
_LARGEST_RATIO = 4.0  # of the sides of an image
_MOST, _LONGEST_NAME = 8, 12


class Picture(Figure):
    """A figure that a notebook shows by itself, and a prompt by its `show()`."""

    def png(self) -> bytes:
        """Draw the figure.

        Returns:
            The bytes of a PNG file.
        """
        content = io.BytesIO()
        canvas: Any = FigureCanvasAgg(self)
        canvas.print_png(content)
        return content.getvalue()

    def _repr_png_(self) -> bytes:
        return self.png()

    def show(self, warn: bool = True) -> None:
        """Open the figure in the viewer of the desktop; there is no window of matplotlib's.

        Args:
            warn: as in `Figure.show`; nothing is warned of.
        """
        Image.open(io.BytesIO(self.png())).show()


def pairs(
    clean: np.ndarray,
    adversarial: np.ndarray,
    before: Sequence[str],
    after: Sequence[str],
    between: Sequence[str],
    bounds: tuple[float, float],
) -> Picture:
    """Draw images above their perturbations (red: brighter, blue: darker) and their results.

    Args:
        clean: `[m, ...]`, m at least 1: images `[h, w, c]`, or rows of numbers, which are
            drawn as a square where their number allows it.
        adversarial: the same shape.
        before: m captions of the clean images.
        after: m captions of the adversarial ones.
        between: m captions of the perturbations.
        bounds: the values that are drawn black and white.

    Returns:
        The figure.
    """
    clean, final = _as_images(clean), _as_images(adversarial)
    change = (final - clean).mean(axis=-1)
    height, width = clean.shape[1:3]
    ratio = min(max(height / width, 1 / _LARGEST_RATIO), _LARGEST_RATIO)
    wide, high = (_SIDE, _SIDE * ratio) if ratio <= 1 else (_SIDE / ratio, _SIDE)
    wide = max(wide, 1.1)  # captions need as much
    size = _LEFT + len(clean) * (wide + _MARGIN) + _MARGIN, 3 * (high + _ABOVE) + _MARGIN
    figure = Picture(figsize=size, dpi=110)
    for row, (name, captions) in enumerate((
        ("clean", before),
        ("perturbation", between),
        ("adversarial", after),
    )):
        bottom = _MARGIN + (2 - row) * (high + _ABOVE)
        figure.text(
            (_LEFT - 0.08) / size[0], (bottom + high / 2) / size[1], name, ha="right", va="center"
        )
        for column, caption in enumerate(captions):
            left = _LEFT + column * (wide + _MARGIN)
            place = left / size[0], bottom / size[1], wide / size[0], high / size[1]
            axis = figure.add_axes(place)
            if row == 1:
                largest = float(np.abs(change[column]).max()) or 1.0
                axis.imshow(change[column], cmap="RdBu_r", vmin=-largest, vmax=largest)
                axis.set(xticks=[], yticks=[])
                for edge in axis.spines.values():
                    edge.set_color("#b0b0b0")
            else:
                values = (clean if row == 0 else final)[column]
                show(axis, np.clip((values - bounds[0]) / (bounds[1] - bounds[0]), 0, 1))
            axis.set_title(caption, fontsize=9, pad=3)
    return figure


def chosen(indices: Sequence[int] | None, count: int) -> list[int]:
    """Check which images are to be drawn.

    Args:
        indices: of images, at least one; None: the first eight.
        count: how many images there are.

    Returns:
        The indices.

    Raises:
        ValueError: there is no image, or none of such an index.
    """
    if indices is None:
        indices = range(min(count, _MOST))
    allowed = f"indices must be integers from 0 to {count - 1}, at least one"
    places = as_array(indices, "indices", "integers")
    if places.ndim != 1 or not places.size or places.dtype.kind not in "iu":
        raise ValueError(f"{allowed}. Received: {shown(indices)}")
    if not ((places >= 0) & (places < count)).all():
        raise ValueError(f"{allowed}. Received: {shown(indices)}")
    return [int(place) for place in places]


def named(class_names: Sequence[str] | None, num_classes: int) -> list[str]:
    """Check the names of classes, and cut them to the width of a column.

    Args:
        class_names: k names; None: the classes' numbers.
        num_classes: k.

    Returns:
        k names.

    Raises:
        ValueError: another number of names.
    """
    names = range(num_classes) if class_names is None else class_names
    if len(names) != num_classes:
        raise ValueError(f"class_names must be {num_classes} names. Received: {len(names)}")
    return [clipped(str(name), _LONGEST_NAME) for name in names]


def _as_images(values: np.ndarray) -> np.ndarray:
    """Bring images or rows of numbers into `[m, h, w, c]`, grey or RGB."""
    values = np.asarray(values, np.float64)
    if values.ndim != 4:
        pixels = values.reshape(len(values), -1)
        side = round(pixels.shape[1] ** 0.5)
        shape = (side, side, 1) if side * side == pixels.shape[1] else (1, pixels.shape[1], 1)
        values = pixels.reshape(-1, *shape)
    return values if values.shape[-1] in (1, 3) else values.mean(axis=-1, keepdims=True)
