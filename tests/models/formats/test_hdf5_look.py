"""HDF5 files on which HDF5's own library never ends or crashes."""

from __future__ import annotations

import pathlib

import h5py
import keras
import pytest

from mnist_adv.models.formats import hdf5_look
from mnist_adv.models.formats.open import open_model

pytestmark = pytest.mark.slow


@pytest.fixture
def model(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "my.h5"
    keras.Sequential([keras.Input((784,)), keras.layers.Dense(10)]).save(path)
    return path


@pytest.mark.filterwarnings("ignore:You are saving")
def test_a_file_that_is_read_without_end(
    model: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytearray(model.read_bytes())
    heap = content.index(b"GCOL")  # of the texts; an object of no size follows itself
    content[heap + 16 : heap + 1000] = bytes(984)
    model.write_bytes(content)
    monkeypatch.setattr(hdf5_look, "_SECONDS", 1)
    with pytest.raises(ValueError, match=r"my\.h5 is damaged \(HDF5's library still reads it"):
        open_model(model)


@pytest.mark.filterwarnings("ignore:You are saving")
def test_a_file_on_which_the_library_crashes(
    model: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5_look, "_PROGRAM", "import os; os.abort()")
    with pytest.raises(ValueError, match=r"my\.h5 is damaged \(HDF5's library ends with signal 6"):
        open_model(model)


def test_everything_in_the_file_is_read_and_nothing_else(tmp_path: pathlib.Path) -> None:
    path, other = tmp_path / "my.h5", tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file["numbers"] = [1.0, 2.0]
        file["elsewhere"] = h5py.ExternalLink(str(other), "W")
        file.create_dataset("outside", (10,), "f4", external=[(str(other), 0, 40)])
        file.create_dataset("huge", (2**40,), "f4", chunks=(100,))
    hdf5_look.require_readable(path, "my.h5")
    assert not other.exists()
    with pytest.raises(FileNotFoundError):
        hdf5_look.require_readable(tmp_path / "none.h5", "none.h5")
