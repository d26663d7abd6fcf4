"""The doctor: looks a model over before it is attacked, and says what is wrong in plain lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv.tensors.lazy import tf
from mnist_adv.diagnostics import outputs, slopes, strength
from mnist_adv.diagnostics.finding import Finding, Patient, Severity
from mnist_adv.models.preprocessing import Pixels
from mnist_adv.models.logits import check_logits
from mnist_adv.data.images import as_batch, as_classes

if TYPE_CHECKING:
    from mnist_adv.models.model import Model

__all__ = ["Finding", "Severity", "examine"]

_NUM_IMAGES, _NUM_QUICK = 500, 200

# In the order of the causes: what an early check finds explains what a later one would see.
_QUICK = (outputs.probabilities, outputs.stability, outputs.accuracy, slopes.gradients)
_THOROUGH = (slopes.numerical, strength.nothing_changes, strength.steps)


def examine(
    model: Model,
    images: Any,
    labels: Any,
    *,
    pixels: Pixels = Pixels(),
    thorough: bool = True,
) -> list[Finding]:
    """Look for what would make an attack's numbers meaningless.

    Args:
        model: images `[n, 28, 28, 1]` in [0, 1] -> logits `[n, k]`.
        images: clean ones of the data set, `[n, 28, 28, 1]` floats in [0, 1]; the first 500 are
            looked at, or 200.
        labels: `[n]` integers, their classes.
        pixels: the scale and polarity that the model stands behind already.
        thorough: whether to take a second or two more for the numerical check and two attacks.

    Returns:
        What is wrong, gravest first; empty for a healthy model.

    Raises:
        ValueError: images or labels out of form or range, or a model that returns no `[n, k]`.

    Example:
        >>> import mnist_adv
        >>> test_set = mnist_adv.load()
        >>> model = mnist_adv.restore("checkpoints")
        >>> mnist_adv.examine(model, test_set.images, test_set.labels)
        []
    """
    count = _NUM_IMAGES if thorough else _NUM_QUICK
    batch = as_batch(images[:count]).astype(np.float32)
    shown = tf.constant(batch)
    num_classes = check_logits(model, shown)
    classes = as_classes(np.asarray(labels)[: len(batch)], len(batch), num_classes, "labels")
    outputs_seen = np.asarray(model(shown), np.float64)
    patient = Patient(model, batch, classes, outputs_seen, pixels, thorough)
    found = list(outputs.finite(patient))
    if not found:
        for check in (*_QUICK, *(_THOROUGH if thorough else ())):
            found += check(patient)
    return sorted(found, key=lambda finding: not finding.severe)
