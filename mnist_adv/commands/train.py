"""Train softmax regression and save checkpoints."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import math
import os
import sys
from typing import TYPE_CHECKING, cast

from absl import flags

from mnist_adv import files
from mnist_adv.commands import cli
from mnist_adv.data import datasets
from mnist_adv.models.training_config import DEFENDED_NORMS, TrainingConfig

if TYPE_CHECKING:
    from mnist_adv.models.loaded import LoadedModel
    from mnist_adv.models.softmax_regression import SoftmaxRegression

_SPLITS = ("train", None)  # None: the one on which models are tested
_CONFIG_FLAGS = ("num_epochs", "batch_size", "learning_rate", "seed", "defend", "epsilon")


def define_flags(values: flags.FlagValues) -> None:
    """Define the command's flags.

    Args:
        values: where they are defined.
    """
    define = functools.partial(cli.define, values)
    default, defended = TrainingConfig(), TrainingConfig(defend="linf", epsilon=0.1)
    define("dataset", str, "mnist", "mnist, a folder, or a TFDS name: fashion_mnist, ...")
    define("data_dir", str, None, "Where TFDS keeps its data sets.")
    define("manual_dir", str, None, "Folder of the data set's original files.")
    define("num_epochs", int, default.num_epochs, "Passes over the images.")
    define("batch_size", int, default.batch_size, "Images per step.")
    rate = (
        "Of the first step; falls to 0 along a cosine. If not given, "
        f"{default.learning_rate:g}, with --defend {defended.learning_rate:g}."
    )
    define("learning_rate", float, None, rate)
    define("seed", int, default.seed, "Of the order of the images.")
    norms = ", ".join(DEFENDED_NORMS)
    define("defend", str, None, f"Train on the worst images inside a ball: {norms}.")
    define("epsilon", float, None, "The ball's radius, with --defend; in pixel units.")
    define("resume", bool, False, "Go on from the newest checkpoint, with its settings.")
    define("checkpoint_dir", str, "checkpoints", "Where checkpoints are saved.")
    define("logdir", str, "logs", "Where TensorBoard's files go.")


def _train(values: flags.FlagValues) -> int:
    given = {} if values.resume else {name: values[name].value for name in _CONFIG_FLAGS}
    config = TrainingConfig(**given)
    cli.require_destinations(values, "checkpoint_dir")
    with contextlib.ExitStack() as stack:
        if values.resume or values.dataset != "mnist":
            cli.load_tensorflow(values)
            if values.resume:
                stack.enter_context(files.alone(values.checkpoint_dir))
            resumed = _resumed(values) if values.resume else None
            sets = [_load(values, resumed, split) for split in _SPLITS]
        else:
            # Reading and unzipping needs no Python lock: the import of TensorFlow hides it.
            with concurrent.futures.ThreadPoolExecutor() as pool:
                reading = [pool.submit(_load, values, None, split) for split in _SPLITS]
                cli.load_tensorflow(values)
                sets = [future.result() for future in reading]
            resumed = None
        if not values.resume:
            os.makedirs(values.checkpoint_dir, exist_ok=True)
            stack.enter_context(files.alone(values.checkpoint_dir))
        return _run(values, config, resumed, *sets)


def _resumed(values: flags.FlagValues) -> LoadedModel:
    from mnist_adv.models import checkpoints

    resumed = checkpoints.load(values.checkpoint_dir)
    checkpoints.sweep(values.checkpoint_dir)
    if "training" not in resumed.config:
        raise ValueError(
            f"{resumed.where} was converted from {resumed.config.get('converted_from')}, not "
            "trained here; --resume needs the settings of a training"
        )
    training = dataclasses.asdict(TrainingConfig(**resumed.config["training"]))
    stored = {"dataset": resumed.config["dataset"], **training}
    for name, value in cli.given_flags(values).items():
        if name in stored and stored[name] != value:
            raise ValueError(
                f"--resume goes on with the checkpoint's settings: {name} is {stored[name]!r} "
                f"there. Received: --{name}={value}"
            )
    return resumed


def _load(
    values: flags.FlagValues, resumed: LoadedModel | None, split: str | None
) -> datasets.Dataset:
    name = values.dataset if resumed is None else resumed.config["dataset"]
    return datasets.DataSource(name, split, values.data_dir, values.manual_dir).load()


def _run(
    values: flags.FlagValues,
    config: TrainingConfig,
    resumed: LoadedModel | None,
    train_set: datasets.Dataset,
    test_set: datasets.Dataset,
) -> int:
    from tqdm import tqdm

    from mnist_adv.models import checkpoints, softmax_regression, training
    from mnist_adv.models.digests import digest_layers
    from mnist_adv.reporting import run_card, tensorboard

    output, dataset, first_epoch = cli.Output(values), values.dataset, 0
    shape = train_set.images.shape[1:]
    model = softmax_regression.SoftmaxRegression(len(train_set.class_names), math.prod(shape))
    if resumed is not None:
        config = TrainingConfig(**resumed.config["training"])
        dataset, first_epoch = resumed.config["dataset"], resumed.config["epoch"]
        model = cast(softmax_regression.SoftmaxRegression, resumed.model)
        if first_epoch == config.num_epochs:
            output.lines(f"{resumed.where} has all its {first_epoch} epochs; nothing to do")
            output.record({"checkpoint": resumed.where, "epoch": first_epoch})
            return cli.DONE
    saver = checkpoints.Saver(
        values.checkpoint_dir,
        model,
        {
            "model": {
                "type": "SoftmaxRegression",
                "num_classes": len(train_set.class_names),
                "image_shape": list(shape),
            },
            "dataset": dataset,
            "class_names": list(train_set.class_names),
            "training": dataclasses.asdict(config),
        },
    )
    settings = {"dataset": dataset, **dataclasses.asdict(config)}
    folder = tensorboard.new_live_run(values.logdir, "train")
    tensorboard.write_hparams(folder, {"command": "train", **settings})
    curves = tensorboard.TrainingSummaries(folder, shape)
    output.lines(
        f"{dataset}: {len(train_set.labels)} training and {len(test_set.labels)} test images, "
        f"{len(train_set.class_names)} classes"
    )
    prefix = ""
    bar = tqdm(
        training.train(model, train_set, test_set, config, first_epoch=first_epoch),
        desc="epochs",
        initial=first_epoch,
        total=config.num_epochs,
        file=sys.stderr,
        disable=None,
    )
    for epoch in bar:
        prefix = saver.save(epoch.epoch)
        robust = _robust_accuracy(model, test_set, config)
        curves.write(epoch, model.W.numpy(), robust)
        shown = "" if robust is None else f", robust {robust:.4f}"
        bar.set_postfix_str(f"test accuracy {epoch.test.accuracy:.4f}{shown}")
    lines = [
        f"after {epoch.epoch} epochs: test accuracy {epoch.test.accuracy:.4f}, "
        f"loss {epoch.test.loss:.4f}",
        *_lines(robust, config),
        f"saved {prefix}",
    ]
    record = {
        "command": cli.command_line(values),
        "flags": cli.settings(values),
        "versions": run_card.versions(),
        "checkpoint": {"prefix": prefix, "sha256": digest_layers(model, shape)},
        **dataclasses.asdict(epoch),
        "robust_accuracy": robust,
    }
    curves.close(
        run_card.card(record, lines, run_card.READ_TRAINING),
        training.epoch_graph(model, len(train_set.labels), config),
    )
    output.lines(*lines, f"to look at it: {tensorboard.tensorboard_line(values.logdir)}")
    output.record(record)
    return cli.DONE


def _robust_accuracy(
    model: SoftmaxRegression, test_set: datasets.Dataset, config: TrainingConfig
) -> float | None:
    """Measure it with proof, by code that the training shares nothing with."""
    from mnist_adv import optimum

    if config.defend is None:
        return None
    nearest = optimum.smallest_perturbation(
        model.W.numpy(),
        model.b.numpy(),
        test_set.images,
        labels=test_set.labels,
        norm=config.defend,
        progress=False,
    )
    return float(optimum.robust_accuracy(nearest, [config.epsilon])[0])


def _lines(robust: float | None, config: TrainingConfig) -> list[str]:
    if robust is None:
        return []
    return [f"exact robust accuracy inside {config.defend} {config.epsilon:g}: {robust:.4f}"]


main = cli.Command(
    summary="Train softmax regression on labelled images and save a checkpoint per epoch.",
    define_flags=define_flags,
    groups=(
        cli.Group(
            "Data",
            "--dataset fashion_mnist",
            ("dataset", "data_dir", "manual_dir"),
        ),
        cli.Group("Training", "--num_epochs 20 --seed 1", _CONFIG_FLAGS[:4]),
        cli.Group("Defence", "--defend linf --epsilon 0.1", _CONFIG_FLAGS[4:]),
        cli.Group("Files", "--resume", ("resume", "checkpoint_dir", "logdir")),
    ),
    body=_train,
    interrupted="--resume goes on from the newest checkpoint",
)
