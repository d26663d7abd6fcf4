"""Checks of what the model returns: the kind of number, the accuracy, the repeatability."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from mnist_adv.diagnostics.finding import Finding, ModelUnderTest, Severity
from mnist_adv.models.logits import are_probabilities
from mnist_adv.models.preprocessing import Pixels, PixelScale, Polarity
from mnist_adv.tensors.lazy import tf

# Outputs of one image may differ by a few float32 roundings from call to call, not by this share
# of their spread.
_MOST_CHANGE = 1e-3
_NUM_ALONE = 8
# Below this accuracy a model counts as not working with its present pixels.
_WORKS = 0.5
# Up to this share of the way from chance to perfection, accuracy is not told from chance.
_ABOVE_CHANCE = 0.1


def finite(tested: ModelUnderTest) -> Iterator[Finding]:
    """Find outputs that are NaN or infinite.

    Args:
        tested: the model and its images.

    Yields:
        The finding, if there is one.
    """
    wrong = np.count_nonzero(~np.isfinite(tested.outputs).all(axis=1))
    if wrong:
        yield Finding(
            "finite",
            Severity.SEVERE,
            f"outputs are not finite for {wrong} of {len(tested.images)} images",
            "its weights or its arithmetic overflow; train it again with a smaller learning rate",
        )


def probabilities(tested: ModelUnderTest) -> Iterator[Finding]:
    """Find probabilities in place of logits.

    Args:
        tested: the model and its images.

    Yields:
        The finding, if there is one.
    """
    k = tested.num_classes
    outputs = tested.outputs
    twice = "outputs look like a softmax of a softmax: no class can get above "
    if are_probabilities(outputs):
        highest = outputs.max()
        ceiling = math.e / (math.e + k - 1)
        yield Finding(
            "probabilities",
            Severity.SEVERE,
            twice + f"{ceiling:.3f}, and none does"
            if highest <= ceiling + 1e-3
            else "outputs sum to 1: they are probabilities, and an attack would take the softmax "
            "of them again",
            "return the values before the softmax (open_model does, for a model in a file)",
        )
    elif _are_shifted_probabilities(outputs):
        yield Finding(
            "probabilities",
            Severity.SEVERE,
            twice + f"{math.e / (math.e + k - 1):.3f}",
            "take both softmaxes off the model and return its logits",
        )


def _are_shifted_probabilities(outputs: np.ndarray) -> bool:
    """Tell log(softmax(probabilities)), which is probabilities minus a constant per image."""
    k = outputs.shape[1]
    shifted = outputs + (1 - outputs.sum(axis=1, keepdims=True)) / k
    decided = shifted.max(axis=1).mean() > 0.5
    return bool(decided and shifted.min() > -1e-4 and shifted.min() < 0.5 / k)


def accuracy(tested: ModelUnderTest) -> Iterator[Finding]:
    """Find low accuracy, and the scale or polarity at which it is higher.

    Args:
        tested: the model and its images.

    Yields:
        The finding, if there is one.
    """
    right = tested.outputs.argmax(axis=1) == tested.labels
    best, best_right = tested.pixels, right
    # Another setting may still be better, but not by so much that it would be severe.
    enough = not tested.thorough and right.mean() > 0.9
    for setting in [] if enough else _settings(tested.images.shape[-1]):
        now_right = _predict(tested, _as_with(tested, setting)) == tested.labels
        # Of equally good settings the plainest is kept: it comes first.
        if _clearly_better(now_right, best_right):
            best, best_right = setting, now_right
    seen, chance = right.mean(), 1 / tested.num_classes
    if best != tested.pixels and best_right.mean() > _WORKS:
        clear = seen < _WORKS or best_right.mean() - seen > 0.1
        yield Finding(
            "accuracy",
            Severity.SEVERE if clear else Severity.WARNING,
            f"clean accuracy is {seen:.1%}, and {best_right.mean():.1%} with other pixels",
            f"give {best}",
        )
    elif seen < min(2 * chance, chance + _ABOVE_CHANCE * (1 - chance)):
        yield Finding(
            "accuracy",
            Severity.SEVERE,
            f"clean accuracy is {seen:.1%}, where chance gives {chance:.0%}{_other_cause(tested)}",
            "it is untrained, or was trained on another data set or with other preprocessing than "
            "any --pixel_scale and --polarity",
        )


def _settings(num_channels: int) -> list[Pixels]:
    """List what may have been done to the pixels, each once, the plainest first."""
    settings = [Pixels(scale, polarity) for scale in PixelScale for polarity in Polarity]
    changes: dict[Any, Pixels] = {}
    for setting in settings:
        if np.size(setting.factor) in (1, num_channels):
            changes.setdefault((setting.factor, setting.offset), setting)
    return list(changes.values())


def _as_with(tested: ModelUnderTest, setting: Pixels) -> np.ndarray:
    """Compute images that the model, with its present setting, receives as with another."""
    return tested.pixels.invert(setting.apply(tested.images))


def _predict(tested: ModelUnderTest, images: np.ndarray) -> np.ndarray:
    return np.asarray(tested.model(tf.constant(images))).argmax(axis=1)


def _clearly_better(other: np.ndarray, present: np.ndarray) -> bool:
    """Compare on the same images (McNemar's test at three deviations)."""
    gained, lost = np.count_nonzero(other & ~present), np.count_nonzero(present & ~other)
    return gained - lost > max(3 * math.sqrt(gained + lost), 0.02 * len(present))


def _other_cause(tested: ModelUnderTest) -> str:
    """Name another cause of an accuracy near chance, if a test shows one."""
    height, width = tested.images.shape[1:3]
    transposed = np.ascontiguousarray(tested.images.swapaxes(1, 2))
    if height == width and (_predict(tested, transposed) == tested.labels).mean() > _WORKS:
        return "; with rows and columns swapped it is not, so it was trained on transposed images"
    predictions = tested.outputs.argmax(axis=1)
    meaning = {
        int(seen): int(np.bincount(tested.labels[predictions == seen]).argmax())
        for seen in np.unique(predictions)
    }
    renamed = np.array([meaning[int(seen)] for seen in predictions])
    if (renamed == tested.labels).mean() > _WORKS:
        order = ", ".join(f"{seen} means {label}" for seen, label in meaning.items())
        return f"; its classes are in another order: output {order}"
    return ""


def stability(tested: ModelUnderTest) -> Iterator[Finding]:
    """Find outputs that differ between two calls, or with the other images of the batch.

    Args:
        tested: the model and its images.

    Yields:
        The finding, if there is one.
    """
    images = tf.constant(tested.images)
    spread = float(np.ptp(tested.outputs)) or 1.0
    again = np.asarray(tested.model(images), np.float64)
    change = np.abs(again - tested.outputs).max() / spread
    if change > _MOST_CHANGE:
        yield Finding(
            "two_calls",
            Severity.SEVERE,
            f"two calls with the same images differ by {change:.1%} of the outputs' spread",
            "switch dropout and other noise off: call the model with training=False; if the noise "
            "is a defence, attack its mean: num_eot_samples=20, or --attack autoattack_rand "
            "--anyway",
        )
        return
    count = min(_NUM_ALONE if tested.thorough else 1, len(tested.images))
    alone = np.concatenate([
        np.asarray(tested.model(images[i : i + 1]), np.float64) for i in range(count)
    ])
    change = np.abs(alone - tested.outputs[:count]).max() / spread
    if change > _MOST_CHANGE:
        yield Finding(
            "batch",
            Severity.SEVERE,
            f"an image alone and in a batch differ by {change:.1%} of the outputs' spread",
            "batch normalisation must use its stored statistics: call it with training=False",
        )
