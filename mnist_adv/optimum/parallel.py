"""Blocks of problems on every core."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
from tqdm import tqdm

_SILENT = 500  # fewer problems than this take under two seconds


@functools.cache
def _pool() -> ThreadPoolExecutor:
    # New threads at every call would each keep freed memory of their own.
    return ThreadPoolExecutor(joblib.cpu_count())


if hasattr(os, "register_at_fork"):  # no thread lives on in a child
    os.register_at_fork(after_in_child=_pool.cache_clear)


def blocks(count: int, size: int) -> list[slice]:
    """Cut problems into blocks: as many as the cores if there are few.

    Args:
        count: how many problems there are.
        size: the most that one block holds.

    Returns:
        Consecutive slices of 0..count.
    """
    size = max(1, min(size, -(-count // joblib.cpu_count())))
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def in_parallel(
    work: Callable[[slice], None], parts: list[slice], unit: str, progress: bool | None
) -> None:
    """Run `work(part)` for every part on all cores, with a progress bar.

    Args:
        work: writes its part of the answer; NumPy releases the interpreter while it computes.
        parts: slices of the problems.
        unit: what one problem is called.
        progress: whether to show the bar; None: if there are many problems.
    """

    def run(part: slice) -> int:
        work(part)
        return part.stop - part.start

    total = parts[-1].stop if parts else 0
    show = total >= _SILENT if progress is None else progress
    # glibc gives freed memory back to the system, page by page, unless it has once freed a piece
    # as large as this: after that, arrays of a block are reused.
    np.empty(32_000_000, np.uint8)
    with tqdm(total=total, unit=unit, disable=not show, leave=False) as bar:
        for size in _pool().map(run, parts):
            bar.update(size)
