"""Read an HDF5 file once in a process of its own, with a limit on time and memory.

HDF5 has no checksums by default, and its library loops without end on some damaged files, and
crashes on others. So a process that may be ended looks first.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

_SECONDS, _BYTES_PER_SECOND = 20, 2**24
# Reads what lies in the file itself: no link is followed, and no array from another file.
_PROGRAM = """
import sys
file, packages, most = sys.argv[1:]
sys.path.append(packages)
import h5py
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (int(most), int(most)))
except (ImportError, ValueError, OSError):
    pass  # not on every system
def look(name, held):
    for key in held.attrs:
        held.attrs[key]
    if isinstance(held, h5py.Dataset) and held.external is None and not held.is_virtual:
        if held.nbytes <= max(2**20, 100 * held.id.get_storage_size()):
            held[()]
with h5py.File(file, "r") as opened:
    look("/", opened)
    opened.visititems(look)
"""
_MEMORY = 2**32  # beside a hundred times the file


def require_readable(path: str | os.PathLike[str], name: str) -> None:
    """Refuse an HDF5 file that cannot be read in time or ends the process that reads it.

    What the library merely refuses passes: the reader will meet it and say so.

    Args:
        path: of the file.
        name: of it, for the message.

    Raises:
        ValueError: it is such a file.
        OSError: it cannot be opened, or no process can be started.
    """
    import h5py

    if not sys.executable:
        return
    size = pathlib.Path(path).stat().st_size
    packages = str(pathlib.Path(h5py.__file__).parents[1])
    command = [sys.executable, "-I", "-c", _PROGRAM, os.fspath(path), packages]
    seconds = _SECONDS + size / _BYTES_PER_SECOND
    try:
        done = subprocess.run(
            [*command, str(_MEMORY + 100 * size)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(
            f"{name} is damaged (HDF5's library still reads it after {seconds:.0f} s); use an "
            "intact copy"
        ) from error
    if done.returncode < 0:
        raise ValueError(
            f"{name} is damaged (HDF5's library ends with signal {-done.returncode}); use an "
            "intact copy"
        )
