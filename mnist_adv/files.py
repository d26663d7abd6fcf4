"""Files and folders on disk: a reader finds the old or the new, whole, at every instant.

What is being written bears a temporary name, and a lock that ends with its process: so the next run
tells what a killed one left from what another one is writing.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

try:
    import fcntl as _locks
except ImportError:  # Windows: what killed runs left cannot be told there, and stays
    _locks = None  # type: ignore[assignment]

TEMPORARY = ".mnist_adv-"
_RETIRED = f"{TEMPORARY}old-"
_LONGEST_WAIT = 5.0  # seconds for a lock: files are moved within milliseconds
_NO_REPLACE, _EXCHANGE = 1, 2  # of Linux's renameat2


def write(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file so that it is complete or absent, even after a power cut.

    Args:
        path: of the file; replaced if it is there.
        content: all of it.

    Raises:
        OSError: it cannot be written; it names the file.
    """
    path = pathlib.Path(path)
    with naming(path), _temporary(path.parent, folder=False) as (temporary, descriptor):
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        temporary.chmod(0o644)
        os.replace(temporary, path)
        _sync(path.parent)


def move(source: pathlib.Path, target: pathlib.Path) -> None:
    """Give a file that is on the disk whole another name.

    Args:
        source: the file.
        target: its name on the same disk; replaced if it is there.

    Raises:
        OSError: it cannot be moved.
    """
    _sync(source)
    os.replace(source, target)
    _sync(target.parent)


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Name a file in the errors of writing it: those of a full disk name none.

    Args:
        path: of the file or folder.

    Yields:
        Nothing.

    Raises:
        OSError: as it came, with the file's name.
    """
    try:
        yield
    except OSError as error:
        named = os.path.abspath(os.fsdecode(error.filename)) if error.filename else ""
        beside = os.path.join(os.path.dirname(os.path.abspath(path)), TEMPORARY)
        if error.errno is None or (named and not named.startswith(beside)):
            raise
        raise OSError(error.errno, os.strerror(error.errno), os.fspath(path)) from error


@contextlib.contextmanager
def temporary_folder(parent: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Make a folder to be filled, which is gone afterwards unless it was moved.

    Args:
        parent: where it is made; made if missing. What killed runs left there is removed.

    Yields:
        The folder.

    Raises:
        OSError: the parent cannot be made or written.
    """
    parent = pathlib.Path(parent)
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent)
    with _temporary(parent, folder=True) as (made, _):
        made.chmod(0o755)
        yield made


def replace_folder(made: pathlib.Path, final: pathlib.Path) -> None:
    """Give a folder its name, and take away the one that had it.

    Args:
        made: from `temporary_folder`.
        final: its name, in the same parent.

    Raises:
        OSError: it cannot be moved.
    """
    _sync_all(made)
    while not (_moved(made, final, _NO_REPLACE) or _moved(made, final, _EXCHANGE)):
        # Without an exchange there is an instant with neither; `sweep` brings the old one back.
        sweep(final.parent)
        with contextlib.suppress(FileNotFoundError):
            os.rename(final, final.with_name(_RETIRED + final.name))
    sweep(final.parent)
    _sync(final.parent)


def add_folder(made: pathlib.Path, final: pathlib.Path) -> bool:
    """Give a folder its name, unless that is taken.

    Args:
        made: from `temporary_folder`.
        final: its name, in the same parent.

    Returns:
        Whether the name was free.
    """
    _sync_all(made)
    return _moved(made, final, _NO_REPLACE)


def sweep(folder: str | os.PathLike[str]) -> None:
    """Remove what killed processes left in a folder, and nothing that a living one is writing.

    Args:
        folder: any.
    """
    for path in pathlib.Path(folder).glob(f"{TEMPORARY}*"):
        with contextlib.suppress(OSError):  # another process removed it, or it is another user's
            if path.name.startswith(_RETIRED) and _moved(
                path, path.with_name(path.name.removeprefix(_RETIRED)), _NO_REPLACE
            ):
                continue
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            try:
                if _locked(descriptor):
                    _remove(path)
            finally:
                os.close(descriptor)


