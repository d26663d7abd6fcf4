"""TensorBoard: what training and attacks write, under which tags.

Tags name what is measured, runs name where: `loss` and `accuracy` stand under the same tag in a
training's `train` and `test` runs, so that their curves overlay, and so do attacks' curves. Every
curve of an attack or an evaluation has two points at least.
"""

from __future__ import annotations

import itertools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from tensorboard.plugins.hparams import api as hp

from mnist_adv import files
from mnist_adv.attacks import AttackResult
from mnist_adv.models.training import EpochReport
from mnist_adv.reporting.saved_attack import SavedAttack
from mnist_adv.tensors import disk
from mnist_adv.tensors.lazy import tf
from mnist_adv.verdict.judge import measure

# HParams shows the first five by name, the others where they are asked for: "budget" has norm and
# epsilon in one.
_HPARAMS = (
    hp.HParam("attack"),
    hp.HParam("batch_size"),
    hp.HParam("budget"),
    hp.HParam("command", hp.Discrete(["train", "attack", "evaluate"])),
    hp.HParam("dataset"),
    hp.HParam("defend"),
    hp.HParam("epsilon"),
    hp.HParam("goal"),
    hp.HParam("learning_rate"),
    hp.HParam("loss"),
    hp.HParam("norm"),
    hp.HParam("num_epochs"),
    hp.HParam("num_steps"),
    hp.HParam("seed"),
    hp.HParam("step"),
    hp.HParam("step_size"),
    hp.HParam("steps_taken"),
)
_METRICS = (
    hp.Metric("accuracy", group="test", display_name="test accuracy"),
    hp.Metric("loss", group="test", display_name="test loss"),
    hp.Metric("robust_accuracy", group="test", display_name="test robust accuracy"),
    hp.Metric("attack/success", display_name="success (saved image)"),
    hp.Metric("attack/distance", display_name="distance"),
    hp.Metric("evaluation/success", display_name="success on the data set"),
    hp.Metric("evaluation/robust_accuracy", display_name="robust accuracy"),
)
# TensorBoard keeps ten images of a tag unless told otherwise.
_SAMPLES = "--samples_per_plugin=images=100"


def tensorboard_line(logdir: str | os.PathLike[str]) -> str:
    """Write the command that shows the summaries.

    Args:
        logdir: the parent folder of the runs.

    Returns:
        A command line.
    """
    return f"tensorboard --logdir {os.fspath(logdir)} {_SAMPLES}"


@contextmanager
def new_run(logdir: str | os.PathLike[str], name: str) -> Iterator[pathlib.Path]:
    """Fill a run's folder under a temporary name, and give it its own when all went well.

    Args:
        logdir: the parent folder; made if missing.
        name: the run's name; a number is added if it is taken, since two runs in one folder
            would be drawn as one zigzag.

    Yields:
        The temporary folder.

    Raises:
        OSError: the folder cannot be made or written.
    """
    parent = pathlib.Path(logdir)
    with disk.naming(parent / name), files.temporary_folder(parent) as folder:
        yield folder
        _require_whole(folder)
        for path in _names(parent, name):
            if files.add_folder(folder, path):
                break


def new_live_run(logdir: str | os.PathLike[str], name: str) -> pathlib.Path:
    """Open a run that is read while it is being written; see `new_run`.

    Args:
        logdir: the parent folder; made if missing.
        name: the run's name; a number is added if it is taken.

    Returns:
        The run's folder.

    Raises:
        OSError: the folder cannot be made or written.
    """
    parent = pathlib.Path(logdir)
    parent.mkdir(parents=True, exist_ok=True)
    files.sweep(parent)
    for path in _names(parent, name):
        try:
            path.mkdir()
            break
        except FileExistsError:
            continue
    return path


def write_hparams(folder: pathlib.Path, hparams: Mapping[str, Any]) -> None:
    """Write a run's hyper-parameters, and what all runs may have.

    Args:
        folder: the run's.
        hparams: name -> value, for TensorBoard's table; None is left out.

    Raises:
        OSError: the folder cannot be written.
    """
    if "norm" in hparams:
        norm, epsilon = hparams["norm"], hparams["epsilon"]
        budget = f"smallest {norm}" if epsilon is None else f"{norm} <= {epsilon:g}"
        hparams = {**hparams, "budget": budget}
    with writing(folder):
        # Beside each run: in the parent folder TensorBoard would show a run named ".".
        hp.hparams_config(hparams=_HPARAMS, metrics=_METRICS)
        hp.hparams({name: value for name, value in hparams.items() if value is not None})


def _names(parent: pathlib.Path, name: str) -> Iterator[pathlib.Path]:
    for number in itertools.count(1):
        yield parent / (name if number == 1 else f"{name}-{number}")


