"""Watch what a file that is opened does: to other files, to memory, to the clock."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import re
import resource
import time
from collections.abc import Iterator

# The kernel's numbers of events: read, written, closed, opened, moved, made, removed.
_EVENTS = 0x00000FFF


class Watch:
    """What happened meanwhile.

    Attributes:
        touched: whether something in the folder was opened, made, changed or removed.
        seconds: how long it took.
        megabytes: by how much the highest memory of the process rose above what it had before.
    """

    def __init__(self) -> None:
        self.touched = False
        self.seconds = 0.0
        self.megabytes = 0.0


@contextlib.contextmanager
def watching(folder: pathlib.Path, most_bytes: int) -> Iterator[Watch]:
    """Watch a folder and this process; memory beyond a limit is refused by the kernel.

    Args:
        folder: in which nothing must happen.
        most_bytes: of address space that may be taken meanwhile.

    Yields:
        What happened, complete when the context ends.
    """
    seen = Watch()
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK)
    for path in (folder, *folder.iterdir()):
        libc.inotify_add_watch(descriptor, os.fsencode(path), _EVENTS)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + most_bytes, limits[1]))
    with contextlib.suppress(OSError):  # sets the highest memory back
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    before, start = _status("VmRSS"), time.monotonic()
    try:
        yield seen
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        seen.seconds = time.monotonic() - start
        seen.megabytes = (_status("VmHWM") - before) / 2**20
        try:
            seen.touched = bool(os.read(descriptor, 4096))
        except BlockingIOError:
            seen.touched = False
        os.close(descriptor)


def _status(name: str) -> int:
    """Read a size of this process, in bytes."""
    found = re.search(rf"{name}:\s*(\d+) kB", pathlib.Path("/proc/self/status").read_text())
    if found is None:
        raise RuntimeError(f"the kernel does not say {name}")
    return 1024 * int(found.group(1))
