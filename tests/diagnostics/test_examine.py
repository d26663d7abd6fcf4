"""Each finding, on a model with exactly that defect; and none on a model without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mnist_adv.data import datasets
from mnist_adv.diagnostics import Finding, Severity, attacks, examine, gradients
from mnist_adv.diagnostics.finding import ModelUnderTest
from mnist_adv.models.activation import Activation
from mnist_adv.models.linear import LinearModel
from mnist_adv.models.perceptron import Perceptron
from mnist_adv.models.preprocessing import Pixels, PixelScale, Polarity, adapt
from mnist_adv.models.softmax_regression import SoftmaxRegression

pytestmark = pytest.mark.slow

Model = Callable[[Any], Any]


def _names(findings: list[Finding]) -> list[str]:
    return [finding.check for finding in findings]


def _examine(model: Model, test_set: datasets.Dataset, **settings: Any) -> list[Finding]:
    # The thorough checks compile attacks: only the tests of these checks ask for them.
    return examine(model, test_set.images, test_set.labels, **{"thorough": False, **settings})


def test_models_without_a_defect_have_no_finding(
    trained: SoftmaxRegression, test_set: datasets.Dataset
) -> None:
    assert _examine(trained, test_set, thorough=True) == []
    log_probabilities = lambda x: tf.math.log_softmax(trained(x))  # noqa: E731
    assert _examine(log_probabilities, test_set) == []
    untouched = np.eye(784, dtype=np.float32), np.zeros(784, np.float32)
    relu = Perceptron([untouched, (trained.W.numpy(), trained.b.numpy())], Activation.RELU)
    assert _examine(relu, test_set, thorough=True) == []


def test_probabilities_are_found(trained: SoftmaxRegression, test_set: datasets.Dataset) -> None:
    findings = _examine(lambda x: tf.nn.softmax(trained(x)), test_set)
    assert _names(findings) == ["probabilities"]
    assert "sum to 1" in findings[0].message
    assert findings[0].severity is Severity.SEVERE


@pytest.mark.parametrize("last", [tf.nn.softmax, tf.nn.log_softmax])
def test_two_softmaxes_are_found(
    trained: SoftmaxRegression, test_set: datasets.Dataset, last: Callable[[Any], Any]
) -> None:
    findings = _examine(lambda x: last(tf.nn.softmax(3 * trained(x))), test_set)
    assert _names(findings) == ["probabilities"]
    assert "softmax of a softmax" in findings[0].message


WRONG_PIXELS = [
    Pixels(scale, polarity)
    for scale in (PixelScale.UNIT, PixelScale.BYTES, PixelScale.SYMMETRIC)
    for polarity in Polarity
    if not Pixels(scale, polarity).plain
]


@pytest.mark.parametrize("pixels", WRONG_PIXELS, ids=str)
def test_wrong_pixels_are_found_and_the_setting_that_repairs_is_named(
    trained: SoftmaxRegression, test_set: datasets.Dataset, pixels: Pixels
) -> None:
    trained_on = _expecting(trained, pixels)
    findings = _examine(trained_on, test_set)
    assert "accuracy" in _names(findings)
    finding = next(finding for finding in findings if finding.check == "accuracy")
    assert str(pixels) in finding.remedy
    repaired = adapt(trained_on, pixels)
    assert _examine(repaired, test_set, pixels=pixels) == []


def test_setting_given_by_mistake_is_found_too(
    trained: SoftmaxRegression, test_set: datasets.Dataset
) -> None:
    mistaken = Pixels(polarity=Polarity.DARK_ON_LIGHT)
    findings = _examine(adapt(trained, mistaken), test_set, pixels=mistaken)
    assert str(Pixels()) in findings[0].remedy


def test_classes_in_another_order_are_found(
    trained: SoftmaxRegression, test_set: datasets.Dataset
) -> None:
    findings = _examine(lambda x: tf.reverse(trained(x), [1]), test_set)
    assert _names(findings) == ["accuracy"]
    assert "output 0 means 9" in findings[0].message


def test_swapped_axes_are_found(trained: SoftmaxRegression, test_set: datasets.Dataset) -> None:
    findings = _examine(
        lambda x: 3 * trained(tf.transpose(x, [0, 2, 1, 3])), test_set, thorough=False
    )
    assert not findings or "rows and columns" in findings[0].message
    assert findings


def test_chance_without_a_repair_is_found(test_set: datasets.Dataset) -> None:
    W = tf.random.stateless_normal([784, 10], seed=[0, 1])
    findings = _examine(lambda x: tf.reshape(x, [-1, 784]) @ tf.cast(W, x.dtype), test_set)
    assert _names(findings) == ["accuracy"]
    assert "chance gives 10%" in findings[0].message


def test_dropout_is_found(trained: SoftmaxRegression, test_set: datasets.Dataset) -> None:
    findings = _examine(lambda x: trained(tf.nn.dropout(x, 0.3)), test_set, thorough=True)
    # What later checks find would follow from the noise.
    assert "two_calls" in _names(findings)
    assert not {"numerical", "epsilon_0", "steps"} & set(_names(findings))
    assert "num_eot_samples=20" in findings[_names(findings).index("two_calls")].remedy


def test_batch_norm_in_training_mode_is_found(
    trained: SoftmaxRegression, test_set: datasets.Dataset
) -> None:
    def model(images: Any) -> Any:
        mean, variance = tf.nn.moments(images, [0])
        return 5 * trained(0.3 * (images - mean) / tf.sqrt(variance + 0.1))

    assert "batch" in _names(_examine(model, test_set))


def test_gradient_lost_in_float32_alone_is_found(
    trained: SoftmaxRegression, test_set: datasets.Dataset
) -> None:
    findings = _examine(lambda x: 20 * trained(x), test_set)
    assert _names(findings) == ["gradient"]
    assert "exactly zero" in findings[0].message
    assert "float64 repairs" in findings[0].message
    assert "--loss margin" in findings[0].remedy and "--target" in findings[0].remedy


def test_gradient_zero_in_every_dtype_is_found(
    trained: SoftmaxRegression, test_set: datasets.Dataset
) -> None:
    @tf.custom_gradient
    def without_slope(values: Any) -> Any:
        return tf.identity(values), tf.zeros_like

    findings = _examine(lambda x: trained(without_slope(x)), test_set)
    assert _names(findings) == ["gradient"]
    message = findings[0].message
    assert "100% of the images with or without a target (float64 repairs 0 of" in message


def test_gradient_that_is_not_finite_is_found(
    trained: SoftmaxRegression, test_set: datasets.Dataset
) -> None:
    findings = _examine(lambda x: trained(tf.sqrt(x * x)), test_set)
    assert _names(findings) == ["gradient"]
    assert "not finite" in findings[0].message


def test_missing_gradient_is_found(trained: SoftmaxRegression, test_set: datasets.Dataset) -> None:
    findings = _examine(lambda x: trained(tf.round(x)), test_set)
    assert _names(findings) == ["gradient"]
    numpy_code = lambda x: tf.constant(trained(x).numpy())  # noqa: E731
    findings = _examine(numpy_code, test_set)
    assert "no gradient flows" in findings[0].message


def test_gradient_that_is_not_the_slope_is_found(
    trained: SoftmaxRegression, test_set: datasets.Dataset
) -> None:
    @tf.custom_gradient
    def reversed_slope(values: Any) -> Any:
        return tf.identity(values), lambda upstream: -upstream

    findings = _examine(lambda x: trained(reversed_slope(x)), test_set, thorough=True)
    assert "numerical" in _names(findings)
    message = next(finding for finding in findings if finding.check == "numerical").message
    assert "by 200% of the largest" in message


@pytest.mark.parametrize("reversed_slope", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ties_in_max_pooling_are_no_disagreement(
    test_set: datasets.Dataset, dtype: str, reversed_slope: bool
) -> None:
    generator = np.random.default_rng(0)
    kernel = generator.normal(0, 0.5, (5, 5, 1, 8))
    W = generator.normal(0, 0.1, (1152, 10))

    def model(images: Any) -> Any:
        if dtype == "float32":
            images = tf.ensure_shape(images, [None, 28, 28, 1]) + tf.zeros([], tf.float32)
        if reversed_slope:
            images = tf.stop_gradient(2 * images) - images
        hidden = tf.nn.relu(tf.nn.conv2d(images, tf.cast(kernel, images.dtype), 1, "VALID"))
        pooled = tf.nn.max_pool2d(hidden, 2, 2, "VALID")
        return tf.reshape(pooled, [-1, 1152]) @ tf.cast(W, images.dtype)

    for place in range(5):
        images, labels = test_set.images[place : place + 5], test_set.labels[place : place + 5]
        tested = ModelUnderTest(model, images, labels, np.asarray(model(images)), Pixels())
        found = _names(list(gradients.numerical(tested)))
        assert found == ["numerical"] * reversed_slope


def test_a_weak_model_is_not_severe(test_set: datasets.Dataset, trained: SoftmaxRegression) -> None:
    noise = 3 * tf.random.stateless_normal([784, 10], [0, 1])
    weak: Model = lambda x: trained(x) + tf.reshape(x, [-1, 784]) @ noise  # noqa: E731
    accuracy = np.mean(np.argmax(weak(test_set.images[:200]), axis=1) == test_set.labels[:200])
    assert 0.2 < accuracy < 0.5
    assert not any(finding.severe and finding.stops for finding in _examine(weak, test_set))


@pytest.mark.parametrize("accuracy", [0.5, 0.7])
def test_chance_of_two_classes_is_a_half(accuracy: float) -> None:
    images = np.random.default_rng(0).random((200, 4, 4, 1)).astype(np.float32)
    W = np.random.default_rng(1).normal(0, 1, (16, 2)).astype(np.float32)
    model = LinearModel(W, np.zeros(2, np.float32))
    labels = np.argmax(model(images), axis=1)
    wrong = np.random.default_rng(2).permutation(200)[: round(200 * (1 - accuracy))]
    labels[wrong] = 1 - labels[wrong]
    severe = examine(model, images, labels, thorough=False)
    assert _names(severe) == ["accuracy"] * (accuracy == 0.5)
    assert all("it is untrained" in finding.remedy for finding in severe)


def test_model_that_changes_with_use_is_found(
    trained: SoftmaxRegression, test_set: datasets.Dataset
) -> None:
    calls = []

    def model(images: Any) -> Any:
        calls.append(1)
        return trained(images) if len(calls) < 4 else -trained(images)

    images, labels = test_set.images[:50], test_set.labels[:50]
    returned = np.asarray(model(images), np.float64)
    tested = ModelUnderTest(model, images, labels, returned, Pixels())
    assert _names(list(attacks.nothing_changes(tested))) == ["epsilon_0"]
    steady = ModelUnderTest(trained, images, labels, returned, Pixels())
    assert list(attacks.nothing_changes(steady)) == []


def test_slope_that_misleads_small_steps_is_found(
    trained: SoftmaxRegression, test_set: datasets.Dataset
) -> None:
    def wavy(images: Any) -> Any:
        # Right at 0 and at 1, where most pixels are; small steps are caught in the first dent.
        return trained(images + 0.02 * tf.sin(40 * np.pi * images))

    findings = _examine(wavy, test_set, thorough=True)
    assert _names(findings) == ["steps"]


def test_a_detector_that_answers_alike_is_found(
    trained: SoftmaxRegression, test_set: datasets.Dataset
) -> None:
    def detecting(images: Any) -> Any:
        logits = trained(images)
        grey = tf.reduce_mean(tf.cast((images > 0.03) & (images < 0.2), tf.float32), axis=(1, 2, 3))
        return tf.where(grey[:, tf.newaxis] > 0.25, tf.ones_like(logits), logits)

    findings = _examine(detecting, test_set, thorough=True)
    finding = findings[_names(findings).index("same_outputs")]
    assert finding.severe and not finding.stops
    assert finding.message.startswith("100 of 100 images get exactly the same outputs after")
    assert "a refusal counts as leaving the class" in finding.remedy


def test_outputs_that_are_not_finite_are_found(
    trained: SoftmaxRegression, test_set: datasets.Dataset
) -> None:
    findings = _examine(lambda x: trained(x) / tf.zeros([]), test_set)
    assert _names(findings) == ["finite"]


@pytest.mark.parametrize("shape", [(8, 8, 1), (6, 5, 3)])
def test_images_of_any_shape_are_checked(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    centres = random.random((4, *shape)).astype(np.float32)
    labels = np.arange(60) % 4
    noise = random.normal(0, 0.05, (60, *shape))
    images = np.clip(centres[labels] + noise, 0, 1).astype(np.float32)
    W = centres.reshape(4, -1).T
    model = LinearModel(W, -(W**2).sum(axis=0) / 2)

    def names(model: Model, thorough: bool = False) -> list[str]:
        return _names(examine(model, images, labels, thorough=thorough))

    assert names(model, thorough=True) == []
    assert names(lambda x: tf.reverse(model(x), [1])) == ["accuracy"]
    assert names(lambda x: model(tf.round(x))) == ["gradient"]
    assert names(lambda x: model(tf.stop_gradient(x) / 2 + x / 2), thorough=True) == ["numerical"]


def test_finding_is_one_line_with_its_remedy(
    trained: SoftmaxRegression, test_set: datasets.Dataset
) -> None:
    for finding in _examine(lambda x: tf.nn.softmax(trained(x)), test_set):
        assert "\n" not in str(finding)
        assert finding.remedy in str(finding)


def _expecting(model: SoftmaxRegression, pixels: Pixels) -> Model:
    """Make of a model one that was trained on other pixels, and is not linear in their scale."""

    def trained_on(images: Any) -> Any:
        unit = (images - pixels.offset) / pixels.factor
        # A hidden layer's nonlinearity, without which scale would hardly show.
        return model(tf.clip_by_value(unit, 0, 1))

    return trained_on
