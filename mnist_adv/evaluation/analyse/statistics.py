"""Statistics of a table: shares with their intervals, curves, matrices, ranks."""

from __future__ import annotations

import dataclasses
import math
import statistics
from typing import Any

import numpy as np

from mnist_adv.evaluation.analyse.table import Table
from mnist_adv.evaluation.measure.chunk import FORMS
from mnist_adv.verdict.judge import TOLERANCE

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Share:
    """A share of a total, with Wilson's interval.

    Attributes:
        count: how many.
        total: of how many.
    """

    count: int
    total: int

    @property
    def value(self) -> float:
        """The share itself; 0 of nothing."""
        return self.count / self.total if self.total else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Where the share of all images like these lies, with 95 % confidence."""
        return wilson(self.count, self.total)

    def record(self) -> dict[str, Any]:
        """Turn into JSON.

        Returns:
            Count, total, share and both ends of the interval.
        """
        low, high = self.interval
        return {
            "count": self.count,
            "total": self.total,
            "share": self.value,
            "low": low,
            "high": high,
        }


def wilson(count: int, total: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Compute the score interval of a share.

    Args:
        count: successes, in 0..total.
        total: trials.
        confidence: in (0, 1).

    Returns:
        Lower and upper end, in [0, 1]; (0, 1) of no trials.

    References:
        Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
    """
    if not total:
        return 0.0, 1.0
    z = statistics.NormalDist().inv_cdf(0.5 + confidence / 2)
    share = count / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    reach = z * math.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2)
    reach /= 1 + z * z / total
    # At the ends the formula is exact but for rounding.
    low = 0.0 if count == 0 else max(0.0, centre - reach)
    high = 1.0 if count == total else min(1.0, centre + reach)
    return low, high


def clean_accuracy(table: Table) -> Share:
    """Count the clean images that are classified correctly.

    Args:
        table: all cases.

    Returns:
        Their share of all images.
    """
    correct = table.per_image(table.clean_correct.astype(int))
    return Share(int(correct.sum()), len(correct))


@dataclasses.dataclass(frozen=True)
class Curve:
    """How one attack, or the worst of all, does at each budget.

    Attributes:
        name: of the attack, or "worst case".
        form: "float" or "saved".
        success: per epsilon, of all cases: the goal is met.
        success_of_correct: per epsilon, of the cases whose clean image is classified correctly.
        robust: per epsilon, of all images: classified correctly after every attack.
        robust_of_correct: per epsilon, of the images that are classified correctly when clean.
        median: of the distances, unmet goals counting as infinite; None if infinite.
    """

    name: str
    form: str
    success: tuple[Share, ...]
    success_of_correct: tuple[Share, ...]
    robust: tuple[Share, ...]
    robust_of_correct: tuple[Share, ...]
    median: float | None


WORST, OPTIMUM = "worst case", "certified optimum"


def curves(table: Table) -> list[Curve]:
    """Compute the security curves of every attack, and of the worst of them per image.

    Args:
        table: all cases.

    Returns:
        Float and saved form of each attack, then of the worst case if there are several attacks.
    """
    drawn = []
    names = list(table.plan.attacks)
    for form in FORMS:
        distances, escapes = table.distance(form), table[f"{form}_escape"]
        for number, name in enumerate(names):
            drawn.append(curve(table, name, form, distances[number], escapes[number]))
        if len(names) > 1:
            drawn.append(curve(table, WORST, form, distances.min(axis=0), escapes.min(axis=0)))
    return drawn


def curve(table: Table, name: str, form: str, distance: np.ndarray, escape: np.ndarray) -> Curve:
    """Count at each budget the goals met within it.

    Args:
        table: all cases.
        name: of the attack, or `WORST` or `OPTIMUM`.
        form: "float" or "saved".
        distance: `[r]`, distance at which each case's goal is met; infinite if it is not.
        escape: `[r]`, smallest distance at which each case's image is misclassified.

    Returns:
        The curve.
    """
    correct = table.clean_correct
    image_correct = table.per_image(correct.astype(np.int64)).astype(bool)
    image_escape = table.per_image(np.where(correct, escape, 0.0))
    images = len(image_correct)
    success, of_correct, robust, robust_of_correct = [], [], [], []
    for epsilon in table.plan.epsilons:
        met = distance <= epsilon + TOLERANCE
        standing = int((image_escape > epsilon + TOLERANCE).sum())
        success.append(Share(int(met.sum()), len(met)))
        of_correct.append(Share(int(met[correct].sum()), int(correct.sum())))
        robust.append(Share(standing, images))
        robust_of_correct.append(Share(standing, int(image_correct.sum())))
    return Curve(
        name=name,
        form=form,
        success=tuple(success),
        success_of_correct=tuple(of_correct),
        robust=tuple(robust),
        robust_of_correct=tuple(robust_of_correct),
        median=finite(median(distance)),
    )


