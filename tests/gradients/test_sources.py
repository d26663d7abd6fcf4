"""Every source gives the same gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mnist_adv import check_gradient, compute_gradient
from mnist_adv.gradients.check import difference_errors, disagreement
from mnist_adv.gradients.losses import Loss, Objective
from mnist_adv.gradients.sources import (
    SOURCES,
    GradientSource,
    Source,
    default_difference_step,
)
from mnist_adv.models.softmax_regression import SoftmaxRegression

EXACT = [source for source in SOURCES.values() if not source.estimates]


def by_hand(model: SoftmaxRegression, image: np.ndarray, target: int, loss: Loss) -> np.ndarray:
    """Chain rule in float64 NumPy."""
    weights, bias = model.W.numpy().astype(float), model.b.numpy().astype(float)
    powers = np.exp(image.ravel().astype(float) @ weights + bias)
    p = powers / powers.sum()
    onehot = np.eye(10)[target]
    upstream = p - onehot if loss is Loss.CROSS_ENTROPY else p[target] * (onehot - p)
    return (weights @ upstream).reshape(image.shape)


@pytest.mark.parametrize("loss", [Loss.CROSS_ENTROPY, Loss.PROBABILITY])
@pytest.mark.parametrize("source", EXACT)
def test_every_source_is_the_chain_rule_by_hand(
    trained: SoftmaxRegression, seven: np.ndarray, loss: Loss, source: Source
) -> None:
    expected = by_hand(trained, seven, 2, loss)
    found = compute_gradient(trained, seven, 2, loss=loss, source=source, dtype="float64")
    error = {Source.FORWARD_DIFFERENCE: 1e-6, Source.CENTRAL_DIFFERENCE: 1e-8}.get(source, 1e-12)
    np.testing.assert_allclose(found, expected, atol=error * np.abs(expected).max())


@pytest.mark.parametrize("source", [source for source in EXACT if source is not Source.CLOSED_FORM])
def test_every_source_agrees_on_a_network(
    network: tf.Module, seven: np.ndarray, source: Source
) -> None:
    tape = compute_gradient(network, seven, 2, dtype="float64")
    found = compute_gradient(network, seven, 2, source=source, dtype="float64")
    np.testing.assert_allclose(found, tape, atol=1e-6 * np.abs(tape).max())
    assert np.abs(tape).max() > 1e-4


@pytest.mark.parametrize("source", [Source.SPSA, Source.NES])
def test_estimates_agree_with_the_tape_in_expectation(
    trained: SoftmaxRegression, seven: np.ndarray, source: Source
) -> None:
    tape = compute_gradient(trained, seven, 2, dtype="float64").ravel()
    draws = [
        compute_gradient(
            trained, seven, 2, source=source, dtype="float64", num_samples=256, seed=seed
        ).ravel()
        for seed in range(16)
    ]
    mean, spread = np.mean(draws, axis=0), np.std(draws, axis=0) / np.sqrt(len(draws))
    assert np.mean(np.abs(mean - tape) <= 4 * spread + 1e-12) > 0.97
    # unbiased along the gradient itself, where 4,096 draws leave little noise
    assert mean @ tape / (tape @ tape) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("source", [s for s in SOURCES.values() if s is not Source.CLOSED_FORM])
def test_a_source_asks_the_model_as_often_as_it_says(network: tf.Module, source: Source) -> None:
    asked = []

    def model(images: tf.Tensor) -> tf.Tensor:
        asked.append(len(images))
        return network(images)

    settings = GradientSource(source, num_samples=5)
    objective = Objective.to_descend(Loss.CROSS_ENTROPY, targeted=True)
    images, classes = tf.fill([2, 28, 28, 1], 0.5), tf.constant([3, 4], tf.int64)
    settings(model, objective, images, classes, keys=np.ones((2, 2), np.uint32), stream=[0, 0])
    queries, gradients = settings.cost(784)
    assert sum(asked) == 2 * queries
    assert gradients == {Source.TAPE: 1, Source.FORWARD_MODE: 784}.get(source, 0)


@pytest.mark.parametrize("shape", [(28, 28), (784,), (28, 28, 1), (1, 28, 28, 1)])
def test_the_gradient_has_the_shape_of_the_image(
    toy: SoftmaxRegression, seven: np.ndarray, shape: tuple[int, ...]
) -> None:
    gradient = compute_gradient(toy, seven.reshape(shape), 2)
    assert gradient.shape == shape and gradient.dtype == np.float32
    assert isinstance(gradient, np.ndarray)


@pytest.mark.parametrize("source", EXACT)
def test_images_do_not_influence_each_other(
    trained: SoftmaxRegression, test_set: Any, source: Source
) -> None:
    images, targets = test_set.images[:3], [1, 2, 3]
    together = compute_gradient(trained, images, targets, source=source, dtype="float64")
    for image, target, gradient in zip(images, targets, together):
        alone = compute_gradient(trained, image, target, source=source, dtype="float64")
        # the differences divide rounding noise by e, so they repeat only to that noise
        tolerance = 1e-6 if "difference" in source.name else 1e-14
        np.testing.assert_allclose(gradient, alone, atol=tolerance)


def test_the_seeds_formula_pixel_by_pixel(toy: SoftmaxRegression, seven: np.ndarray) -> None:
    def cost(image: np.ndarray) -> float:
        logits = toy(image[np.newaxis]).numpy()[0]
        return float(np.log(np.exp(logits).sum()) - logits[2])

    image, e = seven.astype(np.float64), 1e-6
    found = compute_gradient(toy, image, 2, source="forward_difference", difference_step=e)
    for row, column in ((0, 0), (7, 10), (14, 14), (27, 27)):
        nudged = image.copy()
        nudged[row, column] += e
        expected = (cost(nudged) - cost(image)) / e
        assert found[row, column, 0] == pytest.approx(expected, abs=1e-8)


def test_the_probability_gradient_is_the_cross_entropy_gradient_times_minus_p(
    trained: SoftmaxRegression, seven: np.ndarray
) -> None:
    p = tf.nn.softmax(trained(seven[np.newaxis]))[0, 2].numpy()
    probability = compute_gradient(trained, seven, 2, loss="probability", dtype="float64")
    cross_entropy = compute_gradient(trained, seven, 2, dtype="float64")
    np.testing.assert_allclose(probability, -p * cross_entropy, rtol=1e-5, atol=1e-12)


def test_a_step_against_the_gradient_raises_the_probability(
    trained: SoftmaxRegression, seven: np.ndarray
) -> None:
    def p(image: np.ndarray) -> float:
        return float(tf.nn.softmax(trained(image[np.newaxis]))[0, 2])

    image = np.clip(seven, 0.1, 0.9)
    for loss, sign in (("cross_entropy", -1), ("probability", 1)):
        gradient = compute_gradient(trained, image, 2, loss=loss)
        assert p(image + sign * 0.01 * np.sign(gradient)) > p(image)


def test_default_difference_steps_balance_both_errors(
    trained: SoftmaxRegression, seven: np.ndarray
) -> None:
    curves, defaults = difference_errors(trained, seven, 2)
    assert len(curves) == 4
    for name, (steps, errors) in curves.items():
        default = errors[np.searchsorted(steps, defaults[name])]
        assert default <= 5 * errors.min(), name
        assert errors[0] > 10 * errors.min() and errors[-1] > 10 * errors.min(), name
    forward, central = Source.FORWARD_DIFFERENCE, Source.CENTRAL_DIFFERENCE
    for source, dtype, step in (
        (forward, "float32", 0.0221),
        (central, "float32", 0.0787),
        (forward, "float64", 9.54e-7),
        (central, "float64", 9.69e-5),
    ):
        assert default_difference_step(source, dtype) == pytest.approx(step, rel=0.01)


def test_settings_that_move_nothing_are_refused() -> None:
    GradientSource(num_samples=1, difference_step=1.0)
    refused: tuple[dict[str, Any], ...] = (
        {"num_samples": 0},
        {"difference_step": 0.0},
        {"difference_step": 1.01},
    )
    for wrong in refused:
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must"):
            GradientSource(**wrong)


def test_check_gradient_agrees_for_healthy_models_and_not_for_a_liar(
    trained: SoftmaxRegression, network: tf.Module, seven: np.ndarray
) -> None:
    healthy = check_gradient(trained, seven, 2)
    assert {dtype: len(errors) for dtype, errors in healthy.items()} == {"float64": 5, "float32": 5}
    assert disagreement(healthy)[2]
    assert "closed_form" not in check_gradient(network, seven, 2)["float64"]

    @tf.custom_gradient
    def halved(logits: tf.Tensor) -> Any:
        return logits, lambda upstream: upstream / 2

    liar = check_gradient(lambda images: halved(network(images)), seven, 2)
    dtype, worst, agreed = disagreement(liar)
    assert (dtype, agreed) == ("float64", False) and worst > 0.9


def test_what_cannot_be_done_is_refused(toy: SoftmaxRegression, network: Any, seven: Any) -> None:
    with pytest.raises(ValueError, match="closed_form needs a SoftmaxRegression"):
        compute_gradient(network, seven, 2, source="closed_form")
    with pytest.raises(ValueError, match="through which no gradient flows"):
        compute_gradient(lambda images: tf.stop_gradient(toy(images)), seven, 2)
    with pytest.raises(
        ValueError, match=r"difference_step must be a number in \(0, 1\]. Received: 0"
    ):
        compute_gradient(toy, seven, 2, source="forward_difference", difference_step=0.0)
    with pytest.raises(ValueError, match=r"intended_labels must lie in 0\.\.9\. Received: 10"):
        compute_gradient(toy, seven, 10)
    with pytest.raises(ValueError, match=r"loss must be one of cross_entropy, .*Received: 'hinge'"):
        compute_gradient(toy, seven, 2, loss="hinge")
    with pytest.raises(ValueError, match=r"must map images .* Received: \[1\] for n = 1"):
        compute_gradient(lambda images: tf.reduce_sum(images, axis=[1, 2, 3]), seven, 2)


@pytest.mark.parametrize(
    "source", [Source.FORWARD_MODE, Source.FORWARD_DIFFERENCE, Source.CENTRAL_DIFFERENCE]
)
def test_many_images_are_compiled_and_give_the_same(
    network: tf.Module, test_set: Any, source: Source
) -> None:
    images, labels = test_set.images[:70], test_set.labels[:70]  # one block and a part
    tape = compute_gradient(network, images, labels, dtype="float64")
    found = compute_gradient(network, images, labels, source=source, dtype="float64")
    np.testing.assert_allclose(found, tape, atol=1e-6 * np.abs(tape).max())


def test_many_estimates_are_those_of_single_images(network: tf.Module, test_set: Any) -> None:
    images, labels = test_set.images[:70], test_set.labels[:70]
    options: dict[str, Any] = {"source": "spsa", "dtype": "float64", "seed": 3}
    found = compute_gradient(network, images, labels, **options)
    for index in (0, 63, 64, 69):
        alone = compute_gradient(network, images[index], labels[index], **options)
        np.testing.assert_allclose(found[index], alone, atol=1e-8)


@pytest.mark.slow
def test_many_images_of_a_model_that_is_numpy_inside(toy: SoftmaxRegression, test_set: Any) -> None:
    weights = toy.W.numpy()

    def model(images: Any) -> Any:
        return np.asarray(images).reshape(-1, 784) @ weights

    images, labels = test_set.images[:66], test_set.labels[:66]
    asked = compute_gradient(model, images, labels, source="central_difference")
    bias = toy.b.numpy().copy()
    toy.b.assign(0 * bias)
    tape = compute_gradient(toy, images, labels)
    np.testing.assert_allclose(asked, tape, atol=0.02 * np.abs(tape).max())
