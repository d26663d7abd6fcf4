"""Checks of what the model returns: the kind of number, its accuracy, whether it holds still."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from mnist_adv.tensors.lazy import tf
from mnist_adv.diagnostics.finding import Finding, Patient, Severity
from mnist_adv.models.logits import are_probabilities
from mnist_adv.models.preprocessing import Pixels, PixelScale, Polarity

# Outputs of one image may differ by a few float32 roundings from call to call, not by this share
# of their spread.
_STILL = 1e-3
_NUM_ALONE = 8
# A classifier that sees fewer than this does not see.
_SEES = 0.5


def finite(patient: Patient) -> Iterator[Finding]:
    """Find outputs that are NaN or infinite."""
    wrong = np.count_nonzero(~np.isfinite(patient.outputs).all(axis=1))
    if wrong:
        yield Finding(
            "finite",
            Severity.SEVERE,
            f"outputs are not finite for {wrong} of {len(patient.images)} images",
            "its weights or its arithmetic overflow; train it again with a smaller learning rate",
        )


def probabilities(patient: Patient) -> Iterator[Finding]:
    """Find probabilities that stand where logits belong."""
    k = patient.num_classes
    outputs = patient.outputs
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


def accuracy(patient: Patient) -> Iterator[Finding]:
    """Find a model that sees little, and the scale or polarity at which it sees more."""
    right = patient.outputs.argmax(axis=1) == patient.labels
    best, best_right = patient.pixels, right
    # A model that sees this well may still see better, but not so much that it would be severe.
    enough = not patient.thorough and right.mean() > 0.9
    for setting in [] if enough else _settings():
        now_right = _predict(patient, _presented(patient, setting)) == patient.labels
        # Of settings that do equally well the plainest stays: it comes first.
        if _clearly_better(now_right, best_right):
            best, best_right = setting, now_right
    seen, chance = right.mean(), 1 / patient.num_classes
    if best != patient.pixels and best_right.mean() > _SEES:
        yield Finding(
            "accuracy",
            Severity.SEVERE if seen < _SEES or best_right.mean() - seen > 0.1 else Severity.WARNING,
            f"clean accuracy is {seen:.1%}, and {best_right.mean():.1%} with other pixels",
            f"give {best}",
        )
    elif seen < 2 * chance:
        yield Finding(
            "accuracy",
            Severity.SEVERE,
            f"clean accuracy is {seen:.1%}, where chance gives {chance:.0%}{_other_cause(patient)}",
            "no pixel scale or polarity mends it: is this the data set it was trained on?",
        )


def _settings() -> list[Pixels]:
    return [Pixels(scale, polarity) for scale in PixelScale for polarity in Polarity]


def _presented(patient: Patient, setting: Pixels) -> np.ndarray:
    """Give the images that, behind the model's present setting, arrive as another would bring."""
    present = patient.pixels
    arriving = patient.images * setting.factor + setting.offset
    return ((arriving - present.offset) / present.factor).astype(np.float32)


def _predict(patient: Patient, images: np.ndarray) -> np.ndarray:
    return np.asarray(patient.model(tf.constant(images))).argmax(axis=1)


def _clearly_better(other: np.ndarray, present: np.ndarray) -> bool:
    """Compare on the same images (McNemar's test at three deviations)."""
    gained, lost = np.count_nonzero(other & ~present), np.count_nonzero(present & ~other)
    return gained - lost > max(3 * math.sqrt(gained + lost), 0.02 * len(present))


def _other_cause(patient: Patient) -> str:
    """Name what else brings accuracy down to chance, where it shows."""
    turned = np.ascontiguousarray(patient.images.swapaxes(1, 2))
    if (_predict(patient, turned) == patient.labels).mean() > _SEES:
        return "; with rows and columns swapped it sees them, so its images lay on their side"
    predictions = patient.outputs.argmax(axis=1)
    meaning = {
        int(seen): int(np.bincount(patient.labels[predictions == seen]).argmax())
        for seen in np.unique(predictions)
    }
    renamed = np.array([meaning[int(seen)] for seen in predictions])
    if (renamed == patient.labels).mean() > _SEES:
        order = ", ".join(f"{seen} means {label}" for seen, label in meaning.items())
        return f"; its classes stand in another order: output {order}"
    return ""


def stability(patient: Patient) -> Iterator[Finding]:
    """Find outputs that change between two calls, or with the rest of the batch."""
    images = tf.constant(patient.images)
    spread = float(np.ptp(patient.outputs)) or 1.0
    again = np.asarray(patient.model(images), np.float64)
    change = np.abs(again - patient.outputs).max() / spread
    if change > _STILL:
        yield Finding(
            "two_calls",
            Severity.SEVERE,
            f"two calls with the same images differ by {change:.1%} of the outputs' spread",
            "switch dropout and other noise off: call the model with training=False",
        )
        return
    count = _NUM_ALONE if patient.thorough else 1
    alone = np.concatenate(
        [np.asarray(patient.model(images[i : i + 1]), np.float64) for i in range(count)]
    )
    change = np.abs(alone - patient.outputs[:count]).max() / spread
    if change > _STILL:
        yield Finding(
            "batch",
            Severity.SEVERE,
            f"an image alone and in a batch differ by {change:.1%} of the outputs' spread",
            "batch normalisation must use its stored statistics: call it with training=False",
        )
