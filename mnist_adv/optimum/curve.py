"""The exact robust-accuracy curve of a linear classifier: the line that no honest attack passes."""

from __future__ import annotations

import csv
import os
from typing import Any

import numpy as np

from mnist_adv.optimum.result import Optimum


def robust_accuracy(optimum: Optimum, epsilons: Any) -> np.ndarray:
    """Compute which share of the images keeps its label whatever happens inside a budget.

    Args:
        optimum: untargeted, of images with their true labels.
        epsilons: `[m]`, budgets.

    Returns:
        `[m]`: the share of images that are classified as their label and whose certified lower
        bound exceeds the budget; an image at distance exactly epsilon counts as broken.

    Raises:
        ValueError: the optimum is targeted.
    """
    if optimum.targeted:
        raise ValueError("robust accuracy needs an untargeted optimum. Received: a targeted one")
    budgets = np.asarray(epsilons, np.float64)
    distances = np.sort(optimum.lower_bound)
    broken = np.searchsorted(distances, budgets, side="right")
    return 1 - broken / max(1, len(distances))


def write_csv(
    path: str | os.PathLike[str], curves: dict[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    """Write curves as rows `norm, epsilon, robust_accuracy`.

    Args:
        path: the file, overwritten.
        curves: norm -> budgets and robust accuracies.
    """
    with open(path, "w", newline="", encoding="ascii") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["norm", "epsilon", "robust_accuracy"])
        for norm, (epsilons, shares) in curves.items():
            for epsilon, share in zip(epsilons, shares):
                writer.writerow([norm, f"{epsilon:g}", f"{share:.4f}"])
