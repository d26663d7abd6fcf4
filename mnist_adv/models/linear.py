"""Linear models: an adapter for weights from elsewhere, and the test for linearity by type."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mnist_adv.arguments import real_array
from mnist_adv.tensors.lazy import tf


def as_rows(images: Any, num_pixels: int) -> Any:
    """Put each image's pixels in a row.

    Args:
        images: `[n, h, w, c]` or `[n, num_pixels]`, or one image of any form.
        num_pixels: of one image.

    Returns:
        Tensor `[n, num_pixels]`.

    Raises:
        ValueError: images of another size.
    """
    images = tf.convert_to_tensor(images)
    sizes = [size or 0 for size in images.shape] if images.shape.rank is not None else [0]
    if not {0, num_pixels} & {math.prod(sizes), math.prod(sizes[1:])}:
        received = f"shape {[*images.shape]}"
        raise ValueError(f"the model takes images of {num_pixels} pixels. Received: {received}")
    return tf.reshape(images, [-1, num_pixels])


class LinearModel:
    """Any linear classifier as a model: `logits = flatten(images) @ W + b`.

    For weights from elsewhere: scikit-learn's logistic regression (`LinearModel(c.coef_.T,
    c.intercept_)`), one Keras Dense layer (`LinearModel(*layer.get_weights())`), a PyTorch Linear
    (`LinearModel(layer.weight.T, layer.bias)`).

    Args:
        W: `[pixels, classes]`.
        b: `[classes]`.

    Attributes:
        W: `[pixels, classes]` float32.
        b: `[classes]` float32.

    Raises:
        ValueError: no numbers, or shapes that do not fit.
    """

    def __init__(self, W: Any, b: Any) -> None:
        self.W = real_array(W, "W").astype(np.float32)
        self.b = real_array(b, "b").astype(np.float32)
        if self.W.ndim != 2 or self.b.shape != self.W.shape[1:]:
            raise ValueError(
                "W must have shape [pixels, classes] and b [classes]. "
                f"Received: {list(self.W.shape)} and {list(self.b.shape)}"
            )

    def __call__(self, images: Any) -> Any:
        """Compute logits.

        Args:
            images: `[n, h, w, c]` or `[n, pixels]`, float32 or float64.

        Returns:
            `[n, classes]` logits in the dtype of the images.
        """
        pixels = as_rows(images, self.W.shape[0])
        return pixels @ tf.cast(self.W, pixels.dtype) + tf.cast(self.b, pixels.dtype)

    def __repr__(self) -> str:
        pixels, classes = self.W.shape
        return f"LinearModel({pixels} pixels, {classes} classes)"


def is_linear(model: Any) -> bool:
    """Tell by its type whether a model is linear in the pixels.

    Args:
        model: anything.

    Returns:
        Whether it is a `SoftmaxRegression` or a `LinearModel`, and so has W and b.
    """
    if isinstance(model, LinearModel):
        return True
    from mnist_adv.models.softmax_regression import SoftmaxRegression  # imports TensorFlow

    return isinstance(model, SoftmaxRegression)


def linear_parts(model: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the weights of a model that is linear in the pixels.

    Args:
        model: anything.

    Returns:
        W `[pixels, classes]` and b `[classes]`, float32, of a `SoftmaxRegression` or a
        `LinearModel`; None for any other model, linear or not.
    """
    if not is_linear(model):
        return None
    return np.asarray(model.W), np.asarray(model.b)
