"""Keras's HDF5: files of Keras 1, 2 and 3 give the writer's outputs, and nothing in them is run."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
import pytest
import tensorflow as tf

import mnist_adv
from mnist_adv import open_model
from mnist_adv.commands import convert as convert_command
from mnist_adv.models.perceptron import Perceptron

keras = tf.keras


def _refused(path: pathlib.Path) -> str:
    with pytest.raises(ValueError) as caught:
        open_model(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _convolutional(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential([
        keras.Input((28, 28, 1)),
        layers.ZeroPadding2D(((1, 0), (2, 1))),
        layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
        layers.BatchNormalization(),
        layers.LeakyReLU(0.2),
        layers.MaxPooling2D(2),
        layers.SeparableConv2D(5, 3, activation="relu"),
        layers.GlobalMaxPooling2D(),
        layers.Dropout(0.5),
        layers.Dense(10, activation="softmax"),
    ])


def _flat(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential([
        keras.Input((28, 28)),
        layers.Flatten(),
        layers.Dense(16, activation="relu"),
        layers.Dropout(0.2),
        layers.Dense(10),
        layers.Activation("softmax"),
    ])


def _functional(keras: Any) -> Any:
    layers = keras.layers
    images = keras.Input((28, 28, 1))
    one = layers.Conv2D(3, 5, strides=2, padding="same", activation="elu")(images)
    two = layers.DepthwiseConv2D(3, strides=2, padding="same")(images)
    joined = layers.Concatenate()([one, layers.PReLU(shared_axes=[1, 2])(two)])
    hidden = layers.Dense(8)(layers.Flatten()(joined))
    return keras.Model(images, layers.Dense(10)(layers.Add()([hidden, layers.ReLU()(hidden)])))


def _nested(keras: Any) -> Any:
    inner = keras.Sequential([
        keras.Input((28, 28, 1)),
        keras.layers.Conv2D(3, 5, strides=3),
        keras.layers.BatchNormalization(),
    ])
    return keras.Sequential([
        keras.Input((28, 28, 1)),
        inner,
        keras.layers.Flatten(),
        keras.layers.Dense(10),
    ])


def _randomised(model: Any) -> Any:
    generator = np.random.default_rng(1)
    model.set_weights([
        (np.abs if "variance" in str(getattr(w, "path", w.name)) else np.asarray)(
            generator.normal(0, 0.5, w.shape)
        )
        for w in model.weights
    ])
    return model


@pytest.mark.slow
@pytest.mark.parametrize("writer", ["tf_keras", "keras"])
@pytest.mark.parametrize("build", [_convolutional, _flat, _functional, _nested])
@pytest.mark.filterwarnings("ignore")
def test_outputs_are_the_writers(
    tmp_path: pathlib.Path, test_set: Any, build: Callable[[Any], Any], writer: str
) -> None:
    library = keras if writer == "keras" else pytest.importorskip("tf_keras")
    model = _randomised(build(library))
    model.compile("adam", "sparse_categorical_crossentropy")
    path = tmp_path / "my.h5"
    model.save(path)
    opened = open_model(path)
    images = test_set.images[:50]
    expected = np.asarray(model(images, training=False))
    ours = opened.model(images)
    softmax = np.allclose(expected.sum(axis=1), 1)
    assert softmax == any("softmax was taken off" in note for note in opened.notes)
    np.testing.assert_allclose(expected, tf.nn.softmax(ours) if softmax else ours, atol=2e-5)
    assert np.ptp(expected, axis=0).max() > 100 * 2e-5  # else nothing was compared
    assert isinstance(opened.model, Perceptron) == (build is _flat)
    result = mnist_adv.attack(opened.model, images[:3], labels=ours[:3].numpy().argmax(axis=1))
    assert np.any(result.perturbation)


def _written(path: pathlib.Path, config: Any, arrays: dict[str, np.ndarray], **said: str) -> None:
    """Write a file by hand, with one layer's arrays per name before the slash."""
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config).encode()
        file.attrs.update(said)
        group = file.create_group("model_weights")
        layers = list(dict.fromkeys(name.split("/")[0] for name in arrays))
        group.attrs["layer_names"] = [name.encode() for name in layers]
        for layer in layers:
            mine = [name for name in arrays if name.split("/")[0] == layer]
            group.create_group(layer).attrs["weight_names"] = [name.encode() for name in mine]
            for name in mine:
                group[layer][name] = arrays[name]


