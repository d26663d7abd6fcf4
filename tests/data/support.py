"""Files of data sets, for tests."""

from __future__ import annotations

import gzip
import pathlib
import struct
from typing import Any

import numpy as np


def write_idx(folder: pathlib.Path, name: str, values: Any, level: int | None = 9) -> pathlib.Path:
    """Write an IDX file of bytes.

    Args:
        folder: made if missing.
        name: of the file, without .gz.
        values: whole numbers in 0..255, of any shape.
        level: of the compression; None: not gzipped.

    Returns:
        The file.
    """
    folder.mkdir(exist_ok=True)
    array = np.asarray(values).astype(np.uint8)
    header = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.tobytes()
    path = folder / (name if level is None else f"{name}.gz")
    path.write_bytes(content if level is None else gzip.compress(content, level))
    return path
