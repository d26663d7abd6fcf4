"""Public entry point: the gradient of the loss for an intended label with respect to the pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv.arguments import UINT32, shown, whole
from mnist_adv.data.images import as_batch, as_classes
from mnist_adv.gradients.losses import LOSSES, Loss, Objective
from mnist_adv.gradients.sources import SOURCES, GradientSource, Source
from mnist_adv.models.as_model import as_model
from mnist_adv.models.from_python import as_raised
from mnist_adv.models.logits import check_logits
from mnist_adv.tensors.compilation import compiled
from mnist_adv.tensors.lazy import tf
from mnist_adv.tensors.randomness import keys_of

if TYPE_CHECKING:
    from mnist_adv.models.model import Model

_BLOCK = 64  # images


def compute_gradient(
    model: Model,
    images: Any,
    intended_labels: Any,
    *,
    loss: Loss | str = "cross_entropy",
    source: Source | str = "tape",
    difference_step: float | None = None,
    dtype: str | None = None,
    num_samples: int = 32,
    seed: int = 0,
) -> np.ndarray:
    """Compute the derivative of the loss for the intended label with respect to every pixel.

    Step against it and the loss for that label falls: the image looks more like it to the model.
    (With `loss="probability"` step along it: that loss is the probability itself.)

    Args:
        model: images `[n, h, w, c]` -> logits `[n, k]`; any callable.
        images: one image `[h, w, c]` or a batch `[n, h, w, c]`, floats in [0, 1]; of MNIST also
            `[28, 28]`, `[784]` and batches of these.
        intended_labels: one integer, or one per image.
        loss: a name of `LOSSES`: "cross_entropy" (`-log p[intended]`), "probability"
            (`p[intended]`, whose upstream gradient at the softmax is the one-hot vector), "margin",
            "dlr" or "targeted_dlr".
        source: a name of `SOURCES`: "tape", "forward_mode", "forward_difference",
            "central_difference", "closed_form", "spsa" or "nes".
        difference_step: e of the differences; a step suited to the dtype if None.
        dtype: "float32" or "float64", to compute in; that of the images if None.
        num_samples: directions that SPSA and NES draw.
        seed: of these directions, from 0 to 2**32 - 1.

    Returns:
        The gradient, in the shape of `images`: one number per pixel.

    Raises:
        ValueError: images or labels out of form or range, an unknown loss or source,
            `closed_form` of a model that is not linear, or a model without gradient, or with one
            that is not finite.

    Example:
        >>> import mnist_adv
        >>> model = mnist_adv.restore("checkpoints")
        >>> seven = mnist_adv.load("mnist", "test").images[0]
        >>> gradient = mnist_adv.compute_gradient(model, seven, 2)
        >>> gradient.shape
        (28, 28, 1)
        >>> by_hand = mnist_adv.compute_gradient(model, seven, 2, source="closed_form")
        >>> bool(abs(gradient - by_hand).max() < 1e-5)
        True
    """
    batch = as_batch(images)
    if dtype is not None and not (isinstance(dtype, str) and dtype in ("float32", "float64")):
        raise ValueError(f"dtype must be float32 or float64. Received: {shown(dtype)}")
    pixels = tf.constant(batch.astype(dtype or batch.dtype, copy=False))
    compute = GradientSource(SOURCES.find(source), difference_step, num_samples)
    objective = Objective(LOSSES.find(loss))
    keys = tf.constant(keys_of(batch, whole(seed, "seed", 0, UINT32)))
    model = as_model(model, batch)
    num_classes = check_logits(model, pixels)
    classes = tf.constant(as_classes(intended_labels, len(batch), num_classes, "intended_labels"))

    def gradients(pixels: Any, classes: Any, keys: Any) -> Any:
        stream = tf.zeros([pixels.shape[0]], tf.int32)
        return compute(model, objective, pixels, classes, keys=keys, stream=stream)[1]

    one_query = compute.cost(pixels[0].shape.num_elements())[0] == 1
    with as_raised(model):
        found = (gradients if one_query else _in_blocks(gradients))(pixels, classes, keys)
    gradient = np.asarray(found)
    finite = np.isfinite(gradient).all(axis=(1, 2, 3))
    if not finite.all():
        raise ValueError(
            "model must have a finite gradient. Received: NaN or infinity for "
            f"{np.count_nonzero(~finite)} of {len(finite)} images"
        )
    return gradient.reshape(np.shape(images))


def _in_blocks(gradients: Any) -> Any:
    # Hundreds of queries per image: a block bounds the memory, and many are worth compiling, which
    # is done anew in every call, as the model may have changed.
    def run(*whole: Any) -> Any:
        count = whole[0].shape[0]
        if count < _BLOCK:
            return gradients(*whole)
        function, parts = compiled(gradients), []
        for start in range(0, count, _BLOCK):
            first = min(start, count - _BLOCK)  # the last block overlaps: one shape, one program
            block = function(*(part[first : first + _BLOCK] for part in whole))
            parts.append(block[start - first :])
        return tf.concat(parts, axis=0)

    return run
