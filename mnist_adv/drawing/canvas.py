"""What figures are made of: images in them, their captions, and their pixels as PNG.

Figures are drawn without pyplot, so nothing global is touched and no window is ever opened.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

_DPI = 110


def png(pixels: np.ndarray) -> bytes:
    """Encode an image as PNG.

    Args:
        pixels: `[height, width]`, `[height, width, 1]` or `[height, width, 3]` uint8.

    Returns:
        The file's bytes.
    """
    content = io.BytesIO()
    Image.fromarray(without_grey_channel(pixels)).save(content, "PNG", compress_level=3)
    return content.getvalue()


def rasterise(figure: Figure) -> np.ndarray:
    """Draw a figure.

    Args:
        figure: with its axes.

    Returns:
        `[height, width, 3]` uint8.
    """
    figure.set_dpi(_DPI)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def without_grey_channel(pixels: np.ndarray) -> np.ndarray:
    """Bring an image into the form that drawing libraries take.

    Args:
        pixels: `[height, width]`, `[height, width, 1]` or `[height, width, 3]`.

    Returns:
        `[height, width]` if it is grey, else `[height, width, 3]`.
    """
    return pixels[..., 0] if pixels.shape[2:] == (1,) else pixels


def seen(probabilities: np.ndarray, class_names: Sequence[str]) -> str:
    """Name the model's prediction.

    Args:
        probabilities: `[k]`.
        class_names: k names.

    Returns:
        The class with its probability: "7 (99.6%)".
    """
    prediction = int(probabilities.argmax())
    return f"{class_names[prediction]} ({probabilities[prediction]:.1%})"


def clipped(text: str, length: int) -> str:
    """Cut a text that is too long for its place in a picture.

    Args:
        text: of any length.
        length: most characters that are shown.

    Returns:
        The text, or its beginning and a sign of omission.
    """
    return text if len(text) <= length else f"{text[: length - 1]}…"


def show(axis: Any, image: np.ndarray) -> None:
    """Show an image, grey or in colours.

    Args:
        axis: where.
        image: `[height, width, c]` in [0, 1].
    """
    axis.imshow(without_grey_channel(image), cmap="gray", vmin=0, vmax=1)
    axis.set_axis_off()
