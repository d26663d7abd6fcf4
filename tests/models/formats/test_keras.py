"""Keras files and SavedModels: safe, in inference mode, and with logits at the end."""

from __future__ import annotations

import importlib
import inspect
import json
import pathlib
import zipfile
from collections.abc import Callable
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

import mnist_adv
from mnist_adv import diagnostics
from mnist_adv.data import datasets
from mnist_adv.models.activation import Activation
from mnist_adv.models.formats import keras_names
from mnist_adv.models.formats.open import open_model
from mnist_adv.models.perceptron import Perceptron
from mnist_adv.models.softmax_regression import SoftmaxRegression

pytestmark = pytest.mark.slow

layers = keras.layers


@pytest.fixture(autouse=True)
def _seed() -> None:
    keras.utils.set_random_seed(3)


def _refused(spec: Any) -> str:
    with pytest.raises(ValueError) as caught:
        open_model(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _saved(path: pathlib.Path, *parts: Any) -> Any:
    model = keras.Sequential(parts)
    for weight in model.trainable_weights:  # Keras's zeros would hide a lost bias
        weight.assign(np.random.default_rng(weight.shape[-1]).normal(0, 0.05, weight.shape))
    model.save(path)
    return model


@pytest.mark.parametrize("shape", [(784,), (28, 28), (28, 28, 1)])
@pytest.mark.parametrize("end", ["logits", "dense", "activation", "softmax"])
def test_dense_chain_becomes_a_model_of_ours(
    tmp_path: pathlib.Path, seven: np.ndarray, shape: tuple[int, ...], end: str
) -> None:
    last = {
        "logits": [layers.Dense(10)],
        "dense": [layers.Dense(10, activation="softmax")],
        "activation": [layers.Dense(10), layers.Activation("softmax")],
        "softmax": [layers.Dense(10), layers.Softmax()],
    }[end]
    path = tmp_path / "my.keras"
    model = _saved(path, keras.Input(shape), layers.Flatten(), *last)
    opened = open_model(path)
    assert isinstance(opened.model, SoftmaxRegression)
    seen, ours = model(seven.reshape(1, *shape)), opened.model(seven[None])
    np.testing.assert_allclose(seen, ours if end == "logits" else tf.nn.softmax(ours), atol=1e-5)
    assert any("last softmax was taken off" in note for note in opened.notes) == (end != "logits")


def test_dense_layers_become_a_perceptron(tmp_path: pathlib.Path, seven: np.ndarray) -> None:
    path = tmp_path / "my.keras"
    model = _saved(
        path,
        keras.Input((28, 28, 1)),
        layers.Flatten(),
        layers.Dense(20, activation="tanh"),
        layers.Dropout(0.5),
        layers.Dense(20),
        layers.Activation("tanh"),
        layers.Dense(10, use_bias=False),
    )
    opened = open_model(path)
    assert isinstance(opened.model, Perceptron)
    assert opened.model.activation is Activation.TANH
    np.testing.assert_allclose(model(seven[None]), opened.model(seven[None]), atol=1e-5)


@pytest.mark.parametrize("end", ["logits", "dense", "softmax", "nested"])
def test_convolutional_model_stays_with_keras(
    tmp_path: pathlib.Path, seven: np.ndarray, end: str
) -> None:
    body = [
        keras.Input((28, 28, 1)),
        layers.Conv2D(4, 3, activation="relu"),
        layers.BatchNormalization(),
        layers.Dropout(0.5),
        layers.Flatten(),
    ]
    last: list[Any] = {
        "logits": [layers.Dense(10)],
        "dense": [layers.Dense(10, activation="softmax")],
        "softmax": [layers.Dense(10), layers.Softmax()],
        "nested": [keras.Sequential([layers.Dense(10, activation="softmax")])],
    }[end]
    path = tmp_path / "my.keras"
    model = _saved(path, *body, *last)
    opened = open_model(path)
    ours = opened.model(seven[None])
    expected = model(seven[None], training=False)
    np.testing.assert_allclose(
        expected, ours if end == "logits" else tf.nn.softmax(ours), atol=1e-5
    )
    assert ("took" if end == "logits" else "taken off") in opened.notes[-1]
    np.testing.assert_array_equal(ours, opened.model(seven[None]))  # dropout is off
    finer = opened.model(seven[None].astype(np.float64))
    assert finer.dtype == tf.float64
    np.testing.assert_allclose(ours, finer, atol=1e-5)
    slope = mnist_adv.compute_gradient(opened.model, seven, 2, dtype="float64")
    above, below = (
        -tf.nn.log_softmax(opened.model(seven[None] + sign * 1e-6 * slope))[0, 2]
        for sign in (1.0, -1.0)
    )
    np.testing.assert_allclose((above - below) / 2e-6, (slope**2).sum(), rtol=1e-4)


def test_second_softmax_is_left_for_diagnostics_to_find(
    tmp_path: pathlib.Path, test_set: datasets.Dataset, seven: np.ndarray
) -> None:
    path = tmp_path / "my.keras"
    model = _saved(
        path,
        keras.Input((784,)),
        layers.Dense(10, activation="softmax"),
        layers.Activation("softmax"),
    )
    opened = open_model(path)
    ours = tf.nn.softmax(opened.model(seven[None]))
    np.testing.assert_allclose(model(seven.reshape(1, 784)), ours, atol=1e-5)
    findings = diagnostics.examine(opened.model, test_set.images, test_set.labels, thorough=False)
    assert "probabilities" in [finding.check for finding in findings]


def test_layers_between_one_another_are_not_taken_for_a_chain(
    tmp_path: pathlib.Path, seven: np.ndarray
) -> None:
    inputs = keras.Input((784,))
    one, two = layers.Dense(10)(inputs), layers.Dense(10)(inputs)
    shared = layers.Dense(10)
    twice = shared(shared(one))
    for combined in (layers.Add()([one, two]), one + two, keras.ops.maximum(one, two), twice):
        model = keras.Model(inputs, combined)
        model.save(tmp_path / "my.keras")
        opened = open_model(tmp_path / "my.keras")
        assert not isinstance(opened.model, SoftmaxRegression | Perceptron)
        np.testing.assert_allclose(
            model(seven.reshape(1, 784)), opened.model(seven[None]), atol=1e-5
        )


def test_code_in_a_keras_file_is_refused_and_not_run(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "my.keras"

    def bomb(values: Any) -> Any:
        pathlib.Path("exploded").touch()
        return values

    keras.Sequential([
        keras.Input((784,)),
        layers.Dense(10),
        layers.Lambda(lambda values: bomb(values)),
    ]).save(path)
    pathlib.Path("exploded").unlink()
    assert "holds a Lambda layer" in _refused(path)
    _saved(path, keras.Input((784,)), layers.Dense(10))
    for change, message in (
        ({"module": "os", "class_name": "system"}, "holds system of os"),
        ({"module": "bomb_for_test", "class_name": "Bomb"}, "holds Bomb of bomb_for_test"),
        ({"module": None, "registered_name": "mine>Bomb", "class_name": "Bomb"}, "holds Bomb"),
        ({"module": "keras.utils", "class_name": "get_file"}, "holds get_file of keras.utils"),
        ({"registered_name": "mine>Dense"}, "holds Dense"),
        ({"class_name": "TextVectorization"}, "holds a TextVectorization layer"),
        ({"module": "keras", "class_name": "layers.Lambda"}, "holds layers.Lambda of keras"),
        ({"module": "keras", "class_name": "layers.TFSMLayer"}, "holds layers.TFSMLayer of keras"),
        ({"module": "keras.layers", "class_name": "core.Dense"}, "holds core.Dense of keras.lay"),
        ({"module": "keras.layers", "class_name": "deserialize"}, "holds deserialize of keras"),
        ({"module": "keras.src.ops.core", "class_name": "Map"}, "holds Map of keras.src.ops"),
        ({"module": "keras.src.layers.core.dense"}, "holds Dense of keras.src.layers.core.dense"),
        ({"module": "keras.src.saving.saving_lib"}, "holds Dense of keras.src.saving"),
        ({"module": ["keras.layers"]}, "is damaged (its config.json: "),
        ({"module": "keras\n\x1b[31m"}, r"holds Dense of 'keras\n\x1b[31m'"),
        ({"class_name": {"class_name": "Dense"}}, "is damaged (its config.json: "),
        ({"class_name": "__typespec__", "module": "os"}, "holds __typespec__ of os"),
        ({"class_name": "function", "module": "builtins"}, "holds function of builtins"),
    ):
        _rewrite_layer(path, tmp_path / "changed.keras", change)
        assert message in _refused(tmp_path / "changed.keras")
    pathlib.Path("bomb_for_test.py").write_text("open('exploded', 'w')\n")
    _rewrite_layer(path, tmp_path / "changed.keras", {"module": "bomb_for_test"})
    _refused(tmp_path / "changed.keras")
    assert not pathlib.Path("exploded").exists()


def test_every_name_that_is_read_is_a_part_of_keras() -> None:
    for module, names in keras_names.NAMES.items():
        for name in names:
            assert "." not in name
            found = getattr(importlib.import_module(module), name)
            assert inspect.isclass(found) and found.__module__.startswith("keras.src.")
            assert not issubclass(found, layers.Lambda | layers.TFSMLayer | layers.StringLookup)
    assert "relu" not in keras_names.NAMES["keras.layers"]


def test_models_in_models_are_built_as_often_as_they_are_called(tmp_path: pathlib.Path) -> None:
    model = keras.Sequential([keras.Input((784,)), layers.Dense(784, use_bias=False)])
    for _ in range(12):
        inputs = keras.Input((784,))
        model = keras.Model(inputs, model(model(inputs)))
    path = tmp_path / "my.keras"
    keras.Model(inputs, layers.Dense(10)(model(inputs))).save(path)
    message = _refused(path)
    assert "must describe at most 30,000 parts, those of a model counted as often as" in message


def test_what_decides_no_output_is_left_out(tmp_path: pathlib.Path, seven: np.ndarray) -> None:
    """An inner model that was compiled, initial values of all kinds, a loop that was unrolled."""
    inner = keras.Sequential([
        keras.Input((28, 28)),
        layers.SimpleRNN(4, unroll=True, kernel_initializer=keras.initializers.Constant(0.1)),
    ])
    inner.compile("adam", "mse")
    model = keras.Sequential([
        keras.Input((28, 28)),
        inner,
        layers.Dense(10, kernel_initializer="orthogonal", kernel_regularizer="l2"),
    ])
    model.compile("adam", "mse", metrics=["accuracy"])
    model.save(tmp_path / "my.keras")
    opened: Any = open_model(tmp_path / "my.keras").model
    np.testing.assert_allclose(model(seven.reshape(1, 28, 28)), opened(seven[None]), 1e-5)
    assert not any(layer.unroll for layer in opened._model.layers[0].layers)


def test_layers_of_the_nets_that_come_with_keras(tmp_path: pathlib.Path) -> None:
    inputs = keras.Input((28, 28, 1))
    values = layers.Conv2D(4, 9, strides=9)(layers.Rescaling(2.0)(inputs))
    values = keras.src.applications.convnext.LayerScale(0.5, 4)(values)
    values = keras.src.applications.convnext.StochasticDepth(0.5)(values)
    scaled = keras.src.applications.inception_resnet_v2.CustomScaleLayer(0.2)
    values = scaled([values, layers.ReLU()(keras.ops.exp(values) * 3)])
    model = keras.Model(inputs, layers.Dense(10)(layers.Flatten()(values)))
    model.save(tmp_path / "my.keras")
    images = np.random.default_rng(0).random((2, 28, 28, 1), np.float32)
    opened = open_model(tmp_path / "my.keras")
    np.testing.assert_allclose(opened.model(images), model(images, training=False), atol=1e-5)


def _rewrite_layer(source: pathlib.Path, target: pathlib.Path, change: dict[str, Any]) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                config["config"]["layers"][-1].update(change)
                content = json.dumps(config).encode()
            new.writestr(name, content)


def test_damaged_keras_files(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "my.keras"
    _saved(path, keras.Input((784,)), layers.Dense(10))
    intact = path.read_bytes()
    path.write_bytes(intact[:3000])
    assert f"{path} is damaged" in _refused(path)
    flipped = bytearray(intact)
    flipped[len(intact) // 2] ^= 1
    path.write_bytes(flipped)
    assert "is damaged (checksum of model.weights.h5)" in _refused(path)


def test_a_config_cannot_ask_for_memory_that_the_file_does_not_hold(
    tmp_path: pathlib.Path,
) -> None:
    path, large = tmp_path / "my.keras", tmp_path / "large.keras"
    _saved(path, keras.Input((784,)), layers.Dense(16), layers.Dense(10))

    def asking(change: Callable[[list[Any]], None]) -> str:
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(large, "w") as new:
            for name in old.namelist():
                content = old.read(name)
                if name == "config.json":
                    config = json.loads(content)
                    change(config["config"]["layers"])
                    content = json.dumps(config).encode()
                new.writestr(name, content)
        return _refused(large)

    def many_units(described: list[Any]) -> None:
        described[1]["config"]["units"] = 10**9
        described[2]["build_config"]["input_shape"] = [None, 10**9]

    wanted = "asks for weights [784, 1000000000], and it holds [16, 10], [784, 16]"
    assert wanted in asking(many_units)

    def wide_build(described: list[Any]) -> None:
        described[2]["build_config"]["input_shape"] = [None, 10**9]

    assert "large.keras" in asking(wide_build)

    for enlarging in (
        [layers.ZeroPadding2D(20_000), layers.Cropping2D(20_000)],
        [layers.UpSampling2D(1000), layers.AveragePooling2D(1000)],
        [layers.Flatten(), layers.RepeatVector(10**6), layers.GlobalMaxPooling1D()],
    ):
        _saved(large, keras.Input((28, 28, 1)), *enlarging, layers.Flatten(), layers.Dense(10))
        assert "at most 268,435,456 numbers for one image. Received: " in _refused(large)


def test_configs_that_are_bombs_or_none(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "my.keras"
    for config, message in (
        (b"[" * 1000 + b"]" * 1000, "config.json: "),
        (b"[" * 10**5, "config.json: "),
        (b"[1]", "config.json: it describes no model"),
        (b"\xff", "config.json: "),
        (b" " * (2**24 + 1), "a config.json of at most 16,777,216 bytes. Received: 16,777,217"),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", config)
            archive.writestr("model.weights.h5", b"")
        assert f"{path} " in _refused(path) and message in _refused(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * 10**7)
    assert "asks for 10,000,000 bytes for config.json, and holds" in _refused(path)


def test_weights_outside_a_keras_file_are_not_opened(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "my.keras"
    _saved(path, keras.Input((784,)), layers.Dense(10))
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    stored = tmp_path / "weights.h5"
    stored.write_bytes(entries["model.weights.h5"])
    with h5py.File(stored, "a") as file:
        del file["layers/dense/vars/0"]
        file["layers/dense/vars/0"] = h5py.ExternalLink(str(path), "elsewhere")
    entries["model.weights.h5"] = stored.read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    assert "holds 0 as a link, which is not followed" in _refused(path)


def test_keras_models_of_another_form(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "my.keras"
    _saved(path, keras.Input((28, 28, 1)), layers.Conv2D(10, 3))
    assert "must map images to one number per class" in _refused(path)
    _saved(path, keras.Input((784,)), layers.Dense(1, activation="sigmoid"))
    assert "to (None, 1)" in _refused(path)
    _saved(path, keras.Input((785,)), layers.Dense(10))
    assert "of a known size" in _refused(path)
    _saved(path, keras.Input((784,)), layers.Dense(10, activation="sigmoid"))
    assert "as sigmoids give" in _refused(path)
    model = _saved(path, keras.Input((784,)), layers.Dense(10))
    model.layers[0].bias.assign(np.full(10, np.nan))
    model.save(path)
    assert "not finite" in _refused(path)


@pytest.mark.parametrize("shape", [(784,), (28, 28, 1)])
@pytest.mark.parametrize("softmax", [False, True])
def test_saved_model_of_keras(
    tmp_path: pathlib.Path, seven: np.ndarray, shape: tuple[int, ...], softmax: bool
) -> None:
    model = keras.Sequential([
        keras.Input(shape),
        layers.Flatten(),
        layers.Dense(10, activation="softmax" if softmax else None),
    ])
    model.export(tmp_path / "saved", verbose=False)
    opened = open_model(tmp_path / "saved")
    ours = opened.model(seven[None])
    expected = model(seven.reshape(1, *shape))
    np.testing.assert_allclose(expected, tf.nn.softmax(ours) if softmax else ours, atol=1e-5)
    assert "took signature serving_default" in opened.notes[0]
    assert any("softmax was taken off" in note for note in opened.notes) == softmax
    if softmax and shape == (784,):
        assert mnist_adv.attack(opened.model, seven, targets=2).success.all()


class _TwoOutputs(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.W = tf.Variable(tf.random.stateless_normal([784, 10], [0, 1]))

    @tf.function(input_signature=[tf.TensorSpec([None, 784])])
    def serve(self, pixels: Any) -> Any:
        logits = pixels @ self.W
        classes = tf.argmax(logits, 1)
        return {"probabilities": tf.nn.softmax(logits), "my_logits": logits, "classes": classes}

    @tf.function(input_signature=[tf.TensorSpec([None, 784]), tf.TensorSpec([])])
    def with_keep_prob(self, pixels: Any, keep_prob: Any) -> Any:
        return {"y": keep_prob * pixels @ self.W}


@tf.function(input_signature=[tf.TensorSpec([None, 784])])
def _writing(pixels: Any) -> Any:
    tf.io.write_file("exploded", "here")
    return {"y": pixels[:, :10]}


@tf.function(input_signature=[tf.TensorSpec([None, 784])])
def _saving(pixels: Any) -> Any:
    tf.raw_ops.SaveV2(
        prefix="exploded", tensor_names=["x"], shape_and_slices=[""], tensors=[pixels]
    )
    return {"y": pixels[:, :10]}


def test_saved_model_with_several_outputs_gives_its_logits(
    tmp_path: pathlib.Path, seven: np.ndarray
) -> None:
    module = _TwoOutputs()
    folder = str(tmp_path / "saved")
    tf.saved_model.save(module, folder, signatures=module.serve)
    opened = open_model(folder)
    assert opened.notes[0] == "took signature serving_default: pixels to my_logits"
    np.testing.assert_allclose(opened.model(seven[None]), seven.reshape(1, -1) @ module.W)


def test_saved_models_that_are_refused(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = _TwoOutputs()
    tf.saved_model.save(module, "keep", signatures=module.with_keep_prob)
    assert "one signature from images, in floats," in _refused("keep")
    assert "keep_prob float32 ()" in _refused("keep")
    tf.saved_model.save(tf.Module(), "none")
    assert "has no signature" in _refused("none")
    tf.saved_model.save(tf.Module(), "writing", signatures=_writing)
    assert "holds the operation WriteFile" in _refused("writing")
    tf.saved_model.save(tf.Module(), "saving", signatures=_saving)
    assert "holds the operation SaveV2" in _refused("saving")
    assert not list(pathlib.Path().glob("exploded*"))
    assert not pathlib.Path("exploded").exists()
    pathlib.Path("keep/saved_model.pb").write_bytes(b"\x01garbage")
    assert "saved_model.pb is damaged" in _refused("keep")
