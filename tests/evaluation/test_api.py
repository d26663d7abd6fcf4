"""`mnist_adv.evaluate`: what the command measures, for models and images in memory too."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import mnist_adv
from mnist_adv import attack, evaluate, load_result
from mnist_adv.commands import evaluate as evaluate_command
from mnist_adv.data.datasets import to_float
from mnist_adv.evaluation.in_memory import as_images, as_levels
from mnist_adv.evaluation.result import Evaluation
from mnist_adv.models.linear import LinearModel

LEVELS = np.random.default_rng(1).integers(0, 256, (12, 6, 6, 1)).astype(np.uint8)
MODEL = LinearModel(np.random.default_rng(0).normal(size=(36, 3)), np.zeros(3))
LABELS = np.asarray(MODEL(to_float(LEVELS))).argmax(axis=1)
LABELS[0] = (LABELS[0] + 1) % 3
QUICK: dict[str, Any] = {"num_steps": 3, "progress": False}


@pytest.fixture(scope="module")
def small() -> Evaluation:
    """Two attacks on twelve images in memory."""
    return evaluate(
        MODEL, LEVELS, LABELS, attacks=["pgd", "fgsm"], epsilons=[0, 0.02, 0.1], **QUICK
    )


def test_it_counts_what_the_attack_reaches(small: Evaluation) -> None:
    images = to_float(LEVELS)
    for number, epsilon in enumerate(small.table.plan.epsilons):
        found = attack(MODEL, images, labels=LABELS, epsilon=epsilon, num_steps=3)
        curve = small.curves[0]
        assert (curve.name, curve.form) == ("pgd", "float")
        assert curve.success[number].count >= int(found.success.sum())
    assert small.curves[0].success[0].count == 1 and small.sound
    assert small.beside is not None
    assert small.beside.curve.success[1].count >= small.curves[0].success[1].count


@pytest.mark.slow
def test_it_is_what_the_command_measures(workshop: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """The folder of one goes on as the folder of the other, in the same bytes."""
    argv = ["evaluate.py", f"--checkpoint_dir={workshop / 'checkpoints'}", "--epsilons=0,0.05"]
    argv += ["--num_images=20", "--num_steps=3", f"--results_dir={tmp_path}", "--name=one"]
    assert evaluate_command.main([*argv, f"--logdir={tmp_path / 'logs'}"]) == 0
    settings: dict[str, Any] = {"epsilons": "0,0.05", "num_images": 20, **QUICK}
    again = evaluate(workshop / "checkpoints", folder=tmp_path / "other", **settings)
    for name in ("summary.json", "images.csv", "results.npz", "manifest.json"):
        one, other = (tmp_path / folder / name for folder in ("one", "other"))
        assert one.read_bytes() == other.read_bytes(), name
    resumed = evaluate(workshop / "checkpoints", folder=tmp_path / "one", **settings)
    assert repr(resumed) == repr(again)
    assert (tmp_path / "other/report.html").exists()


def test_a_folder_belongs_to_one_model(tmp_path: pathlib.Path) -> None:
    def run(model: Any) -> Evaluation:
        return evaluate(model, LEVELS, LABELS, epsilons=[0.1], folder=tmp_path / "kept", **QUICK)

    first = run(MODEL)
    assert repr(run(LinearModel(MODEL.W, MODEL.b))) == repr(first)
    with pytest.raises(ValueError, match=r"checkpoint is .* there and .* here"):
        run(LinearModel(-np.asarray(MODEL.W), MODEL.b))


def test_floats_and_bytes_are_one_data_set(small: Evaluation) -> None:
    def name(images: Any) -> str:
        data = as_images(as_levels(images), LABELS, ("a", "b", "c"))
        return data.dataset

    assert name(LEVELS) == name(LEVELS / 255) == small.table.plan.dataset
    assert name(LEVELS[::-1].copy()) != small.table.plan.dataset


def test_any_model_in_memory_is_measured() -> None:
    def numpy_model(images: Any) -> Any:
        return np.asarray(images).reshape(len(images), -1) @ np.asarray(MODEL.W)

    found = evaluate(
        numpy_model, LEVELS, LABELS, attacks="square", targets="random", epsilons=[0, 1.0], **QUICK
    )
    assert found.curves[0].success[-1].count > 0 and found.beside is None


@pytest.mark.slow
def test_a_model_that_draws_at_random_gives_the_same_report_twice(tmp_path: pathlib.Path) -> None:
    weights = tf.constant(np.random.default_rng(8).normal(0, 0.2, (784, 3)), tf.float32)
    layer = tf.keras.layers.GaussianNoise(1.0, seed=1)

    def noisy(images: Any) -> Any:
        logits = tf.reshape(images, [-1, 784]) @ weights
        return layer(logits, training=True) + tf.random.normal(tf.shape(logits))

    generator = np.random.default_rng(9)
    levels = generator.integers(0, 256, (20, 28, 28, 1), np.uint8)
    labels = noisy(levels / np.float32(255)).numpy().argmax(axis=1)
    options: dict[str, Any] = {"attacks": "autoattack_rand", "epsilons": [0.01]}
    options |= {"num_steps": 2, "progress": False}
    for name in ("one", "two"):
        evaluate(noisy, levels, labels, folder=tmp_path / name, **options)
    for name in ("summary.json", "images.csv", "results.npz"):
        one, two = ((tmp_path / folder / name).read_bytes() for folder in ("one", "two"))
        assert one == two, name


def test_the_line_and_the_notebook(small: Evaluation) -> None:
    robust = small.curves[2].robust
    assert small.curves[2].name == "worst case"
    line = repr(small)
    assert f"12 images, pgd, fgsm; clean accuracy {11 / 12:.2%}" in line
    assert f"{robust[1].value:.2%} at 0.02, {robust[2].value:.2%} at 0.1" in line
    assert "base64," in small._repr_html_()
    axis = small.plot().axes[0]
    drawn = {curve.get_label(): np.asarray(curve.get_ydata(), float) for curve in axis.lines}
    np.testing.assert_allclose(drawn["worst case"], np.array([share.value for share in robust]))


def test_data_frames_are_the_curves_and_the_csv(small: Evaluation) -> None:
    pytest.importorskip("pandas", reason="the test extra has it")
    table = small.to_dataframe()
    assert len(table) == 3 * (2 * 3 + 1)  # attacks, worst case, optimum
    row = table[(table.attack == "fgsm") & (table.image == "saved") & (table.epsilon == 0.1)]
    (curve,) = (each for each in small.curves if (each.name, each.form) == ("fgsm", "saved"))
    assert list(row.success) == [curve.success[2].value]
    assert list(row.robust_low) == [curve.robust[2].interval[0]]
    assert len(small.to_dataframe(cases=True)) == 24


def test_it_is_saved_and_read(small: Evaluation, tmp_path: pathlib.Path) -> None:
    small.save(tmp_path / "small.npz")
    read = load_result(tmp_path / "small.npz")
    assert isinstance(read, Evaluation) and repr(read) == repr(small)
    assert read.curves == small.curves and read.checks == small.checks
    assert read.table.plan == small.table.plan and read.table.plan.digest == small.table.plan.digest
    assert read.pictures.keys() == small.pictures.keys()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attacks": "pdg"}, "did you mean .*pgd"),
        ({"attacks": []}, "attacks must be texts, at least one"),
        ({"epsilons": [0.1, 0.1]}, "each larger than the one before"),
        ({"epsilons": "a"}, "epsilons must be numbers"),
        ({"epsilons": ["a"]}, "epsilons must be numbers"),
        ({"num_images": 13}, "num_images must be at most 12. Received: 13"),
        ({"num_images": 0}, "num_images must be an integer"),
        ({"targets": "worst"}, "targets must be one of untargeted"),
        ({"norm": "l3"}, "norm must be one of"),
        ({"settings": {"fgsm": {}}}, "settings must be a dict of pgd"),
        ({"settings": {"pgd": {"restart": 2}}}, "did you mean restarts"),
        ({"confidence": 2}, "confidence must"),
        ({"jobs": 2}, "jobs above 1 need a model that is given by its path"),
        ({"split": "test"}, "images in memory have no dataset"),
        ({"class_names": ["a"]}, "class_names must be 3"),
        ({"labels": None}, "images and labels go together"),
        ({"labels": LABELS + 9}, "labels must lie in 0..2"),
        ({"images": LEVELS / 255 + 1e-3}, "images must"),
        ({"images": np.clip(LEVELS / 255, 0.1, 0.9)}, "whole levels of 255"),
        ({"model": 3}, "model must be a function"),
        ({"progress": 1}, "progress must be True or False"),
    ],
)
def test_what_cannot_be_measured_is_refused(settings: dict[str, Any], message: str) -> None:
    call = {"model": MODEL, "images": LEVELS, "labels": LABELS, **QUICK, **settings}
    with pytest.raises(ValueError, match=message):
        evaluate(**call)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.keras"):
        evaluate("none.keras")


def test_the_names_are_public() -> None:
    assert {"evaluate", "Evaluation", "load_result"} <= set(mnist_adv.__all__)
