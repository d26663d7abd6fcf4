"""The flags that choose one image."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from typing import TYPE_CHECKING, Any

from absl import flags

from mnist_adv.commands import cli, model_flags
from mnist_adv.data import datasets

if TYPE_CHECKING:
    import numpy as np

    from mnist_adv.models.loaded import LoadedModel

_OF_A_SET = ("index", "split", "dataset", "data_dir", "manual_dir")

GROUP = cli.Group(
    "Image", "python attack.py --target 2 --image my_digit.png", (*_OF_A_SET, "image", "label")
)


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The image under attack and where it is from.

    Attributes:
        image: `[h, w, c]` float32 in [0, 1].
        label: its true class, if known.
        origin: where it is from, for the record.
        name: a short name of it, usable for a folder.
        notes: what was done to a picture, to be printed.
    """

    image: np.ndarray
    label: int | None
    origin: dict[str, Any]
    name: str
    notes: tuple[str, ...] = ()


def define_flags(values: flags.FlagValues) -> None:
    """Define the flags of this group.

    Args:
        values: where they are defined.
    """
    define = functools.partial(cli.define, values)
    define("index", int, 0, "Which image of the split.")
    define("split", datasets.SPLITS, "test", "Of the data set.")
    define("dataset", str, None, "Its data set; the model's own, if not given.")
    define("data_dir", str, None, "Where TFDS keeps its data sets.")
    define("manual_dir", str, None, "Folder of a TFDS data set's original files.")
    define("image", str, None, "A PNG or JPEG of a digit instead.")
    define("label", int, None, "Its true class; the model's prediction, if not given.")


def choose(values: flags.FlagValues, loaded: LoadedModel) -> Chosen:
    """Load the image that the flags name.

    Args:
        values: the parsed flags.
        loaded: the model, for its data set.

    Returns:
        The image.

    Raises:
        FileNotFoundError: no such picture.
        ValueError: flags that exclude one another, an index outside the split, no digit.
    """
    if values.image is not None:
        return _from_picture(values)
    if values.label is not None:
        raise ValueError("--label is for --image; images of a data set have labels of their own")
    source = model_flags.data_source(values, loaded.dataset, values.split)
    split = model_flags.load_split(source)
    index, count = values.index, len(split.labels)
    if not 0 <= index < count:
        raise ValueError(f"index must lie in 0..{count - 1}. Received: {index}")
    label = int(split.labels[index])
    origin = {"dataset": source.dataset, "split": source.split, "index": index, "label": label}
    name = f"{source.dataset.replace('/', '-')}-{source.split}-{index}"
    return Chosen(split.images[index], label, origin, name)


def _from_picture(values: flags.FlagValues) -> Chosen:
    from mnist_adv.data import handwriting

    for name in _OF_A_SET:
        if values[name].present:
            raise ValueError(f"--image takes the place of --{name}; give one of them")
    digit = handwriting.read_digit(values.image)
    return Chosen(
        image=datasets.to_float(digit.levels),
        label=values.label,
        origin={"file": values.image, "done": list(digit.done), "label": values.label},
        name=pathlib.Path(values.image).stem,
        notes=(f"{values.image}: {', '.join(digit.done)}",),
    )
