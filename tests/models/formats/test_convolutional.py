"""Keras models that are more than Dense layers are attacked like any other, in any number."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mnist_adv import attack, examine, open_model
from mnist_adv.commands import attack as attack_command

layers = tf.keras.layers


def _sequential() -> Any:
    return tf.keras.Sequential([
        layers.Input([28, 28, 1]),
        layers.Conv2D(4, 5, strides=3, activation="relu"),
        layers.BatchNormalization(),
        layers.MaxPooling2D(),
        layers.Dropout(0.5),
        layers.Flatten(),
        layers.Dense(10, activation="softmax"),
    ])


def _functional() -> Any:
    inputs = layers.Input([28, 28, 1])
    left = layers.Conv2D(2, 4, strides=4)(inputs)
    right = layers.AveragePooling2D(4)(inputs)
    joined = layers.Concatenate()([left, right])
    return tf.keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(joined)))


def _without_channels() -> Any:
    return tf.keras.Sequential([
        layers.Input([28, 28]),
        layers.Conv1D(4, 7, strides=7),
        layers.Flatten(),
        layers.Dense(10),
    ])


@pytest.mark.slow
@pytest.mark.parametrize("build", [_sequential, _functional, _without_channels])
def test_more_images_than_lanes_are_attacked(
    build: Callable[[], Any], tmp_path: pathlib.Path, test_set: Any, few_lanes: int
) -> None:
    tf.keras.utils.set_random_seed(3)
    build().save(tmp_path / "model.keras")
    model = open_model(tmp_path / "model.keras").model
    images = test_set.images[: few_lanes + 9]
    labels = np.asarray(model(images)).argmax(axis=1)
    result = attack(model, images, labels=labels, num_steps=3, epsilon=0.5, step_size=0.3)
    assert result.success.any() and np.any(result.perturbation)
    alone = attack(model, images[-1], labels=labels[-1], num_steps=3, epsilon=0.5, step_size=0.3)
    np.testing.assert_array_equal(alone.adversarial[0], result.adversarial[-1])
    if build is _functional:
        for method, norm in (("deepfool", "l2"), ("jsma", "l0")):
            found = attack(model, images, labels=labels, method=method, norm=norm, num_steps=2)
            assert np.any(found.perturbation)
        assert isinstance(examine(model, test_set.images[:200], test_set.labels[:200]), list)


def test_no_raw_error_of_tensorflow_is_shown(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "checkpoint").touch()  # enough to come as far as TensorFlow

    def fail(*_: Any) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "out of memory\nin a long story")

    monkeypatch.setattr("mnist_adv.commands.model_flags.open_model", fail)
    assert attack_command.main(["attack.py", "--target=2"]) == 2
    assert capsys.readouterr().err == "attack.py: error: the model fails (out of memory)\n"
