"""Read the file format of the original MNIST."""

from __future__ import annotations

import gzip
import math
import os
import pathlib
import struct
import zlib

import numpy as np


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a gzipped IDX file of unsigned bytes (LeCun's format).

    Args:
        path: the file.

    Returns:
        uint8, in the shape that the file states.

    Raises:
        ValueError: the file is not gzip, not IDX of bytes, or not as long as its header says.
        OSError: the file cannot be opened.
    """
    try:
        # In one piece, so that the threads that wait meanwhile are not woken for every block.
        content = gzip.decompress(pathlib.Path(path).read_bytes())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is not an IDX file of unsigned bytes: it starts {content[:4]!r}")
    start = 4 + 4 * content[3]
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    if len(content) != start + math.prod(shape):
        raise ValueError(
            f"{path} must hold {math.prod(shape)} bytes after its header. "
            f"Received: {len(content) - start}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