@dataclasses.dataclass(frozen=True)
class Matrices:
    """True class by target, or by what the image became where there was no target.

    Attributes:
        counts: `[k, k]` int64, how many cases there are (with targets), or how many images of the
            true class ended as the other.
        success: `[k, k]`, the share of them that met the goal (with targets), or the share of the
            true class's images that ended so; NaN where there is none.
        distance: `[k, k]`, the median distance, unmet goals counting as infinite; NaN where there
            is none.
    """

    counts: np.ndarray
    success: np.ndarray
    distance: np.ndarray


def matrices(table: Table, number: int, form: str) -> Matrices:
    """Compare classes with one another, at the largest budget.

    Args:
        table: all cases.
        number: of the attack.
        form: "float" or "saved".

    Returns:
        The matrices.
    """
    k = table.plan.num_classes
    met, distance = table[f"{form}_success"][number], table.distance(form)[number]
    label = table["label"]
    other = table["target"] if table.plan.targeted else table[f"{form}_prediction"][number]
    counts = np.zeros((k, k), np.int64)
    success, medians = np.full((k, k), np.nan), np.full((k, k), np.nan)
    for true in np.unique(label):
        of_class = label == true
        if not table.plan.targeted:
            success[true] = 0
        for final in np.unique(other[of_class]):
            cell = of_class & (other == final)
            if not table.plan.targeted:
                cell &= met
            counts[true, final] = cell.sum()
            total = cell.sum() if table.plan.targeted else of_class.sum()
            success[true, final] = (met & cell).sum() / total
            if cell.any():
                medians[true, final] = median(distance[cell])
    return Matrices(counts, success, medians)


def ranked(table: Table, form: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the cases of smallest and largest distance, among those classified correctly.

    Args:
        table: all cases.
        form: "float" or "saved".
        count: how many of each.

    Returns:
        Indices of the easiest cases (smallest distance first) and of the hardest (largest first;
        where no attack met the goal the distance is infinite), by the best attack of each case.
    """
    distance = table.distance(form).min(axis=0)
    cases = np.flatnonzero(table.clean_correct)
    order = cases[np.argsort(distance[cases], kind="stable")]
    return order[:count], order[::-1][:count]


def optimality(table: Table, smallest: np.ndarray | None = None) -> list[float | None]:
    """Compute how near each attack's security curve comes to the best one, as one number.

    `1 - (area - best) / (start - best)` with areas under curves of unmet goals over epsilon, up to
    the largest budget: `best` is that of the smallest distance of each case, `start` that of an
    attack that changes nothing. 1: every case's distance is the smallest; 0: nothing was found.

    Args:
        table: all cases.
        smallest: `[r]`, no change below meets the goal; None: the smallest that any attack found.

    Returns:
        One number per attack, at most 1; None where there is nothing to find.

    References:
        Cina et al., "AttackBench: Evaluating Gradient-based Attacks for Adversarial Examples",
        2024.
    """
    largest, distance = table.plan.epsilons[-1], table.distance("float")
    wanted = table["target"] if table.plan.targeted else table["label"]
    at_once = (table["clean_prediction"] == wanted) == table.plan.targeted
    reference = distance.min(axis=0) if smallest is None else smallest
    best = float(np.where(at_once, 0, np.minimum(reference, largest)).mean())
    start = float((~at_once).mean()) * largest
    areas = np.where(at_once, 0, np.minimum(distance, largest)).mean(axis=1)
    if start - best <= TOLERANCE:
        return [None] * len(areas)
    return [1 - (float(area) - best) / (start - best) for area in areas]


def median(values: np.ndarray) -> float:
    """Compute the median, where infinity is a value like any other.

    Args:
        values: any shape.

    Returns:
        The median; NaN of no values.
    """
    if not values.size:
        return math.nan
    ordered = np.sort(values, axis=None)
    middle = ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]
    return float(middle[0] if middle[0] == middle[-1] else middle.mean())


def finite(value: float) -> float | None:
    """Replace what JSON cannot hold.

    Args:
        value: any float.

    Returns:
        The same; None if it is NaN or infinite.
    """
    return value if math.isfinite(value) else None
