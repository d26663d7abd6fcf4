"""Zip archives: every flip of a bit is met or changes nothing, and no member is a bomb."""

from __future__ import annotations

import io
import pathlib
import struct
import zipfile
from typing import Any

import numpy as np
import pytest

from mnist_adv import archives

ARRAYS: dict[str, Any] = {
    "W": np.arange(6, dtype=np.float32).reshape(3, 2),
    "b": np.arange(2, dtype=np.float32),
}


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
    with archives.open_zip(path) as archive:
        names = archives.array_headers(archive, path)
        return {name: archives.read_array(archive, name) for name in names}


def _same(found: dict[str, np.ndarray]) -> bool:
    return found.keys() == ARRAYS.keys() and all(
        found[name].tobytes() == ARRAYS[name].tobytes() for name in ARRAYS
    )


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("is_streamed", [False, True])
def test_no_flip_changes_what_is_read(tmp_path: pathlib.Path, save: Any, is_streamed: bool) -> None:
    path = tmp_path / "arrays.npz"
    if is_streamed:  # sizes stand behind each member
        with path.open("wb") as file:
            stream = io.BufferedWriter(_NotSeekable(file))
            save(stream, **ARRAYS)
            stream.flush()
    else:
        save(path, **ARRAYS)
    assert _same(_read(path))
    whole, refused = path.read_bytes(), 0
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            found = _read(path)
        except ValueError as error:
            assert str(error).startswith(f"{path} is damaged (") and "\n" not in str(error)
            refused += 1
        else:
            assert _same(found), place
    assert refused > 0.6 * len(whole)


class _NotSeekable(io.RawIOBase):
    def __init__(self, file: Any) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return int(self._file.write(data))


def _refused(path: pathlib.Path) -> str:
    with pytest.raises(ValueError) as caught:
        _read(path)
    return str(caught.value)


def test_members_that_the_directory_leaves_out(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "arrays.npz"
    np.savez(path, **ARRAYS)
    content = path.read_bytes()
    start = content.rindex(b"PK\1\2")
    (end,) = (at for at in range(len(content)) if content[at : at + 4] == b"PK\5\6")
    closing = bytearray(content[end:])
    closing[12:16] = struct.pack("<L", start - struct.unpack("<L", closing[16:20])[0])
    closing[8:12] = struct.pack("<HH", 1, 1)
    path.write_bytes(content[:start] + closing)
    with np.load(path) as seen:
        assert seen.files == ["W"]
    assert "bytes of which its directory says nothing" in _refused(path)


def test_sizes_are_held_to_what_is_stored(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, W=np.zeros(10**7, np.float32))
    assert path.stat().st_size < 50_000
    assert "asks for 40,000,128 bytes for W.npy, and holds" in _refused(path)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (2**50, 400)}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("W.npy", header.getvalue() + bytes(80))
    assert "asks for 3,602,879,701,896,396,800 bytes, and 80 follow it" in _refused(path)


def test_members_of_other_kinds(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "arrays.npz"
    np.savez(path, W=np.array([{}], object))
    with pytest.raises(archives.PickledError):
        _read(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("W.npy", b"x")
    assert "packed in a way that is not read" in _refused(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("W.npy", b"x")
    assert "is damaged ('W.npy'" in _refused(path)
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning):
        archive.writestr("W.npy", b"x")
        archive.writestr("W.npy", b"x")
    assert "two members have one name" in _refused(path)
