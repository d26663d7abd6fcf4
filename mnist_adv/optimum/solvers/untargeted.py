"""Untargeted: leave a class by the nearest of its K - 1 borders, each a closed form.

Image x of class y is left where some rival j has `z_j >= z_y + margin`: one constraint for each
rival, and the best over the rivals. Images are grouped by label and rival, so that a whole group
shares one constraint; and a rival is only solved exactly where its bound without the box (Hoelder's
inequality) is still below the best found.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mnist_adv.optimum.problem import Classifier
from mnist_adv.optimum.solvers import one_constraint

_CHUNK = 256  # images of a group at a time: their arrays stay in cache


@dataclasses.dataclass
class Nearest:
    """The nearest border of n images.

    Attributes:
        distance: `[n]`, 0 where the image is outside its class already, infinity where no rival
            can be reached.
        rival: `[n]` int64, the class across the border.
        perturbations: `[n, D]`.
        num_solved: `[n]` int64, how many borders were solved exactly.
    """

    distance: np.ndarray
    rival: np.ndarray
    perturbations: np.ndarray
    num_solved: np.ndarray


def nearest_border(
    norm: str,
    classifier: Classifier,
    images: np.ndarray,
    labels: np.ndarray,
    rhs: np.ndarray,
) -> Nearest:
    """Find the nearest border of each image.

    Args:
        norm: "linf", "l2", "l1" or "l0".
        classifier: of K classes.
        images: `[n, D]` float64, in the box.
        labels: `[n]`, the classes to leave.
        rhs: `[n, K]`, what each rival's logit must gain on the label's; infinity for the label.

    Returns:
        The nearest borders.
    """
    count, num_classes = rhs.shape
    quick = _without_box(norm, classifier, labels, rhs)
    best = Nearest(
        np.full(count, np.inf),
        rhs.argmin(axis=1),
        np.zeros(images.shape),
        np.zeros(count, np.int64),
    )
    inside = rhs.min(axis=1) > 0
    best.distance[~inside] = 0
    first = quick.argmin(axis=1)
    for promising in (True, False):
        for label in np.unique(labels):
            for rival in range(num_classes):
                if rival == label:
                    continue
                wanted = inside & (labels == label) & ((first == rival) == promising)
                wanted &= quick[:, rival] < best.distance
                chosen = np.flatnonzero(wanted)
                for start in range(0, len(chosen), _CHUNK):
                    part = chosen[start : start + _CHUNK]
                    _improve(norm, classifier, images, rhs, best, part, (int(label), rival))
    return best


def _improve(
    norm: str,
    classifier: Classifier,
    images: np.ndarray,
    rhs: np.ndarray,
    best: Nearest,
    part: np.ndarray,
    pair: tuple[int, int],
) -> None:
    label, rival = pair
    coefficients = classifier.weights[:, rival] - classifier.weights[:, label]
    moving = np.flatnonzero((coefficients != 0) & classifier.active)
    coefficients = coefficients[moving]
    pixels = images[part[:, np.newaxis], moving]
    ranges = np.where(
        coefficients > 0, classifier.upper[moving] - pixels, pixels - classifier.lower[moving]
    )
    distance, perturbations = one_constraint.smallest(
        norm, np.abs(coefficients), ranges, rhs[part, rival]
    )
    nearer = distance < best.distance[part]
    best.num_solved[part] += 1
    won = part[nearer]
    best.distance[won] = distance[nearer]
    best.rival[won] = rival
    best.perturbations[won] = 0
    best.perturbations[won[:, np.newaxis], moving] = perturbations[nearer] * np.sign(coefficients)


def _without_box(
    norm: str, classifier: Classifier, labels: np.ndarray, rhs: np.ndarray
) -> np.ndarray:
    """Bound the distances from below as if pixels had no limits (for l0: as wide as the box)."""
    weights = classifier.weights
    lengths = np.zeros((weights.shape[1],) * 2)
    width = (classifier.upper - classifier.lower)[:, np.newaxis]
    for label in range(weights.shape[1]):
        constraints = np.abs(weights - weights[:, [label]])
        if norm == "linf":
            lengths[label] = constraints.sum(axis=0)
        elif norm == "l2":
            lengths[label] = np.sqrt((constraints**2).sum(axis=0))
        else:
            lengths[label] = (constraints if norm == "l1" else constraints * width).max(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        quick = np.maximum(rhs, 0) / lengths[labels]
    return np.where(np.isnan(quick), np.inf, quick) * (1 - 1e-12)
