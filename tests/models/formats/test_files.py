"""Damaged and dangerous files: one clear line each, and nothing in them is run."""

from __future__ import annotations

import pathlib
import pickle
import shutil
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mnist_adv.models import checkpoints
from mnist_adv.models.activation import Activation
from mnist_adv.models.formats import tf1
from mnist_adv.models.formats.convert import convert
from mnist_adv.models.formats.open import open_model
from mnist_adv.models.loaded import LoadedModel
from mnist_adv.models.preprocessing import Pixels, PixelScale, Polarity
from mnist_adv.models.softmax_regression import SoftmaxRegression
from tests.models.formats.checkpoint_table import write_index

pytestmark = pytest.mark.slow


def _save(prefix: pathlib.Path, **arrays: Any) -> str:
    """Write a name-based checkpoint."""
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(arrays),
        shape_and_slices=[""] * len(arrays),
        tensors=[tf.convert_to_tensor(array) for array in arrays.values()],
    )
    return str(prefix)


@pytest.fixture
def weights(toy: SoftmaxRegression) -> dict[str, np.ndarray]:
    return {"W": toy.W.numpy(), "b": toy.b.numpy()}


@pytest.fixture
def checkpoint(tmp_path: pathlib.Path, weights: dict[str, np.ndarray]) -> str:
    return _save(tmp_path / "model.ckpt", **weights)


