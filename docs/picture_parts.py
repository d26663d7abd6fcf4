"""What the pictures of the tour are made of: figures, grey images, signed images, and their PNGs.

One meaning of colour in all of them: red is brighter, blue is darker. On weights and gradients, red
marks pixels that should be brighter for the digit in question; on a change, pixels made brighter.
No line, bar or frame is red or blue. Words stand in the captions, which every language has.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageFilter
from PIL.PngImagePlugin import PngInfo

WIDTH = 8.0  # inches
GREEN, PURPLE, GREY = "#2ca02c", "#7b3294", "#7f7f7f"
_DPI = 100  # times WIDTH: as wide as a README is shown
_COLOURS = 255
_TITLES = "Description"
_VISIBLE = 3.0  # grey levels of 255, on average


def alike(first: bytes, second: bytes) -> bool:
    """Compare two pictures as a short-sighted eye does.

    Versions of matplotlib set letters, and round edges to whole pixels, in ways of their own.

    Args:
        first: a PNG.
        second: another.

    Returns:
        Whether they have one size and, blurred, differ little in their grey levels on average.
    """
    blur = ImageFilter.BoxBlur(3)
    one, two = (Image.open(io.BytesIO(content)) for content in (first, second))
    if one.size != two.size:
        return False
    levels = [np.asarray(image.convert("RGB").filter(blur), float) for image in (one, two)]
    difference = levels[0] - levels[1]
    return float(np.abs(difference).mean()) < _VISIBLE


def titles(content: bytes) -> str:
    """Read the titles and scales of a picture's parts, which `png` has noted in its file.

    Args:
        content: a PNG.

    Returns:
        A title and the numbers of its colour bar per part, separated by semicolons.
    """
    return str(Image.open(io.BytesIO(content)).info[_TITLES])


def png(figure: Figure) -> bytes:
    """Encode a figure, its titles noted in the file.

    Args:
        figure: drawn or not.

    Returns:
        PNG.
    """
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    notes = PngInfo()
    notes.add_text(_TITLES, "; ".join(_words(axes) for axes in figure.axes))
    content = io.BytesIO()
    drawn.quantize(_COLOURS, dither=Image.Dither.NONE).save(
        content, "PNG", optimize=True, pnginfo=notes
    )
    return content.getvalue()


def _words(axes: Axes) -> str:
    bars = [label.get_text() for bar in axes.child_axes for label in bar.get_yticklabels()]
    return " ".join([axes.get_title(), *bars])


def new_figure(
    height: float,
    *,
    left: float = 0.1,
    right: float = 0.1,
    bottom: float = 0.1,
    wspace: float = 0.1,
    hspace: float = 0.22,
) -> Figure:
    """Make a figure as wide as the page, with margins that no version of matplotlib changes.

    Args:
        height: inches.
        left: margin, inches.
        right: margin, inches.
        bottom: margin, inches.
        wspace: between columns, in widths of one.
        hspace: between rows, in heights of one.

    Returns:
        The figure, without axes.
    """
    figure = Figure(figsize=(WIDTH, height), dpi=_DPI)
    figure.subplots_adjust(
        left=left / WIDTH,
        right=1 - right / WIDTH,
        bottom=bottom / height,
        top=1 - 0.35 / height,
        wspace=wspace,
        hspace=hspace,
    )
    return figure


def grey(axes: Axes, image: np.ndarray, title: str = "") -> Any:
    """Show an image, 0 black and 1 white.

    Args:
        axes: where.
        image: 784 numbers.
        title: above it.

    Returns:
        What a colour bar takes.
    """
    shown = axes.imshow(np.reshape(image, (28, 28)), cmap="gray", vmin=0, vmax=1)
    axes.set_title(title, y=1)  # else a tall colour bar lifts it
    axes.set(xticks=[], yticks=[])
    return shown


def signed(
    axes: Axes, values: np.ndarray, title: str = "", *, limit: float | None = None, bar: bool = True
) -> Any:
    """Show numbers of either sign, red above 0, blue below.

    Args:
        axes: where.
        values: 784 numbers.
        title: above them.
        limit: the size of the deepest colours; the largest of them if None.
        bar: whether a colour bar stands beside them.

    Returns:
        What a colour bar takes.
    """
    limit = float(np.abs(values).max()) if limit is None else limit
    shown = axes.imshow(np.reshape(values, (28, 28)), cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes.set_title(title, y=1)
    axes.set(xticks=[], yticks=[])
    if bar:
        colour_bar(axes, shown)
    return shown


def colour_bar(
    axes: Axes, shown: Any, *, place: tuple[float, float, float, float] | None = None
) -> None:
    """Put a colour bar with three numbers beside axes.

    Args:
        axes: beside which.
        shown: what `grey` or `signed` gave.
        place: left, bottom, width and height in the units of the axes; at their right if None.
    """
    beside = axes.inset_axes(place or (1.03, 0, 0.05, 1))
    low, high = shown.get_clim()
    beside.figure.colorbar(shown, cax=beside, ticks=[low, (low + high) / 2, high])
    beside.set_yticklabels([_short(low), _short((low + high) / 2), _short(high)], fontsize=8)


def _short(value: float) -> str:
    if value == 0 or abs(value) >= 0.01:
        return f"{value:.3g}"
    return f"{value:.0e}".replace("e-0", "e-")
