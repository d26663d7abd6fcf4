"""Public entry point: run the checks of a model in order and collect what they find."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv.arguments import as_array, shown, yes_or_no
from mnist_adv.data.images import as_batch, as_classes
from mnist_adv.diagnostics import attacks, gradients, outputs
from mnist_adv.diagnostics.finding import Finding, ModelUnderTest, Severity
from mnist_adv.models.as_model import as_model
from mnist_adv.models.logits import check_logits
from mnist_adv.models.preprocessing import Pixels
from mnist_adv.tensors.lazy import tf

if TYPE_CHECKING:
    from mnist_adv.models.model import Model

__all__ = ["Finding", "Severity", "examine"]

_NUM_IMAGES, _NUM_QUICK = 500, 200

# In the order of the causes: what an early check finds explains what a later one would find.
_QUICK = (outputs.probabilities, outputs.stability, outputs.accuracy, gradients.gradients)
_THOROUGH = (
    gradients.numerical,
    attacks.nothing_changes,
    attacks.steps,
    attacks.same_outputs,
)


def examine(
    model: Model,
    images: Any,
    labels: Any,
    *,
    pixels: Pixels = Pixels(),
    thorough: bool = True,
) -> list[Finding]:
    """Check a model for defects that make the results of attacks invalid.

    Args:
        model: images `[n, h, w, c]` in [0, 1] -> logits `[n, k]`.
        images: clean ones of the data set, `[n, h, w, c]` floats in [0, 1]; the first 500 are
            used, or 200.
        labels: `[n]` integers, their classes.
        pixels: the scale and polarity that the model already applies.
        thorough: whether to take a second or two more for the numerical check and two attacks.

    Returns:
        The findings, severe ones first; empty if there are none.

    Raises:
        ValueError: images or labels out of form or range, or a model that returns no `[n, k]`.

    Example:
        >>> import mnist_adv
        >>> test_set = mnist_adv.load()
        >>> model = mnist_adv.restore("checkpoints")
        >>> mnist_adv.examine(model, test_set.images, test_set.labels)
        []
    """
    count = _NUM_IMAGES if yes_or_no(thorough, "thorough") else _NUM_QUICK
    if not isinstance(pixels, Pixels):
        raise ValueError(f"pixels must be Pixels(scale, polarity). Received: {shown(pixels)}")
    given = as_array(images, "images", "floats [n, h, w, c]")
    batch = as_batch(given[:count] if given.ndim else given).astype(np.float32, copy=False)
    tensor = tf.constant(batch)
    model = as_model(model, batch)
    num_classes = check_logits(model, tensor)
    known = as_array(labels, "labels", "integers")
    known = known[: len(batch)] if known.ndim else known
    classes = as_classes(known, len(batch), num_classes, "labels")
    returned = np.asarray(model(tensor), np.float64)
    tested = ModelUnderTest(model, batch, classes, returned, pixels, thorough)
    found = list(outputs.finite(tested))
    if not found:
        for check in _QUICK:
            found += check(tested)
        # Of a model that draws at random the others would find nothing but that.
        steady = all(finding.check != "two_calls" for finding in found)
        for check in _THOROUGH if thorough and steady else ():
            found += check(tested)
    return sorted(found, key=lambda finding: not finding.severe)
