"""Perceptrons: fully connected layers with one activation between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mnist_adv.models.activation import Activation
from mnist_adv.models.linear import as_rows
from mnist_adv.models.softmax_regression import SoftmaxRegression
from mnist_adv.tensors.lazy import tf

Layers = Sequence[tuple[np.ndarray, np.ndarray]]


def activate(activation: Activation, values: Any) -> Any:
    """Apply an activation function.

    Args:
        activation: which.
        values: of any shape.

    Returns:
        The same shape.
    """
    if activation is Activation.LINEAR:
        return tf.identity(values)
    return getattr(tf.nn, activation.value)(values)


class Perceptron(tf.Module):
    """Fully connected layers, an activation between them: `logits = f(f(x W1 + b1) W2 + b2) ...`.

    Args:
        layers: per layer, weights `[inputs, outputs]` and bias `[outputs]`, float32.
        activation: applied after every layer but the last.

    Attributes:
        weights: one `[inputs, outputs]` float32 variable per layer.
        biases: one `[outputs]` float32 variable per layer.
        activation: as given.
    """

    def __init__(self, layers: Layers, activation: Activation) -> None:
        super().__init__(name="perceptron")
        self.weights = [tf.Variable(weights, name="W") for weights, _ in layers]
        self.biases = [tf.Variable(bias, name="b") for _, bias in layers]
        self.activation = activation

    def __call__(self, images: Any) -> Any:
        """Compute logits.

        Args:
            images: `[n, h, w, c]` in [0, 1], float32 or float64; h w c inputs.

        Returns:
            `[n, num_classes]` logits in the dtype of the images.
        """
        pixels = as_rows(images, self.weights[0].shape[0])
        weights, bias = (tf.cast(part[0], pixels.dtype) for part in (self.weights, self.biases))
        return self.after_first_layer(pixels @ weights + bias)

    def after_first_layer(self, values: Any) -> Any:
        """Compute logits from what the first layer gives, which is affine in the pixels.

        Args:
            values: `[n, outputs of the first layer]`, before the activation.

        Returns:
            `[n, num_classes]` logits in the dtype of the values.
        """
        for weights, bias in zip(self.weights[1:], self.biases[1:]):
            values = activate(self.activation, values)
            values = values @ tf.cast(weights, values.dtype) + tf.cast(bias, values.dtype)
        return values

    def __repr__(self) -> str:
        widths = [self.weights[0].shape[0], *(weights.shape[1] for weights in self.weights)]
        return f"Perceptron({' -> '.join(map(str, widths))}, {self.activation.value})"


def make_model(layers: Layers, activation: Activation | None) -> SoftmaxRegression | Perceptron:
    """Make the model that layers describe; one layer is softmax regression.

    Args:
        layers: per layer, weights `[inputs, outputs]` and bias `[outputs]`, float32.
        activation: between them; it may be None where there is only one.

    Returns:
        A `SoftmaxRegression`, for which the closed forms hold, or a `Perceptron`.

    Raises:
        ValueError: several layers and no activation.
    """
    if len(layers) > 1:
        if activation is None:
            raise ValueError(f"activation must be given for {len(layers)} layers. Received: None")
        return Perceptron(layers, activation)
    ((weights, bias),) = layers
    model = SoftmaxRegression(weights.shape[1], weights.shape[0])
    model.W.assign(weights)
    model.b.assign(bias)
    return model


def layers_of(model: SoftmaxRegression | Perceptron) -> tuple[Layers, Activation | None]:
    """Return the weights of a model; the inverse of `make_model`.

    Args:
        model: either.

    Returns:
        Weights `[inputs, outputs]` and bias `[outputs]` per layer, float32, and the activation
        between layers; None where there is one layer.
    """
    if isinstance(model, SoftmaxRegression):
        return [(model.W.numpy(), model.b.numpy())], None
    pairs = zip(model.weights, model.biases)
    return [(weights.numpy(), bias.numpy()) for weights, bias in pairs], model.activation
