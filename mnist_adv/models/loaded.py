"""The one record of a model that was read, with what is known of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from mnist_adv.models.model import Model
from mnist_adv.models.preprocessing import Pixels


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A model with what was read of it.

    Attributes:
        model: images `[n, h, w, c]` in [0, 1], light on dark -> logits `[n, k]`.
        where: the file, the folder, the checkpoint's prefix or the function's name.
        digest: SHA-256, hexadecimal, over how it computes and its weights; of a function, over its
            name and the file that defines it.
        shape: of its images, `(h, w, c)`.
        notes: what was taken from the file and what was changed, one sentence each.
        dataset: the data set that it was trained on; empty if not known.
        class_names: the name of each class, in label order.
        preprocessing: the scale and polarity of the images that the file's model expects; `model`
            applies it.
        config: what a checkpoint of `train.py` says of the training; empty for other files.
    """

    model: Model
    where: str
    digest: str
    shape: tuple[int, int, int]
    notes: tuple[str, ...] = ()
    dataset: str = ""
    class_names: tuple[str, ...] = ()
    preprocessing: Pixels = Pixels()
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
