"""Figures and TensorBoard files: they are there, and they show the numbers."""

from __future__ import annotations

import dataclasses
import io
import pathlib
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mnist_adv import attack, evaluate
from mnist_adv.attacks import AttackResult, Trace
from mnist_adv.commands import attack as attack_command
from mnist_adv.drawing import canvas
from mnist_adv.evaluation.report import summaries
from mnist_adv.geometry.norms import Norm
from mnist_adv.gradients.goals import make_goal
from mnist_adv.models.linear import LinearModel
from mnist_adv.models.softmax_regression import SoftmaxRegression
from mnist_adv.reporting import figures, saved_attack, tensorboard
from mnist_adv.reporting.saved_attack import SavedAttack
from mnist_adv.verdict.judge import judge_goal

DIGITS = tuple("0123456789")


@pytest.fixture
def result(trained: SoftmaxRegression, seven: np.ndarray) -> AttackResult:
    """The 7 on its way to a 2, with its trace."""
    return attack(trained, seven, targets=2, trace=True)


def events(folder: pathlib.Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance=defaultdict(int))
    accumulator.Reload()
    return accumulator


def scalars(folder: pathlib.Path, tag: str) -> list[float]:
    tensors = events(folder).Tensors(tag)
    return [float(tf.make_ndarray(event.tensor_proto)) for event in tensors]


def test_the_figure_changes_with_what_it_shows(result: AttackResult) -> None:
    saved = SavedAttack(result, result.adversarial[0], result.verdict)
    drawn = figures.attack_figure(saved, DIGITS)
    assert drawn.dtype == np.uint8 and drawn.shape[2] == 3
    brighter = figures.attack_figure(
        dataclasses.replace(saved, image=np.clip(saved.image + 0.3, 0, 1)), DIGITS
    )
    assert (drawn != brighter).any()
    assert drawn.std() > 20


def test_the_film_strip_shows_first_and_last(result: AttackResult) -> None:
    assert result.trace is not None
    strip = figures.film_strip(result.trace, DIGITS)
    height, width = strip.shape[:2]
    frames = min(12, len(result.trace.images))
    assert width / 4 == pytest.approx(1.3 * 110, abs=2)  # four in a row, whatever their number
    assert height == pytest.approx(-(-frames // 4) * 1.8 * 110, abs=4)
    with pytest.raises(ValueError, match="must be of one image, with trace=True"):
        _ = SavedAttack(
            dataclasses.replace(result, trace=None), result.adversarial[0], result.verdict
        ).trace


def test_png_and_animation_decode_to_what_went_in(result: AttackResult) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(canvas.png(pixels)))), pixels)
    assert result.trace is not None
    with Image.open(io.BytesIO(figures.animation(result.trace))) as animation:
        assert animation.n_frames == len(result.trace.images)
        assert animation.size == (224, 224)


def test_training_curves_overlay_under_one_tag(workshop: pathlib.Path) -> None:
    run = workshop / "logs/train"
    for tag in ("loss", "accuracy"):
        train, test = scalars(run / "train", tag), scalars(run / "test", tag)
        assert len(train) == len(test) == 8 and train != test
    assert scalars(run / "test", "accuracy")[-1] >= 0.925
    assert len(events(run / "train").Tensors("templates")[-1].tensor_proto.string_val) == 12


def test_every_training_has_its_hyper_parameters(workshop: pathlib.Path) -> None:
    from tensorboard.plugins.hparams import plugin_data_pb2

    def plugin(folder: pathlib.Path, tag: str) -> Any:
        metadata = events(folder).SummaryMetadata(tag)
        return plugin_data_pb2.HParamsPluginData.FromString(metadata.plugin_data.content)

    hparams = plugin(workshop / "logs/train", "_hparams_/session_start_info")
    values = hparams.session_start_info.hparams
    assert values["learning_rate"].number_value == 1.3 and values["dataset"].string_value == "mnist"
    experiment = plugin(workshop / "logs/train", "_hparams_/experiment").experiment
    assert "accuracy" in {metric.name.tag for metric in experiment.metric_infos}


def test_an_attack_is_logged_step_by_step(
    workshop: pathlib.Path, tmp_path: pathlib.Path, result: AttackResult
) -> None:
    argv = [
        "attack.py",
        "--target=2",
        f"--checkpoint_dir={workshop / 'checkpoints'}",
        f"--results_dir={tmp_path / 'results'}",
        f"--logdir={tmp_path / 'logs'}",
    ]
    assert attack_command.main(argv) == 0
    assert attack_command.main(argv) == 0
    runs = sorted(path.name for path in (tmp_path / "logs").iterdir() if path.is_dir())
    assert runs == ["attack-mnist-test-0-to-2", "attack-mnist-test-0-to-2-2"]
    run = tmp_path / "logs/attack-mnist-test-0-to-2"
    assert result.trace is not None
    np.testing.assert_allclose(
        scalars(run, "attack/objective"), result.trace.objective[:, 0], rtol=1e-5
    )
    success, distance = scalars(run, "attack/success"), scalars(run, "attack/distance")
    assert success[0] == distance[0] == 0 and success[-2:] == [1, 1]
    np.testing.assert_allclose(distance[-2], result.verdict.norms["linf"][0], rtol=1e-6)
    tags = events(run).Tags()["tensors"]
    for tag in ("figure", "film_strip", "iterate", "saved", "gradient", "gradient_image"):
        assert f"attack/{tag}" in tags
    card = events(run).Tensors("card")[0].tensor_proto.string_val[0].decode()
    assert "attack.py --target=2 --checkpoint_dir=" in card and "reached in 9 steps" in card
    assert not any(path.is_file() for path in (tmp_path / "logs").iterdir())  # no run named "."
    assert all(len(events(run).Tensors(tag)) > 1 for tag in tags if _is_scalar(run, tag))


