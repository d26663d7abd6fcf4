"""Classifiers: anything that maps images `[n, 28, 28, 1]` in [0, 1] to logits `[n, classes]`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from mnist_adv.data.datasets import IMAGE_SHAPE

Model = Callable[[Any], Any]


class SoftmaxRegression(tf.Module):
    """Multinomial logistic regression: `logits = flatten(images) @ W + b`.

    The variables are made here and not at the first call, so that a checkpoint always finds them.
    They start at zero: the problem is convex, and pixels that are always black keep gradient zero.

    Args:
        num_classes: number of logits.

    Attributes:
        W: `[784, num_classes]` float32; column k is the template of class k.
        b: `[num_classes]` float32.

    Example:
        >>> import numpy as np
        >>> import mnist_adv
        >>> model = mnist_adv.SoftmaxRegression()
        >>> model(np.zeros([5, 28, 28, 1], "float32")).shape
        TensorShape([5, 10])
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__(name="softmax_regression")
        num_pixels = int(np.prod(IMAGE_SHAPE))
        self.W = tf.Variable(tf.zeros([num_pixels, num_classes]), name="W")
        self.b = tf.Variable(tf.zeros([num_classes]), name="b")

    def __call__(self, images: Any) -> Any:
        """Compute logits.

        Args:
            images: `[n, 28, 28, 1]`, float32 or float64, in [0, 1].

        Returns:
            `[n, num_classes]` logits in the dtype of the images.
        """
        images = tf.convert_to_tensor(images)
        pixels = tf.reshape(images, [-1, self.W.shape[0]])
        return pixels @ tf.cast(self.W, pixels.dtype) + tf.cast(self.b, pixels.dtype)

    def __repr__(self) -> str:
        return f"SoftmaxRegression(num_classes={self.b.shape[0]})"
