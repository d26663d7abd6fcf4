"""What is proved of images, and what was found against it."""

from __future__ import annotations

import dataclasses
import enum

import numpy as np

from mnist_adv.arguments import NamedChoice
from mnist_adv.certification.method import Method
from mnist_adv.geometry.norms import Norm

# Absolute: of a float64 distance, and of a float64 margin that must be below 0.
TOLERANCE = 1e-8


class Certainty(enum.Enum):
    """What is known of an image and a ball; the value is its sentence."""

    PROVED = "proved: no image in the ball and the box gets another class"
    BROKEN = "broken: an image in the ball and the box gets another class"
    UNRESOLVED = "unresolved: neither is known"


class Arithmetic(NamedChoice):
    """Which network a proof holds for."""

    FLOAT32 = "float32"
    EXACT = "exact"


@dataclasses.dataclass(frozen=True)
class Certification:
    """What is proved of n images.

    Attributes:
        images: clean, `[n, h, w, c]`, as given.
        labels: `[n]` int64.
        norm: of the balls.
        bounds: the least and the largest value of a pixel.
        epsilon: `[n]` float64, the radii that were asked about.
        proved_radius: `[n]` float64, up to which the label is proved; -1 where it is not even that
            of the clean image.
        broken_radius: `[n]` float64, the distance of `adversarial`; infinite where none was found.
        adversarial: the same shape as the images: one of another class, the clean image where none
            was found.
        margin: `[n]` float64, at least so much is the label's logit above every other one
            everywhere within epsilon; an upper bound of it where the image is broken.
        arithmetic: of the network that is reasoned about.
        method: the tightest bounds that were tried.
    """

    images: np.ndarray
    labels: np.ndarray
    norm: Norm
    bounds: tuple[float, float]
    epsilon: np.ndarray
    proved_radius: np.ndarray
    broken_radius: np.ndarray
    adversarial: np.ndarray
    margin: np.ndarray
    arithmetic: Arithmetic
    method: Method

    @property
    def proved(self) -> np.ndarray:
        """Whether nothing within epsilon gets another class, `[n]` bool."""
        return self.proved_radius >= self.epsilon

    @property
    def broken(self) -> np.ndarray:
        """Whether an image within epsilon that gets another class was found, `[n]` bool."""
        return self.broken_radius <= self.epsilon + TOLERANCE

    @property
    def certainty(self) -> list[Certainty]:
        """What is known of each image."""
        return [
            Certainty.PROVED if proved else Certainty.BROKEN if broken else Certainty.UNRESOLVED
            for proved, broken in zip(self.proved, self.broken)
        ]

    def __repr__(self) -> str:
        count = len(self.labels)
        proved, broken = int(self.proved.sum()), int(self.broken.sum())
        return (
            f"Certification({self.norm.value}: of {count} image{'s' * (count != 1)} {proved} "
            f"proved, {broken} broken, {count - proved - broken} unresolved)"
        )