def hparams_of(run: pathlib.Path) -> dict[str, Any]:
    from tensorboard.plugins.hparams import plugin_data_pb2

    metadata = events(run).SummaryMetadata("_hparams_/session_start_info")
    content = plugin_data_pb2.HParamsPluginData.FromString(metadata.plugin_data.content)
    values = content.session_start_info.hparams
    return {name: value.string_value or value.number_value for name, value in values.items()}


@pytest.mark.parametrize(("epsilon", "budget"), [(0.25, "linf <= 0.25"), (None, "smallest linf")])
def test_hparams_show_norm_and_epsilon_at_once(
    tmp_path: pathlib.Path, epsilon: float | None, budget: str
) -> None:
    tensorboard.write_hparams(tmp_path, {"norm": "linf", "epsilon": epsilon, "seed": 3})
    assert hparams_of(tmp_path)["budget"] == budget
    experiment = tensorboard._HPARAMS
    assert "budget" in sorted(each.name for each in experiment)[:5]  # which it shows unasked


@pytest.mark.parametrize("epsilons", [(0.1,), (0.0, 0.05, 0.1)])
def test_curves_of_evaluations_have_two_points_at_least(
    tmp_path: pathlib.Path, epsilons: tuple[float, ...]
) -> None:
    levels = np.random.default_rng(1).integers(0, 256, (9, 6, 6, 1)).astype(np.uint8)
    model = LinearModel(np.random.default_rng(0).normal(size=(36, 3)), np.zeros(3))
    labels = np.asarray(model(levels / np.float32(255))).argmax(axis=1)
    labels[0] = (labels[0] + 1) % 3
    found = evaluate(
        model, levels, labels, attacks=["fgsm", "pgd"], epsilons=epsilons, progress=False
    )
    summaries.write(tmp_path, found)
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"fgsm", "pgd"}
    for run, curve in ((tmp_path / "pgd", found.curves[1]), (tmp_path, found.curves[2])):
        shares = [share.value for share in curve.robust]
        shares = shares if epsilons[0] == 0 else [8 / 9, *shares]
        np.testing.assert_allclose(scalars(run, "evaluation/robust_accuracy"), shares, rtol=1e-6)
        assert len(scalars(run, "evaluation/success")) == len(shares) >= 2


def _is_scalar(run: pathlib.Path, tag: str) -> bool:
    return events(run).SummaryMetadata(tag).plugin_data.plugin_name == "scalars"


def test_the_tensorboard_line_names_the_folder() -> None:
    assert tensorboard.tensorboard_line("logs").startswith("tensorboard --logdir logs ")


def _linear(images: Any) -> tf.Tensor:
    pixels = tf.reshape(images, [len(images), -1])
    weights = np.random.default_rng(1).normal(size=(pixels.shape[1], 3))
    return pixels @ tf.constant(weights, pixels.dtype)


@pytest.fixture(params=[(8, 8, 1), (12, 10, 3)])
def other_shape(request: pytest.FixtureRequest) -> AttackResult:
    """An attack of three steps on a grey or a colour image that is not 28 x 28."""
    generator = np.random.default_rng(0)
    images = generator.random((4, 1, *request.param), np.float32)
    logits = np.stack([_linear(image).numpy() for image in images])
    goal = make_goal(1, 3, labels=int(logits[0].argmax()))
    verdict = judge_goal(_linear, images[0], images[-1], goal, norm="linf", epsilon=1.0)
    return AttackResult(
        images=images[0],
        adversarial=images[-1],
        goal=goal,
        norm=Norm.LINF,
        epsilon=1.0,
        num_steps=np.array([3]),
        num_queries=np.array([3]),
        num_gradients=np.array([3]),
        verdict=verdict,
        method="pgd",
        trace=Trace(images, logits, np.zeros([4, 1]), images[:3] - 0.5, np.array([3])),
    )


def test_figures_take_any_shape(other_shape: AttackResult, tmp_path: pathlib.Path) -> None:
    saved = SavedAttack(other_shape, other_shape.adversarial[0], other_shape.verdict)
    names = ("a", "b", "c")
    drawn = figures.attack_figure(saved, names)
    assert drawn.shape[2] == 3 and drawn.std() > 20
    assert figures.film_strip(saved.trace, names).std() > 20
    height, width, channels = saved.image.shape
    with Image.open(io.BytesIO(figures.animation(saved.trace))) as animation:
        assert animation.size[0] * height == animation.size[1] * width
    levels = np.rint(255 * saved.image).astype(np.uint8)
    with Image.open(io.BytesIO(canvas.png(levels))) as picture:
        assert picture.mode == ("L" if channels == 1 else "RGB")
        np.testing.assert_array_equal(np.asarray(picture).reshape(levels.shape), levels)


def test_an_image_of_any_shape_is_verified_from_its_file(
    other_shape: AttackResult, tmp_path: pathlib.Path
) -> None:
    saved = saved_attack.save(tmp_path / "image.png", _linear, other_shape)
    with Image.open(tmp_path / "image.png") as picture:
        pixels = np.asarray(picture).reshape(saved.image.shape) / 255
    np.testing.assert_allclose(saved.image, pixels, atol=1e-7)
    moved = np.abs(pixels - other_shape.images[0]).max()
    assert saved.verdict.norms["linf"][0] == pytest.approx(moved, abs=1e-6)
    assert saved.verdict.predictions[0] == _linear(saved.image[np.newaxis]).numpy().argmax()
