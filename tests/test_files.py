"""Files and folders: the old or the new at every instant, and nothing of another process's lost."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from mnist_adv import files
from mnist_adv.models import first_look

# Writes a file inside a folder under a temporary name, says so, and waits.
_WRITER = """
import pathlib, sys
from mnist_adv import files
with files.temporary_folder(sys.argv[1]) as folder:
    (folder / "half").write_text("half")
    print(folder, flush=True)
    sys.stdin.readline()
"""


def _fill(folder: pathlib.Path, text: str) -> None:
    for name in ("one", "two"):
        (folder / name).write_text(text)


def _read(folder: pathlib.Path) -> set[str]:
    return {(folder / name).read_text() for name in ("one", "two")}


def test_a_file_is_replaced_in_one_step(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a file \u00e9.txt"
    files.write(path, b"old")
    files.write(path, b"new")
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_names_the_file_and_keeps_the_old(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    files.write(path, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        files.write(path, b"new")
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.fixture(params=["exchange", "no exchange"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A system with a rename that lets two folders change places, and one without."""
    if request.param == "no exchange":
        monkeypatch.setattr(files, "_rename_function", lambda: None)
    return str(request.param)


def test_a_folder_is_replaced_whole(tmp_path: pathlib.Path, system: str) -> None:
    final = tmp_path / "result"
    for text in ("old", "new"):
        with files.temporary_folder(tmp_path) as made:
            _fill(made, text)
            files.replace_folder(made, final)
        assert _read(final) == {text} and list(tmp_path.iterdir()) == [final], system


def test_a_reader_never_misses_the_folder(tmp_path: pathlib.Path) -> None:
    final, missed, done = tmp_path / "result", [], threading.Event()

    def look() -> None:
        while not done.is_set():
            missed.extend([] if final.is_dir() else [1])

    with files.temporary_folder(tmp_path) as made:
        files.replace_folder(made, final)
    reader = threading.Thread(target=look)
    reader.start()
    for number in range(50):
        with files.temporary_folder(tmp_path) as made:
            _fill(made, str(number))
            files.replace_folder(made, final)
    done.set()
    reader.join()
    assert not missed and _read(final) == {"49"}


def test_what_a_kill_left_without_exchange_is_brought_back(tmp_path: pathlib.Path) -> None:
    (tmp_path / ".mnist_adv-old-result").mkdir()
    _fill(tmp_path / ".mnist_adv-old-result", "old")
    files.sweep(tmp_path)
    assert _read(tmp_path / "result") == {"old"}
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def test_a_name_that_is_taken_is_left_alone(tmp_path: pathlib.Path, system: str) -> None:
    for number, free in enumerate((True, False)):
        with files.temporary_folder(tmp_path) as made:
            _fill(made, str(number))
            assert files.add_folder(made, tmp_path / "run") is free, system
    assert _read(tmp_path / "run") == {"0"} and len(list(tmp_path.iterdir())) == 1


@pytest.mark.slow
def test_what_a_killed_process_left_is_removed_and_a_living_ones_is_not(
    tmp_path: pathlib.Path,
) -> None:
    command: list[Any] = [sys.executable, "-c", _WRITER, tmp_path]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    start: Any = subprocess.Popen
    with start(command, **pipes) as killed, start(command, **pipes) as living:
        left, kept = (pathlib.Path(each.stdout.readline().strip()) for each in (killed, living))
        killed.kill()
        killed.communicate()
        assert (left / "half").exists()
        (tmp_path / ".mnist_adv-file").write_text("left by a kill too")
        (tmp_path / ".another-programs").write_text("not ours")
        files.sweep(tmp_path)
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {kept.name, ".another-programs"} and (kept / "half").exists()
        living.communicate("\n")
    assert not kept.exists()


def test_a_folder_that_another_changes_is_refused(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_LONGEST_WAIT", 0.1)
    said = f"another process is writing into {tmp_path}"
    with files.alone(tmp_path), pytest.raises(BlockingIOError, match=said), files.alone(tmp_path):
        pytest.fail("two at once")
    with files.alone(tmp_path), files.alone(tmp_path / "missing"):
        pass


def test_a_folder_that_cannot_be_is_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(NotADirectoryError) as caught:
            files.require_writable(folder)
        assert caught.value.filename == str(tmp_path / "file")
    files.require_writable(tmp_path / "new" / "deeper")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@contextlib.contextmanager
def _without_privileges() -> Iterator[None]:
    """Be another user than root, whom nothing is forbidden."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_folder_that_the_user_may_not_write_or_read_is_named() -> None:
    with tempfile.TemporaryDirectory() as made:  # other users may not enter pytest's folder
        os.chmod(made, 0o755)
        folder = pathlib.Path(made) / "sealed"
        folder.mkdir(mode=0o555)
        with _without_privileges(), pytest.raises(PermissionError) as caught:
            files.require_writable(folder / "new")
        assert caught.value.filename == str(folder)
        folder.chmod(0o000)
        with _without_privileges(), pytest.raises(PermissionError) as caught:
            first_look.require_checkpoint(str(folder))
        assert caught.value.filename == str(folder / "checkpoint")
        folder.chmod(0o755)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS])
def test_a_file_system_without_exchange_serves(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: Any) -> int:
        ctypes.set_errno(code)
        return -1

    monkeypatch.setattr(files, "_rename_function", lambda: refuse)
    test_a_folder_is_replaced_whole(tmp_path, "refusing")


def test_each_full_disk_is_told_by_its_own_folder(tmp_path: pathlib.Path) -> None:
    results, logs = tmp_path / "results" / "mine", tmp_path / "logs" / "run"
    for full in (logs, results):
        there = str(full.parent / f"{files.TEMPORARY}abc" / "file")
        with (
            pytest.raises(OSError, match="No space left") as caught,
            files.naming(logs),
            files.naming(results),
        ):
            raise OSError(errno.ENOSPC, "No space left on device", there)
        assert caught.value.filename == str(full)
