"""Public entry point of the smallest perturbation: validate, solve, assemble."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from mnist_adv.arguments import real, yes_or_no
from mnist_adv.data.images import as_classes
from mnist_adv.optimum.batch import solve_targeted, solve_untargeted
from mnist_adv.optimum.problem import Classifier, as_norm, as_pixels, make_classifier
from mnist_adv.optimum.result import Optimum


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
    one_by_one: bool = False,
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
        margin: of the wanted logit over the others, at least 0.
        lower: least pixel value, one number or `[D]`.
        upper: largest pixel value.
        seconds_per_image: for targeted l0, how long branch and bound may take for one image.
        one_by_one: solve every image by itself, several times slower, so that not the last bit of
            an answer depends on the other images or on the number of cores.
        progress: show a bar on standard error; None: where it is worth it.

    Returns:
        The nearest images with bounds from both sides, dual variables and statistics.

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
    norm = as_norm(norm)
    margin = float(real(margin, "margin", 0))
    real(seconds_per_image, "seconds_per_image", 0)
    yes_or_no(one_by_one, "one_by_one")
    if progress is not None:
        yes_or_no(progress, "progress")
    classifier = make_classifier(W, b, lower, upper)
    pixels = as_pixels(images, classifier)
    classes, targeted = _goal(len(pixels), classifier, targets, labels)
    if targeted:
        answer = solve_targeted(
            norm, classifier, pixels, classes, margin, seconds_per_image, one_by_one, progress
        )
    else:
        answer = solve_untargeted(norm, classifier, pixels, classes, margin, one_by_one, progress)
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