def require_writable(folder: str | os.PathLike[str]) -> None:
    """Try to write where a folder is, or would be made.

    Args:
        folder: any; it is not made.

    Raises:
        NotADirectoryError: a file is in its place, or in that of a folder above it.
        OSError: it cannot be made or written; it is named.
    """
    there = pathlib.Path(folder).absolute()
    while not os.path.lexists(there):
        there = there.parent
    with naming(folder):
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
        try:
            with tempfile.TemporaryFile(dir=there, prefix=TEMPORARY) as probe:
                probe.write(b"0")
        except OSError as error:
            if error.filename is None:
                raise
            # It names the probe, which nobody asked for.
            raise OSError(error.errno, error.strerror, str(there)) from error


@contextlib.contextmanager
def alone(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Be the only process that changes a folder's files.

    Args:
        folder: any; one that is missing is nobody's.

    Yields:
        Nothing.

    Raises:
        BlockingIOError: another process is changing them.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        yield
        return
    try:
        until = time.monotonic() + _LONGEST_WAIT
        while not _locked(descriptor, unknown=True):
            if time.monotonic() > until:
                raise BlockingIOError(
                    f"another process is writing into {folder}; wait for it, or name another folder"
                )
            time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _temporary(parent: pathlib.Path, *, folder: bool) -> Iterator[tuple[pathlib.Path, int]]:
    """Make a file or a folder under a temporary name, and lock it."""
    while True:
        if folder:
            path = pathlib.Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=parent))
            descriptor = os.open(path, os.O_RDONLY)
        else:
            descriptor, name = tempfile.mkstemp(prefix=TEMPORARY, dir=parent)
            path = pathlib.Path(name)
        _locked(descriptor, wait=True)
        if path.exists():
            break
        os.close(descriptor)  # swept by another process before it was locked
    try:
        yield path, descriptor
    finally:
        with contextlib.suppress(OSError):
            _remove(path)
        os.close(descriptor)


def _locked(descriptor: int, *, wait: bool = False, unknown: bool = False) -> bool:
    """Lock what nobody else has; `unknown` where the file system has no locks."""
    if _locks is None:
        return unknown
    try:
        _locks.flock(descriptor, _locks.LOCK_EX | (0 if wait else _locks.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return unknown
    return True


def _remove(path: pathlib.Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _moved(source: pathlib.Path, target: pathlib.Path, how: int) -> bool:
    """Rename in one step where the target is free, or let the two change places; say if done."""
    rename = _rename_function()
    if rename is not None:
        sys.audit("os.rename", source, target, -1, -1)  # as Python's own announces itself
        if rename(os.fsencode(source), os.fsencode(target), how) == 0:
            return True
        if ctypes.get_errno() == errno.EEXIST:
            return False
    if how == _EXCHANGE or target.exists():
        return False
    os.rename(source, target)
    return True


def _rename_function() -> Any:
    """Find the system's rename with a condition: (old, new, condition) -> 0 if done."""
    if _locks is None:
        return None
    library: Any = ctypes.CDLL(None, use_errno=True)
    if hasattr(library, "renameat2"):
        here = -100  # AT_FDCWD: paths from the working folder on
        return lambda old, new, how: library.renameat2(here, old, here, new, how)
    if hasattr(library, "renamex_np"):  # macOS
        macos = {_NO_REPLACE: 4, _EXCHANGE: 2}
        return lambda old, new, how: library.renamex_np(old, new, macos[how])
    return None


def _sync_all(folder: pathlib.Path) -> None:
    for path in (*folder.rglob("*"), folder):
        _sync(path)


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # some systems cannot for folders
            raise
    finally:
        os.close(descriptor)
