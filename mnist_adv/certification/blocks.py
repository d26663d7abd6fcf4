"""Cut work into blocks of one size, for which programs are compiled once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def blocks(count: int, size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Cut a row into blocks of one size.

    Args:
        count: places in all.
        size: of a block, at least 1.

    Yields:
        The places of a block, the last of which is repeated where it would be shorter, and how
        many of them count.
    """
    for first in range(0, count, size):
        kept = min(size, count - first)
        yield np.minimum(np.arange(first, first + size), count - 1), kept
