"""Check a verdict that was read from a file against the arrays beside it; no model is needed."""

from __future__ import annotations

from typing import Any

import numpy as np

from mnist_adv.data.images import Bounds
from mnist_adv.geometry.norms import Norm
from mnist_adv.gradients.goals import Goal
from mnist_adv.verdict.judge import TOLERANCE, Verdict, measure

_ROUNDING = 1e-9  # relative, of norms that another machine has summed


def require_consistent(
    images: np.ndarray,
    adversarial: np.ndarray,
    goal: Goal,
    verdict: Verdict,
    *,
    norm: Norm,
    epsilon: Any,
    bounds: Bounds,
) -> None:
    """Refuse a verdict that its own images, classes and probabilities contradict.

    Args:
        images: clean, `[n, h, w, c]`.
        adversarial: the same shape.
        goal: the classes to be reached or left.
        verdict: on these images.
        norm: of the budget.
        epsilon: the budget, one number or `[n]`.
        bounds: the least and the largest value of a pixel.

    Raises:
        ValueError: shapes do not fit together, or a claim differs from what follows; it is named.
    """
    count = len(images)
    if images.ndim != 4 or images.shape != adversarial.shape:
        raise ValueError("images and adversarial images differ in shape")
    if np.shape(epsilon) not in {(), (count,)} or goal.classes.shape != (count,):
        raise ValueError("there is not one class, and one budget, for each image")
    norms, in_range = measure(images, adversarial, bounds)
    claimed = verdict.probabilities.argmax(axis=1)
    confident = verdict.probabilities.max(axis=1) >= (goal.confidence or 0)
    finite = np.isfinite(verdict.probabilities).all(axis=1)
    follows = {
        "predictions": claimed,
        "clean_predictions": verdict.clean_probabilities.argmax(axis=1),
        "in_range": in_range,
        "in_budget": norms[norm.value] <= np.asarray(epsilon, np.float64) + TOLERANCE,
        "reached": ((verdict.predictions == goal.classes) == goal.targeted) & finite,
        "confident": confident,
        "success": verdict.reached & verdict.confident & verdict.in_range & verdict.in_budget,
    }
    for name, values in follows.items():
        if not np.array_equal(getattr(verdict, name), values):
            raise ValueError(f"{name} is not what follows from the arrays beside it")
    for name, values in norms.items():
        stored = verdict.norms.get(name, np.empty(0))
        if stored.shape != (count,) or not np.allclose(
            stored, values, rtol=_ROUNDING, atol=0, equal_nan=True
        ):
            raise ValueError(f"{name} is not the norm of the perturbations")
