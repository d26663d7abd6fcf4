"""The input of a check and its output."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING

import numpy as np

from mnist_adv.models.preprocessing import Pixels

if TYPE_CHECKING:
    from mnist_adv.models.model import Model


class Severity(enum.Enum):
    """SEVERE: results for this model are not valid until it is repaired; WARNING: they are."""

    SEVERE = "severe"
    WARNING = "warning"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a model.

    Attributes:
        check: the check that found it, by name.
        severity: how much it matters.
        message: what was measured, with numbers.
        remedy: what to do.
        stops: of a severe one: whether no result would mean anything, so that commands stop.
    """

    check: str
    severity: Severity
    message: str
    remedy: str
    stops: bool = True

    @property
    def severe(self) -> bool:
        """Whether results for the model are not valid until it is repaired."""
        return self.severity is Severity.SEVERE

    def __str__(self) -> str:
        return f"{self.severity.value}: {self.message}; {self.remedy}"


@dataclasses.dataclass(frozen=True)
class ModelUnderTest:
    """A model with the images on which it is checked; the input of every check.

    Attributes:
        model: images -> logits, as it would be attacked.
        images: `[n, h, w, c]` float32 in [0, 1].
        labels: `[n]` int64.
        outputs: `[n, k]` float64, what the model returned for them.
        pixels: the scale and polarity that `model` already applies.
        thorough: whether checks may take a second or two more.
    """

    model: Model
    images: np.ndarray
    labels: np.ndarray
    outputs: np.ndarray
    pixels: Pixels
    thorough: bool = True

    @property
    def num_classes(self) -> int:
        """The number of outputs, k."""
        return self.outputs.shape[1]

    @property
    def targets(self) -> np.ndarray:
        """A wrong class for each image, `[n]`: the one after its label."""
        return (self.labels + 1) % self.num_classes

    def accuracy(self) -> float:
        """Compute the clean accuracy.

        Returns:
            The share of images that are classified correctly, in [0, 1].
        """
        return float((self.outputs.argmax(axis=1) == self.labels).mean())
