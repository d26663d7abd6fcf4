"""Models that draw at random: the mean of draws, and results that repeat."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mnist_adv import attack
from mnist_adv.attacks.randomized import MeanOfDraws, repeatable
from mnist_adv.models.softmax_regression import SoftmaxRegression

COUNT = 6


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(2).uniform(0.2, 0.8, (COUNT, 28, 28, 1)).astype(np.float32)


def noisy(model: SoftmaxRegression, size: float = 0.3) -> Any:
    """A model that adds noise of its own to every image."""
    return lambda x: model(x + size * tf.random.normal(tf.shape(x)))


def keras_dropout() -> Any:
    """A Keras model whose dropout stays on."""
    layers = tf.keras.layers
    model = tf.keras.Sequential([
        layers.Input((28, 28, 1)),
        layers.Flatten(),
        layers.Dropout(0.5, seed=3),
        layers.Dense(10, kernel_initializer=tf.keras.initializers.RandomNormal(0, 0.2, seed=1)),
    ])
    return lambda x: model(x, training=True)


def of_numpy(model: SoftmaxRegression) -> Any:
    """A model of NumPy arrays, which draws from NumPy's global state."""
    weights, bias = model.W.numpy(), model.b.numpy()

    def call(x: Any) -> np.ndarray:
        pixels = np.asarray(x).reshape(-1, 784)
        logits = (pixels + np.random.normal(0, 0.3, pixels.shape)) @ weights + bias  # noqa: NPY002
        return np.asarray(logits.astype(np.float32))

    return call


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["noise", "keras", "numpy"])
@pytest.mark.parametrize("trace", [False, True])
def test_the_same_call_gives_the_same_result(
    toy: SoftmaxRegression, images: np.ndarray, kind: str, trace: bool
) -> None:
    model = {"noise": noisy(toy), "keras": keras_dropout(), "numpy": of_numpy(toy)}[kind]
    labels = toy(images).numpy().argmax(axis=1)
    method = "square" if kind == "numpy" else "pgd"
    options: dict[str, Any] = {"labels": labels, "method": method, "epsilon": 0.03, "trace": trace}
    options |= {"num_steps": 4, "stop_early": False, "num_eot_samples": 3}
    once, again = (attack(model, images, **options) for _ in range(2))
    np.testing.assert_array_equal(once.adversarial, again.adversarial)
    np.testing.assert_array_equal(once.verdict.probabilities, again.verdict.probabilities)
    other = attack(model, images, seed=1, **options)
    assert np.any(other.verdict.probabilities != once.verdict.probabilities)
    assert (once.num_queries == 3 * 5).all()


def test_the_mean_of_many_draws_has_the_gradient_of_the_model_without_noise(
    toy: SoftmaxRegression, images: np.ndarray
) -> None:
    def slope(model: Any) -> np.ndarray:
        pixels = tf.constant(images)
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            logits = model(pixels)
            chosen = tf.reduce_sum(logits[:, 1] * logits[:, 2])
        return np.asarray(tape.gradient(chosen, pixels)).reshape(COUNT, -1)

    with repeatable(toy, images, 5):
        exact, few, many = slope(toy), slope(noisy(toy)), slope(MeanOfDraws(noisy(toy), 400))
    assert np.linalg.norm(many - exact) < 0.1 * np.linalg.norm(few - exact)
    logits = MeanOfDraws(toy, 3)(images).numpy()
    np.testing.assert_allclose(logits, toy(images).numpy(), rtol=1e-5, atol=1e-5)


def test_numpys_and_keras_states_are_put_back(toy: SoftmaxRegression, images: np.ndarray) -> None:
    model = keras_dropout()
    model(images)
    before = np.random.get_state()[1].copy()  # type: ignore[index] # noqa: NPY002
    with repeatable(model, images, 5):
        drawn = model(images).numpy()
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # type: ignore[index] # noqa: NPY002
    free = model(images).numpy()
    with repeatable(model, images, 5):
        np.testing.assert_array_equal(model(images).numpy(), drawn)
    assert np.any(free != drawn)


@pytest.mark.slow
def test_the_mean_is_attacked_where_one_draw_misleads(
    toy: SoftmaxRegression, images: np.ndarray
) -> None:
    labels = toy(images).numpy().argmax(axis=1)
    options: dict[str, Any] = {"labels": labels, "epsilon": 0.05, "method": "autoattack_rand"}
    result = attack(noisy(toy), images, num_steps=10, **options)
    assert result.success.all()
    assert (toy(result.adversarial).numpy().argmax(axis=1) != labels).mean() >= 0.8
    assert (result.num_queries % 20 == 0).all() and result.num_queries.max() > 0


@pytest.mark.parametrize("samples", [0, 1.5, -1])
def test_a_number_of_samples_is_checked(
    toy: SoftmaxRegression, images: np.ndarray, samples: Any
) -> None:
    with pytest.raises(ValueError, match="num_eot_samples must be"):
        attack(toy, images, labels=0, num_eot_samples=samples)
