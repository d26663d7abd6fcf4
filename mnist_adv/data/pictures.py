"""Read PNG and JPEG pictures, and bring images into another size or number of channels."""

from __future__ import annotations

import contextlib
import os
import struct
import warnings
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mnist_adv.data.images import Shape
from mnist_adv.errors import first_line

SUFFIXES = (".png", ".jpg", ".jpeg")

_PNG = b"\x89PNG\r\n\x1a\n"
_AROUND_CHUNK = 12  # bytes: its length, its name and its checksum
_BLOCK = 2**20
# A small file may ask for any number of them.
_MOST_PIXELS = 50_000_000
_MODES = {1: "L", 3: "RGB"}


@contextlib.contextmanager
def open_picture(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """Open a picture, upright, and name what is wrong with one that cannot be read.

    Args:
        path: the file.

    Yields:
        The picture, as long as the context lasts.

    Raises:
        FileNotFoundError: there is no such file.
        IsADirectoryError: it is a folder.
        PermissionError: it must not be read.
        ValueError: it is no readable PNG or JPEG picture, a checksum of a PNG is wrong, or it has
            more than 50 million pixels.
    """
    try:
        require_png_checksums(path)
        with contextlib.ExitStack() as stack:
            with warnings.catch_warnings():  # of a size that is refused below
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                picture = stack.enter_context(Image.open(path, formats=("PNG", "JPEG")))
            size = (picture.width, picture.height)
            if picture.width * picture.height <= _MOST_PIXELS:
                yield _upright(picture)
                return
    except FileNotFoundError:
        raise FileNotFoundError(f"no file {path}") from None
    except (IsADirectoryError, PermissionError):
        raise
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        SyntaxError,
    ) as error:
        raise ValueError(
            f"{path} is not a readable PNG or JPEG picture: {first_line(error)}"
        ) from error
    raise ValueError(
        f"{path} must have at most {_MOST_PIXELS:,} pixels. Received: {size[0]} x {size[1]}"
    )


def require_png_checksums(path: str | os.PathLike[str]) -> None:
    """Refuse a PNG whose chunks are not whole: Pillow reads pixels without their checksums.

    Args:
        path: of any file; one that is no PNG passes.

    Raises:
        ValueError: a checksum is wrong, or the end is missing.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        if file.read(len(_PNG)) != _PNG:
            return
        left = os.fstat(file.fileno()).st_size - len(_PNG)
        kind = b""
        while kind != b"IEND":
            length, kind = struct.unpack(">L4s", file.read(8).ljust(8, b"\0"))
            left -= _AROUND_CHUNK + length
            if left < 0:
                raise ValueError(f"{path} is damaged (it ends within a chunk); use an intact copy")
            checksum = zlib.crc32(kind)
            while length:
                part = file.read(min(length, _BLOCK))
                checksum = zlib.crc32(part, checksum)
                length -= len(part)
            if checksum != int.from_bytes(file.read(4), "big"):
                raise ValueError(
                    f"{path} is damaged (checksum of its chunk {kind.decode('latin-1')!r}); use an "
                    "intact copy"
                )


def _upright(picture: Image.Image) -> Image.Image:
    """Decode a picture whole, and turn it as its camera says."""
    try:
        picture.load()
        return ImageOps.exif_transpose(picture)
    # What Pillow's readers of chunks and of cameras' notes raise, by experiment.
    except (ValueError, LookupError, TypeError, EOFError, struct.error, zlib.error) as error:
        raise SyntaxError(first_line(error)) from error


def read_levels(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a picture as it is; what is transparent becomes white.

    Args:
        path: the file.

    Returns:
        `[h, w, c]` uint8 with c 1 or 3.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no readable picture.
    """
    with open_picture(path) as picture:
        if picture.mode.startswith("I"):  # 16-bit grey, which convert("L") would clip
            return np.rint(np.asarray(picture, np.float64) / 257).astype(np.uint8)[..., np.newaxis]
        if picture.mode in ("1", "L"):
            return np.asarray(picture.convert("L"))[..., np.newaxis]
        if picture.has_transparency_data:
            coloured = picture.convert("RGBA")
            paper = Image.new("RGBA", coloured.size, "white")
            return np.asarray(Image.alpha_composite(paper, coloured).convert("RGB"))
        return np.asarray(picture.convert("RGB"))


def fit(levels: np.ndarray, shape: Shape) -> np.ndarray:
    """Bring an image into another size or number of channels.

    The middle of it, in the new aspect ratio, is resized bilinearly (averaged where it gets
    smaller), as `keras.utils.load_img` and most training programs do.

    Args:
        levels: `[h, w, c]` uint8.
        shape: `(h, w, c)` of the result.

    Returns:
        uint8 of that shape; the same array if it has it already.

    Raises:
        ValueError: a change between other numbers of channels than 1 and 3.
    """
    if levels.shape == shape:
        return levels
    if not {levels.shape[2], shape[2]} <= _MODES.keys():
        raise ValueError(
            f"images must have 1 or 3 channels to be fitted. Received: {list(levels.shape)}, "
            f"to become {list(shape)}"
        )
    picture = Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)
    picture = picture.convert(_MODES[shape[2]])
    scale = min(picture.width / shape[1], picture.height / shape[0])
    width, height = (max(1, round(scale * side)) for side in (shape[1], shape[0]))
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    middle = picture.crop((left, top, left + width, top + height))
    return np.asarray(middle.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)).reshape(shape)


def fitting(before: Shape, after: Shape) -> list[str]:
    """Say what `fit` does.

    Args:
        before: shape of the image.
        after: shape of the result.

    Returns:
        A phrase for each change.
    """
    said = []
    if before[0] * after[1] != before[1] * after[0]:
        said.append("cut to its middle")
    if before[:2] != after[:2]:
        said.append(f"resized to {after[0]} x {after[1]}")
    if before[2] != after[2]:
        said.append("made grey" if after[2] == 1 else "its grey used for all three colours")
    return said
