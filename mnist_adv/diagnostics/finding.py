"""What a check works on, and what it says."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING

import numpy as np

from mnist_adv.models.preprocessing import Pixels

if TYPE_CHECKING:
    from mnist_adv.models.model import Model


class Severity(enum.Enum):
    """SEVERE: numbers about this model mean little until it is mended; WARNING: worth knowing."""

    SEVERE = "severe"
    WARNING = "warning"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a model.

    Attributes:
        check: the check that found it, by name.
        severity: how much it matters.
        message: what was seen, with numbers.
        remedy: what to do.
    """

    check: str
    severity: Severity
    message: str
    remedy: str

    @property
    def severe(self) -> bool:
        """Whether numbers about the model mean little until it is mended."""
        return self.severity is Severity.SEVERE

    def __str__(self) -> str:
        return f"{self.severity.value}: {self.message}; {self.remedy}"


@dataclasses.dataclass(frozen=True)
class Patient:
    """A model with the images on which it is looked at.

    Attributes:
        model: images -> logits, as it would be attacked.
        images: `[n, 28, 28, 1]` float32 in [0, 1].
        labels: `[n]` int64.
        outputs: `[n, k]` float64, what the model returned for them.
        pixels: the scale and polarity that the model stands behind.
        thorough: whether checks may take their time.
    """

    model: Model
    images: np.ndarray
    labels: np.ndarray
    outputs: np.ndarray
    pixels: Pixels
    thorough: bool = True

    @property
    def num_classes(self) -> int:
        """How many outputs there are."""
        return self.outputs.shape[1]

    @property
    def targets(self) -> np.ndarray:
        """A wrong class for each image, `[n]`: the one after its label."""
        return (self.labels + 1) % self.num_classes

    def accuracy(self) -> float:
        """The share of images seen as what they are."""
        return float((self.outputs.argmax(axis=1) == self.labels).mean())