def _refused(spec: Any, kind: type[Exception] = ValueError, **settings: Any) -> str:
    with pytest.raises(kind) as caught:
        open_model(spec, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _same(opened: LoadedModel, model: Any, images: Any, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(opened.model(images), model(images), atol=atol)


@pytest.mark.parametrize("suffix", ["", ".index", ".data-00000-of-00001", ".meta"])
def test_any_of_a_checkpoints_files_names_it(
    checkpoint: str, toy: SoftmaxRegression, seven: np.ndarray, suffix: str
) -> None:
    opened = open_model(checkpoint + suffix)
    assert opened.where == checkpoint
    _same(opened, toy, seven[None], 0)


def test_folder_gives_its_newest_checkpoint_even_when_moved(
    tmp_path: pathlib.Path, toy: SoftmaxRegression, weights: dict[str, np.ndarray]
) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    _save(folder / "model.ckpt-1", W=np.zeros([784, 10], np.float32), b=weights["b"])
    newest = _save(folder / "model.ckpt-2", **weights)
    tf.compat.v1.train.update_checkpoint_state(str(folder), newest, [newest])
    assert open_model(folder).where == newest
    moved = shutil.move(folder, tmp_path / "here")
    assert open_model(moved).where == str(tmp_path / "here" / "model.ckpt-2")


def test_folder_without_a_list_of_checkpoints(tmp_path: pathlib.Path, checkpoint: str) -> None:
    assert open_model(tmp_path).where == checkpoint
    _save(tmp_path / "other.ckpt", W=np.zeros([784, 10], np.float32))
    assert "name one of these: model.ckpt, other.ckpt" in _refused(tmp_path, FileNotFoundError)


def test_our_own_checkpoint(
    tmp_path: pathlib.Path, toy: SoftmaxRegression, seven: np.ndarray
) -> None:
    saver = checkpoints.Saver(tmp_path / "ours", toy, {"model": {"num_classes": 10}})
    prefix = saver.save(epoch=1)
    for spec in (tmp_path / "ours", prefix):
        opened = open_model(spec)
        assert opened.notes == ("took model/W [784, 10] as weights and model/b [10] as bias",)
        _same(opened, toy, seven[None], 0)
    assert opened.digest == checkpoints.load(tmp_path / "ours").digest


def test_nothing_there(tmp_path: pathlib.Path) -> None:
    for name in ("model.ckpt", "model.keras", "model.npz"):
        assert name in _refused(tmp_path / name, FileNotFoundError)
    (tmp_path / "empty").mkdir()
    assert "empty" in _refused(tmp_path / "empty", FileNotFoundError)


def test_missing_part_is_named(checkpoint: str) -> None:
    shard = pathlib.Path(f"{checkpoint}.data-00000-of-00001")
    content = shard.read_bytes()
    shard.unlink()
    assert f"no file {shard}" in _refused(checkpoint, FileNotFoundError)
    # What a conversion that was killed left beside it is no part of it.
    left = pathlib.Path(f"{checkpoint}.data-00001-of-00002")
    left.write_bytes(content)
    assert f"no file {shard}" in _refused(checkpoint, FileNotFoundError)
    shard.write_bytes(content)
    assert open_model(checkpoint).notes
    shard.unlink()
    pathlib.Path(f"{checkpoint}.index").unlink()
    assert f"no file {checkpoint}.index" in _refused(checkpoint, FileNotFoundError)


@pytest.mark.parametrize("length", [7, 60, 100])
def test_truncated_index(checkpoint: str, length: int) -> None:
    index = pathlib.Path(f"{checkpoint}.index")
    index.write_bytes(index.read_bytes()[:length])
    assert f"{checkpoint} is damaged" in _refused(checkpoint)


@pytest.mark.parametrize("length", [500, 31399])
def test_truncated_shard(checkpoint: str, length: int) -> None:
    shard = pathlib.Path(f"{checkpoint}.data-00000-of-00001")
    shard.write_bytes(shard.read_bytes()[:length])
    assert f"{checkpoint} is damaged" in _refused(checkpoint)


@pytest.mark.parametrize("part", ["index", "data-00000-of-00001"])
def test_flipped_bit_anywhere_is_damage_or_harmless(
    checkpoint: str, toy: SoftmaxRegression, seven: np.ndarray, part: str
) -> None:
    file = pathlib.Path(f"{checkpoint}.{part}")
    intact = file.read_bytes()
    refused = 0
    for place in (3, 4, *np.linspace(0, len(intact) - 1, 38).astype(int)):
        content = bytearray(intact)
        content[place] ^= 1 << (place % 8)
        file.write_bytes(content)
        try:
            _same(open_model(checkpoint), toy, seven[None], 0)
        except ValueError as error:
            assert f"{checkpoint} is damaged" in str(error)
            refused += 1
    # The index has padding and an unused filter block; every bit of the weights is guarded.
    assert refused == 40 if part.startswith("data") else refused > 12


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_other_widths_are_converted_and_that_is_said(
    tmp_path: pathlib.Path, toy: SoftmaxRegression, seven: np.ndarray, dtype: str
) -> None:
    _save(tmp_path / "x", W=tf.cast(toy.W, dtype), b=tf.cast(toy.b, dtype))
    opened = open_model(tmp_path / "x")
    assert f"W is {dtype}; converted to float32, exactly" in opened.notes
    _same(opened, toy, seven[None], {"float64": 1e-6, "float16": 0.02, "bfloat16": 0.2}[dtype])
    finer = np.full([784, 10], 1 / 3)
    _save(tmp_path / "y", W=finer, b=np.zeros(10))
    notes = open_model(tmp_path / "y").notes
    assert "W is float64; converted to float32, changed by at most 9.9e-09" in notes


def test_transposed_weights_and_a_bias_in_a_row(
    tmp_path: pathlib.Path, weights: dict[str, Any], toy: SoftmaxRegression, seven: np.ndarray
) -> None:
    _save(tmp_path / "x", W=weights["W"].T, b=weights["b"][np.newaxis])
    opened = open_model(tmp_path / "x")
    assert opened.notes[0].endswith("transposed")
    _same(opened, toy, seven[None], 0)
    hidden = np.random.default_rng(1).normal(0, 0.1, (6, 784)).astype(np.float32)
    last = np.random.default_rng(2).normal(0, 1, (10, 6)).astype(np.float32)
    _save(tmp_path / "y", hidden=hidden, last=last)
    logits = open_model(tmp_path / "y", activation="tanh").model(seven[None])
    by_hand = last @ np.tanh(hidden @ seven.ravel())
    np.testing.assert_allclose(np.ravel(logits), by_hand, atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_weights_that_are_not_finite(
    tmp_path: pathlib.Path, weights: dict[str, np.ndarray], value: float
) -> None:
    broken = weights["W"].astype(np.float64)
    broken[3, 4] = value
    _save(tmp_path / "x", W=broken, b=weights["b"])
    assert "not finite: W, 1 of 7840" in _refused(tmp_path / "x")


def test_checkpoint_of_another_task(tmp_path: pathlib.Path) -> None:
    _save(tmp_path / "x", embedding=np.zeros([50, 8], np.float32), step=np.int64(3))
    assert "another task" in _refused(tmp_path / "x")
    assert "embedding [50, 8]" in _refused(tmp_path / "x")


def test_ambiguous_checkpoint_is_refused_and_then_taken_by_name(
    tmp_path: pathlib.Path, weights: dict[str, np.ndarray], seven: np.ndarray, toy: Any
) -> None:
    _save(tmp_path / "x", V=np.zeros([784, 10], np.float32), **weights)
    message = _refused(tmp_path / "x")
    assert "V [784, 10], W [784, 10], b [10]" in message
    _same(open_model(tmp_path / "x", variables="W=W,b=b"), toy, seven[None], 0)


def test_several_layers_without_a_graph_need_the_activation(
    tmp_path: pathlib.Path, seven: np.ndarray
) -> None:
    layers = {
        "a": np.full([784, 3], 0.01, np.float32),
        "c": np.array([-1, -2, 1], np.float32),
        "d": np.eye(3, 10, dtype=np.float32),
        "e": np.arange(10, dtype=np.float32),
    }
    _save(tmp_path / "x", **layers)
    assert "--activation=relu|sigmoid" in _refused(tmp_path / "x")
    functions: dict[str, Any] = {
        "relu": lambda values: np.maximum(values, 0),
        "tanh": np.tanh,
        "linear": lambda values: values,
    }
    for name, function in functions.items():
        opened = open_model(tmp_path / "x", activation=name)
        assert f"{name} between layers, by the request" in opened.notes
        hidden = function(seven.reshape(1, 784) @ layers["a"] + layers["c"])
        np.testing.assert_allclose(
            opened.model(seven[None]), hidden @ layers["d"] + layers["e"], atol=1e-5
        )


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return pathlib.Path.touch, (pathlib.Path("exploded"),)


def test_pickles_are_never_loaded(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, weights: dict[str, np.ndarray]
) -> None:
    monkeypatch.chdir(tmp_path)
    arrays: dict[str, Any] = {**weights, "extra": np.array([_Bomb()], object)}
    np.savez("x.npz", **arrays)
    assert "pickled objects, which are never loaded" in _refused("x.npz")
    for name in ("x.pkl", "x.pt", "x.npy"):
        pathlib.Path(name).write_bytes(pickle.dumps(_Bomb()))
        assert "never loaded" in _refused(name)
    pathlib.Path("y.npz").write_bytes(pickle.dumps(_Bomb()))
    assert "is a pickle: it may hold code, and is never loaded" in _refused("y.npz")
    assert not pathlib.Path("exploded").exists()


def test_npz(
    tmp_path: pathlib.Path, weights: dict[str, Any], toy: SoftmaxRegression, seven: np.ndarray
) -> None:
    path = tmp_path / "weights.npz"
    np.savez(path, **weights)
    opened = open_model(path)
    assert isinstance(opened.model, SoftmaxRegression)
    _same(opened, toy, seven[None], 0)
    intact = path.read_bytes()
    path.write_bytes(intact[:5000])
    assert "is damaged" in _refused(path)
    flipped = bytearray(intact)
    flipped[5000] ^= 1
    path.write_bytes(flipped)
    assert "is damaged" in _refused(path)


def test_functions(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, seven: np.ndarray
) -> None:
    monkeypatch.chdir(tmp_path)
    pathlib.Path("mine_for_test.py").write_text(
        "import tensorflow as tf\n"
        "def logits(images):\n"
        "    return 5 * tf.reshape(images, [-1, 784])[:, 200:210]\n"
        "def probabilities(images):\n"
        "    return tf.nn.softmax(logits(images))\n"
        "def sigmoids(images):\n"
        "    return tf.nn.sigmoid(20 * logits(images))\n"
        "def three(images):\n"
        "    return tf.reshape(images, [-1, 784])[:, :3] - 0.5\n"
        "def flat(images):\n"
        "    return tf.matmul(images, tf.zeros([784, 10]))\n"
        "number = 3\n"
    )
    pathlib.Path("broken_for_test.py").write_text("1 / 0\n")
    plain = open_model("mine_for_test:logits")
    assert plain.notes == () and len(plain.digest) == 64
    logs = open_model("mine_for_test:probabilities")
    assert "logarithm is taken as logits, exact down to 1e-38" in logs.notes[0]
    np.testing.assert_allclose(
        tf.nn.log_softmax(plain.model(seven[None])), logs.model(seven[None]), atol=1e-5
    )
    assert "as sigmoids give" in _refused("mine_for_test:sigmoids")
    assert open_model("mine_for_test:three").class_names == ("0", "1", "2")
    wanted = "must return 10 logits per image. Received: 3"
    assert wanted in _refused("mine_for_test:three", num_classes=10)
    message = _refused("mine_for_test:flat")
    assert "'flat' fails on images [1, 28, 28, 1] (InvalidArgumentError" in message
    assert "must be a function" in _refused("mine_for_test:number")
    assert "has no 'nothing'" in _refused("mine_for_test:nothing")
    assert "cannot import broken_for_test (ZeroDivisionError" in _refused("broken_for_test:f")
    assert "cannot import not_there" in _refused("not_there:f")


def test_probabilities_that_float32_lost_are_refused(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pathlib.Path("sharp_for_test.py").write_text(
        "import tensorflow as tf\n"
        "def model(images):\n"
        "    return tf.nn.softmax(200 * tf.reshape(images, [-1, 784])[:, 400:410])\n"
    )
    assert "their logits cannot be got back" in _refused("sharp_for_test:model")


@pytest.mark.parametrize(
    "scale", [PixelScale.UNIT, PixelScale.BYTES, PixelScale.SYMMETRIC, PixelScale.TF]
)
@pytest.mark.parametrize("polarity", Polarity)
def test_pixels_reach_the_model_as_it_was_trained(
    checkpoint: str,
    toy: SoftmaxRegression,
    seven: np.ndarray,
    scale: PixelScale,
    polarity: Polarity,
) -> None:
    pixels = Pixels(scale, polarity)
    opened = open_model(checkpoint, pixels=pixels)
    assert isinstance(opened.model, SoftmaxRegression)
    ink = seven if polarity is Polarity.LIGHT_ON_DARK else 1 - seven
    by_hand = {
        PixelScale.UNIT: ink,
        PixelScale.BYTES: 255 * ink,
        PixelScale.SYMMETRIC: 2 * ink - 1,
        PixelScale.TF: 2 * ink - 1,
    }[scale]
    np.testing.assert_allclose(opened.model(seven[None]), toy(by_hand[None]), rtol=2e-5, atol=2e-3)
    assert (f"images are given to it as {pixels}" in opened.notes) != pixels.plain


def test_pixels_and_their_gradient_pass_through_any_model(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, seven: np.ndarray
) -> None:
    monkeypatch.chdir(tmp_path)
    pathlib.Path("squares_for_test.py").write_text(
        "import tensorflow as tf\n"
        "def model(images):\n"
        "    return tf.reshape(images, [-1, 784])[:, 200:210] ** 2\n"
    )
    pixels = Pixels(PixelScale.BYTES, Polarity.DARK_ON_LIGHT)
    model = open_model("squares_for_test:model", pixels=pixels).model
    by_hand = (255 - 255 * seven.ravel()[200:210].astype(np.float64)) ** 2
    np.testing.assert_allclose(np.ravel(model(seven[None])), by_hand, rtol=1e-5)
    image = tf.constant(seven[None], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(image)
        value = model(image)[:, 3]
    slope = np.ravel(tape.gradient(value, image))
    assert np.isclose(slope[203], -2 * 255 * (255 - 255 * seven.ravel()[203]))
    assert np.count_nonzero(slope) <= 1


def test_blank_weights_and_a_missing_bias_are_said(
    tmp_path: pathlib.Path, weights: dict[str, Any]
) -> None:
    blank = np.zeros([784, 10], np.float32)
    np.savez(tmp_path / "blank.npz", W=blank, b=weights["b"])
    assert "weights are all zero: it is not trained" in open_model(tmp_path / "blank.npz").notes[1]
    np.savez(tmp_path / "whole.npz", **weights)
    assert len(open_model(tmp_path / "whole.npz").notes) == 1
    np.savez(tmp_path / "alone.npz", W=weights["W"])
    (note,) = open_model(tmp_path / "alone.npz").notes
    assert note.endswith("as weights and no bias")
    inputs = tf.keras.Input((28, 28, 1))
    flat = tf.keras.layers.Flatten()(inputs)
    net = tf.keras.Model(inputs, tf.keras.layers.Dense(10, use_bias=False)(flat))
    net.save(tmp_path / "net.keras")
    net.export(tmp_path / "net", verbose=False)
    for spec in ("net.keras", "net"):
        assert "has no bias, or one of zeros" in open_model(tmp_path / spec).notes[-1]
    net.set_weights([np.zeros([784, 10])])
    net.save(tmp_path / "net.keras")
    net.export(tmp_path / "net", verbose=False)
    for spec in ("net.keras", "net"):
        assert "weights are all zero" in open_model(tmp_path / spec).notes[-1]


def test_a_checkpoint_cannot_ask_for_more_than_it_holds(tmp_path: pathlib.Path) -> None:
    shard = tmp_path / "model.ckpt.data-00000-of-00001"
    shard.write_bytes(bytes(31_400))
    write_index(tmp_path / "model.ckpt.index", {"W": (784, 10), "b": (10,)}, 40)
    assert "model.ckpt is damaged" in _refused(tmp_path / "model.ckpt")
    for last in (10**8, 2**40):
        write_index(tmp_path / "model.ckpt.index", {"W": (784, last), "b": (last,)}, 40)
        message = _refused(tmp_path / "model.ckpt")
        assert f"asks for {4 * last:,} bytes for b, and holds 31," in message


def test_a_damaged_graph_never_names_another_activation(tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(0)
    shapes = {"W1": (784, 8), "b1": (8,), "W2": (8, 6), "b2": (6,), "W3": (6, 10), "b3": (10,)}
    drawn: dict[str, Any] = {name: rng.normal(size=one) for name, one in shapes.items()}
    np.savez(tmp_path / "x.npz", **drawn)
    convert(tmp_path / "x.npz", tmp_path / "x.ckpt", activation="relu")
    graph = tmp_path / "x.ckpt.meta"
    whole, doubts = graph.read_bytes(), 0
    places = [(at, 1 << at % 8) for at in range(0, len(whole), 23)]
    places += [(at, 1) for at in range(len(whole)) if whole[at : at + 4] == b"Relu"]
    for place, bit in places:
        flipped = bytearray(whole)
        flipped[place] ^= bit
        graph.write_bytes(flipped)
        arrays = tf1.read(str(tmp_path / "x.ckpt"))
        assert arrays.activation in (Activation.RELU, None), place
        doubts += arrays.doubt.startswith(f"{graph} is damaged")
    assert doubts > 0.4 * len(places)
    graph.write_bytes(whole.replace(b"Relu", b"Selu", 1))
    message = _refused(tmp_path / "x.ckpt")
    assert (
        f"not the activation between them ({graph} is damaged: it lists no operation Relu); say"
        in (message)
    )
