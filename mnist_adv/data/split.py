"""What every kind of data set offers: its splits, before their images are read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from mnist_adv.data.images import Shape


@dataclasses.dataclass(frozen=True)
class Split:
    """One split of a data set.

    Attributes:
        count: how many images it has.
        class_names: the name of each class, in label order.
        shape: of every image, `(h, w, c)`; None where they differ.
        read: index of the first image and one past the last -> the images, `[h, w, c]` uint8 each,
            and their labels `[n]`.
    """

    count: int
    class_names: tuple[str, ...]
    shape: Shape | None
    read: Callable[[int, int], tuple[Sequence[np.ndarray] | np.ndarray, np.ndarray]]
