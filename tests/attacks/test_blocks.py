"""Models with convolutions are evaluated in blocks of one size, on images that need it alone."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from mnist_adv import attack
from mnist_adv.attacks.blocks import SIZE, in_blocks

layers = keras.layers


@pytest.mark.parametrize("num_active", [0, 1, SIZE, SIZE + 1, 3 * SIZE])
def test_only_what_is_not_done_is_computed(num_active: int) -> None:
    lanes = 3 * SIZE
    done = np.ones(lanes, bool)
    done[np.random.default_rng(num_active).permutation(lanes)[:num_active]] = False
    values = np.arange(2.0 * lanes, dtype=np.float32).reshape(lanes, 2)
    calls = tf.Variable(0)

    def function(values: Any, numbers: Any) -> tuple[Any, Any]:
        assert values.shape == [SIZE, 2]
        calls.assign_add(1)
        return values * 2, tf.cast(numbers, tf.float32) + values[:, 0]

    @tf.function
    def run(done: Any) -> Any:
        arguments = [tf.constant(values), tf.range(lanes)]
        return in_blocks(function, arguments, done, [tf.TensorSpec([2]), tf.TensorSpec([])])

    doubled, summed = run(tf.constant(done))
    assert calls.numpy() == -(-num_active // SIZE)
    np.testing.assert_array_equal(doubled.numpy()[~done], 2 * values[~done])
    expected = (np.arange(lanes) + values[:, 0])[~done]
    np.testing.assert_array_equal(summed.numpy()[~done], expected)


def _net(kind: str) -> Any:
    keras.utils.set_random_seed(5)
    wide = kind == "colour"
    return keras.Sequential([
        keras.Input((16, 18, 3) if wide else (28, 28, 1)),
        layers.Conv2D(8, 5, strides=2, activation="relu"),
        *([layers.DepthwiseConv2D(3), layers.BatchNormalization()] if wide else []),
        layers.MaxPooling2D(2),
        layers.Conv2D(12, 3, activation="tanh", padding="same"),
        layers.Flatten(),
        layers.Dense(33, activation="relu"),
        layers.Dense(7),
    ])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "method", "norm", "settings"),
    [
        ("grey", "pgd", "linf", {"epsilon": 0.05}),
        ("grey", "ddn", "l2", {}),
        ("colour", "fmn", "l1", {}),
        ("colour", "square", "linf", {"epsilon": 0.1}),
        ("colour", "deepfool", "l2", {}),
        ("colour", "apgd_ce", "linf", {"epsilon": 0.03}),
    ],
)
def test_a_batch_of_a_convolutional_net_is_its_images_one_by_one(
    kind: str, method: str, norm: str, settings: dict[str, Any]
) -> None:
    net = _net(kind)
    images = np.random.default_rng(0).random((21, *net.input_shape[1:]), np.float32)
    labels = net(images).numpy().argmax(axis=1)
    options: dict[str, Any] = {"method": method, "norm": norm, "num_steps": 6, **settings}

    def model(images: Any) -> Any:
        return net(images, training=False)

    together = attack(model, images, labels=labels, **options)
    assert np.any(together.perturbation)
    for index in (0, 7, 8, 20):
        alone = attack(model, images[index], labels=labels[index], **options)
        np.testing.assert_array_equal(alone.adversarial[0], together.adversarial[index])
        assert alone.num_steps[0] == together.num_steps[index]
