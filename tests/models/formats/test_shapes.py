"""Models of other images than MNIST's are read in every format, for the images that they take."""

from __future__ import annotations

import pathlib
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from mnist_adv import open_model
from mnist_adv.data.images import Shape
from mnist_adv.models.formats.convert import convert
from mnist_adv.models.formats.shapes import Layout, find_layout

layers = keras.layers


@pytest.mark.parametrize(
    ("inputs", "hint", "shape"),
    [
        ((784,), None, (28, 28, 1)),
        ((3072,), None, (32, 32, 3)),
        ((12,), (4, 3, 1), (4, 3, 1)),
        ((12,), (4, 4, 1), (2, 2, 3)),  # other images than those at hand
        ((1, 784), None, (28, 28, 1)),
        ((784, 1), None, (28, 28, 1)),
        ((1, 1, 784), None, (28, 28, 1)),
        ((12, 1, 1), (4, 3, 1), (4, 3, 1)),
        ((30, 1, 1), None, (30, 1, 1)),
        ((None,), (4, 3, 1), (4, 3, 1)),
        ((20, 30), None, (20, 30, 1)),
        ((20, 30, 3), (28, 28, 1), (20, 30, 3)),
        ((3, 20, 30), None, (20, 30, 3)),
        ((1, 28, 28), None, (28, 28, 1)),
        ((3, 3, 3), None, (3, 3, 3)),
        ((None, None, 3), (20, 30, 3), (20, 30, 3)),
        ((3, None, None), (20, 30, 3), (20, 30, 3)),
        ((None, 30, 1), (28, 28, 1), (28, 30, 1)),
    ],
)
def test_layouts(inputs: tuple[int | None, ...], hint: Shape | None, shape: Shape) -> None:
    layout = find_layout(inputs, hint, "m")
    images = np.arange(2 * np.prod(shape)).reshape(2, *shape)
    arranged = np.asarray(layout.arrange(images))
    assert layout.shape == shape and arranged.shape == (2, *layout.inputs)
    assert all(have in (None, new) for have, new in zip(inputs, layout.inputs))
    if len(inputs) == 3 and inputs[0] in (1, 3) and inputs not in ((3, 3, 3), (1, 1, 784)):
        np.testing.assert_array_equal(arranged, images.transpose(0, 3, 1, 2))
    else:
        np.testing.assert_array_equal(arranged, images.reshape(arranged.shape))


@pytest.mark.parametrize(
    ("inputs", "hint", "received"),
    [
        ((785,), None, "a model of 785"),
        ((), None, "a model of one number for an image"),
        ((None,), None, "a model of any"),
        ((None, None, 3), None, "a model of any x any x 3"),
        ((12, 4, 3, 1), (4, 3, 1), "12 x 4 x 3 x 1 and images 4 x 3 x 1"),
        (None, None, "unknown inputs"),
        ((0, 28, 1), None, "0 x 28 x 1"),
    ],
)
def test_layouts_that_are_refused(
    inputs: tuple[int | None, ...] | None, hint: Shape | None, received: str
) -> None:
    with pytest.raises(ValueError, match="must take images") as caught:
        find_layout(inputs, hint, "m")
    assert received in str(caught.value)


def _colour(softmax: bool = True) -> Any:
    keras.utils.set_random_seed(2)
    return keras.Sequential([
        keras.Input((12, 10, 3)),
        layers.Conv2D(4, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(7, activation="softmax" if softmax else None),
    ])


@pytest.mark.parametrize("kind", ["keras", "h5", "saved_model"])
def test_colour_nets(kind: str, tmp_path: pathlib.Path) -> None:
    model = _colour()
    path = tmp_path / ("saved" if kind == "saved_model" else f"m.{kind}")
    if kind == "saved_model":
        model.export(path, verbose=False)
    else:
        model.save(path)
    opened = open_model(path)
    assert opened.shape == (12, 10, 3) and len(opened.class_names) == 7
    images = np.random.default_rng(0).random((5, 12, 10, 3), np.float32)
    expected = np.asarray(model(images))
    logits = np.asarray(opened.model(images))
    np.testing.assert_allclose(tf.nn.softmax(logits), expected, atol=1e-5)
    assert not np.allclose(logits.sum(axis=1), 1)
    with pytest.raises(ValueError, match=r"12 x 10 x 3\. Received: images 28 x 28 x 1"):
        open_model(path, images=np.zeros([2, 28, 28, 1], np.float32))
    with pytest.raises(ValueError, match=r"must return 10 logits per image\. Received: 7"):
        open_model(path, num_classes=10)


@pytest.mark.parametrize("suffix", [".npz", ".ckpt", ".keras"])
def test_weights_of_any_shape_convert(suffix: str, tmp_path: pathlib.Path) -> None:
    random = np.random.default_rng(3)
    W, b = random.normal(0, 0.1, (48, 5)).astype(np.float32), np.arange(5, dtype=np.float32)
    np.savez(tmp_path / "w.npz", W=W, b=b)
    images = random.random((3, 4, 4, 3), np.float32)
    assert open_model(tmp_path / "w.npz").shape == (4, 4, 3)
    tall = open_model(tmp_path / "w.npz", shape=(8, 6, 1)).model
    np.testing.assert_allclose(
        tall(images.reshape(3, 8, 6, 1)), images.reshape(3, -1) @ W + b, atol=1e-5
    )
    convert(tmp_path / "w.npz", tmp_path / f"new{suffix}")
    opened = open_model(tmp_path / f"new{suffix}")
    assert opened.shape == (4, 4, 3)
    np.testing.assert_allclose(opened.model(images), images.reshape(3, -1) @ W + b, atol=1e-5)


def test_checkpoints_of_ours_carry_the_shape(tmp_path: pathlib.Path) -> None:
    from mnist_adv.models import checkpoints

    W = np.random.default_rng(3).normal(0, 0.1, (48, 5)).astype(np.float32)
    np.savez(tmp_path / "w.npz", W=W)
    convert(tmp_path / "w.npz", tmp_path / "ours", "checkpoint", shape=(6, 8, 1))
    loaded = checkpoints.load(tmp_path / "ours")
    assert loaded.shape == (6, 8, 1) and loaded.class_names == ("0", "1", "2", "3", "4")
    np.testing.assert_array_equal(loaded.model.W, W)  # type: ignore[attr-defined]


def test_nets_of_any_size_take_the_size_of_the_images(tmp_path: pathlib.Path) -> None:
    net = keras.Sequential([
        keras.Input((None, None, 3)),
        layers.Conv2D(4, 3),
        layers.GlobalAveragePooling2D(),
        layers.Dense(3, kernel_initializer=keras.initializers.RandomNormal(0, 9, seed=1)),
    ])
    net.save(tmp_path / "net.keras")
    with pytest.raises(ValueError, match="of a known size"):
        open_model(tmp_path / "net.keras")
    images = np.random.default_rng(0).random((2, 9, 11, 3), np.float32)
    opened = open_model(tmp_path / "net.keras", images=images)
    assert opened.shape == (9, 11, 3)
    np.testing.assert_allclose(opened.model(images), net(images), atol=1e-5)
    assert find_layout((None, None, 3), (9, 11, 3), "") == Layout((9, 11, 3), (9, 11, 3))
