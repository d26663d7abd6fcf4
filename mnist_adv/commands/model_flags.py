"""The flags that name a command's model, whoever trained it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from absl import flags

from mnist_adv.commands import cli
from mnist_adv.data import datasets
from mnist_adv.models.activation import Activation
from mnist_adv.models.loaded import LoadedModel
from mnist_adv.models.model_source import ModelSource
from mnist_adv.models.preprocessing import Pixels, PixelScale, Polarity

if TYPE_CHECKING:
    from mnist_adv.diagnostics import Finding

_SOURCES = ("checkpoint_dir", "checkpoint", "model")
_READING = ("variables", "activation", "pixel_scale", "polarity")

GROUP = cli.Group(
    "Model",
    "python attack.py --target 2 --checkpoint /tmp/model.ckpt",
    (*_SOURCES, *_READING, "doctor"),
)


def define_flags(values: flags.FlagValues) -> None:
    """Define the flags of this group.

    Args:
        values: where they are defined.
    """

    def text(name: str, default: str | None, help_text: str) -> None:
        flags.DEFINE_string(name, default, help_text, flag_values=values)

    def choice(name: str, kind: Any, default: Any, help_text: str) -> None:
        flags.DEFINE_enum_class(name, default, kind, help_text, flag_values=values)

    text("checkpoint_dir", "checkpoints", "The newest checkpoint here is restored.")
    text("checkpoint", None, "A checkpoint of TF1 (or TF2) instead: /tmp/model.ckpt")
    text("model", None, "Or a .keras, an .npz, a SavedModel folder, package.module:function.")
    text("variables", None, "Which variables are the model: W=NAME,b=NAME")
    choice("activation", Activation, None, "Between several layers.")
    choice("pixel_scale", PixelScale, PixelScale.UNIT, "Its pixels: 0..1, 0..255 or -1..1.")
    choice("polarity", Polarity, Polarity.LIGHT_ON_DARK, "Of the ink in its images.")
    flags.DEFINE_boolean(
        "doctor", False, "Run every check of the model before the attack.", flag_values=values
    )


def model_source(values: flags.FlagValues) -> ModelSource:
    """Take from the flags where the model is and how it is read.

    Args:
        values: the parsed flags.

    Returns:
        The source.

    Raises:
        ValueError: flags that exclude one another.
    """
    given = [name for name in _SOURCES if values[name].present]
    if len(given) > 1:
        raise ValueError(f"--{given[0]} and --{given[1]} both name a model; give one of them")
    other = values.checkpoint or values.model
    if other is None:
        for name in _READING:
            if values[name].present:
                raise ValueError(f"--{name} goes with --checkpoint or --model; ours need it not")
    return ModelSource(
        other or values.checkpoint_dir,
        ours=other is None,
        variables=values.variables,
        activation=values.activation,
        pixels=Pixels(values.pixel_scale, values.polarity),
    )


def open_model(values: flags.FlagValues) -> LoadedModel:
    """Open the model that the flags name.

    Args:
        values: the parsed flags; `dataset`, `data_dir` and `manual_dir` among them.

    Returns:
        The model with what is known of it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: flags that exclude one another, or a file that gives no model.
    """
    source = model_source(values)
    if source.ours:
        return source.open()
    dataset = values.dataset or "mnist"
    known = load_split(dataset, "test", values.data_dir, values.manual_dir)
    return source.open(dataset, known)


def examine(
    values: flags.FlagValues, loaded: LoadedModel, known: datasets.Dataset
) -> list[Finding]:
    """Check the model: everything with --doctor, else only what is severe.

    Args:
        values: the parsed flags.
        loaded: the model.
        known: labelled images of its data set.

    Returns:
        The findings to report.
    """
    from mnist_adv import diagnostics

    thorough = values["doctor"].value
    found = diagnostics.examine(
        loaded.model,
        known.images,
        known.labels,
        pixels=loaded.preprocessing,
        thorough=thorough,
    )
    return found if thorough else [finding for finding in found if finding.severe]


@functools.cache
def load_split(
    dataset: str, split: str, data_dir: str | None, manual_dir: str | None
) -> datasets.Dataset:
    """Load a split once per process.

    Args:
        dataset: as in `datasets.load`, and so are the others.
        split: "train" or "test".
        data_dir: where TFDS keeps its data sets.
        manual_dir: folder of a data set's original files.

    Returns:
        The split.

    Raises:
        ValueError: no such data set.
        OSError: it cannot be read.
    """
    return datasets.load(dataset, split, data_dir=data_dir, manual_dir=manual_dir)