def _keras_1() -> tuple[Any, dict[str, np.ndarray]]:
    generator = np.random.default_rng(0)
    config = {
        "class_name": "Sequential",
        "config": [
            {
                "class_name": "Convolution2D",
                "config": {
                    "name": "convolution2d_1",
                    "batch_input_shape": [None, 28, 28, 1],
                    "nb_filter": 3,
                    "nb_row": 5,
                    "nb_col": 5,
                    "subsample": [3, 3],
                    "border_mode": "valid",
                    "dim_ordering": "tf",
                    "activation": "relu",
                    "init": "glorot_uniform",
                    "W_regularizer": None,
                    "bias": True,
                },
            },
            {"class_name": "Dropout", "config": {"name": "dropout_1", "p": 0.5}},
            {"class_name": "Flatten", "config": {"name": "flatten_1"}},
            {
                "class_name": "Dense",
                "config": {"name": "dense_1", "output_dim": 10, "activation": "softmax"},
            },
        ],
    }
    arrays = {
        "convolution2d_1/W": generator.normal(0, 0.3, (5, 5, 1, 3)),
        "convolution2d_1/b": generator.normal(0, 0.3, 3),
        "dense_1/W": generator.normal(0, 0.3, (192, 10)),
        "dense_1/b": generator.normal(0, 0.3, 10),
    }
    return config, {name: values.astype(np.float32) for name, values in arrays.items()}


def test_keras_1_is_read_by_hand(tmp_path: pathlib.Path, test_set: Any) -> None:
    config, arrays = _keras_1()
    _written(tmp_path / "old.h5", config, arrays)
    images = test_set.images[:20]
    kernel, bias, W, b = arrays.values()
    hidden = tf.nn.relu(tf.nn.conv2d(images, kernel, 3, "VALID") + bias)
    expected = tf.reshape(hidden, [20, -1]) @ W + b
    opened = open_model(tmp_path / "old.h5")
    np.testing.assert_allclose(opened.model(images), expected, atol=1e-4)
    assert "softmax was taken off" in opened.notes[1]


def test_one_dimensional_kernels_of_keras_1_lose_their_width(
    tmp_path: pathlib.Path, test_set: Any
) -> None:
    config, arrays = _keras_1()
    first = {
        "class_name": "Convolution1D",
        "config": {
            "name": "convolution1d_1",
            "batch_input_shape": [None, 28, 28],
            "nb_filter": 3,
            "filter_length": 5,
            "subsample_length": 3,
            "border_mode": "valid",
            "activation": "relu",
        },
    }
    config["config"][0] = first
    generator = np.random.default_rng(3)
    kernel = generator.normal(0, 0.3, (5, 1, 28, 3)).astype(np.float32)
    bias, W, b = arrays["convolution2d_1/b"], arrays["dense_1/W"][:24], arrays["dense_1/b"]
    old = {"convolution1d_1/W": kernel, "convolution1d_1/b": bias}
    _written(tmp_path / "old.h5", config, {**old, "dense_1/W": W, "dense_1/b": b})
    images = test_set.images[:20]
    hidden = tf.nn.relu(tf.nn.conv1d(images[..., 0], kernel[:, 0], 3, "VALID") + bias)
    expected = tf.reshape(hidden, [20, -1]) @ W + b
    opened = open_model(tmp_path / "old.h5")
    np.testing.assert_allclose(opened.model(images), expected, atol=1e-4)


