"""Checkpoints of TF1 programs load, see what their sessions saw, and are attacked."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

import mnist_adv
from mnist_adv import data
from mnist_adv.foreign.open import open_model
from mnist_adv.models import SoftmaxRegression
from tests.conftest_foreign import NUM_ORACLE_IMAGES, tf1_folder  # noqa: F401

PROGRAMS = {
    "softmax": ("softmax.ckpt-300", "took Variable [784, 10] as weights and Variable_1 [10]"),
    "old": ("old.ckpt", "took Variable [784, 10] as weights and Variable_1 [10]"),
    "model": ("model.ckpt", "took Variable [784, 10] as weights and Variable_1 [10]"),
    "feed": ("feed.ckpt-600", "hidden1/weights [784, 64] as weights and hidden1/biases [64]"),
    "layers": ("layers.ckpt", "dense_1/kernel [48, 48] as weights and dense_1/bias [48]"),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_loads_and_agrees_with_its_own_session(
    tf1_folder: pathlib.Path, program: str  # noqa: F811
) -> None:
    checkpoint, taken = PROGRAMS[program]
    opened = open_model(tf1_folder / checkpoint)
    assert taken in opened.notes[0]
    images = data.load().images[:NUM_ORACLE_IMAGES]
    with np.load(tf1_folder / f"{program}.npz") as oracle:
        logits, gradient = oracle["logits"], oracle["gradient"]
    if program == "model":  # its session has no logits, only the logarithm of pred
        seen = np.asarray(opened.model(images), np.float64)
        seen -= np.log(np.exp(seen).sum(axis=1, keepdims=True))
    else:
        seen = np.asarray(opened.model(images))
        ours = _gradient_of_logit(opened.model, images, 2)
        np.testing.assert_allclose(ours.reshape(-1, 784), gradient, atol=1e-5)
    np.testing.assert_allclose(seen, logits, atol=2e-5)
    assert seen[0].argmax() == 7


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_is_attacked(tf1_folder: pathlib.Path, program: str) -> None:  # noqa: F811
    opened = open_model(tf1_folder / PROGRAMS[program][0])
    result = mnist_adv.attack(opened.model, data.load().images[:1], targets=2, labels=7)
    assert result.success.all()
    assert result.verdict.predictions[0] == 2


def test_question_prints_7(tf1_folder: pathlib.Path) -> None:  # noqa: F811
    assert np.load(tf1_folder / "classification.npy").tolist() == [7]


def test_one_layer_is_softmax_regression_so_that_closed_forms_hold(
    tf1_folder: pathlib.Path,  # noqa: F811
) -> None:
    model = open_model(tf1_folder / "model.ckpt").model
    assert isinstance(model, SoftmaxRegression)
    image = data.load().images[0]
    by_hand = mnist_adv.compute_gradient(model, image, 2, source="closed_form")
    np.testing.assert_allclose(by_hand, mnist_adv.compute_gradient(model, image, 2), atol=1e-6)


def _gradient_of_logit(model: mnist_adv.models.Model, images: np.ndarray, k: int) -> np.ndarray:
    import tensorflow as tf

    pixels = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        value = model(pixels)[:, k]
    return np.asarray(tape.gradient(value, pixels))
