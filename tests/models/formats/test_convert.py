"""Weights come through every conversion bit for bit, and plain TF1 code restores ours."""

from __future__ import annotations

import contextlib
import itertools
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnist_adv import files
from mnist_adv.data import datasets
from mnist_adv.models import checkpoints
from mnist_adv.models.activation import Activation
from mnist_adv.models.formats.convert import convert
from mnist_adv.models.formats.open import open_model
from mnist_adv.models.perceptron import Perceptron, layers_of
from mnist_adv.models.softmax_regression import SoftmaxRegression

pytestmark = pytest.mark.slow

RESTORE = pathlib.Path(__file__).with_name("tf1_restore.py")
FILES = {"tf1": "model.ckpt", "npz": "model.npz", "keras": "model.keras"}


@pytest.fixture
def ours(tmp_path: pathlib.Path, toy: SoftmaxRegression) -> pathlib.Path:
    """A folder with a checkpoint of ours."""
    config = {
        "model": {"type": "SoftmaxRegression", "num_classes": 10},
        "dataset": "mnist",
        "class_names": list("0123456789"),
    }
    checkpoints.Saver(tmp_path / "ours", toy, config).save(epoch=1)
    return tmp_path / "ours"


def _bits(model: SoftmaxRegression | Perceptron) -> list[bytes]:
    return [array.tobytes() for layer in layers_of(model)[0] for array in layer]


def _perceptron(*widths: int) -> Perceptron:
    generator = np.random.default_rng(5)
    pairs = zip(widths, widths[1:])
    return Perceptron(
        [
            (
                generator.normal(0, 0.1, shape).astype(np.float32),
                generator.normal(0, 1, shape[1]).astype(np.float32),
            )
            for shape in pairs
        ],
        Activation.TANH,
    )


def _save_npz(model: Perceptron, path: pathlib.Path) -> None:
    arrays: dict[str, Any] = {}
    for number, (weights, bias) in enumerate(layers_of(model)[0], 1):
        arrays[f"W{number}"], arrays[f"b{number}"] = weights, bias
    np.savez(path, **arrays)


@pytest.mark.parametrize("kind", FILES)
def test_round_trip_of_ours_is_bit_identical(
    ours: pathlib.Path, toy: SoftmaxRegression, tmp_path: pathlib.Path, kind: str
) -> None:
    there = convert(ours, tmp_path / FILES[kind])
    assert there.path == str(tmp_path / FILES[kind])
    back = convert(there.path, tmp_path / "back", "checkpoint")
    restored = checkpoints.load(tmp_path / "back")
    assert restored.where == back.path
    assert isinstance(restored.model, SoftmaxRegression)
    assert _bits(restored.model) == _bits(toy)
    assert restored.config["class_names"] == list("0123456789")


@pytest.mark.parametrize("first", FILES)
@pytest.mark.parametrize("second", FILES)
def test_round_trip_of_a_perceptron_is_bit_identical(
    tmp_path: pathlib.Path, first: str, second: str
) -> None:
    model = _perceptron(784, 9, 9, 10)
    _save_npz(model, tmp_path / "start.npz")
    between = Activation.TANH
    one = convert(tmp_path / "start.npz", tmp_path / "1" / FILES[first], activation=between)
    two = convert(one.path, tmp_path / "2" / FILES[second], activation=between)
    # TF1's graph and Keras's config say what stands between layers; an .npz cannot.
    said = None if second in ("tf1", "keras") else between
    opened = open_model(two.path, activation=said).model
    assert isinstance(opened, Perceptron)
    assert _bits(opened) == _bits(model)
    assert opened.activation is Activation.TANH


@settings(
    derandomize=True,
    deadline=None,
    max_examples=12,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(["tf1", "npz"]))
def test_any_finite_bits_survive(tmp_path: pathlib.Path, seed: int, kind: str) -> None:
    bits = np.random.default_rng(seed).integers(0, 2**32, (785, 10), np.uint32)
    values = bits.view(np.float32)
    values = np.where(np.isfinite(values), values, np.float32(-0.0))
    np.savez(tmp_path / "any.npz", W=values[:784], b=values[784])
    there = convert(tmp_path / "any.npz", tmp_path / FILES[kind], overwrite=True)
    convert(there.path, tmp_path / "back.npz", overwrite=True)
    with np.load(tmp_path / "back.npz") as back:
        assert back["W"].tobytes() == values[:784].tobytes()
        assert back["b"].tobytes() == values[784].tobytes()


