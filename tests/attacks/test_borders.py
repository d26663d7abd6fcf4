"""Borders of the linearised model: the nearest of all classes', and steps that come beyond them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mnist_adv import attack
from mnist_adv.attacks.methods import first_layer
from mnist_adv.attacks.methods.borders import nearest_border
from mnist_adv.attacks.task import Task
from mnist_adv.geometry.norms import Norm
from mnist_adv.models.activation import Activation
from mnist_adv.models.perceptron import Perceptron

COUNT, CLASSES = 16, 7
DUAL_ORDER = {Norm.LINF: 1, Norm.L2: 2, Norm.L1: np.inf}


@pytest.fixture(scope="module")
def model() -> Perceptron:
    generator = np.random.default_rng(8)
    widths = (784, 60, 30, CLASSES)
    layers = [
        (generator.normal(0, 2 / before**0.5, (before, after)), generator.normal(0, 0.3, after))
        for before, after in zip(widths, widths[1:])
    ]
    return Perceptron(
        [(kernel.astype(np.float32), bias.astype(np.float32)) for kernel, bias in layers],
        Activation.RELU,
    )


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(9).uniform(0, 1, (COUNT, 28, 28, 1)).astype(np.float32)


@pytest.mark.parametrize("norm", DUAL_ORDER)
@pytest.mark.parametrize("kind", ["perceptron", "called", "blocked"])
def test_the_nearest_border_is_the_smallest_of_all_classes(
    model: Perceptron, images: np.ndarray, norm: Norm, kind: str
) -> None:
    called = model if kind == "perceptron" else lambda batch: model(batch)
    task = Task(called, False, norm, CLASSES, (28, 28, 1), blocked=kind == "blocked")
    classes = np.arange(COUNT) % CLASSES
    done = np.arange(COUNT) % 5 == 4
    inputs = {"classes": tf.constant(classes), "done": tf.constant(done)}
    flat = tf.constant(images.reshape(COUNT, *task.flat))
    values = first_layer.first_values(task, flat)
    found = nearest_border(task, inputs, flat, values)

    with tf.GradientTape() as tape:
        tape.watch(flat)
        logits = task.logits(flat)
    slopes = tape.batch_jacobian(logits, flat).numpy().reshape(COUNT, CLASSES, -1)
    lines = np.arange(COUNT)
    gaps = logits.numpy()[lines, classes, np.newaxis] - logits.numpy()
    normals = slopes[lines, classes, np.newaxis] - slopes
    lengths = np.linalg.norm(normals, DUAL_ORDER[norm], axis=2)
    lengths[lines, classes] = 1e-9  # the class itself has no border
    distances = np.abs(gaps) / lengths
    distances[lines, classes] = np.inf
    nearest = distances.argmin(axis=1)
    assert len(set(nearest)) > 3
    at = (lines, nearest)
    kept = ~done if kind == "blocked" else np.full(COUNT, True)
    for name, expected in (("logits", logits), ("gap", gaps[at]), ("gradient", normals[at])):
        seen = found[name].numpy().reshape(np.shape(expected))
        np.testing.assert_allclose(seen[kept], np.asarray(expected)[kept], atol=2e-5)


@pytest.mark.parametrize("scale", [1, 100])
@pytest.mark.parametrize(
    ("method", "norm"), [("fab", "linf"), ("fab", "l2"), ("fab_t", "linf"), ("deepfool", "linf")]
)
def test_no_image_stays_on_a_border(
    model: Perceptron, images: np.ndarray, method: str, norm: str, scale: float
) -> None:
    labels = model(images).numpy().argmax(axis=1)
    options: dict[str, Any] = {"labels": labels, "method": method, "norm": norm}
    result = attack(lambda batch: scale * model(batch), images, num_steps=30, trace=True, **options)
    assert result.success.all()
    assert result.trace is not None
    logits = result.trace.logits
    own = np.take_along_axis(logits, labels[np.newaxis, :, np.newaxis], axis=2)[..., 0]
    others = np.where(np.arange(CLASSES) == labels[:, np.newaxis], -np.inf, logits).max(axis=2)
    on_border = np.abs(own - others) <= 1e-5 * np.abs(logits).max(axis=2)
    assert not (on_border[1:] & on_border[:-1]).any()
