"""The flags by which a command is given its model, whoever trained it."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

from absl import flags

from mnist_adv.commands import cli
from mnist_adv.data.datasets import Dataset, DataSource
from mnist_adv.models.activation import Activation
from mnist_adv.models.preprocessing import Pixels, PixelScale, Polarity

if TYPE_CHECKING:
    from mnist_adv.diagnostics import Finding
    from mnist_adv.models.softmax_regression import Model

_SOURCES = ("checkpoint_dir", "checkpoint", "model")
_FOREIGN = ("variables", "activation", "pixel_scale", "polarity")

GROUP = cli.Group(
    "Model",
    "python attack.py --target 2 --checkpoint /tmp/model.ckpt",
    (*_SOURCES, *_FOREIGN, "doctor"),
)


@dataclasses.dataclass(frozen=True)
class Subject:
    """The model that a command works on.

    Attributes:
        model: images -> logits.
        dataset: that it was trained on.
        class_names: in label order.
        where: the checkpoint's prefix, the file, the folder or the function.
        digest: SHA-256 over its files, hexadecimal; empty for a function.
        notes: what was taken from a foreign file, one sentence each.
        pixels: how it is handed images.
    """

    model: Model
    dataset: str
    class_names: tuple[str, ...]
    where: str
    digest: str
    notes: tuple[str, ...] = ()
    pixels: Pixels = Pixels()


def define_flags(values: flags.FlagValues) -> None:
    """Define the flags of this group.

    Args:
        values: where they are defined.
    """
    define = functools.partial(cli.define, values)
    define("checkpoint_dir", str, "checkpoints", "The newest checkpoint here is restored.")
    define("checkpoint", str, None, "A checkpoint of TF1 (or TF2) instead: /tmp/model.ckpt")
    forms = "Or a .keras, an .npz, a SavedModel folder, package.module:function."
    define("model", str, None, forms)
    define("variables", str, None, "Which variables are the model: W=NAME,b=NAME")
    define("activation", Activation, None, "Between several layers.")
    define("pixel_scale", PixelScale, PixelScale.UNIT, "Trained on 0..1, 0..255 or -1..1.")
    define("polarity", Polarity, Polarity.LIGHT_ON_DARK, "And their ink.")
    define("doctor", bool, False, "Check the model before the attack, in depth.")


def open_subject(values: flags.FlagValues) -> Subject:
    """Open the model that the flags name.

    Args:
        values: the parsed flags; `dataset`, `data_dir` and `manual_dir` among them.

    Returns:
        The model with what is known of it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: flags that exclude one another, or a file that gives no model.
    """
    given = [name for name in _SOURCES if values[name].present]
    if len(given) > 1:
        raise ValueError(f"--{given[0]} and --{given[1]} both name a model; give one of them")
    if values.checkpoint is None and values.model is None:
        return _ours(values)
    from mnist_adv.models.formats.open import open_model

    source = data_source(values, "mnist")
    known = load_split(source)
    pixels = Pixels(values.pixel_scale, values.polarity)
    opened = open_model(
        values.checkpoint or values.model,
        num_classes=len(known.class_names),
        variables=values.variables,
        activation=values.activation,
        pixels=pixels,
        images=known.images,
    )
    return Subject(
        model=opened.model,
        dataset=source.dataset,
        class_names=known.class_names,
        where=opened.where,
        digest=opened.digest,
        notes=opened.notes,
        pixels=pixels,
    )


def examine(values: flags.FlagValues, subject: Subject, known: Dataset) -> list[Finding]:
    """Look the model over: in depth with --doctor, else for what is severe.

    Args:
        values: the parsed flags.
        subject: the model.
        known: labelled images of its data set.

    Returns:
        What to tell.
    """
    from mnist_adv import diagnostics

    thorough = values["doctor"].value
    found = diagnostics.examine(
        subject.model,
        known.images,
        known.labels,
        pixels=subject.pixels,
        thorough=thorough,
    )
    return found if thorough else [finding for finding in found if finding.severe]


def data_source(values: flags.FlagValues, dataset: str, split: str = "test") -> DataSource:
    """Say where a split is, by the flags.

    Args:
        values: the parsed flags.
        dataset: the model's own, taken if --dataset is not given.
        split: "train" or "test".

    Returns:
        The source of the data.
    """
    return DataSource(values.dataset or dataset, split, values.data_dir, values.manual_dir)


@functools.cache
def load_split(source: DataSource) -> Dataset:
    """Load a whole split, once per process.

    Args:
        source: of the data.

    Returns:
        The images and labels.

    Raises:
        ValueError: as `data.load`.
        OSError: as `data.load`.
    """
    return source.load()


def _ours(values: flags.FlagValues) -> Subject:
    from mnist_adv.models import checkpoints

    for name in _FOREIGN:
        if values[name].present:
            raise ValueError(f"--{name} goes with --checkpoint or --model; ours need it not")
    restored = checkpoints.load(values.checkpoint_dir)
    return Subject(
        model=restored.model,
        dataset=restored.config["dataset"],
        class_names=tuple(restored.config["class_names"]),
        where=restored.prefix,
        digest=restored.digest,
    )