class TrainingSummaries:
    """Write a training's curves and templates.

    Args:
        folder: the run's folder, from `new_live_run`.
        shape: `(h, w, c)` of the images that the weights belong to.
    """

    def __init__(self, folder: pathlib.Path, shape: Sequence[int]) -> None:
        with disk.naming(folder):
            self._writers = {
                split: tf.summary.create_file_writer(os.fspath(folder / split))
                for split in ("train", "test")
            }
        self._folder, self._shape = folder, shape

    def write(
        self, report: EpochReport, weights: np.ndarray, robust_accuracy: float | None = None
    ) -> None:
        """Write one epoch.

        Args:
            report: losses and accuracies.
            weights: `[h * w * c, k]`, as they are after the epoch.
            robust_accuracy: of the test images, inside what the training defends against; None:
                nothing is defended.
        """
        for split, metrics in (("train", report.train), ("test", report.test)):
            with self._writers[split].as_default(step=report.epoch):
                tf.summary.scalar("loss", metrics.loss)
                tf.summary.scalar("accuracy", metrics.accuracy)
        if robust_accuracy is not None:
            with self._writers["test"].as_default(step=report.epoch):
                tf.summary.scalar("robust_accuracy", robust_accuracy)
        with self._writers["train"].as_default(step=report.epoch):
            tf.summary.scalar("learning_rate", report.learning_rate)
            templates = _centred(weights.T.reshape(-1, *self._shape))
            tf.summary.image("templates", templates, max_outputs=len(templates))
            tf.summary.histogram("weights", weights)

    def close(self, card: str, graph: Any) -> None:
        """Write the run card and the graph, and flush the files.

        Args:
            card: Markdown, from `run_card.card`.
            graph: the `tf.Graph` of the compiled epoch.

        Raises:
            OSError: not all could be written.
        """
        with self._writers["train"].as_default(step=0):
            tf.summary.text("card", card)
            tf.summary.graph(graph)
        for writer in self._writers.values():
            writer.close()
        _require_whole(self._folder)


def write_attack(
    folder: pathlib.Path,
    saved: SavedAttack,
    pictures: Mapping[str, np.ndarray],
    card: str,
) -> None:
    """Write one image's attack, step by step.

    Args:
        folder: the run's folder, from `new_run`.
        saved: the attack, with its trace, and its saved image.
        pictures: name -> `[height, width, 3]` uint8, each logged as one image.
        card: Markdown, from `run_card.card`.
    """
    result, trace = saved.result, saved.trace
    probabilities = tf.nn.softmax(trace.logits[:, 0]).numpy()
    label = int(probabilities[0].argmax())
    with writing(folder):
        for step, image in enumerate(trace.images[:, 0]):
            tf.summary.experimental.set_step(step)
            tf.summary.scalar("attack/objective", trace.objective[step, 0])
            tf.summary.scalar("attack/probability_clean_prediction", probabilities[step, label])
            if result.goal.targeted:
                target = result.goal.classes[0]
                tf.summary.scalar("attack/probability_target", probabilities[step, target])
            reached = probabilities[step].argmax() == result.goal.classes[0]
            tf.summary.scalar("attack/success", float(reached == result.goal.targeted))
            tf.summary.scalar("attack/distance", _length(image, result))
            distance = np.linalg.norm(image - result.images[0])
            tf.summary.scalar("attack/distance_l2", distance)
            tf.summary.scalar("attack/distance_linf", np.abs(image - result.images[0]).max())
            tf.summary.image("attack/iterate", image[np.newaxis])
            if step < len(trace.gradients):
                gradient = trace.gradients[step, 0]
                tf.summary.scalar("attack/gradient_l2", np.linalg.norm(gradient))
                tf.summary.histogram("attack/gradient", gradient)
                tf.summary.image("attack/gradient_image", _centred(gradient)[np.newaxis])
        # The saved image is the last step: HParams shows the last value, and every curve has two.
        tf.summary.experimental.set_step(len(trace.images))
        tf.summary.scalar("attack/success", float(saved.success))
        tf.summary.scalar("attack/distance", saved.verdict.norms[result.norm.value][0])
        tf.summary.experimental.set_step(0)
        for name, picture in pictures.items():
            tf.summary.image(f"attack/{name}", picture[np.newaxis])
        tf.summary.image("attack/saved", saved.image[np.newaxis])
        tf.summary.text("card", card)


@contextmanager
def writing(folder: pathlib.Path, suffix: str | None = None) -> Iterator[None]:
    """Send summaries to a folder, at step 0 unless told otherwise.

    Args:
        folder: of the run; made if missing.
        suffix: of the file's name.

    Yields:
        Nothing.

    Raises:
        OSError: the folder cannot be written.
    """
    with disk.naming(folder):
        writer = tf.summary.create_file_writer(os.fspath(folder), filename_suffix=suffix)
        with writer.as_default(step=0):
            yield
        writer.close()


def _require_whole(folder: pathlib.Path) -> None:
    """Read the events back: on a full disk TensorFlow's writer drops them without a word."""
    for path in folder.rglob("*.tfevents.*"):
        try:
            count = sum(1 for _ in tf.data.TFRecordDataset(os.fspath(path)))
        except tf.errors.DataLossError:
            count = 0
        if not count:
            raise OSError(f"{folder}: its files could not be written whole; is the disk full?")


def _length(image: np.ndarray, result: AttackResult) -> float:
    norms, _ = measure(result.images, image[np.newaxis], result.bounds)
    return float(norms[result.norm.value][0])


def _centred(values: np.ndarray) -> np.ndarray:
    # One grey scale for all, zero in the middle, so that they compare.
    largest = float(np.abs(values).max()) or 1.0
    return (0.5 + values / (2 * largest)).astype(np.float32)
