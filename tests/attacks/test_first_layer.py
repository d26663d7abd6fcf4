"""A first layer that is followed through small windows gives what whole passes give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mnist_adv import attack
from mnist_adv.attacks.methods import first_layer
from mnist_adv.attacks.methods.windows import Windows
from mnist_adv.attacks.task import Task
from mnist_adv.geometry.norms import Norm
from mnist_adv.gradients.losses import Loss
from mnist_adv.gradients.sources import GradientSource
from mnist_adv.models.activation import Activation
from mnist_adv.models.perceptron import Perceptron

COUNT = 12


def perceptron(shape: tuple[int, int, int], activation: Activation) -> Perceptron:
    generator = np.random.default_rng(3)
    widths = (int(np.prod(shape)), 40, 20, 10)
    layers = [
        (
            generator.normal(0, 2 / before**0.5, (before, after)).astype(np.float32),
            generator.normal(0, 0.3, after).astype(np.float32),
        )
        for before, after in zip(widths, widths[1:])
    ]
    return Perceptron(layers, activation)


@pytest.mark.parametrize("shape", [(28, 28, 1), (9, 14, 3)])
@pytest.mark.parametrize("number", [7, 100])
def test_values_of_changed_windows_are_those_of_whole_passes(
    shape: tuple[int, int, int], number: int
) -> None:
    generator = np.random.default_rng(4)
    model, windows = perceptron(shape, Activation.RELU), Windows(shape, Norm.LINF)
    task = Task(model, False, Norm.LINF, 10, shape)
    kept = generator.uniform(0, 1, (COUNT, *task.flat)).astype(np.float32)
    side = 1 + np.arange(COUNT) % 8
    row, column = (generator.integers(0, size - side + 1) for size in shape[:2])
    image = kept.reshape(COUNT, *shape).copy()
    for one, (top, left, length) in enumerate(zip(row, column, side)):
        image[one, top : top + length, left : left + length] = generator.uniform()
    image = image.reshape(kept.shape)
    place = {"row": row, "column": column, "side": side}
    first = model.weights[0].numpy().astype(np.float64), model.biases[0].numpy()
    before, after = (
        at.reshape(COUNT, -1).astype(np.float64) @ first[0] + first[1] for at in (kept, image)
    )
    state = {
        "image": tf.constant(image),
        "kept": tf.constant(kept),
        "kept_values": tf.constant(before, tf.float32),
        "number": tf.fill([COUNT], number),
        **{name: tf.constant(values, tf.float32) for name, values in place.items()},
    }
    classes = model(image.reshape(COUNT, *shape)).numpy().argmax(axis=1)
    classes[0] = (classes[0] + 1) % 10  # whose goal is met: its values come from a whole pass
    inputs = {"classes": tf.constant(classes), "done": tf.fill([COUNT], False)}
    values, logits = first_layer.follow(task, inputs, state, windows)
    np.testing.assert_allclose(values, after, atol=2e-5)
    np.testing.assert_allclose(logits, model(image.reshape(COUNT, *shape)), atol=5e-5)
    # What is wrong with the values before stays, but for those of whole passes.
    state["kept_values"] += 0.01
    shifted, _ = first_layer.follow(task, inputs, state, windows)
    small = side**2 * shape[2] <= np.prod(shape) / 8
    followed = small & (np.arange(COUNT) > 0) & (number != 100)
    expected = np.where(followed, 0.01, 0)[:, np.newaxis]
    np.testing.assert_allclose(shifted - after, expected + np.zeros_like(after), atol=2e-5)


@pytest.mark.parametrize("goal", ["labels", "targets"])
def test_square_breaks_the_same_images_as_with_a_model_that_is_only_called(goal: str) -> None:
    model = perceptron((28, 28, 1), Activation.TANH)
    images = np.random.default_rng(5).uniform(0, 1, (COUNT, 28, 28, 1)).astype(np.float32)
    order = np.argsort(model(images).numpy(), axis=1)
    options: dict[str, Any] = {
        goal: order[:, -1 if goal == "labels" else -2],
        "method": "square",
        "epsilon": np.linspace(0.005, 0.03, COUNT),
        "num_steps": 150,
        "num_targets": 3,
    }
    followed = attack(model, images, **options)
    called = attack(lambda batch: model(batch), images, **options)
    assert 0 < called.success.sum() < COUNT
    np.testing.assert_array_equal(followed.success, called.success)
    same = [np.array_equal(*pair) for pair in zip(followed.adversarial, called.adversarial)]
    assert np.mean(same) >= 0.9  # another rounding may decide between equals
    np.testing.assert_array_equal(followed.num_queries[same], called.num_queries[same])
    for index in (0, 5, COUNT - 1):
        own = {**options, "epsilon": options["epsilon"][index], goal: options[goal][index]}
        alone = attack(model, images[index], **own)
        np.testing.assert_array_equal(alone.adversarial[0], followed.adversarial[index])


@pytest.mark.parametrize(
    ("method", "norm"), [("fab", "linf"), ("fab_t", "l2"), ("deepfool", "linf")]
)
def test_borders_beyond_the_first_layer_are_those_of_the_model(method: str, norm: str) -> None:
    model = perceptron((28, 28, 1), Activation.RELU)
    images = np.random.default_rng(6).uniform(0, 1, (COUNT, 28, 28, 1)).astype(np.float32)
    order = np.argsort(model(images).numpy(), axis=1)
    options: dict[str, Any] = {"labels": order[:, -1], "method": method, "norm": norm}
    followed = attack(model, images, num_steps=12, **options)
    called = attack(lambda batch: model(batch), images, num_steps=12, **options)
    assert followed.success.all()
    # Another rounding may lead elsewhere after a dozen steps, and not any farther.
    np.testing.assert_allclose(followed.distances, called.distances, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(followed.num_queries, called.num_queries)
    np.testing.assert_array_equal(followed.num_gradients, called.num_gradients)
    for index in (0, 5, COUNT - 1):
        own = {**options, "labels": options["labels"][index]}
        alone = attack(model, images[index], num_steps=12, **own)
        np.testing.assert_array_equal(alone.adversarial[0], followed.adversarial[index])


def test_gradients_beyond_the_first_layer_reach_the_pixels() -> None:
    shape = (9, 14, 3)
    model = perceptron(shape, Activation.SIGMOID)
    task = Task(model, False, Norm.LINF, 10, shape)
    images = tf.constant(np.random.default_rng(7).uniform(0, 1, (COUNT, *task.flat)), tf.float32)
    inputs = {
        "classes": tf.range(COUNT, dtype=tf.int64) % 10,
        "keys": tf.zeros([COUNT, 2], tf.uint32),
    }
    whole = task.differentiate(Loss.MARGIN, inputs, images, GradientSource())
    values = first_layer.first_values(task, images)
    rest = first_layer.after_first(task)
    found = rest.differentiate(Loss.MARGIN, inputs, values, GradientSource())
    np.testing.assert_allclose(found["logits"], whole["logits"], atol=1e-5)
    gradient = first_layer.to_pixels(task, found["gradient"])
    np.testing.assert_allclose(gradient, whole["gradient"], atol=1e-5)
    assert np.abs(whole["gradient"]).max() > 0.01
