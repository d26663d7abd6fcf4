"""Targeted problems of one block of images: set up, solve, scale back, make feasible."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from mnist_adv.optimum.problem import Block, Classifier, make_block, right_hand_side
from mnist_adv.optimum.solvers import l1_columns, l2_newton, linf
from mnist_adv.optimum.solvers.feasibility import repair
from mnist_adv.optimum.solvers.interior_point import Solution


@dataclasses.dataclass
class TargetedSolution:
    """Answers for one block.

    Attributes:
        perturbations: `[n, D]`, over all pixels.
        dual_variables: `[n, K]`, in units of the norm per unit of margin.
        iterations: `[n]` int64.
    """

    perturbations: np.ndarray
    dual_variables: np.ndarray
    iterations: np.ndarray


def solve_block(
    norm: str, classifier: Classifier, images: np.ndarray, targets: np.ndarray, margin: Any
) -> TargetedSolution:
    """Find the smallest perturbations that reach the targets.

    Args:
        norm: "linf", "l2" or "l1".
        classifier: prepared.
        images: `[n, D]` float64, in the box.
        targets: `[n]` int64.
        margin: of the targets' logits over the others, one number or `[n, 1]`.

    Returns:
        The answers; zero perturbations where an image is there already or no point exists.
    """
    count, num_classes = len(images), classifier.weights.shape[1]
    answer = TargetedSolution(
        np.zeros(images.shape), np.zeros((count, num_classes)), np.zeros(count, np.int64)
    )
    away = (right_hand_side(classifier, images, targets, margin) > 0).any(axis=1)
    block = make_block(classifier, images, targets, margin)
    answer.dual_variables[block.unsatisfiable] = 1.0
    chosen = np.flatnonzero(away & ~block.unsatisfiable.any(axis=1))
    if not chosen.size:
        return answer
    block = block.take(chosen)
    solution = _SOLVERS[norm](block)
    scaled = np.where(solution.infeasible[:, np.newaxis], 0.0, solution.points)
    found = np.flatnonzero(~solution.infeasible)
    part = block.take(found)
    scaled[found] = repair(
        norm, part.constraints, part.ranges, part.rhs, scaled[found], part.tolerance
    )
    wide = np.zeros((len(chosen), len(classifier.lower)))
    wide[:, classifier.active] = scaled * classifier.width
    answer.perturbations[chosen] = wide
    answer.dual_variables[chosen] = _per_margin(norm, solution) / classifier.unit
    answer.iterations[chosen] = solution.iterations
    return answer


def _per_margin(norm: str, solution: Solution) -> np.ndarray:
    if norm != "l2":
        return solution.dual_variables
    # Newton's dual variables belong to 1/2 ||d||^2, whose derivative is ||d|| times the norm's.
    lengths = np.sqrt((solution.points**2).sum(axis=1, keepdims=True))
    return solution.dual_variables / np.where(lengths > 0, lengths, 1)


_SOLVERS: dict[str, Callable[[Block], Solution]] = {
    "linf": linf.solve,
    "l2": l2_newton.solve,
    "l1": l1_columns.solve,
}
