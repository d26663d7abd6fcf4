"""The exact robust accuracy of a linear classifier: no valid attack shows less."""

from __future__ import annotations

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