def test_what_is_not_plain_or_not_whole_is_named(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "my.h5"
    config, arrays = _keras_1()

    def said(change: Callable[[Any], Any], **others: np.ndarray) -> str:
        changed = json.loads(json.dumps(config))
        change(changed["config"])
        _written(path, changed, {**arrays, **others})
        return _refused(path)

    code = {"class_name": "Lambda", "config": {"name": "f", "function": ["4wEAAAA=", None, None]}}
    assert "holds a Lambda layer" in said(lambda layers: layers.insert(2, code))
    custom = {"class_name": "Evil", "config": {"name": "f"}, "module": "os"}
    assert "holds a Evil layer" in said(lambda layers: layers.insert(2, custom))
    assert "activation 'os.system'" in said(
        lambda layers: layers[3]["config"].update(activation="os.system")
    )
    # Nothing of this size is made: the file's arrays are what is compared.
    assert "asks for weights" in said(
        lambda layers: layers[0]["config"].update(nb_filter=200_000_000)
    )
    padding = {"name": "zeropadding2d_1", "padding": [10_000, 10_000], "dim_ordering": "tf"}
    pads = [
        {"class_name": "ZeroPadding2D", "config": padding},
        {"class_name": "Cropping2D", "config": {**padding, "name": "c", "cropping": [10_000] * 2}},
    ]
    assert "at most 268,435,456 numbers for one image. Received: 1,200" in said(
        lambda layers: layers.__setitem__(slice(1, 1), pads)
    )
    broken = np.full_like(arrays["dense_1/W"], np.nan)
    assert "not finite: /model_weights/dense_1/dense_1/W" in said(
        lambda layers: None, **{"dense_1/W": broken}
    )
    path.write_bytes(path.read_bytes()[:1000])
    assert f"{path} is damaged" in _refused(path)
    with pytest.raises(FileNotFoundError, match=r"no file .*absent\.h5"):
        open_model(tmp_path / "absent.h5")
    with h5py.File(path, "w") as file:
        file["temperature"] = [1.0, 2.0]
    assert "holds no Keras model, but temperature" in _refused(path)


def test_nothing_outside_the_file_is_read(tmp_path: pathlib.Path) -> None:
    config, arrays = _keras_1()
    path, other = tmp_path / "my.h5", tmp_path / "other.h5"
    _written(other, config, arrays)
    arrays["dense_1/W"].tofile(tmp_path / "raw")
    place, shape = "model_weights/dense_1/dense_1/W", (192, 10)
    layout = h5py.VirtualLayout(shape, np.float32)
    layout[:] = h5py.VirtualSource(str(other), place, shape)
    raw = [(str(tmp_path / "raw"), 0, arrays["dense_1/W"].nbytes)]

    def linked(file: Any) -> None:
        file[place] = h5py.ExternalLink(str(other), place)

    def softly(file: Any) -> None:
        file[place] = h5py.SoftLink("/model_weights/elsewhere")

    ways: tuple[tuple[Callable[[Any], Any], str], ...] = (
        (linked, "as a link"),
        (softly, "as a link"),
        (lambda file: file.create_virtual_dataset(place, layout), "reference to another"),
        (
            lambda file: file.create_dataset(place, shape, "f4", external=raw),
            "reference to another",
        ),
    )
    for change, message in ways:
        _written(path, config, arrays)
        with h5py.File(path, "a") as file:
            del file[place]
            change(file)
        assert message in _refused(path)
    # An array of which nothing is there is not made.
    _written(path, config, arrays)
    with h5py.File(path, "a") as file:
        del file[place]
        file.create_dataset(place, (192, 10**6), "f4", chunks=(192, 1000))
    assert "asks for 768,000,000 bytes for dense_1/W, and holds 0" in _refused(path)


def test_kernels_of_theano_are_refused(tmp_path: pathlib.Path) -> None:
    config, arrays = _keras_1()
    _written(tmp_path / "my.h5", config, arrays, backend="theano")
    assert "convolutions of Keras on Theano" in _refused(tmp_path / "my.h5")


@pytest.mark.filterwarnings("ignore")
def test_weights_without_layers_are_recognised(tmp_path: pathlib.Path) -> None:
    model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10)])
    model.save_weights(tmp_path / "my.weights.h5")
    assert "holds weights without the layers" in _refused(tmp_path / "my.weights.h5")
    assert "model.load_weights(path)" in _refused(tmp_path / "my.weights.h5")


@pytest.mark.filterwarnings("ignore")
def test_dense_layers_are_converted(tmp_path: pathlib.Path, test_set: Any) -> None:
    model = _randomised(_flat(keras))
    model.save(tmp_path / "my.h5")
    argv = ["convert.py", f"--source={tmp_path}/my.h5", f"--destination={tmp_path}/my.npz"]
    assert convert_command.main(argv) == 0
    images = test_set.images[:20]
    again = open_model(tmp_path / "my.npz", activation="relu").model(images)
    np.testing.assert_allclose(tf.nn.softmax(again), model(images), atol=1e-5)
