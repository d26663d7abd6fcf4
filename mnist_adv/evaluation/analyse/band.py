"""The band between what is proved and what is broken: two radii of each image.

The smallest change that makes an image misclassified lies between its proved radius, from bounds or
from the certified optimum, and its broken radius, the smallest distance that any attack found.
Robust accuracy lies between the shares of images that the two leave.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from mnist_adv.evaluation.analyse import statistics
from mnist_adv.evaluation.analyse.beside_optimum import BesideOptimum
from mnist_adv.evaluation.analyse.statistics import Share
from mnist_adv.evaluation.analyse.table import Table
from mnist_adv.evaluation.measure.chunk import FORMS
from mnist_adv.verdict.judge import TOLERANCE
from mnist_adv.verdict.radii import require_outside

_OPTIMUM = "optimum"
CERTIFIED, OPEN = "certified", "neither proved nor broken"


@dataclasses.dataclass(frozen=True)
class Band:
    """What is proved and what is broken, per image and per budget.

    Attributes:
        method: of the bounds, or "optimum" where the certified optimum is known.
        proved_radius: `[num_images]`, up to which each label is proved; -1 where it is not even
            that of the clean image.
        broken_radius: `[num_images]`, the smallest distance of a misclassified image, before or
            after rounding to 8 bits; infinite where none is known.
        certified: per epsilon, of all images: the label is proved up to it. No attack can bring
            robust accuracy below.
        unbroken: per epsilon, of all images: no misclassified image is known within it. Robust
            accuracy is at most this.
        median_proved: of the images that are classified correctly when clean; None of none.
        median_broken: of the same; None where most were not broken.
        median_ratio: of broken over proved radius, of the same; None where most are infinite.
    """

    method: str
    proved_radius: np.ndarray
    broken_radius: np.ndarray
    certified: tuple[Share, ...]
    unbroken: tuple[Share, ...]
    median_proved: float | None
    median_broken: float | None
    median_ratio: float | None

    @property
    def open(self) -> list[Share]:
        """Per epsilon, of all images: neither proved nor broken, the height of the band."""
        return [
            Share(unbroken.count - certified.count, unbroken.total)
            for certified, unbroken in zip(self.certified, self.unbroken)
        ]

    @property
    def sentence(self) -> str:
        """The medians, for a report."""
        proved, broken, ratio = (
            "unknown" if value is None else f"{value:.4g}"
            for value in (self.median_proved, self.median_broken, self.median_ratio)
        )
        return (
            f"proved by {self.method} up to {proved}, broken from {broken}, broken over proved "
            f"{ratio} (medians of the images classified correctly when clean)"
        )

    def of_cases(self, table: Table) -> dict[str, np.ndarray]:
        """Arrange the radii by cases.

        Args:
            table: all cases.

        Returns:
            `proved_radius`, `broken_radius` and the `gap` between them, NaN where nothing is
            proved, each `[r]`.
        """
        _, image = np.unique(table["index"], return_inverse=True)
        proved, broken = self.proved_radius, self.broken_radius
        gap = np.where(proved >= 0, broken - proved, np.nan)
        radii = {"proved_radius": proved, "broken_radius": broken, "gap": gap}
        return {name: values[image] for name, values in radii.items()}

    def record(self) -> dict[str, Any]:
        """Turn into JSON.

        Returns:
            Method, medians, and the shares per epsilon.
        """
        return {
            "method": self.method,
            "median_proved_radius": self.median_proved,
            "median_broken_radius": self.median_broken,
            "median_ratio": self.median_ratio,
            "certified": [share.record() for share in self.certified],
            "unbroken": [share.record() for share in self.unbroken],
            "open": [share.record() for share in self.open],
        }


def find(table: Table, beside: BesideOptimum | None) -> Band | None:
    """Set what is proved beside what is broken.

    Args:
        table: all cases.
        beside: the certified optimum, where it is known: it is proved and broken at once.

    Returns:
        The band; None where the plan asks for none.

    Raises:
        BelowRadiusError: an attack changed a class inside a radius in which it is proved.
    """
    method = table.plan.certify_method
    if method is None:
        return None
    proved, correct = table["proved_radius"], table.clean_correct
    escapes = np.concatenate([table[f"{form}_escape"] for form in FORMS])
    if beside is not None:
        proved = np.maximum(proved, np.where(correct, beside.proved, -1.0))
    plan = table.plan
    require_outside(proved, escapes, plan.attacks * len(FORMS), table["index"], plan.norm.value)
    broken = escapes.min(axis=0)
    if beside is not None:
        broken = np.minimum(broken, beside.escape)
    broken = table.per_image(np.where(correct, broken, 0.0))
    proved, right = table.per_image(proved), table.per_image(correct.astype(np.int64)) > 0
    ratio = np.divide(broken, proved, out=np.full(len(proved), np.inf), where=proved > 0)
    medians = (
        statistics.finite(statistics.median(values[right])) for values in (proved, broken, ratio)
    )
    return Band(
        method.value if beside is None else _OPTIMUM,
        proved,
        broken,
        tuple(_share(proved >= epsilon) for epsilon in plan.epsilons),
        tuple(_share(broken > epsilon + TOLERANCE) for epsilon in plan.epsilons),
        *medians,
    )


def _share(images: np.ndarray) -> Share:
    return Share(int(images.sum()), len(images))
