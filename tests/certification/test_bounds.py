"""Bounds against enumeration on tiny networks, sampling on others, and the optimum on linear."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from mnist_adv.certification.network import Network
from mnist_adv.certification.nonlinearities import NONLINEARITIES, apply, choose_slopes, make_lines
from mnist_adv.certification.propagation import FLOAT32, FLOAT64
from mnist_adv.certification.read_model import logits_of, read_network
from mnist_adv.data.datasets import Dataset
from mnist_adv.models.as_model import as_model
from mnist_adv.models.linear import LinearModel
from mnist_adv.optimum import smallest_perturbation
from tests.certification.support import (
    margins,
    perceptron,
    random_layers,
    sample,
    smallest_margins,
)

Layers = keras.layers
pytestmark = pytest.mark.usefixtures("eagerly")
METHODS = ("ibp", "crown", "alpha_crown")
TINY = (4, 3, 3, 3)


def images_of(count: int, *shape: int, seed: int = 1) -> np.ndarray:
    pixels = np.random.default_rng(seed).random((count, *shape))
    return np.where(pixels < 0.2, 0.0, pixels).astype(np.float32)


@pytest.mark.parametrize("norm, epsilon", [("linf", 0.15), ("l1", 0.3)])
@pytest.mark.parametrize("method", METHODS)
def test_no_bound_is_above_the_enumerated_minimum(norm: str, epsilon: float, method: str) -> None:
    layers, images = random_layers(*TINY), images_of(3, 2, 2, 1)
    labels = np.array([0, 1, 2])
    found = margins(perceptron(layers), images, labels, norm, epsilon, method)
    exact = np.array([
        smallest_margins(layers, image.reshape(-1).astype(float), label, norm, epsilon)
        for image, label in zip(images, labels)
    ])
    other = np.isfinite(exact)
    assert (found[other] <= exact[other] + 1e-9).all()
    if method == "alpha_crown":  # and not far below it
        assert (exact[other] - found[other]).max() < 0.7


def test_each_method_is_tighter_than_the_one_before() -> None:
    model, images = perceptron(random_layers(9, 8, 8, 4)), images_of(5, 3, 3, 1)
    labels = np.arange(5) % 4
    worst = [margins(model, images, labels, "linf", 0.1, name).min(axis=1) for name in METHODS]
    assert (worst[1] >= worst[0] - 1e-12).all() and (worst[2] >= worst[1] - 1e-12).all()
    assert (worst[1] > worst[0] + 0.1).any() and (worst[2] > worst[1] + 1e-3).any()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_linear_model_has_the_radius_of_the_optimum(norm: str) -> None:
    (layer,), images = random_layers(16, 4), images_of(6, 4, 4, 1)
    model = LinearModel(*layer)
    labels = np.asarray(model(images)).argmax(axis=1)
    optimum = smallest_perturbation(*layer, images, labels=labels, norm=norm)
    least = optimum.upper_bound
    for method in METHODS:
        below = margins(model, images, labels, norm, least - 1e-6, method).min(axis=1)
        above = margins(model, images, labels, norm, least + 1e-6, method).min(axis=1)
        assert (below > 0).all() and (above < 0).all()


def test_float32_proves_no_more_than_exact_arithmetic_by_what_rounding_can_do() -> None:
    model, images = perceptron(random_layers(16, 12, 12, 3)), images_of(4, 4, 4, 1)
    labels = np.zeros(4, np.int64)
    exact, rounded = (
        margins(model, images, labels, "linf", 0.0, "crown", unit)[:, 1:]
        for unit in (FLOAT64, FLOAT32)
    )
    in_float32 = np.asarray(model(tf.constant(images)), np.float64)
    in_float64 = np.asarray(model(tf.constant(images.astype(np.float64))))
    error = np.abs((in_float32[:, :1] - in_float32) - (in_float64[:, :1] - in_float64))[:, 1:]
    assert (error > 0).any() and (exact - rounded >= error).all()
    assert (exact - rounded < 1e-3).all()


def chain_of(*layers: Any) -> Any:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8, 8, 2)), *layers, Layers.Flatten(), Layers.Dense(3)])
    generator = np.random.default_rng(1)
    for weights in model.weights:
        values = generator.normal(size=weights.shape) / np.sqrt(max(1, weights.shape[0]))
        weights.assign(np.abs(values) + 0.1 if "variance" in weights.path else values)
    return model


CHAINS: dict[str, Any] = {
    "sigmoid": lambda: chain_of(Layers.Flatten(), Layers.Dense(9, activation="sigmoid")),
    "tanh": lambda: chain_of(
        Layers.Flatten(), Layers.Dense(7, activation="tanh"), Layers.Dense(6, activation="tanh")
    ),
    "conv": lambda: chain_of(
        Layers.Conv2D(3, 3, strides=2, padding="same", activation="relu"),
        Layers.Conv2D(4, 2, activation="relu"),
    ),
    "pools": lambda: chain_of(
        Layers.ZeroPadding2D(1),
        Layers.MaxPooling2D(3, strides=2, padding="same"),
        Layers.Conv2D(2, 2, activation="relu"),
        Layers.AveragePooling2D(2),
    ),
    "normalised": lambda: chain_of(
        Layers.Rescaling(-2.0, 0.5),
        Layers.Conv2D(3, 3),
        Layers.BatchNormalization(),
        Layers.ReLU(),
        Layers.MaxPooling2D(),
        Layers.DepthwiseConv2D(2),
        Layers.GlobalAveragePooling2D(),
    ),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name == "sigmoid" else pytest.mark.slow) for name in CHAINS],
)
def test_no_sampled_image_is_below_a_bound(name: str) -> None:
    images = images_of(3, 8, 8, 2)
    model = as_model(CHAINS[name](), images)
    logits = np.asarray(model(images.astype(np.float64)))
    network = read_network(model, (8, 8, 2))
    assert np.allclose(logits_of(network, images.astype(np.float64)), logits, rtol=1e-12)
    labels, generator = logits.argmax(axis=1), np.random.default_rng(2)
    for norm, epsilon in (("linf", 0.05), ("l2", 0.4), ("l1", 1.5)):
        for method in METHODS[: 3 if norm == "linf" else 2]:
            found = margins(model, images, labels, norm, epsilon, method)
            # Around the images themselves bounds are exact but for rounding.
            for image, label, bound in zip(images, labels, found):
                near = sample(image.reshape(-1), norm, epsilon, 500, generator)
                seen = np.asarray(model(near.reshape(-1, 8, 8, 2)))
                seen = seen[:, label, np.newaxis] - seen
                others = np.arange(3) != label
                assert (seen.min(axis=0) >= bound)[others].all()
        least = logits[np.arange(3), labels, np.newaxis] - logits
        at_centre = margins(model, images, labels, norm, 0.0, "crown")
        assert np.allclose(at_centre, np.where(np.isinf(at_centre), np.inf, least), atol=1e-7)


STEPS: dict[str, Any] = {
    "strides": lambda: Layers.Conv2D(3, (3, 2), strides=(2, 1), padding="same"),
    "grouped": lambda: Layers.Conv2D(4, 3, groups=2),
    "depthwise": lambda: Layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same"),
    "separable": lambda: Layers.SeparableConv2D(3, 2, strides=2),
    "average": lambda: Layers.AveragePooling2D(3, strides=2, padding="same"),
    "maximum": lambda: Layers.MaxPooling2D(3, strides=2, padding="same"),
    "moved": lambda: keras.Sequential([Layers.Permute((2, 3, 1)), Layers.ZeroPadding2D((1, 2))]),
}


@pytest.mark.parametrize("name", STEPS)
def test_the_matrices_of_steps_compute_what_the_model_does(name: str) -> None:
    model = as_model(chain_of(STEPS[name](), Layers.Rescaling(-2.0, 0.5)), images_of(1, 8, 8, 2))
    require_matrices(read_network(model, (8, 8, 2)))


def test_the_matrix_of_a_convolution_with_gaps_and_any_padding_is_its_own() -> None:
    kernel = np.random.default_rng(5).normal(size=(2, 3, 2, 3))
    padding = [[0, 0], [1, 2], [0, 1], [0, 0]]

    def model(images: Any) -> Any:
        values = tf.nn.conv2d(images, kernel, 1, padding, dilations=2)
        return tf.reshape(values, [-1, 9 * 5 * 3])

    require_matrices(read_network(model, (8, 8, 2)))


def require_matrices(network: Network) -> None:
    values = images_of(2, 8, 8, 2).reshape(2, -1).astype(np.float64)
    for number, segment in enumerate(network.segments):
        ours = values.T
        for matrix, shift, _ in segment.matrices():
            ours = matrix @ ours + shift[:, np.newaxis]
            assert (matrix.data != 0).all()
        theirs = np.asarray(segment.linear(values) + segment.bias)
        assert np.allclose(ours.T, theirs, rtol=1e-12, atol=1e-12)
        if number < len(network.kinds):
            values = np.asarray(apply(network.kinds[number], theirs, network.windows[number]))


@pytest.mark.parametrize("kind", ["relu", "sigmoid", "tanh"])
def test_lines_of_any_slope_bound_the_function(kind: str) -> None:
    generator = np.random.default_rng(3)
    ends = np.sort(generator.normal(scale=3, size=(2, 1, 1, 200, 1)), axis=0)
    ends[:, 0, 0, :5] = 1.5  # of no width
    lower, upper = tf.constant(ends[0]), tf.constant(ends[1])
    wrong = tf.constant(generator.normal(size=lower.shape))
    points = ends[0] + (ends[1] - ends[0]) * np.linspace(0, 1, 2001)
    values = np.asarray(NONLINEARITIES[kind].function(tf.constant(points)))
    areas = []
    for slopes in (choose_slopes(kind, lower, upper), (wrong, wrong)):
        lines = make_lines(kind, slopes, lower, upper)
        below = np.asarray(lines.lower_slope * points + lines.lower_shift[..., np.newaxis])
        above = np.asarray(lines.upper_slope * points + lines.upper_shift[..., np.newaxis])
        assert (below <= values).all() and (above >= values).all()
        # And they touch it.
        assert (values - below).min(axis=-1).max() < 5e-3
        assert (above - values).min(axis=-1).max() < 5e-3
        areas.append((above - below).mean())
    assert areas[0] < areas[1] / 2


def test_lines_of_a_maximum_bound_it() -> None:
    generator = np.random.default_rng(4)
    ends = np.sort(generator.normal(size=(2, 1, 1, 300, 4)), axis=0)
    ends[0, ..., :100, 2] += 2
    ends[1] = np.maximum(*ends)
    lower, upper = tf.constant(ends[0]), tf.constant(ends[1])
    shares = generator.dirichlet(np.ones(4), size=(1, 1, 300))
    some = tf.constant(shares)
    for slopes in (choose_slopes("maximum", lower, upper), (some, some)):
        lines = make_lines("maximum", slopes, lower, upper)
        inputs = ends[0] + (ends[1] - ends[0]) * generator.choice([0, 0.5, 1], (2000, 1, 300, 4))
        values = inputs.max(axis=-1)
        below = np.sum(lines.lower_slope * inputs, axis=-1) + np.asarray(lines.lower_shift)
        above = np.sum(lines.upper_slope * inputs, axis=-1) + np.asarray(lines.upper_shift)
        assert (below <= values).all() and (above >= values).all()
        assert (np.asarray(above) - values).min(axis=0).max() < 1e-9


def test_what_is_no_chain_is_refused_by_name(test_set: Dataset) -> None:
    kernel = tf.constant(np.ones((4, 2)))

    def branches(images: Any) -> Any:
        flat = tf.reshape(images, [-1, 4])
        return flat @ kernel + tf.nn.relu(flat) @ kernel

    with pytest.raises(ValueError, match="AddV2 has 2 inputs that depend on the pixels"):
        read_network(branches, (2, 2, 1))
    with pytest.raises(ValueError, match="Received: a model with Softplus"):
        read_network(lambda x: tf.math.softplus(tf.reshape(x, [-1, 4])) @ kernel, (2, 2, 1))
    with pytest.raises(ValueError, match="traces in float64"):
        read_network(lambda x: tf.reshape(x, [-1, 4]) @ tf.ones([4, 2]), (2, 2, 1))
