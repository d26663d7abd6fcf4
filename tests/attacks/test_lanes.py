"""The batch's size follows from model and method, and never from the number of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tensorflow as tf

from mnist_adv.attacks import lanes, registry
from mnist_adv.attacks.base import Task
from mnist_adv.geometry.norms import Norm
from mnist_adv.models.softmax_regression import SoftmaxRegression


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of slots that users get."""
    monkeypatch.setattr(lanes, "_MOST", 1000)


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
