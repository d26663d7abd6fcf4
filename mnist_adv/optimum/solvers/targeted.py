"""Targeted problems of one block of images: set up, solve, scale back, make feasible."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from mnist_adv.optimum.solvers import l1_columns, linf, l2_newton
from mnist_adv.optimum.solvers.interior_point import Solution
from mnist_adv.optimum.problem import Block, Classifier, make_block, row_needs
from mnist_adv.optimum.solvers.feasibility import repair


@dataclasses.dataclass
class Reached:
    """Answers for one block.

    Attributes:
        perturbations: `[n, D]`, over all pixels.
        multipliers: `[n, K]`, in units of the norm per unit of margin.
        iterations: `[n]` int64.
    """

    perturbations: np.ndarray
    multipliers: np.ndarray
    iterations: np.ndarray


def reach(
    norm: str, classifier: Classifier, images: np.ndarray, targets: np.ndarray, margin: Any
) -> Reached:
    """Find the smallest perturbations that reach the targets.

    Args:
        norm: "linf", "l2" or "l1".
        classifier: prepared.
        images: `[n, D]` float64, in the box.
        targets: `[n]` int64.
        margin: by which the targets' logits must lead, one number or `[n, 1]`.

    Returns:
        The answers; zero perturbations where an image is there already or no point exists.
    """
    count, num_classes = len(images), classifier.weights.shape[1]
    answer = Reached(
        np.zeros(images.shape), np.zeros((count, num_classes)), np.zeros(count, np.int64)
    )
    away = (row_needs(classifier, images, targets, margin) > 0).any(axis=1)
    block = make_block(classifier, images, targets, margin)
    answer.multipliers[block.hopeless] = 1.0
    chosen = np.flatnonzero(away & ~block.hopeless.any(axis=1))
    if not chosen.size:
        return answer
    block = block.take(chosen)
    solution = _SOLVERS[norm](block)
    scaled = np.where(solution.empty[:, np.newaxis], 0.0, solution.points)
    found = np.flatnonzero(~solution.empty)
    part = block.take(found)
    scaled[found] = repair(norm, part.rows, part.room, part.needs, scaled[found], part.slack)
    wide = np.zeros((len(chosen), len(classifier.lower)))
    wide[:, classifier.active] = scaled * classifier.width
    answer.perturbations[chosen] = wide
    answer.multipliers[chosen] = _per_margin(norm, solution) / classifier.unit
    answer.iterations[chosen] = solution.iterations
    return answer


def _per_margin(norm: str, solution: Solution) -> np.ndarray:
    if norm != "l2":
        return solution.multipliers
    # Newton's multipliers belong to 1/2 ||d||^2, whose derivative is ||d|| times the norm's.
    lengths = np.sqrt((solution.points**2).sum(axis=1, keepdims=True))
    return solution.multipliers / np.where(lengths > 0, lengths, 1)


_SOLVERS: dict[str, Callable[[Block], Solution]] = {
    "linf": linf.solve,
    "l2": l2_newton.solve,
    "l1": l1_columns.solve,
}
