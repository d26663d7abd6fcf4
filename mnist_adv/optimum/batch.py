"""Run the solvers over all images, block by block, and bound every answer from both sides."""

from __future__ import annotations

import numpy as np

from mnist_adv.optimum.certificate import bounds
from mnist_adv.optimum.constraints import product
from mnist_adv.optimum.parallel import blocks, in_parallel
from mnist_adv.optimum.problem import Classifier, right_hand_side
from mnist_adv.optimum.solvers.targeted import solve_block
from mnist_adv.optimum.solvers.untargeted import nearest_border

_BLOCK = {"linf": 128, "l2": 64, "l1": 96, "l0": 8}  # problems that share the cache
_BOUNDED = 24  # problems whose product with W BLAS leaves to this thread (see `product`)
_GROUPED = 10_000  # untargeted images at a time: large groups by label, bounded memory


def solve_targeted(
    norm: str,
    classifier: Classifier,
    pixels: np.ndarray,
    targets: np.ndarray,
    margin: float,
    seconds_per_image: float,
    one_by_one: bool,
    progress: bool | None,
) -> dict[str, np.ndarray]:
    """Find the smallest changes that reach targets, and bound each from both sides.

    Args:
        norm: "linf", "l2", "l1" or "l0".
        classifier: of D pixels and K classes.
        pixels: `[n, D]`, inside the box.
        targets: `[n]` int64.
        margin: of the target's logit over every other, at least 0.
        seconds_per_image: for l0, how long branch and bound may take for one image.
        one_by_one: see `smallest_perturbation`.
        progress: see `smallest_perturbation`.

    Returns:
        Fields of `Optimum` by their names.
    """
    count, num_classes = len(pixels), classifier.weights.shape[1]
    adversarial = np.empty(pixels.shape)
    dual_variables = np.zeros((count, num_classes))
    iterations = np.zeros(count, np.int64)
    below, above, branch = np.zeros(count), np.zeros(count), np.zeros(count)

    def work(part: slice) -> None:
        x, t = pixels[part].astype(np.float64), targets[part]
        if norm == "l0":
            from mnist_adv.optimum.solvers import l0_branch  # SciPy, which no other norm needs

            answer, branch[part] = l0_branch.solve_block(
                classifier, x, t, margin, seconds_per_image
            )
        else:
            answer = solve_block(norm, classifier, x, t, margin)
        rhs = right_hand_side(classifier, x, t, margin)
        rhs[np.arange(len(t)), t] = 0
        ranges = (classifier.upper - x, x - classifier.lower)
        dual_variables[part], iterations[part] = answer.dual_variables, answer.iterations
        for start in range(0, len(t), _BOUNDED):
            few = slice(start, start + _BOUNDED)
            below[part][few] = bounds.targeted_bound(
                norm,
                classifier.weights,
                t[few],
                answer.dual_variables[few],
                rhs[few],
                (ranges[0][few], ranges[1][few]),
            )
        final = np.clip(x + answer.perturbations, classifier.lower, classifier.upper)
        reached = right_hand_side(classifier, final, t, margin).max(axis=1) <= 0
        adversarial[part] = np.where(reached[:, np.newaxis], final, x)
        above[part] = np.where(reached, bounds.measure(norm, adversarial[part] - x), np.inf)

    in_parallel(work, blocks(count, 1 if one_by_one else _BLOCK[norm]), "pair", progress)
    return {
        "adversarial": adversarial,
        "reached": targets,
        "lower_bound": below,
        "upper_bound": above,
        "dual_variables": dual_variables,
        "iterations": iterations,
        "branch_bound": np.maximum(branch, below),
    }


def solve_untargeted(
    norm: str,
    classifier: Classifier,
    pixels: np.ndarray,
    labels: np.ndarray,
    margin: float,
    one_by_one: bool,
    progress: bool | None,
) -> dict[str, np.ndarray]:
    """Find the smallest changes that leave labels, and bound each from both sides.

    Args:
        norm: "linf", "l2", "l1" or "l0".
        classifier: of D pixels and K classes.
        pixels: `[n, D]`, inside the box.
        labels: `[n]` int64.
        margin: of some other logit over the label's, at least 0.
        one_by_one: see `smallest_perturbation`.
        progress: see `smallest_perturbation`.

    Returns:
        Fields of `Optimum` by their names.
    """
    count, num_classes = len(pixels), classifier.weights.shape[1]
    adversarial = np.empty(pixels.shape)
    reached = np.zeros(count, np.int64)
    iterations = np.zeros(count, np.int64)
    below, above = np.zeros(count), np.zeros(count)

    def work(part: slice) -> None:
        x, y = pixels[part].astype(np.float64), labels[part]
        rhs = 2 * margin - right_hand_side(classifier, x, y, margin)
        size = product(np.abs(x), np.abs(classifier.weights)) + np.abs(classifier.bias)
        nearest = nearest_border(norm, classifier, x, y, rhs)
        # Aim beyond rounding, or the image on the border may compute as just inside.
        surplus = (
            1
            + (1e-11 + 4e-15 * size.max(axis=1) / np.maximum(rhs.min(axis=1), 1e-300))[
                :, np.newaxis
            ]
        )
        moved = x + nearest.perturbations * (surplus if norm != "l0" else 1.0)
        final = np.clip(moved, classifier.lower, classifier.upper)
        index = np.arange(len(y))
        shortfalls = 2 * margin - right_hand_side(classifier, final, y, margin)
        left = np.asarray(shortfalls[index, nearest.rival] <= 0)
        adversarial[part] = np.where(left[:, np.newaxis], final, x)
        reached[part], iterations[part] = nearest.rival, nearest.num_solved
        below[part] = nearest.distance
        above[part] = np.where(left, bounds.measure(norm, adversarial[part] - x), np.inf)

    in_parallel(work, blocks(count, 1 if one_by_one else _GROUPED), "image", progress)
    return {
        "adversarial": adversarial,
        "reached": reached,
        "lower_bound": below,
        "upper_bound": above,
        "dual_variables": np.zeros((count, num_classes)),
        "iterations": iterations,
        "branch_bound": below,
    }