def test_plain_tf1_code_restores_what_we_write(
    workshop: pathlib.Path,
    trained: SoftmaxRegression,
    test_set: datasets.Dataset,
    tmp_path: pathlib.Path,
) -> None:
    ours = workshop / "checkpoints"
    deep = _perceptron(784, 12, 10)
    _save_npz(deep, tmp_path / "deep.npz")
    plain = convert(ours, tmp_path / "model.ckpt")
    assert plain.notes[-1] == "wrote W as Variable, b as Variable_1"
    convert(
        ours,
        tmp_path / "named.ckpt",
        names="W=softmax_linear/weights,b=softmax_linear/biases",
    )
    convert(tmp_path / "deep.npz", tmp_path / "deep.ckpt", activation="tanh")
    images = test_set.images[:20]
    np.savez(tmp_path / "data.npz", images=images.reshape(-1, 784))
    names = ("data.npz", "model.ckpt", "named.ckpt", "deep.ckpt", "restored.npz")
    done = subprocess.run(
        [sys.executable, RESTORE, *(tmp_path / name for name in names)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "restored.npz") as restored:
        assert [restored["W"].tobytes(), restored["b"].tobytes()] == _bits(trained)
        assert [restored["weights"].tobytes(), restored["biases"].tobytes()] == _bits(trained)
        assert restored["classification"].tolist() == [7]
        np.testing.assert_allclose(restored["deep_logits"], deep(images), atol=1e-5)
        np.testing.assert_allclose(restored["imported_logits"], deep(images), atol=1e-5)
        np.testing.assert_allclose(restored["imported_pred"].sum(axis=1), 1, atol=1e-5)


def test_plain_keras_sees_the_same_logits(
    ours: pathlib.Path, toy: SoftmaxRegression, test_set: datasets.Dataset, tmp_path: pathlib.Path
) -> None:
    import keras

    convert(ours, tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    images = test_set.images[:20]
    np.testing.assert_allclose(model(images), toy(images), atol=1e-5)


def test_existing_files_are_replaced_only_on_request(
    ours: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    for name in FILES.values():
        convert(ours, tmp_path / name)
        with pytest.raises(FileExistsError, match=f"{name}.*exists"):
            convert(ours, tmp_path / name)
        convert(ours, tmp_path / name, overwrite=True)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def _stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let the given change of a folder, counted from 1, and those after it not happen."""
    taken = itertools.count(1)

    def stopping(real: Any) -> Any:
        def call(*arguments: Any, **settings: Any) -> Any:
            if next(taken) >= step:
                raise KeyboardInterrupt
            return real(*arguments, **settings)

        return call

    monkeypatch.setattr(files, "move", stopping(files.move))
    monkeypatch.setattr(pathlib.Path, "unlink", stopping(pathlib.Path.unlink))


def _read_width(path: pathlib.Path, kinds: dict[int, Activation]) -> int:
    """Read a net whose hidden layer's width tells which it is, and so its activation."""
    try:
        model = open_model(path).model
        known = True
    except ValueError as error:  # an .npz, or a checkpoint without .meta, does not say it
        assert "activation" in str(error)
        model = open_model(path, activation="linear").model
        known = False
    assert isinstance(model, Perceptron)
    width = layers_of(model)[0][0][1].size
    assert not known or model.activation is kinds[width]
    return int(width)


@pytest.mark.parametrize(("name", "fewest", "counts"), [("model.npz", 2, 1), ("model.ckpt", 6, 3)])
def test_a_reader_finds_the_old_or_the_new_wherever_a_replacement_stops(
    tmp_path: pathlib.Path, name: str, fewest: int, counts: int
) -> None:
    kinds = {9: Activation.TANH, 7: Activation.RELU}
    for width in kinds:
        _save_npz(_perceptron(784, width, 10), tmp_path / f"{width}.npz")
    final = tmp_path / "folder" / name
    found: set[int] = set()
    # Over a checkpoint of one file of values, then over one of two.
    for new, old in ((7, 9), (9, 7)):
        convert(tmp_path / f"{old}.npz", final, activation=kinds[old], overwrite=True)
        for step in itertools.count(1):
            with pytest.MonkeyPatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
                _stop_at(patch, step)
                convert(tmp_path / f"{new}.npz", final, activation=kinds[new], overwrite=True)
                break
            found.add(_read_width(final, kinds))
        assert step >= fewest and _read_width(final, kinds) == new
        assert len(list(final.parent.iterdir())) - counts in (0, counts // 3)
    assert found == {7, 9}


def test_a_folder_is_not_overwritten_by_a_file(ours: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "model.npz").mkdir()
    with pytest.raises(IsADirectoryError):
        convert(ours, tmp_path / "model.npz", overwrite=True)
    assert list((tmp_path / "model.npz").iterdir()) == []


def test_what_a_killed_conversion_left_is_no_checkpoint(
    ours: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "folder"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        _stop_at(patch, 3)
        convert(ours, folder / "model.ckpt")
    assert len(list(folder.iterdir())) == 2
    convert(ours, folder / "model.ckpt")
    (folder / "model.ckpt.index").unlink()
    (folder / "model.ckpt.data-00000-of-00001").write_bytes(b"of another's checkpoint")
    with pytest.raises(FileExistsError, match=r"data-00000-of-00001 exists; give another name"):
        convert(ours, folder / "model.ckpt")


def test_what_cannot_be_converted_is_refused(ours: pathlib.Path, tmp_path: pathlib.Path) -> None:
    import keras

    with pytest.raises(ValueError, match=r"format must be given \(checkpoint, tf1, npz, keras\)"):
        convert(ours, tmp_path / "model")
    with pytest.raises(ValueError, match="--names must be W=NAME,b=NAME, each role once"):
        convert(ours, tmp_path / "model.ckpt", names="weights")
    with pytest.raises(ValueError, match="names must give W, b"):
        convert(ours, tmp_path / "model.ckpt", names="W=weights")
    for names in ("W=a b,b=c", "W=W,b=W/read"):
        with pytest.raises(ValueError, match=r"a b|names must be plain"):
            convert(ours, tmp_path / "model.ckpt", names=names)
    with pytest.raises(ValueError, match="names are for tf1 and npz; keras names its own"):
        convert(ours, tmp_path / "model.keras", names="W=weights,b=biases")
    _save_npz(_perceptron(784, 9, 10), tmp_path / "deep.npz")
    with pytest.raises(ValueError, match="softmax regression only"):
        convert(tmp_path / "deep.npz", tmp_path / "x", "checkpoint", activation="relu")
    convolutional = keras.Sequential([
        keras.Input((28, 28, 1)),
        keras.layers.Conv2D(2, 28),
        keras.layers.Flatten(),
        keras.layers.Dense(10),
    ])
    convolutional.save(tmp_path / "conv.keras")
    with pytest.raises(ValueError, match=r"must be Dense layers.*Conv2D"):
        convert(tmp_path / "conv.keras", tmp_path / "conv.npz")
