"""Convert any picture of a digit to the form of MNIST.

LeCun et al. (1998): the ink is bright on black, size-normalised into 20 x 20 pixels with its
aspect ratio kept, and centred by its centre of mass in 28 x 28.
"""

from __future__ import annotations

import dataclasses
import os

import numpy as np
from PIL import Image

from mnist_adv.arguments import as_path
from mnist_adv.data.pictures import open_picture

_SIDE = 28
_INK_SIDE = 20
# Weaker marks are paper, shadow and JPEG ringing.
_FAINTEST = 0.15


@dataclasses.dataclass(frozen=True)
class Digit:
    """A picture in MNIST's form.

    Attributes:
        levels: `[28, 28, 1]` uint8, ink bright on black.
        done: what was done to the picture, one phrase each.
    """

    levels: np.ndarray
    done: tuple[str, ...]


def read_digit(path: str | os.PathLike[str]) -> Digit:
    """Read a PNG or JPEG picture of one digit.

    A picture that is 28 x 28 already keeps its pixels (inverted if its ink is dark), so that an
    image saved by this package comes back as it was.

    Args:
        path: the file.

    Returns:
        The digit and what was done to it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no readable picture, or there is no ink on it.

    Example:
        >>> import pathlib, tempfile
        >>> import numpy as np
        >>> from PIL import Image
        >>> import mnist_adv
        >>> paper = np.full([100, 100], 255, "uint8")
        >>> paper[20:80, 45:55] = 0
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "one.png"
        ...     Image.fromarray(paper).save(path)
        ...     digit = mnist_adv.read_digit(path)
        >>> digit.levels.shape, digit.done[1]
        ((28, 28, 1), 'inverted (the ink was dark)')
    """
    grey = _read_grey(as_path(path, "path"))
    done = [f"read {grey.shape[1]} x {grey.shape[0]} pixels"]
    border = np.concatenate([grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]])
    paper = float(np.median(border))
    if paper > 127:
        grey, paper = 255 - grey, 255 - paper
        done.append("inverted (the ink was dark)")
    if grey.shape == (_SIDE, _SIDE):
        done.append("kept at 28 x 28")
        return Digit(np.rint(grey).astype(np.uint8)[..., np.newaxis], tuple(done))
    ink = np.clip(grey - paper, 0, None)
    if ink.max() < 255 * _FAINTEST:
        raise ValueError(f"{path} shows no digit: all of it is as dark as its border")
    ink /= ink.max()
    ink[ink < _FAINTEST] = 0
    done.append("stretched the contrast")
    small = _fit(ink)
    done.append(f"fitted the ink into 20 x 20 ({small.shape[1]} x {small.shape[0]})")
    done.append("centred it by mass")
    levels = np.rint(255 * _centre(small)).astype(np.uint8)
    return Digit(levels[..., np.newaxis], tuple(done))


def _read_grey(path: str | os.PathLike[str]) -> np.ndarray:
    with open_picture(path) as upright:
        if upright.mode.startswith("I"):  # 16-bit grey, which convert("L") would clip
            return np.asarray(upright, np.float64) / 257
        coloured = upright.convert("RGBA")
        paper = Image.new("RGBA", coloured.size, "white")
        # A transparent PNG has no paper: white suits dark ink, black suits light ink.
        opaque = np.asarray(coloured)[..., 3] > 127
        luminance = np.asarray(coloured.convert("L"), np.float64)
        if not opaque.all() and opaque.any() and luminance[opaque].mean() > 127:
            paper = Image.new("RGBA", coloured.size, "black")
        return np.asarray(Image.alpha_composite(paper, coloured).convert("L"), np.float64)


def _fit(ink: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    cropped = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = _INK_SIDE / max(cropped.shape)
    height, width = (max(1, round(scale * side)) for side in cropped.shape)
    picture = Image.fromarray(cropped.astype(np.float32))
    small = np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS), np.float64)
    return np.clip(small, 0, 1) / small.max()


def _centre(small: np.ndarray) -> np.ndarray:
    canvas = np.zeros((_SIDE, _SIDE))
    offsets = []
    for axis, side in enumerate(small.shape):
        mass = small.sum(axis=1 - axis)
        centre = float((mass * (np.arange(side) + 0.5)).sum() / mass.sum())
        offsets.append(int(np.clip(round(_SIDE / 2 - centre), 0, _SIDE - side)))
    top, left = offsets
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    return canvas
