"""Interval bounds through a chain of Keras layers, differentiable in their weights.

Every value of a layer lies between a lower and an upper bound for all inputs between theirs (Gowal
et al., 2018). What a layer does to bounds follows from its kind, by the table at the end.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from mnist_adv.models.worst_margins import margins_in_box
from mnist_adv.tensors.lazy import tf

Interval = tuple[Any, Any]

_NUM_PROBES = 8
_VISIBLE = 20.0  # differences of logits that float32 probabilities still tell
# Functions of one number that never fall.
_RISING = {
    *("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "celu"),
    *("sigmoid", "hard_sigmoid", "log_sigmoid", "tanh", "hard_tanh"),
    *("softplus", "softsign", "exponential"),
}


@dataclasses.dataclass(frozen=True)
class Chain:
    """A Keras model as layers one after another, the last of which gives logits.

    Attributes:
        hidden: all layers but the last.
        last: a `Dense`, whose activation counts for nothing.
        softmax: whether a softmax follows, so that the model returns probabilities.
    """

    hidden: tuple[Any, ...]
    last: Any
    softmax: bool

    def margins(self, lower: Any, upper: Any, labels: Any) -> Any:
        """Bound the margins of logits over all inputs between two bounds from below.

        Args:
            lower: `[n, ...]`, of the model's input.
            upper: the same shape.
            labels: `[n]` integers.

        Returns:
            `[n, k]`: the label's logit minus each; 0 for the label itself.
        """
        interval = (lower, upper)
        for layer in self.hidden:
            interval = _RULES[_kind(layer)](layer, interval)
        lower, upper = interval
        bias = 0.0 if self.last.bias is None else tf.convert_to_tensor(self.last.bias)
        kernel = tf.convert_to_tensor(self.last.kernel)
        return margins_in_box(kernel, bias, lower, upper, labels)


def make_chain(model: Any) -> Chain:
    """Read a Keras model as a chain of layers that bounds are known for.

    Args:
        model: as Keras made it, built, with one input and one output.

    Returns:
        The chain; its layers are the model's own.

    Raises:
        ValueError: layers that branch, of a kind or with an activation without bounds, or that
            compute in another dtype than float32; an end without a `Dense` that gives logits, or
            probabilities by a softmax.
    """
    layers = list(_flat(model))
    kind = _kind(layers[-1]) if layers else ""
    softmax = kind in ("Softmax", "Activation") and _activation(layers[-1]) == "softmax"
    if softmax:
        layers.pop()
    last = layers.pop() if layers else None
    end = _activation(last)
    if _kind(last) != "Dense" or end not in ("linear", "softmax"):
        raise ValueError(
            f"model must end in a Dense layer without activation, or in a softmax. Received: "
            f"{_kind(last)} with {end}"
        )
    for layer in (*layers, last):
        if layer.compute_dtype != "float32":
            raise ValueError(
                "interval bounds are computed in float32, as the model must be. "
                f"Received: {layer.compute_dtype} of {layer.name!r}"
            )
    for layer in layers:
        if _kind(layer) not in _RULES:
            raise ValueError(
                f"interval bounds are known for {', '.join(_RULES)}. "
                f"Received: {_kind(layer)} {layer.name!r}"
            )
        if _activation(layer) not in _RISING:
            raise ValueError(
                f"activations must rise everywhere: {', '.join(sorted(_RISING))}. "
                f"Received: {_activation(layer)} of {layer.name!r}"
            )
    chain = Chain(tuple(layers), last, softmax or end == "softmax")
    _require_chain(chain, model)
    return chain


def _flat(model: Any) -> Iterator[Any]:
    """List the layers of a model, those of models inside it too."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _flat(layer)
        elif not isinstance(layer, keras.layers.InputLayer):
            yield layer


def _require_chain(chain: Chain, model: Any) -> None:
    """Refuse a model that is not its layers in a row: they branch, or are used twice."""
    shape = model.inputs[0].shape[1:]
    if None in shape:
        raise ValueError(f"model must take inputs of one shape. Received: {list(shape)}")
    probes = np.random.default_rng(0).uniform(-1, 1, (_NUM_PROBES, *shape)).astype(np.float32)
    outputs = np.asarray(model(probes, training=False), np.float64)
    margins = outputs[:, :1] - outputs
    if chain.softmax:
        logs = np.log(np.maximum(outputs, np.finfo(np.float32).tiny))
        margins = logs[:, :1] - logs
    ours = np.asarray(chain.margins(probes, probes, np.zeros(_NUM_PROBES, np.int32)))
    size = 1 + np.abs(margins).max()
    # A probability that rounds to 0 hides how far below it is.
    if not (np.abs(ours - margins) <= 1e-3 * size)[np.abs(margins) < _VISIBLE].all():
        raise ValueError(
            "interval bounds need layers one after another, each used once. "
            f"Received: {model.name!r}, whose layers in a row give something else"
        )


def _activation(layer: Any) -> str:
    if _kind(layer) == "Softmax":
        return "softmax"
    return getattr(getattr(layer, "activation", None), "__name__", "linear")


def _kind(layer: Any) -> str:
    return type(layer).__name__


def _by_matrix(layer: Any, interval: Interval) -> Interval:
    product = getattr(layer, "convolution_op", tf.matmul)
    lower, upper = interval
    kernel = tf.convert_to_tensor(layer.kernel)
    center = product((lower + upper) / 2, kernel)
    radius = product((upper - lower) / 2, tf.abs(kernel))
    if layer.bias is not None:
        center += tf.convert_to_tensor(layer.bias)
    return layer.activation(center - radius), layer.activation(center + radius)


def _rising(layer: Any, interval: Interval) -> Interval:
    lower, upper = interval
    return layer(lower), layer(upper)


def _pixel_by_pixel(layer: Any, interval: Interval) -> Interval:
    # A factor below 0 makes the upper bound the lower one.
    ends = [layer(end) for end in interval]
    return tf.minimum(*ends), tf.maximum(*ends)


def _normalised(layer: Any, interval: Interval) -> Interval:
    ends = [layer(end, training=False) for end in interval]
    return tf.minimum(*ends), tf.maximum(*ends)


def _same(layer: Any, interval: Interval) -> Interval:
    return interval


_RULES: dict[str, Callable[[Any, Interval], Interval]] = {
    **dict.fromkeys(("Dense", "Conv1D", "Conv2D"), _by_matrix),
    **dict.fromkeys(("Activation", "ReLU", "LeakyReLU", "ELU"), _rising),
    **dict.fromkeys(("MaxPooling1D", "MaxPooling2D", "GlobalMaxPooling2D"), _rising),
    **dict.fromkeys(("AveragePooling1D", "AveragePooling2D", "GlobalAveragePooling2D"), _rising),
    **dict.fromkeys(("Flatten", "Reshape", "Permute", "ZeroPadding2D", "Cropping2D"), _rising),
    "Rescaling": _pixel_by_pixel,
    "BatchNormalization": _normalised,
    **dict.fromkeys(("Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout"), _same),
}
