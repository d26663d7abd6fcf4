"""Checkpoints of TF1 programs load, return what their sessions returned, and are attacked."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest

import mnist_adv
from mnist_adv.data import datasets
from mnist_adv.models.formats.open import open_model
from mnist_adv.models.softmax_regression import SoftmaxRegression
from tests.models.formats.support import NUM_ORACLE_IMAGES, tf1_folder  # noqa: F401

pytestmark = pytest.mark.slow

PROGRAMS = {
    "softmax": ("softmax.ckpt-150", "took Variable [784, 10] as weights and Variable_1 [10]"),
    "old": ("old.ckpt", "took Variable [784, 10] as weights and Variable_1 [10]"),
    "model": ("model.ckpt", "took Variable [784, 10] as weights and Variable_1 [10]"),
    "feed": ("feed.ckpt-300", "hidden1/weights [784, 64] as weights and hidden1/biases [64]"),
    "layers": ("layers.ckpt", "dense_1/kernel [48, 48] as weights and dense_1/bias [48]"),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_loads_and_agrees_with_its_own_session(
    tf1_folder: pathlib.Path,
    program: str,
) -> None:
    checkpoint, taken = PROGRAMS[program]
    opened = open_model(tf1_folder / checkpoint)
    assert taken in opened.notes[0]
    images = datasets.load().images[:NUM_ORACLE_IMAGES]
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


@pytest.mark.parametrize("program", ["model", "layers"])
def test_program_is_attacked(tf1_folder: pathlib.Path, program: str) -> None:
    opened = open_model(tf1_folder / PROGRAMS[program][0])
    result = mnist_adv.attack(opened.model, datasets.load().images[:1], targets=2, labels=7)
    assert result.success.all()
    assert result.verdict.predictions[0] == 2


def test_question_prints_7(tf1_folder: pathlib.Path) -> None:
    assert np.load(tf1_folder / "classification.npy").tolist() == [7]


def test_saved_model_of_a_tf1_program(tf1_folder: pathlib.Path) -> None:
    opened = open_model(tf1_folder / "served")
    assert opened.notes[0] == "took signature serving_default: x to pred"
    assert opened.notes[1] == "its last softmax was taken off: the outputs are logits"
    images = datasets.load().images[:NUM_ORACLE_IMAGES]
    with np.load(tf1_folder / "model.npz") as oracle:
        seen = np.asarray(opened.model(images), np.float64)
        seen -= np.log(np.exp(seen).sum(axis=1, keepdims=True))
        np.testing.assert_allclose(seen, oracle["logits"], atol=2e-5)
    assert mnist_adv.attack(opened.model, images[:1], targets=2, labels=7).success.all()


def test_one_layer_is_softmax_regression_so_that_closed_forms_hold(
    tf1_folder: pathlib.Path,
) -> None:
    model = open_model(tf1_folder / "model.ckpt").model
    assert isinstance(model, SoftmaxRegression)
    image = datasets.load().images[0]
    by_hand = mnist_adv.compute_gradient(model, image, 2, source="closed_form")
    np.testing.assert_allclose(by_hand, mnist_adv.compute_gradient(model, image, 2), atol=1e-6)


def test_flipped_bit_in_the_old_format_is_damage_or_harmless(
    tf1_folder: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    intact = (tf1_folder / "old.ckpt").read_bytes()
    clean = open_model(tf1_folder / "old.ckpt").model
    image = datasets.load().images[:1]
    refused = 0
    for place in np.linspace(0, len(intact) - 1, 40).astype(int):
        content = bytearray(intact)
        content[place] ^= 1 << (place % 8)
        (tmp_path / "old.ckpt").write_bytes(content)
        try:
            seen = open_model(tmp_path / "old.ckpt").model(image)
            np.testing.assert_array_equal(seen, clean(image))
        except ValueError as error:
            assert "old.ckpt is damaged" in str(error)
            refused += 1
    assert refused > 35
    (tmp_path / "old.ckpt").write_bytes(intact[:1000])
    with pytest.raises(ValueError, match=r"old\.ckpt is damaged"):
        open_model(tmp_path / "old.ckpt")


def _gradient_of_logit(model: Any, images: np.ndarray, k: int) -> np.ndarray:
    import tensorflow as tf

    pixels = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        value = model(pixels)[:, k]
    return np.asarray(tape.gradient(value, pixels))
