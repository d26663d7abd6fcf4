"""Open zip archives that are whole, and whose members are no larger than what is in them.

A zip says everything twice: before each member, and in the directory at its end, which is all that
Python's `zipfile` goes by. A damaged directory may leave members out or call them something else,
so the two are compared, and every checksum is verified, before a member is handed on.
"""

from __future__ import annotations

import contextlib
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mnist_adv.errors import first_line
from mnist_adv.sizes import require_bytes

# What `zipfile` raises for damaged archives.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    UnicodeDecodeError,
)
# What NumPy raises for damaged headers of arrays, which it reads as Python's notation.
HEADER_DAMAGE = (
    ValueError,
    TypeError,
    OverflowError,
    SyntaxError,
    MemoryError,
    RecursionError,
    tokenize.TokenError,
)
_LOCAL = struct.Struct("<4s5H3L2H")
_ZIP64 = struct.pack("<HH", 1, 16)  # begins the field of sizes beyond 32 bits
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_HEADERS: dict[tuple[int, int], Callable[[Any], Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_ENCRYPTED, _HAS_DESCRIPTOR, _UTF8 = 1, 8, 2**11


class PickledError(ValueError):
    """An array of Python objects, which NumPy stores as a pickle."""


@contextlib.contextmanager
def open_zip(path: str | os.PathLike[str]) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive after a check of all of it.

    Args:
        path: the file.

    Yields:
        The archive. What its members raise inside the context is turned into a ValueError too.

    Raises:
        ValueError: it is damaged; its directory and its members contradict one another; a member
            is encrypted, packed by another method than deflate, or larger than a mebibyte and a
            hundred times its size in the file.
        OSError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _require_whole(archive, path)
            yield archive
    except _DAMAGE as error:
        raise ValueError(_damage(path, first_line(error))) from error


def array_headers(
    archive: zipfile.ZipFile, path: str | os.PathLike[str]
) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Read the headers of the arrays of an .npz.

    Args:
        archive: from `open_zip`.
        path: of the file, for the messages.

    Returns:
        name -> shape and dtype.

    Raises:
        PickledError: an array holds Python objects.
        ValueError: a member is no array, or its header asks for another number of bytes than it
            holds.
    """
    headers = {}
    for entry in archive.infolist():
        name = entry.filename.removesuffix(".npy")
        try:
            with archive.open(entry) as stream:
                version = np.lib.format.read_magic(stream)
                if version not in _HEADERS:
                    raise ValueError(f"version {version[0]}.{version[1]} of NumPy's format")
                shape, _, dtype = _HEADERS[version](stream)
                start = stream.tell()
        except HEADER_DAMAGE as error:
            raise ValueError(_damage(path, f"{entry.filename!r}: {first_line(error)}")) from error
        if dtype.hasobject:
            raise PickledError(f"{path} holds Python objects as {name!r}")
        wanted = _bytes(shape, dtype)
        if wanted != entry.file_size - start:
            raise ValueError(
                _damage(
                    path,
                    f"the header of {entry.filename!r} asks for {wanted:,} bytes, and "
                    f"{entry.file_size - start:,} follow it",
                )
            )
        headers[name] = shape, dtype
    return headers


def read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Read an array of an .npz.

    Args:
        archive: from `open_zip`.
        name: of `array_headers`.

    Returns:
        The array.

    Raises:
        ValueError: it holds Python objects.
    """
    names = archive.namelist()
    with archive.open(f"{name}.npy" if f"{name}.npy" in names else name) as stream:
        array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _bytes(shape: tuple[int, ...], dtype: Any) -> int:
    count = dtype.itemsize
    for length in shape:  # whole numbers of Python's, which do not wrap
        count *= length
    return int(count)


def _require_whole(archive: zipfile.ZipFile, path: str | os.PathLike[str]) -> None:
    """Refuse an archive that is not what its directory says, without unpacking too much."""
    entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
    names = {entry.filename for entry in entries}
    if len(names) < len(entries):
        raise ValueError(_damage(path, "two members have one name"))
    end = 0
    for entry in entries:
        if entry.flag_bits & _ENCRYPTED or entry.compress_type not in _METHODS:
            raise ValueError(
                _damage(path, f"{entry.filename!r} is packed in a way that is not read")
            )
        if entry.header_offset != end:
            raise ValueError(_damage(path, "it holds bytes of which its directory says nothing"))
        end = _end(archive, entry, path)
        require_bytes(entry.file_size, entry.compress_size, entry.filename, os.fspath(path))
    if end != archive.start_dir:
        raise ValueError(_damage(path, "it holds bytes of which its directory says nothing"))
    broken = archive.testzip()
    if broken is not None:
        raise ValueError(_damage(path, f"checksum of {broken}"))


def _end(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: str | os.PathLike[str]) -> int:
    """Compare a member's own header with the directory; return where the member ends."""
    stream: Any = archive.fp
    stream.seek(entry.header_offset)
    header = stream.read(_LOCAL.size)
    if len(header) < _LOCAL.size or header[:4] != b"PK\3\4":
        raise ValueError(_damage(path, f"{entry.filename!r} is not where its directory says"))
    _, _, flags, method, _, _, checksum, packed, size, name_length, length = _LOCAL.unpack(header)
    name = stream.read(name_length).decode("utf-8" if flags & _UTF8 else "cp437")
    extra = stream.read(length)
    end: int = stream.tell() + entry.compress_size
    known = [(name, entry.orig_filename), (method, entry.compress_type)]
    known.append((flags & _ENCRYPTED, entry.flag_bits & _ENCRYPTED))
    if flags & _HAS_DESCRIPTOR:
        # Sizes stand behind the member, after a signature that may be left out, in 4 or 8 bytes.
        stream.seek(end)
        follows = stream.read(24)
        start = 4 if follows[:4] == b"PK\7\x08" else 0
        for form in ("<LLL", "<LQQ"):
            said = follows[start : start + struct.calcsize(form)]
            if len(said) == struct.calcsize(form) and struct.unpack(form, said) == (
                entry.CRC,
                entry.compress_size,
                entry.file_size,
            ):
                end += start + len(said)
                break
        else:
            raise ValueError(
                _damage(path, f"the sizes behind {entry.filename!r} are not its directory's")
            )
    else:
        if packed == size == 0xFFFFFFFF and extra[:4] == _ZIP64:
            size, packed = struct.unpack_from("<QQ", extra, 4)
        known += [(checksum, entry.CRC), (packed, entry.compress_size), (size, entry.file_size)]
    if any(mine != listed for mine, listed in known):
        raise ValueError(_damage(path, f"{entry.filename!r} is not what its directory says"))
    return end


def _damage(path: str | os.PathLike[str], reason: str) -> str:
    return f"{os.fspath(path)} is damaged ({reason}); use an intact copy"
