"""Softmax regression, the classifier that this package trains itself."""

from __future__ import annotations

from typing import Any

from mnist_adv.arguments import whole
from mnist_adv.models.linear import as_rows
from mnist_adv.tensors.lazy import tf


class SoftmaxRegression(tf.Module):
    """Multinomial logistic regression: `logits = flatten(images) @ W + b`.

    The variables are made here and not at the first call, so that a checkpoint always finds them.
    They start at zero: the problem is convex, and pixels that are always black keep gradient zero.

    Args:
        num_classes: number of logits.
        num_pixels: of one image, all channels counted.

    Attributes:
        W: `[num_pixels, num_classes]` float32; column k is the template of class k.
        b: `[num_classes]` float32.

    Example:
        >>> import numpy as np
        >>> import mnist_adv
        >>> model = mnist_adv.SoftmaxRegression()
        >>> model(np.zeros([5, 28, 28, 1], "float32")).shape
        TensorShape([5, 10])
    """

    def __init__(self, num_classes: int = 10, num_pixels: int = 28 * 28) -> None:
        super().__init__(name="softmax_regression")
        whole(num_classes, "num_classes")
        whole(num_pixels, "num_pixels")
        self.W = tf.Variable(tf.zeros([num_pixels, num_classes]), name="W")
        self.b = tf.Variable(tf.zeros([num_classes]), name="b")

    def __call__(self, images: Any) -> Any:
        """Compute logits.

        Args:
            images: `[n, h, w, c]` in [0, 1], float32 or float64; h w c = num_pixels.

        Returns:
            `[n, num_classes]` logits in the dtype of the images.
        """
        pixels = as_rows(images, self.W.shape[0])
        return pixels @ tf.cast(self.W, pixels.dtype) + tf.cast(self.b, pixels.dtype)

    def __repr__(self) -> str:
        num_pixels, num_classes = self.W.shape
        pixels = "" if num_pixels == 28 * 28 else f", num_pixels={num_pixels}"
        return f"SoftmaxRegression(num_classes={num_classes}{pixels})"
