"""The flags that choose one image."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from typing import TYPE_CHECKING, Any

from absl import flags

from mnist_adv.commands import cli, model_flags
from mnist_adv.data import datasets, pictures
from mnist_adv.data.class_names import find_class
from mnist_adv.models.formats.shapes import listed

if TYPE_CHECKING:
    import numpy as np

    from mnist_adv.models.loaded import LoadedModel

# Data sets of written signs, whose pictures are prepared as MNIST's were.
_HANDWRITING = ("mnist", "emnist", "kmnist", "qmnist")
_OF_A_SET = ("index", "split", "dataset", "data_dir", "manual_dir")

GROUP = cli.Group("Image", "--target 2 --image my_digit.png", (*_OF_A_SET, "image", "label"))


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
    define("split", str, None, "Of the data set; test, if not given.")
    define("dataset", str, None, "mnist, a TFDS name or a folder; the model's own, if not given.")
    define("data_dir", str, None, "Where TFDS keeps its data sets.")
    define("manual_dir", str, None, "Folder of the data set's original files.")
    define("image", str, None, "A PNG or JPEG instead: of a digit, or a photo for colour models.")
    define("label", str, None, "Its true class; the model's prediction, if not given.")


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
        return _from_picture(values, loaded)
    if values.label is not None:
        raise ValueError("--label is for --image; images of a data set have labels of their own")
    source = model_flags.data_source(values, loaded)
    split, split_name, index = source.open(), source.split_name(), values.index
    if not 0 <= index < split.count:
        raise ValueError(f"index must lie in 0..{split.count - 1}. Received: {index}")
    found = source.load((index, index + 1))
    label = int(found.labels[0])
    origin = {"dataset": source.dataset, "split": split_name, "index": index, "label": label}
    name = f"{source.dataset.replace('/', '-')}-{split_name}-{index}"
    notes: tuple[str, ...] = ()
    if split.shape not in (None, loaded.shape):
        done = ", ".join(pictures.fitting(split.shape, loaded.shape))
        notes = (f"{source.dataset}: images {listed(split.shape)} are {done}",)
    return Chosen(found.images[0], label, origin, name, notes)


def _from_picture(values: flags.FlagValues, loaded: LoadedModel) -> Chosen:
    for name in _OF_A_SET:
        if values[name].present:
            raise ValueError(f"--image takes the place of --{name}; give one of them")
    levels, done = _prepared(values.image, loaded)
    label = None if values.label is None else find_class(values.label, loaded.class_names)
    return Chosen(
        image=datasets.to_float(levels),
        label=label,
        origin={"file": values.image, "done": done, "label": label},
        name=pathlib.Path(values.image).stem,
        notes=(f"{values.image}: {', '.join(done)}",),
    )


def _prepared(path: str, loaded: LoadedModel) -> tuple[np.ndarray, list[str]]:
    """Bring a picture into the model's shape; as handwriting, where the model reads that."""
    if loaded.dataset.startswith(_HANDWRITING):
        from mnist_adv.data import handwriting

        digit = handwriting.read_digit(path)
        levels, done = digit.levels, list(digit.done)
    else:
        levels = pictures.read_levels(path)
        done = [f"read {levels.shape[1]} x {levels.shape[0]} pixels"]
    height, width, channels = levels.shape
    done += pictures.fitting((height, width, channels), loaded.shape)
    return pictures.fit(levels, loaded.shape), done
