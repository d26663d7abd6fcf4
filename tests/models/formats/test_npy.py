"""Weights in .npy files: in the order given or by their folder; never pickled or beyond a file."""

from __future__ import annotations

import io
import pathlib

import numpy as np
import pytest

from mnist_adv.models.formats.convert import convert
from mnist_adv.models.formats.open import open_model
from mnist_adv.models.formats.registry import with_absolute_paths
from mnist_adv.models.model_source import ModelSource
from mnist_adv.models.softmax_regression import SoftmaxRegression


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    # Two hidden layers of one width, which shapes cannot put in order.
    shapes = {
        "first": (784, 8),
        "x": (1, 8),
        "second": (8, 8),
        "y": (8,),
        "last": (8, 10),
        "z": (10,),
    }
    for name, shape in shapes.items():
        np.save(f"{name}.npy", generator.normal(0, 0.3, shape).astype(np.float32))
    return tmp_path


FILES = "first.npy,x.npy,second.npy,y.npy,last.npy,z.npy"


def _by_hand(images: np.ndarray) -> np.ndarray:
    first, x, second, y, last, z = (np.load(name) for name in FILES.split(","))
    hidden = np.maximum(images.reshape(len(images), -1) @ first + x, 0)
    return np.maximum(hidden @ second + y, 0) @ last + z


def _refused(spec: str, kind: type[Exception] = ValueError) -> str:
    with pytest.raises(kind) as caught:
        open_model(spec, activation="relu")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_are_taken_in_their_order(folder: pathlib.Path, seven: np.ndarray) -> None:
    opened = open_model(FILES, activation="relu")
    assert opened.notes[0] == (
        "took first [784, 8] as weights and x [1, 8] as bias, second [8, 8] as weights and y [8] "
        "as bias, last [8, 10] as weights and z [10] as bias"
    )
    np.testing.assert_allclose(opened.model(seven[None]), _by_hand(seven[None]), atol=1e-4)
    assert "weights, then their bias" in _refused("x.npy,first.npy")
    assert "weights, then their bias" in _refused("first.npy,x.npy,y.npy")
    assert "each layer's inputs the outputs" in _refused("last.npy,z.npy,first.npy,x.npy")
    assert "no file absent.npy" in _refused("first.npy,absent.npy", FileNotFoundError)
    assert "given once" in _refused("first.npy,first.npy")


def test_a_source_keeps_its_files(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ModelSource(FILES, ours=False).with_absolute_path()
    assert source.where == ",".join(f"{folder}/{name}" for name in FILES.split(","))
    assert with_absolute_paths("my.keras") == f"{folder}/my.keras"
    assert with_absolute_paths("a.b:c") == "a.b:c"
    here = open_model(FILES, activation="relu").digest
    monkeypatch.chdir("/")
    assert open_model(source.where, activation="relu").digest == here


def test_a_folder_is_read_by_shapes_and_names(
    tmp_path: pathlib.Path, toy: SoftmaxRegression, seven: np.ndarray
) -> None:
    np.save(tmp_path / "weights.npy", toy.W.numpy())
    np.save(tmp_path / "bias.npy", toy.b.numpy())
    np.save(tmp_path / "labels.npy", np.arange(5))
    opened = open_model(tmp_path)
    np.testing.assert_array_equal(opened.model(seven[None]), toy(seven[None]))
    convert(tmp_path, tmp_path / "again.npz")
    with np.load(tmp_path / "again.npz") as stored:
        assert stored["W"].tobytes() == toy.W.numpy().tobytes()


def test_headers_are_held_to_the_file(folder: pathlib.Path) -> None:
    intact = pathlib.Path("first.npy").read_bytes()
    large = io.BytesIO()
    described = {"descr": "<f4", "fortran_order": False, "shape": (784, 8 * 10**9)}
    np.lib.format.write_array_header_1_0(large, described)
    for content in (large.getvalue() + intact[128:], intact[:2000], intact[:90]):
        pathlib.Path("first.npy").write_bytes(content)
        assert "first.npy is damaged" in _refused(FILES)
    np.save("first.npy", np.array([print], object), allow_pickle=True)
    assert "holds pickled objects, which are never loaded" in _refused(FILES)
    np.save("first.npy", np.zeros((784, 8), np.int64))
    assert "must hold floats. Received: int64" in _refused(FILES)
    pathlib.Path("first.npy").write_text("<html>")
    assert "first.npy is an HTML page" in _refused(FILES)
