"""Checks of the gradient: whether it exists, is finite and not zero, and is correct."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mnist_adv.diagnostics.finding import Finding, ModelUnderTest, Severity
from mnist_adv.gradients.check import supports
from mnist_adv.gradients.losses import Loss, Objective
from mnist_adv.gradients.sources import GradientSource, Source, default_difference_step
from mnist_adv.tensors.lazy import tf

_NUM_IMAGES, _NUM_QUICK = 64, 16
_NUM_PIXELS_TRIED = 50
# A defect of the gradient of at least this share of the images is severe, and of this one makes an
# attack meaningless.
_SEVERE, _MOST = 0.05, 0.5
# Pixels of one brightness, as those of a black background, lie on kinks of a model that takes the
# largest of them. So each gets a brightness of its own, and differences reach less far than that.
_NOISE, _FURTHEST = 0.5, 0.003
_OBJECTIVE = Objective(Loss.CROSS_ENTROPY)


def gradients(tested: ModelUnderTest) -> Iterator[Finding]:
    """Find gradients that are missing, not finite, or exactly zero in float32.

    Args:
        tested: the model and its images.

    Yields:
        The finding, if there is one.
    """
    images = tested.images[: _NUM_IMAGES if tested.thorough else _NUM_QUICK]
    labels, targets = tested.labels[: len(images)], tested.targets[: len(images)]
    try:
        of_labels = _gradient(tested, images, labels)
        of_targets = _gradient(tested, images, targets)
    except ValueError:
        yield Finding(
            "gradient",
            Severity.SEVERE,
            "no gradient flows from the logits to the pixels",
            "write the model in differentiable TensorFlow, or use --attack=square, --source=nes or "
            "--source=central_difference, which only query it",
            stops=False,  # an attack that needs one says so, and gives no result
        )
        return
    broken = ~np.isfinite(of_labels).all(axis=1) | ~np.isfinite(of_targets).all(axis=1)
    if broken.any():
        yield Finding(
            "gradient",
            Severity.SEVERE,
            f"the gradient is not finite in float32 for {broken.mean():.0%} of the images"
            f"{_in_float64(tested, images, labels, targets, broken, np.isnan)}",
            "an overflow or 0/0 inside the model; compute it with finite steps",
            stops=bool(broken.mean() >= _MOST),
        )
        return
    zero = (of_labels == 0).all(axis=1)
    if zero.any():
        also = (zero & (of_targets == 0).all(axis=1)).any()
        yield Finding(
            "gradient",
            Severity.SEVERE if zero.mean() >= _SEVERE else Severity.WARNING,
            f"the gradient is exactly zero in float32 for {zero.mean():.0%} of the images "
            f"{'with or without' if also else 'without'} a target"
            f"{_in_float64(tested, images, labels, targets, zero, _is_zero)}",
            "gradient masking: rounding or saturation inside the model hides the slope from the "
            "attack, and its result proves nothing"
            if also
            else "gradient masking: the softmax saturates; attack with --loss margin or dlr, which "
            "do not, or with --target, or divide the logits",
            stops=bool(zero.mean() >= _MOST),
        )


def numerical(tested: ModelUnderTest) -> Iterator[Finding]:
    """Find a gradient that disagrees with central differences at 50 random pixels.

    Args:
        tested: the model and its images.

    Yields:
        The finding, if there is one.
    """
    # Pixels strictly inside [0, 1]: a model that clips has a kink at both ends.
    random = np.random.default_rng(0)
    noise = random.random(tested.images[0].shape, np.float32)
    image = 0.1 + (0.8 - _NOISE) * tested.images[0] + _NOISE * noise
    dtype = "float64" if supports(tested.model, tested.images, "float64") else "float32"
    pixels = tf.constant(image[np.newaxis], dtype)
    target = tf.constant(tested.targets[:1])
    try:
        _, tape = GradientSource(Source.TAPE)(tested.model, _OBJECTIVE, pixels, target)
    except ValueError:
        return  # the check above reports it
    step = min(_FURTHEST, default_difference_step(Source.CENTRAL_DIFFERENCE, dtype))
    chosen = random.choice(image.size, min(_NUM_PIXELS_TRIED, image.size), replace=False)
    nudges = np.zeros((len(chosen), image.size), dtype)
    nudges[np.arange(len(chosen)), chosen] = step
    nudges = nudges.reshape(-1, *image.shape)

    def values(copies: Any) -> np.ndarray:
        classes = tf.repeat(target, len(nudges))
        return np.asarray(_OBJECTIVE(tested.model(copies), classes), np.float64)

    above, below = values(pixels + nudges), values(pixels - nudges)
    differences = (above - below) / (2 * step)
    derivatives = np.asarray(tape, np.float64).reshape(-1)[chosen]
    largest = max(np.abs(derivatives).max(), np.abs(differences).max())
    rounding = 10 * np.finfo(dtype).eps * np.abs(above).max() / step
    wrong = ~(np.abs(differences - derivatives) <= 0.05 * largest + rounding)
    if wrong.mean() > 0.1:
        yield Finding(
            "numerical",
            Severity.SEVERE,
            f"tape and differences disagree at {wrong.sum()} of {len(wrong)} random pixels "
            f"({dtype}; by {np.abs(differences - derivatives).max() / largest:.0%} of the largest)",
            "a custom gradient, rounding or noise inside the model hides its true slope from "
            "attacks; use --source=central_difference or --attack=square, which only query it, or "
            "take it out",
        )


def _gradient(tested: ModelUnderTest, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    source = GradientSource(Source.TAPE)
    _, found = source(tested.model, _OBJECTIVE, tf.constant(images), tf.constant(classes))
    return np.asarray(found).reshape(len(images), -1)


def _in_float64(
    tested: ModelUnderTest,
    images: np.ndarray,
    labels: np.ndarray,
    targets: np.ndarray,
    affected: np.ndarray,
    is_defect: Any,
) -> str:
    """Say for how many images float64 removes the defect."""
    if not supports(tested.model, tested.images, "float64"):
        return " (the model does not compute in float64)"
    finer = images[affected].astype(np.float64)
    still = np.zeros(len(finer), bool)
    for classes in (labels[affected], targets[affected]):
        still |= is_defect(_gradient(tested, finer, classes)).any(axis=1)
    if not still.any():
        return " (float64 repairs all of them)"
    return f" (float64 repairs {np.count_nonzero(~still)} of {len(still)})"


def _is_zero(gradient: np.ndarray) -> np.ndarray:
    return (gradient == 0).all(axis=1, keepdims=True)
