"""What the watch on hostile files sees."""

from __future__ import annotations

import pathlib
import time

import numpy as np
import pytest

from tests.faults.watch import watching

_ROOM = 2**31


def test_files_that_are_opened_or_made(tmp_path: pathlib.Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("here")
    with watching(tmp_path, _ROOM) as seen:
        pass
    assert not seen.touched
    with watching(tmp_path, _ROOM) as seen:
        secret.read_text()
    assert seen.touched
    with watching(tmp_path, _ROOM) as seen:
        (tmp_path / "other").touch()
    assert seen.touched


def test_memory_and_time(tmp_path: pathlib.Path) -> None:
    with watching(tmp_path, _ROOM) as seen:
        np.ones(2**25).sum()
        time.sleep(0.01)
    assert 200 < seen.megabytes < 600 and seen.seconds > 0.01
    with watching(tmp_path, _ROOM) as seen, pytest.raises(MemoryError):
        np.ones(2**30)
    assert seen.megabytes < 200
    np.zeros(2**30)  # the limit is gone
