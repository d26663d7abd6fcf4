"""Find the affine layers of an ONNX graph that is nothing but a chain of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mnist_adv.models.activation import BY_OPERATOR
from mnist_adv.models.formats.shapes import Layout
from mnist_adv.models.perceptron import make_model

# They keep the order of an image's numbers.
_PASSING = ("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Cast")


class _NotAChain(Exception):
    """The graph computes something else."""


@dataclasses.dataclass
class _Chain:
    """The layers found so far; a new one begins after each activation.

    Attributes:
        shape: of an image's numbers before the first layer.
        layers: weights `[inputs, outputs]` and bias `[outputs]`, float64.
        between: the operators of the activations.
        scale: by which each input of the next layer is multiplied.
        shift: that is added to it then.
    """

    shape: tuple[int, ...]
    layers: list[tuple[np.ndarray, np.ndarray]] = dataclasses.field(default_factory=list)
    between: list[str] = dataclasses.field(default_factory=list)
    scale: Any = 1.0
    shift: Any = 0.0

    @property
    def is_open(self) -> bool:
        """Whether what comes next belongs to the last layer."""
        return len(self.layers) > len(self.between)

    def multiply(self, weights: np.ndarray, bias: Any) -> None:
        width = self.layers[-1][1].size if self.layers else math.prod(self.shape)
        if weights.shape[0] != width or np.size(bias) not in (1, weights.shape[1]):
            raise _NotAChain
        bias = np.reshape(bias, -1) + self.shift * np.ones(width) @ weights
        weights = (self.scale * np.ones(width))[:, None] * weights
        self.scale, self.shift = 1.0, 0.0
        if self.is_open:
            before, before_bias = self.layers.pop()
            weights, bias = before @ weights, before_bias @ weights + bias
        self.layers.append((weights, bias))

    def rescale(self, scale: Any, shift: Any) -> None:
        scale, shift = self._spread(scale), self._spread(shift)
        if self.is_open:
            weights, bias = self.layers[-1]
            self.layers[-1] = weights * scale, bias * scale + shift
        else:
            self.scale, self.shift = self.scale * scale, self.shift * scale + shift

    def activate(self, kind: str, attributes: Mapping[str, Any]) -> None:
        if not self.is_open or attributes.get("alpha", 1.0) != 1.0:
            raise _NotAChain
        self.between.append(kind)

    def _spread(self, values: Any) -> Any:
        """Give each number of an image its constant."""
        values = np.asarray(values, np.float64)
        if values.size == 1:
            return values.reshape(())
        width = self.layers[-1][1].size if self.layers else math.prod(self.shape)
        if values.size == width:
            return values.reshape(-1)
        if self.layers or values.ndim > len(self.shape) + 1:
            raise _NotAChain
        return np.broadcast_to(values, (1, *self.shape)).reshape(-1)


def find_chain(graph: Any) -> Any:
    """Make a model of ours of affine layers with one activation between them.

    What scales or shifts before, between or after them becomes part of the layers.

    Args:
        graph: an `OnnxGraph`.

    Returns:
        The model; None if the graph is more than that.
    """
    chain = _Chain(graph.layout.inputs)
    now = graph.start
    try:
        for node in graph.nodes:
            if now == graph.end:
                break
            with np.errstate(all="ignore"):  # what is not finite agrees with nothing
                _add(chain, node, now, graph.attributes(node), graph.arrays)
            now = node.output[0]
    except (_NotAChain, ValueError):  # of arrays that do not fit one another
        return None
    kinds = set(chain.between)
    if now != graph.end or not chain.is_open or len(kinds) > 1:
        return None
    layers = [(weights, bias) for weights, bias in chain.layers]
    layers[0] = _channels_last(layers[0][0], graph.layout), layers[0][1]
    return make_model(
        [(weights.astype(np.float32), bias.astype(np.float32)) for weights, bias in layers],
        BY_OPERATOR[kinds.pop()] if kinds else None,
    )


def _add(
    chain: _Chain,
    node: Any,
    now: str,
    attributes: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
) -> None:
    kind, names = node.op_type, list(node.input)
    others = [arrays.get(name) for name in names if name != now]
    if names.count(now) != 1:
        raise _NotAChain
    if kind in _PASSING:
        return
    if any(value is None or value.dtype.kind != "f" for value in others):
        raise _NotAChain
    constants = [value.astype(np.float64) for value in others if value is not None]
    if kind in ("Gemm", "MatMul") and names[0] == now and constants[0].ndim == 2:
        if attributes.get("transA"):
            raise _NotAChain
        weights = constants[0].T if attributes.get("transB") else constants[0]
        bias = attributes.get("beta", 1.0) * constants[1] if len(constants) > 1 else 0.0
        chain.multiply(attributes.get("alpha", 1.0) * weights, bias)
    elif kind in BY_OPERATOR and not constants:
        chain.activate(kind, attributes if kind == "Elu" else {})
    elif kind == "Add" and len(constants) == 1:
        chain.rescale(1, constants[0])
    elif kind == "Mul" and len(constants) == 1:
        chain.rescale(constants[0], 0)
    elif kind == "Sub" and len(constants) == 1:
        first = names[0] == now
        chain.rescale(1 if first else -1, -constants[0] if first else constants[0])
    elif kind == "Div" and names[0] == now:
        chain.rescale(1 / constants[0], 0)
    else:
        raise _NotAChain


def _channels_last(weights: np.ndarray, layout: Layout) -> np.ndarray:
    if not layout.channels_first:
        return weights
    by_channel = weights.reshape(*layout.inputs, -1)
    return by_channel.transpose(1, 2, 0, 3).reshape(weights.shape)
