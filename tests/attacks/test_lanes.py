"""The batch's size follows from model and method, and never from the number of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mnist_adv import attack
from mnist_adv.attacks import lanes, registry
from mnist_adv.attacks.task import Task
from mnist_adv.geometry.norms import Norm
from mnist_adv.models.activation import Activation
from mnist_adv.models.perceptron import Perceptron
from mnist_adv.models.softmax_regression import SoftmaxRegression

SHIPPED = lanes._MOST  # read before the session's fixture makes it smaller


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of lanes that users get."""
    monkeypatch.setattr(lanes, "_MOST", SHIPPED)


def task(model: Callable[[Any], Any]) -> Task:
    """Make a task of a model of ten classes."""
    return Task(model, targeted=True, norm=Norm.L2, num_classes=10, shape=(28, 28, 1))


def convolutions() -> tf.keras.Model:
    """A small network with large feature maps."""
    layers = tf.keras.layers
    return tf.keras.Sequential([
        layers.Input([28, 28, 1]),
        layers.Conv2D(32, 3, padding="same", activation="relu"),
        layers.Flatten(),
        layers.Dense(10),
    ])


def test_values_are_those_of_the_graph(toy: SoftmaxRegression) -> None:
    known = lanes.num_values(task(toy))
    assert 784 + 10 + 10 <= known < 1000  # the row of pixels, the product, the sum with the bias
    # Three maps of 32 x 28 x 28 (product, bias, relu), inside a function that Keras calls.
    assert lanes.num_values(task(convolutions())) >= 3 * 32 * 784


def test_larger_models_and_hungrier_methods_get_fewer_lanes(
    full: None, toy: SoftmaxRegression
) -> None:
    method = {name: registry.ATTACKS[name].attack for name in ("pgd", "carlini_wagner", "spsa")}
    own, large = task(toy), task(convolutions())
    assert lanes.num_lanes(own, method["pgd"]) == 1000
    assert lanes.num_lanes(large, method["pgd"]) < 100
    assert lanes.num_lanes(own, method["spsa"]) < lanes.num_lanes(own, method["carlini_wagner"])
    assert lanes.num_lanes(own, method["carlini_wagner"]) < 1000
    for which in (own, large):
        assert all(lanes.num_lanes(which, each) % 4 == 0 for each in method.values())


def test_larger_products_need_fewer_lanes(full: None, toy: SoftmaxRegression) -> None:
    method = registry.ATTACKS["pgd"].attack

    def dense(width: int) -> Task:
        shapes = [(784, width), (width, 10)]
        layers = [(np.zeros(shape, np.float32), np.zeros(shape[1], np.float32)) for shape in shapes]
        return task(Perceptron(layers, Activation.RELU))

    for width in (30, 100, 500):
        known = lanes.num_weights(dense(width))
        assert 784 * width + width + 10 * width + 10 <= known < 1.1 * 785 * width + 1000
    narrow, wide = (lanes.num_lanes(dense(width), method) for width in (30, 500))
    assert wide == 128 < narrow < 1000


def test_the_shipped_batch_gives_what_its_images_give_one_by_one(
    full: None, xla: None, toy: SoftmaxRegression, test_set: Any
) -> None:
    count = SHIPPED + 4  # the last ones enter lanes that others have left
    images, targets = test_set.images[:count], (test_set.labels[:count] + 1) % 10
    own: dict[str, Any] = {
        "epsilon": np.linspace(0.02, 0.2, count),
        "num_steps": 1 + np.arange(count) % 5,
    }
    together = attack(toy, images, targets=targets, **own)
    assert 0.1 < together.success.mean() < 0.9
    for index in (0, 1, SHIPPED // 2, SHIPPED - 1, SHIPPED, count - 1):
        settings = {name: values[index] for name, values in own.items()}
        alone = attack(toy, images[index], targets=targets[index], **settings)
        np.testing.assert_array_equal(alone.adversarial[0], together.adversarial[index])
        assert alone.num_steps[0] == together.num_steps[index]
