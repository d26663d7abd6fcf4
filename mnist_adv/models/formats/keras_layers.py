"""Convert a Keras model of plain Dense layers to a model of ours, and the other way round."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from mnist_adv.data.images import Shape
from mnist_adv.models.activation import Activation
from mnist_adv.models.formats.registry import WriteRequest
from mnist_adv.models.formats.shapes import Layout
from mnist_adv.models.perceptron import Perceptron, layers_of, make_model
from mnist_adv.models.softmax_regression import SoftmaxRegression
from mnist_adv.tensors.lazy import tf

_NUM_PROBES = 32

# What changes no number of a single image at inference, given that pixels are flattened anyway.
_PASSING = ("InputLayer", "Flatten", "Reshape", "Dropout", "GaussianNoise")


def as_perceptron(model: Any, layout: Layout) -> tuple[SoftmaxRegression | Perceptron, bool] | None:
    """Take the weights of a Keras model that is a chain of Dense layers.

    Args:
        model: a loaded Keras model.
        layout: how images become its inputs.

    Returns:
        A model that returns the same logits, and whether the Keras model ends in a softmax; None
        if it is more than a chain of Dense layers.
    """
    layers: list[tuple[np.ndarray, np.ndarray]] = []
    functions: list[str] = []
    for layer in model.layers:
        kind, config = type(layer).__name__, layer.get_config()
        if kind in _PASSING:
            continue
        if kind == "Dense" and _is_plain(layer):
            kernel = np.asarray(layer.kernel)
            bias = np.asarray(layer.bias) if layer.use_bias else np.zeros(kernel.shape[1])
            layers.append((kernel.astype(np.float32), bias.astype(np.float32)))
            functions.append(config["activation"])
        elif kind in ("Activation", "Softmax") and functions and functions[-1] == "linear":
            functions[-1] = config["activation"] if kind == "Activation" else "softmax"
        else:
            return None
    known = {activation.value for activation in Activation}
    between = set(functions[:-1])
    widths = [math.prod(layout.shape), *(weights.shape[1] for weights, _ in layers)]
    fits = [weights.shape[0] for weights, _ in layers] == widths[:-1]
    if not (layers and fits and functions[-1] in ("linear", "softmax")):
        return None
    if not between <= known or len(between) > 1:
        return None
    chain = make_model(layers, Activation(between.pop()) if between else None)
    softmax = functions[-1] == "softmax"
    return (chain, softmax) if _agree(model, chain, softmax, layout) else None


def copy_weights(model: Any, ours: SoftmaxRegression | Perceptron) -> None:
    """Give a model that `as_perceptron` made the weights that the Keras model has by now.

    Args:
        model: the Keras model.
        ours: what was made of it, whose variables are changed.
    """
    linear = isinstance(ours, SoftmaxRegression)
    variables = [(ours.W, ours.b)] if linear else list(zip(ours.weights, ours.biases))
    dense = [layer for layer in model.layers if type(layer).__name__ == "Dense"]
    for layer, (weights, bias) in zip(dense, variables):
        weights.assign(np.asarray(layer.kernel))
        if layer.use_bias:
            bias.assign(np.asarray(layer.bias))


def _agree(model: Any, chain: Any, softmax: bool, layout: Layout) -> bool:
    """Compare outputs, as a list of layers does not say that they follow one another."""
    images = np.random.default_rng(0).random((_NUM_PROBES, *layout.shape), np.float32)
    seen = model(layout.arrange(images), training=False)
    ours = chain(images)
    ours = tf.nn.softmax(ours) if softmax else ours
    return bool(np.allclose(ours, seen, rtol=1e-4, atol=1e-4))


def as_keras(model: SoftmaxRegression | Perceptron, shape: Shape) -> Any:
    """Build a Keras model that returns the same logits.

    Args:
        model: its weights are copied.
        shape: of its images, `(h, w, c)`.

    Returns:
        A `keras.Sequential` of a Flatten and Dense layers, from images `[n, h, w, c]`.
    """
    import keras

    layers, activation = layers_of(model)
    between = activation.value if activation else None
    functions: Sequence[str | None] = [between] * (len(layers) - 1) + [None]
    built = keras.Sequential([
        keras.Input(shape),
        keras.layers.Flatten(),
        *(
            keras.layers.Dense(weights.shape[1], activation=function)
            for (weights, _), function in zip(layers, functions)
        ),
    ])
    built.set_weights([array for layer in layers for array in layer])
    return built


def write(
    model: SoftmaxRegression | Perceptron, path: pathlib.Path, request: WriteRequest
) -> list[pathlib.Path]:
    """Write weights as a `.keras` file that returns logits.

    Args:
        model: whose weights.
        path: the new file, which ends in .keras.
        request: the shape of its images.

    Returns:
        The file.
    """
    as_keras(model, request.shape).save(path)
    return [path]


def _is_plain(layer: Any) -> bool:
    return (
        layer.compute_dtype == "float32"
        and getattr(layer, "quantization_mode", None) is None
        and isinstance(layer.get_config()["activation"], str)
    )
