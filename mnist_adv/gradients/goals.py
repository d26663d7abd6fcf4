"""What an attack is after: a class to reach, or one to leave."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from mnist_adv.arguments import ABOVE_0, real, shown
from mnist_adv.data.images import as_classes
from mnist_adv.tensors.lazy import tf


@dataclasses.dataclass(frozen=True)
class Goal:
    """One class per image, to be reached or left.

    Attributes:
        classes: `[n]` int64.
        targeted: whether the classes are targets (True) or the labels to leave (False).
        confidence: the least probability of the new prediction, in (0, 1); None: any.
    """

    classes: np.ndarray
    targeted: bool
    confidence: float | None = None

    def reached(self, logits: Any, classes: Any) -> Any:
        """Say which images are classified as wanted.

        Args:
            logits: `[m, k]`.
            classes: `[m]` int64, the goal's classes of these images.

        Returns:
            `[m]` bool.
        """
        there = tf.argmax(logits, axis=1) == classes
        return there if self.targeted else ~there

    def satisfied(self, logits: Any, classes: Any) -> Any:
        """Say which images are classified as wanted, with the wanted confidence.

        Args:
            logits: `[m, k]`.
            classes: `[m]` int64.

        Returns:
            `[m]` bool.
        """
        reached = self.reached(logits, classes)
        if self.confidence is None:
            return reached
        return reached & (tf.reduce_max(tf.nn.softmax(logits), axis=1) >= self.confidence)

    def describe(self, class_names: Sequence[str]) -> str:
        """Name the goal of the first image in a few words.

        Args:
            class_names: k names.

        Returns:
            "to 2" or "away from 7".
        """
        return f"{'to' if self.targeted else 'away from'} {class_names[self.classes[0]]}"


def as_confidence(confidence: Any) -> float:
    """Check the least probability of a new prediction.

    Args:
        confidence: a number.

    Returns:
        It.

    Raises:
        ValueError: no number inside (0, 1).
    """
    try:
        value = float(real(confidence, "confidence", ABOVE_0, 1))
    except ValueError:
        value = 1.0
    if value == 1:
        raise ValueError(f"confidence must lie in (0, 1). Received: {shown(confidence)}")
    return value


def make_goal(
    num_images: int,
    num_classes: int,
    *,
    targets: Any = None,
    labels: Any = None,
    confidence: float | None = None,
) -> Goal:
    """Make the goal that targets, or else labels, imply.

    Args:
        num_images: n.
        num_classes: how many logits the model has.
        targets: one class or `[n]` of them, to be reached; or None.
        labels: one class or `[n]` of them: to be left if there are no targets, else only checked
            to differ from them.
        confidence: the least probability of the new prediction, in (0, 1); None: any.

    Returns:
        The goal.

    Raises:
        ValueError: neither targets nor labels; a class out of range; a target that is the label;
            a confidence outside (0, 1).
    """
    if confidence is not None:
        confidence = as_confidence(confidence)
    if labels is None and targets is None:
        raise ValueError("targets (classes to reach) or labels (classes to leave) must be given")
    if labels is not None:
        labels = as_classes(labels, num_images, num_classes, "labels")
    if targets is None:
        return Goal(labels, targeted=False, confidence=confidence)
    targets = as_classes(targets, num_images, num_classes, "targets")
    if labels is not None and (targets == labels).any():
        index = int(np.argmax(targets == labels))
        raise ValueError(
            f"targets must differ from labels. Received: target {targets[index]} for an image "
            f"with that label (index {index})"
        )
    return Goal(targets, targeted=True, confidence=confidence)
