"""The public question: how small a change makes a linear classifier say this?"""

from __future__ import annotations

import concurrent.futures
import os
import time
from typing import Any

import numpy as np
from tqdm import tqdm

from mnist_adv.data.images import as_classes
from mnist_adv.optimum.certificate import bounds
from mnist_adv.optimum.problem import Classifier, make_classifier, row_needs
from mnist_adv.optimum.result import Optimum
from mnist_adv.optimum.constraints import product
from mnist_adv.optimum.solvers.targeted import reach
from mnist_adv.optimum.solvers.untargeted import nearest_border

NORMS = ("linf", "l2", "l1", "l0")

_BLOCK = {"linf": 128, "l2": 64, "l1": 96, "l0": 8}  # problems that share the cache
_BOUNDED = 24  # problems whose lower bounds are found together
_GROUPED = 10_000  # untargeted images at a time: large groups by label, bounded memory
_SILENT = 500  # fewer problems than this take under two seconds


def smallest_perturbation(
    W: Any,
    b: Any,
    images: Any,
    targets: Any = None,
    labels: Any = None,
    *,
    norm: Any = "l2",
    margin: float = 0.0,
    lower: Any = 0.0,
    upper: Any = 1.0,
    seconds_per_image: float = 10.0,
    progress: bool | None = None,
) -> Optimum:
    """Find the smallest changes of images that change a linear classifier's answer, with proof.

    Logits are `z = x W + b`. With targets: the least `||d||` with `z_t >= z_j + margin` for every
    other class j; with labels alone: with `z_j >= z_y + margin` for some other class j. Always
    with every pixel of x + d inside the box. An equality of logits counts as reached; ask for a
    margin to be clear of it.

    Args:
        W: `[D, K]`, any linear classifier's weights; column k belongs to class k.
        b: `[K]`.
        images: `[n, D]` or image-shaped with D pixels each, inside the box.
        targets: the classes to reach, one integer or `[n]`; or
        labels: the classes to leave, one integer or `[n]`. Beside targets only a check that the
            two differ.
        norm: "linf", "l2", "l1" or "l0" (the number of changed pixels).
        margin: lead of the wanted logit, in logit units; at least 0.
        lower: least pixel value, one number or `[D]`.
        upper: largest pixel value.
        seconds_per_image: for targeted l0, how long branch and bound may take for one image.
        progress: show a bar on standard error; None: where it is worth it.

    Returns:
        The nearest images with bounds from both sides, multipliers and statistics.

    Raises:
        ValueError: shapes, classes or numbers out of form or range; an image outside the box; a
            target that is the label.

    Example:
        >>> import numpy as np
        >>> from mnist_adv import smallest_perturbation
        >>> image = np.array([[0.8, 0.2]])  # logits 0.8 and 0.2
        >>> optimum = smallest_perturbation(np.eye(2), np.zeros(2), image, 1, norm="linf")
        >>> float(optimum.upper_bound[0].round(6))
        0.3
        >>> optimum.status[0].name
        'OPTIMAL'

    References:
        Hein, Andriushchenko, "Formal Guarantees on the Robustness of a Classifier against
        Adversarial Manipulation", 2017 (one constraint and a box).
    """
    started = time.perf_counter()
    norm = str(getattr(norm, "value", norm))
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}. Received: {norm!r}")
    if not (np.isfinite(margin) and margin >= 0):
        raise ValueError(f"margin must be a finite number, at least 0. Received: {margin}")
    classifier = make_classifier(W, b, lower, upper)
    pixels = as_pixels(images, classifier)
    classes, targeted = _goal(len(pixels), classifier, targets, labels)
    if targeted:
        answer = _targeted(norm, classifier, pixels, classes, margin, seconds_per_image, progress)
    else:
        answer = _untargeted(norm, classifier, pixels, classes, margin, progress)
    shape = np.shape(images) if np.ndim(images) > 1 else (1, *np.shape(images))
    return Optimum(
        norm=norm,
        targeted=targeted,
        classes=classes,
        margin=float(margin),
        images=np.reshape(images, shape),
        adversarial=answer.pop("adversarial").reshape(shape),
        seconds=time.perf_counter() - started,
        **answer,
    )


