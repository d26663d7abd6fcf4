"""The four IDX files of MNIST and of the data sets made after it, in their original order."""

from __future__ import annotations

import functools
import gzip
import math
import os
import pathlib
import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from mnist_adv.data.split import Split
from mnist_adv.sizes import require_bytes

_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_GZIP = b"\x1f\x8b"


def is_idx_folder(folder: str | os.PathLike[str] | None) -> bool:
    """Tell whether a folder holds the four files, gzipped or not.

    Args:
        folder: its path.

    Returns:
        Whether it does.
    """
    return folder is not None and all(
        _find(folder, name) is not None for names in _FILES.values() for name in names
    )


def open_idx(
    folder: str | os.PathLike[str], class_names: Sequence[str] | None
) -> Mapping[str, Split]:
    """Open the four files of a folder.

    Args:
        folder: that holds them.
        class_names: in label order; the numbers if None.

    Returns:
        "train" and "test" -> their images, in the order of the files.

    Raises:
        ValueError: a file of labels is damaged, or holds another number of them than the headers
            of the images say.
        OSError: a file cannot be opened.
    """

    def split(images: str, labels: str) -> Split:
        paths = [_find(folder, name) or pathlib.Path(folder, name) for name in (images, labels)]
        classes = _read_once(paths[1]).astype(np.int64)
        shape = _shape(paths[0])
        if len(shape) != 3 or shape[0] != len(classes):
            raise ValueError(
                f"{paths[0]} must hold {len(classes)} images, one for each label of "
                f"{paths[1].name}. Received: shape {list(shape)}"
            )
        names = class_names or tuple(map(str, range(int(classes.max(initial=0)) + 1)))

        def read(first: int, end: int) -> tuple[np.ndarray, np.ndarray]:
            levels = _read_once(paths[0])[first:end, ..., np.newaxis]
            return levels, classes[first:end]

        return Split(len(classes), tuple(names), (*shape[1:], 1), read)

    return {name: split(*files) for name, files in _FILES.items()}


def _find(folder: str | os.PathLike[str], name: str) -> pathlib.Path | None:
    for path in (pathlib.Path(folder, f"{name}.gz"), pathlib.Path(folder, name)):
        if path.is_file():
            return path
    return None


def _read_once(path: pathlib.Path) -> np.ndarray:
    return _read_version(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _read_version(path: pathlib.Path, _: int) -> np.ndarray:
    # Unpacking the files for every chunk of a split takes longer than many an attack.
    return read_idx(path)


def _shape(path: pathlib.Path) -> tuple[int, ...]:
    """Read the shape from a file's header alone."""
    try:
        with open(path, "rb") as stream:
            zipped = stream.read(2) == _GZIP
        with gzip.open(path) if zipped else open(path, "rb") as stream:
            header = stream.read(16)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    return _header(path, header)


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an IDX file of unsigned bytes (LeCun's format), gzipped or not.

    Args:
        path: the file.

    Returns:
        uint8, in the shape that the file states.

    Raises:
        ValueError: the file is not IDX of bytes, not as long as its header says, larger than a
            mebibyte and a hundred times its gzip, or its gzip is damaged.
        OSError: the file cannot be opened.
    """
    content = pathlib.Path(path).read_bytes()
    if content[:2] == _GZIP:
        shape = _shape(pathlib.Path(path))
        wanted = 4 + 4 * len(shape) + math.prod(shape)
        require_bytes(wanted, len(content), "its array", os.fspath(path))
        try:
            content = _unpacked(content, wanted)
        except zlib.error as error:
            raise ValueError(f"{path} is damaged: {error}") from error
    shape = _header(path, content)
    start = 4 + 4 * len(shape)
    follow, wanted = len(content) - start, math.prod(shape)
    if follow != wanted:
        raise ValueError(
            f"{path} must hold {wanted} bytes after its header. "
            f"Received: {'more' if follow > wanted else follow}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _unpacked(content: bytes, wanted: int) -> bytes:
    """Unpack gzip up to a length, and one byte more to tell what is longer."""
    unpacked = b""
    # In one piece, so that the threads that wait meanwhile are not woken for every block.
    while content.startswith(_GZIP) and len(unpacked) <= wanted:  # files may stand in a row
        stream = zlib.decompressobj(wbits=31)
        unpacked += stream.decompress(content, wanted + 1 - len(unpacked))
        if not stream.eof and len(unpacked) <= wanted:
            raise zlib.error("it ends before its last byte")
        content = stream.unused_data
    return unpacked


def _header(path: str | os.PathLike[str], content: bytes) -> tuple[int, ...]:
    if content[:3] != b"\x00\x00\x08" or len(content) < 4 + 4 * content[3]:
        raise ValueError(f"{path} is not an IDX file of unsigned bytes: it starts {content[:4]!r}")
    return struct.unpack(f">{content[3]}I", content[4 : 4 + 4 * content[3]])
