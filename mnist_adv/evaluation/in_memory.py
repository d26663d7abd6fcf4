"""A model and images that are in memory, in the places of those that any process can open."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from mnist_adv.arguments import as_array
from mnist_adv.data import datasets
from mnist_adv.data.images import as_batch, as_classes
from mnist_adv.data.split import Split
from mnist_adv.models.loaded import LoadedModel
from mnist_adv.models.logits import predict
from mnist_adv.models.preprocessing import Pixels

_NUM_PROBES = 500
_ROUNDING = 1e-6  # of a pixel in [0, 1]


@dataclasses.dataclass(frozen=True, eq=False)
class ModelInMemory:
    """A model that only this process can open; each is equal to itself alone.

    Attributes:
        loaded: the model, with what is known of it.
        reading: of its file; nothing.
    """

    loaded: LoadedModel
    reading: str = ""

    @property
    def where(self) -> str:
        """What it is called."""
        return self.loaded.where

    @property
    def pixels(self) -> Pixels:
        """The scale and polarity that the model already applies."""
        return self.loaded.preprocessing

    def open(self, data: Any = None) -> LoadedModel:
        """Give the model.

        Args:
            data: plays no part.

        Returns:
            The model.
        """
        return self.loaded


@dataclasses.dataclass(frozen=True, eq=False)
class ImagesInMemory(datasets.DataSource):
    """A data set with one split, which is in memory.

    Attributes:
        given: the split.
    """

    given: Split | None = None

    def splits(self) -> Mapping[str, Split]:
        """Give the split.

        Returns:
            It, by its name.
        """
        return {"given": self.given} if self.given is not None else {}


def as_levels(images: Any) -> np.ndarray:
    """Bring images into 8 bits.

    Args:
        images: `[n, h, w, c]` uint8, or floats in [0, 1] that are whole levels of 255; of MNIST's
            size also without channels, or flat.

    Returns:
        `[n, h, w, c]` uint8.

    Raises:
        ValueError: images out of form or range or between levels, or none.
    """
    pixels = as_array(images, "images", "uint8 or floats in [0, 1], [n, h, w, c]")
    if pixels.dtype == np.uint8:
        pixels = datasets.to_float(pixels)
    batch = as_batch(pixels)
    levels = np.rint(255 * batch)
    apart = np.abs(255 * batch - levels).max(initial=0) / 255
    if apart > _ROUNDING:
        raise ValueError(
            "images must be whole levels of 255, as uint8 or divided by 255: images of 8 bits are "
            f"measured too. Received: a pixel {apart:.2g} from the nearest level"
        )
    if not len(levels):
        raise ValueError("images must be one at least. Received: none")
    return levels.astype(np.uint8)


def as_images(levels: np.ndarray, labels: Any, class_names: tuple[str, ...]) -> ImagesInMemory:
    """Make a data set of arrays.

    Args:
        levels: `[n, h, w, c]` uint8.
        labels: `[n]` integers.
        class_names: k names.

    Returns:
        The data set; its name holds a digest of images and labels.

    Raises:
        ValueError: labels out of range, or another number of them.
    """
    classes = as_classes(labels, len(levels), len(class_names), "labels")
    content = hashlib.sha256(repr(levels.shape).encode() + levels.tobytes() + classes.tobytes())
    split = Split(
        count=len(levels),
        class_names=class_names,
        shape=levels.shape[1:],
        read=lambda first, end: (levels[first:end], classes[first:end]),
    )
    return ImagesInMemory(f"arrays-{content.hexdigest()[:12]}", "given", given=split)


def identity(model: Any, images: np.ndarray) -> str:
    """Compute what identifies a model in memory: its logits for the images that it is tried on.

    Args:
        model: images -> logits.
        images: `[n, h, w, c]`; the first 500 are used.

    Returns:
        SHA-256, hexadecimal.

    Raises:
        ValueError: the model does not return one row of logits for each image.
    """
    logits = predict(model, images[:_NUM_PROBES])
    return hashlib.sha256(str(logits.shape).encode() + logits.tobytes()).hexdigest()
