"""Tell probabilities from logits, and go back from one to the other where that is exact.

Gradients of a softmax of a softmax are small everywhere, so that an attack along them fails and the
model looks robust. Outputs that are probabilities are therefore never used as logits.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv.tensors.lazy import tf

if TYPE_CHECKING:
    from mnist_adv.models.model import Model

# Ten float32 probabilities sum to 1 within a few roundings; float16 ones within a few thousandths.
_SUM_TOLERANCE = 1e-3
# Of one call of a model: images, and numbers in them.
_MOST_IMAGES, _MOST_NUMBERS = 1000, 5_000_000
_NUM_COMPARED = 32
_SMALLEST = float(np.finfo(np.float32).tiny)


def are_probabilities(outputs: Any) -> bool:
    """Tell whether outputs are probabilities.

    Args:
        outputs: `[n, k]`, of several images.

    Returns:
        Whether every row lies in [0, 1] and sums to 1.
    """
    values = np.asarray(outputs, np.float64)
    return bool(
        values.size
        and (values >= 0).all()
        and (values <= 1 + _SUM_TOLERANCE).all()
        and (np.abs(values.sum(axis=1) - 1) < _SUM_TOLERANCE).all()
    )


def require_finite(outputs: Any, where: str) -> None:
    """Refuse outputs that are not finite.

    Args:
        outputs: `[n, k]`, of several images.
        where: the model, for the message.

    Raises:
        ValueError: some are not finite.
    """
    finite = np.isfinite(np.asarray(outputs)).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"{where} returns values that are not finite for {np.count_nonzero(~finite)} of "
            f"{len(finite)} images"
        )


def as_logits(model: Model, images: Any, where: str) -> tuple[Model, list[str]]:
    """Make sure that a model's outputs are logits.

    Args:
        model: images -> outputs `[n, k]` of unknown kind.
        images: `[n, h, w, c]` as the model expects them, clean ones on which outputs are tested.
        where: the model, for the messages.

    Returns:
        A model that returns logits, and what was done, one sentence each.

    Raises:
        ValueError: outputs that are not finite; sigmoids, which have no logits of one softmax;
            probabilities so small that float32 no longer holds them.
    """
    outputs = np.asarray(model(tf.constant(images)), np.float64)
    require_finite(outputs, where)
    if not are_probabilities(outputs):
        if _look_like_sigmoids(outputs):
            raise ValueError(
                f"{where} must return logits or the probabilities of one softmax. Received: "
                f"outputs in [0, 1] whose sums run from {outputs.sum(axis=1).min():.3g} to "
                f"{outputs.sum(axis=1).max():.3g}, as sigmoids give; save the model without them"
            )
        return model, []
    lost = np.count_nonzero((outputs < _SMALLEST).any(axis=1))
    if lost:
        raise ValueError(
            f"{where} returns probabilities, and for {lost} of {len(outputs)} images some are "
            "below 1e-38, where float32 holds them no more: their logits cannot be got back. "
            "Save the model without its last softmax"
        )
    return LogProbabilities(model), [
        f"outputs are probabilities (they sum to 1; the smallest seen is {outputs.min():.0e}): "
        "their logarithm is taken as logits, exact down to 1e-38, where float32 ends"
    ]


def note_blank(model: Model, images: Any) -> list[str]:
    """Describe weights that are all zero, or a missing bias, by what they do to the logits.

    Args:
        model: images -> logits `[n, k]`.
        images: `[n, h, w, c]` as the model expects them, that differ.

    Returns:
        One sentence, or none.
    """
    few = np.asarray(images)[:_NUM_COMPARED]
    logits = np.asarray(model(tf.constant(few)))
    if (logits == logits[0]).all():
        return [
            f"it returns the same logits for {len(few)} different images, as a model does whose "
            "weights are all zero: it is not trained"
        ]
    of_zeros = np.asarray(model(tf.zeros_like(few[:1])))
    if (of_zeros == of_zeros[0, 0]).all():
        return [
            "it returns equal logits for an image of zeros, as a model does that has no bias, or "
            "one of zeros"
        ]
    return []


@dataclasses.dataclass(frozen=True)
class LogProbabilities:
    """The logarithm of a model's probabilities: logits, up to a constant per image.

    Attributes:
        model: images -> probabilities.
    """

    model: Model

    def __call__(self, images: Any) -> Any:
        """Compute logits; a probability below float32's smallest normal number is raised to it.

        Args:
            images: `[n, h, w, c]`, as the model expects them.

        Returns:
            `[n, k]` natural logarithms of the probabilities.
        """
        probabilities = tf.convert_to_tensor(self.model(images))
        return tf.math.log(tf.maximum(probabilities, tf.cast(_SMALLEST, probabilities.dtype)))


def _look_like_sigmoids(outputs: np.ndarray) -> bool:
    return bool((outputs >= 0).all() and (outputs <= 1).all() and outputs.max() > 0.5)


def predict(model: Model, images: np.ndarray) -> np.ndarray:
    """Compute the logits of any number of images, in blocks that fit into memory.

    Args:
        model: images -> logits.
        images: `[n, h, w, c]` floats.

    Returns:
        `[n, k]`, in the dtype of the model's logits.

    Raises:
        ValueError: the model does not return one row of logits for each image.
    """
    if not len(images):  # a convolution fails on none
        return predict(model, np.zeros([1, *images.shape[1:]], images.dtype))[:0]
    fitting = _MOST_NUMBERS // max(1, math.prod(images.shape[1:]))
    block = max(1, min(_MOST_IMAGES, fitting))
    parts = []
    for first in range(0, len(images), block):
        part = tf.constant(images[first : first + block])  # which no function changes in place
        logits = model(part)
        require_rows(logits, len(part))
        parts.append(np.asarray(logits))
    return np.concatenate(parts)


def check_logits(model: Model, images: Any) -> int:
    """Run the model once and check the form of what it returns.

    Args:
        model: images -> logits.
        images: tensor `[n, h, w, c]`; two of them are tried if there are so many.

    Returns:
        The number of classes k.

    Raises:
        ValueError: the model does not return numbers `[n, k]` with k at least 2, or there is no
            image.
    """
    few = images[:2]
    if not len(few):
        raise ValueError(f"images must be one at least. Received: shape {[*images.shape]}")
    return require_rows(model(few), len(few))


def require_rows(logits: Any, count: int) -> int:
    """Check the form of what a model returned.

    Args:
        logits: what it returned.
        count: of the images that it was given.

    Returns:
        The number of classes k.

    Raises:
        ValueError: no floats `[count, k]` with k at least 2.
    """
    shape: tuple[Any, ...] = tuple(getattr(logits, "shape", ()))
    dtype = getattr(logits, "dtype", type(logits).__name__)
    floats = getattr(dtype, "kind", "f" if getattr(dtype, "is_floating", False) else "") == "f"
    if not floats or len(shape) != 2 or shape[0] != count or shape[1] < 2:
        raise ValueError(
            "model must map images [n, h, w, c] to logits [n, classes], floats of two classes at "
            f"least. Received: {[*shape]}{'' if floats else f' of {dtype}'} for n = {count}"
        )
    return int(shape[1])
