"""The flags that name a command's model, whoever trained it."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

from absl import flags

from mnist_adv.commands import cli
from mnist_adv.data.class_names import read_class_names
from mnist_adv.data.datasets import Dataset, DataSource
from mnist_adv.models.activation import Activation
from mnist_adv.models.formats.shapes import listed
from mnist_adv.models.loaded import LoadedModel
from mnist_adv.models.model_source import ModelSource
from mnist_adv.models.preprocessing import Pixels, PixelScale, Polarity

if TYPE_CHECKING:
    from mnist_adv.diagnostics import Finding

_SOURCES = ("checkpoint_dir", "checkpoint", "model")
_READING = ("variables", "activation", "pixel_scale", "polarity")

_NAMES = (*_SOURCES, *_READING, "class_names")
GROUP = cli.Group("Model", "--target 2 --checkpoint /tmp/model.ckpt", (*_NAMES, "doctor", "anyway"))
ALONE = cli.Group("Model", "--checkpoint /tmp/model.ckpt", _NAMES)


def define_flags(values: flags.FlagValues) -> None:
    """Define the flags of the group, for a command that attacks the model.

    Args:
        values: where they are defined.
    """
    define_alone(values)
    cli.define(values, "doctor", bool, False, "Run every check of the model before the attack.")
    cli.define(values, "anyway", bool, False, "Attack even a model with a severe finding.")


def define_alone(values: flags.FlagValues) -> None:
    """Define the flags that name a model and say how it is read.

    Args:
        values: where they are defined.
    """
    define = functools.partial(cli.define, values)
    define("checkpoint_dir", str, "checkpoints", "The newest checkpoint here is restored.")
    define("checkpoint", str, None, "A checkpoint of TF1 (or TF2) instead: /tmp/model.ckpt")
    forms = "A .keras, .h5 or .npz, W.npy,b.npy, a SavedModel folder, module:function."
    define("model", str, None, forms)
    define("variables", str, None, "Which variables are the model: W=NAME,b=NAME")
    define("activation", Activation, None, "Between several layers.")
    scales = "Its pixels: 0..1, 0..255, -1..1, or as keras.applications has them."
    define("pixel_scale", PixelScale, PixelScale.UNIT, scales)
    define("polarity", Polarity, Polarity.LIGHT_ON_DARK, "Of the ink in its images.")
    names = "File of its classes' names, one a line or JSON; the data set's, if not given."
    define("class_names", str, None, names)


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
        class_names=read_class_names(values.class_names) if values.class_names else None,
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
    given, source = _data_flags(values), require_there(values)
    with cli.stage("reading the model"):
        return source.open(DataSource(**given) if given["dataset"] else None)


def require_there(values: flags.FlagValues) -> ModelSource:
    """Refuse before TensorFlow is imported what needs no TensorFlow to be refused.

    Args:
        values: the parsed flags.

    Returns:
        Where the model is and how it is read.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: flags that exclude one another, or a file that is never read.
    """
    source = model_source(values)
    try:
        source.require_there()
    except FileNotFoundError as error:
        if not source.ours:
            raise
        raise FileNotFoundError(f"{error}; {cli.invocation('train')} makes one") from None
    return source


def examine(values: flags.FlagValues, loaded: LoadedModel, known: Dataset) -> list[str]:
    """Check the model, everything with --doctor, else only what is severe; print the findings.

    Args:
        values: the parsed flags.
        loaded: the model.
        known: labelled images of its data set.

    Returns:
        The findings, one line each.

    Raises:
        ValueError: one is severe, so that an attack's result would be meaningless, and --anyway is
            not given.
    """
    thorough = values["doctor"].value
    found = find(loaded, known, thorough=thorough)
    shown = found if thorough else [finding for finding in found if finding.severe]
    lines = [str(finding) for finding in shown]
    cli.Output(values).lines(*(f"doctor: {line}" for line in lines or ["nothing found"] * thorough))
    stopping = [finding for finding in shown if _stops(values, finding)]
    if stopping and not values.anyway:
        raise ValueError(f"{loaded.where}: {stopping[0]}; or attack it nevertheless with --anyway")
    return lines


def find(loaded: LoadedModel, known: Dataset, *, thorough: bool) -> list[Finding]:
    """Check the model.

    Args:
        loaded: the model.
        known: labelled images of its data set.
        thorough: every check.

    Returns:
        The findings, severe ones first.
    """
    from mnist_adv import diagnostics

    with cli.stage("checking the model"):
        return diagnostics.examine(
            loaded.model,
            known.images,
            known.labels,
            pixels=loaded.preprocessing,
            thorough=thorough,
        )


def _stops(values: flags.FlagValues, finding: Finding) -> bool:
    """Tell whether a finding makes the attack meaningless: another source needs no gradient."""
    other_source = "source" in values and values.source not in (None, "tape")
    return (
        finding.severe
        and finding.stops
        and not (other_source and finding.check in ("gradient", "numerical"))
    )


def data_source(values: flags.FlagValues, loaded: LoadedModel) -> DataSource:
    """Say where the images are, by the flags.

    Args:
        values: the parsed flags.
        loaded: the model, whose own data set is taken if --dataset is not given.

    Returns:
        The source of images in the shape that the model takes.

    Raises:
        ValueError: neither says which data set it is.
    """
    given = _data_flags(values)
    dataset = given["dataset"] or loaded.dataset
    if not dataset:
        raise ValueError(
            f"{loaded.where} takes images {listed(loaded.shape)} of {len(loaded.class_names)} "
            "classes; name their data set: --dataset=NAME or a folder"
        )
    return DataSource(**{**given, "dataset": dataset, "shape": loaded.shape})


def _data_flags(values: flags.FlagValues) -> dict[str, Any]:
    names = ("dataset", "split", "data_dir", "manual_dir")
    given = {name: values[name].value if name in values else None for name in names}
    if (
        given["dataset"] is None
        and given["manual_dir"] is not None
        and (values.model or values.checkpoint)
    ):
        given["dataset"] = os.path.basename(os.path.abspath(given["manual_dir"]))
    return given