def as_pixels(images: Any, classifier: Classifier) -> np.ndarray:
    """Flatten images and check that they lie in the box.

    Args:
        images: `[n, D]`, image-shaped, or one image.
        classifier: of D pixels.

    Returns:
        `[n, D]`, float32 or float64 as it came.

    Raises:
        ValueError: another number of pixels, not floats, or a pixel outside the box.
    """
    pixels = np.asarray(images)
    count = len(classifier.lower)
    whole = pixels.size == count and pixels.ndim != 2
    if not whole and (pixels.ndim < 2 or pixels[0:1].size != (count if len(pixels) else 0)):
        raise ValueError(
            f"images must have {count} pixels each, as W has rows. Received: shape "
            f"{list(pixels.shape)}"
        )
    if not np.issubdtype(pixels.dtype, np.floating):
        raise ValueError(f"images must be floats. Received: dtype={pixels.dtype}")
    pixels = pixels.reshape(-1, count)
    if not ((pixels >= classifier.lower) & (pixels <= classifier.upper)).all():
        raise ValueError(
            "images must be finite and lie in the box from lower to upper. Received: pixels from "
            f"{pixels.min():g} to {pixels.max():g}"
        )
    return pixels


def blocks(count: int, size: int) -> list[slice]:
    """Cut `count` problems into consecutive slices of at most `size`."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def in_parallel(
    work: Any, parts: list[slice], total: int, unit: str, progress: bool | None
) -> None:
    """Run `work(part)` for every part on all processors, with a progress bar.

    Args:
        work: writes its part of the answer; NumPy lets go of the interpreter while it computes.
        parts: what to work on.
        total: how many problems all parts have.
        unit: what one problem is called.
        progress: whether to show the bar; None: if there are many.
    """
    show = total >= _SILENT if progress is None else progress
    # glibc gives freed memory back to the system, page by page, unless it has once freed a piece
    # as large as this: after that, arrays of a block are reused.
    np.empty(32_000_000, np.uint8)
    with (
        tqdm(total=total, unit=unit, disable=not show, leave=False) as bar,
        concurrent.futures.ThreadPoolExecutor(_num_threads()) as pool,
    ):
        futures = {pool.submit(work, part): part for part in parts}
        try:
            for future in concurrent.futures.as_completed(futures):
                future.result()
                bar.update(futures[future].stop - futures[future].start)
        finally:
            for future in futures:
                future.cancel()


def _num_threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _goal(count: int, classifier: Classifier, targets: Any, labels: Any) -> tuple[np.ndarray, bool]:
    num_classes = classifier.weights.shape[1]
    if targets is None and labels is None:
        raise ValueError("targets (classes to reach) or labels (classes to leave) must be given")
    if labels is not None:
        labels = as_classes(labels, count, num_classes, "labels")
    if targets is None:
        return labels, False
    targets = as_classes(targets, count, num_classes, "targets")
    if labels is not None and (targets == labels).any():
        raise ValueError(
            "targets must differ from labels. Received: the same class for image "
            f"{int(np.argmax(targets == labels))}"
        )
    return targets, True


def _targeted(
    norm: str,
    classifier: Classifier,
    pixels: np.ndarray,
    targets: np.ndarray,
    margin: float,
    seconds_per_image: float,
    progress: bool | None,
) -> dict[str, np.ndarray]:
    if norm == "l0":
        from mnist_adv.optimum.solvers import l0_branch  # imports SciPy, as the other norms do not

    count, num_classes = len(pixels), classifier.weights.shape[1]
    adversarial = np.empty(pixels.shape)
    multipliers = np.zeros((count, num_classes))
    iterations = np.zeros(count, np.int64)
    below, above, branch = np.zeros(count), np.zeros(count), np.zeros(count)

    def work(part: slice) -> None:
        x, t = pixels[part].astype(np.float64), targets[part]
        if norm == "l0":
            answer, branch[part] = l0_branch.reach(classifier, x, t, margin, seconds_per_image)
        else:
            answer = reach(norm, classifier, x, t, margin)
        needs = row_needs(classifier, x, t, margin)
        needs[np.arange(len(t)), t] = 0
        room = (classifier.upper - x, x - classifier.lower)
        multipliers[part], iterations[part] = answer.multipliers, answer.iterations
        # In pieces so small that BLAS leaves them to this thread (see `rows.product`).
        below[part] = np.concatenate(
            [
                bounds.reach_bound(
                    norm,
                    classifier.weights,
                    t[few],
                    answer.multipliers[few],
                    needs[few],
                    (room[0][few], room[1][few]),
                )
                for few in blocks(len(t), _BOUNDED)
            ]
        )
        final = np.clip(x + answer.perturbations, classifier.lower, classifier.upper)
        reached = row_needs(classifier, final, t, margin).max(axis=1) <= 0
        adversarial[part] = np.where(reached[:, np.newaxis], final, x)
        above[part] = np.where(reached, bounds.measure(norm, adversarial[part] - x), np.inf)

    size = min(_BLOCK[norm], -(-count // _num_threads()) or 1)
    in_parallel(work, blocks(count, size), count, "pair", progress)
    return {
        "adversarial": adversarial,
        "reached": targets,
        "lower_bound": below,
        "upper_bound": above,
        "multipliers": multipliers,
        "iterations": iterations,
        "branch_bound": np.maximum(branch, below),
    }


def _untargeted(
    norm: str,
    classifier: Classifier,
    pixels: np.ndarray,
    labels: np.ndarray,
    margin: float,
    progress: bool | None,
) -> dict[str, np.ndarray]:
    count, num_classes = len(pixels), classifier.weights.shape[1]
    adversarial = np.empty(pixels.shape)
    reached = np.zeros(count, np.int64)
    iterations = np.zeros(count, np.int64)
    below, above = np.zeros(count), np.zeros(count)

    def work(part: slice) -> None:
        x, y = pixels[part].astype(np.float64), labels[part]
        needs = 2 * margin - row_needs(classifier, x, y, margin)
        size = product(np.abs(x), np.abs(classifier.weights)) + np.abs(classifier.bias)
        nearest = nearest_border(norm, classifier, x, y, needs)
        # Aim beyond rounding, or the image on the border may compute as just inside.
        over = (
            1
            + (1e-11 + 4e-15 * size.max(axis=1) / np.maximum(needs.min(axis=1), 1e-300))[
                :, np.newaxis
            ]
        )
        moved = x + nearest.perturbations * (over if norm != "l0" else 1.0)
        final = np.clip(moved, classifier.lower, classifier.upper)
        index = np.arange(len(y))
        leads = 2 * margin - row_needs(classifier, final, y, margin)
        left = np.asarray(leads[index, nearest.rival] <= 0)
        adversarial[part] = np.where(left[:, np.newaxis], final, x)
        reached[part], iterations[part] = nearest.rival, nearest.pieces
        below[part] = nearest.distance
        above[part] = np.where(left, bounds.measure(norm, adversarial[part] - x), np.inf)

    size = min(_GROUPED, -(-count // _num_threads()) or 1)
    in_parallel(work, blocks(count, size), count, "image", progress)
    return {
        "adversarial": adversarial,
        "reached": reached,
        "lower_bound": below,
        "upper_bound": above,
        "multipliers": np.zeros((count, num_classes)),
        "iterations": iterations,
        "branch_bound": below,
    }
