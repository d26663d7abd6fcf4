"""Turn a file of named arrays (a checkpoint, an .npz) into a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mnist_adv.models.activation import Activation
from mnist_adv.models.formats.find_layers import Chain, find_chain, follow
from mnist_adv.models.perceptron import Perceptron, make_model
from mnist_adv.models.softmax_regression import SoftmaxRegression


@dataclasses.dataclass(frozen=True)
class NamedArrays:
    """The float variables of a file, read one by one when they are wanted.

    Attributes:
        where: the file, for messages.
        shapes: name -> shape.
        read: name -> array; raises ValueError if that part of the file is damaged.
        activation: what the file itself says stands between layers; None if it says nothing.
    """

    where: str
    shapes: Mapping[str, Sequence[int]]
    read: Callable[[str], np.ndarray]
    activation: Activation | None = None


def parse_variables(text: str | None) -> dict[str, str]:
    """Read the flag --variables.

    Args:
        text: "W=NAME,b=NAME" or "W1=NAME,b1=NAME,W2=NAME,...".

    Returns:
        role -> name; empty if nothing was given.

    Raises:
        ValueError: a part that is not ROLE=NAME, or a role given twice.
    """
    pairs: dict[str, str] = {}
    for part in text.split(",") if text else []:
        role, equals, name = (piece.strip() for piece in part.partition("="))
        if not (role and equals and name) or role in pairs:
            raise ValueError(
                f"--variables must be W=NAME,b=NAME, each role once. Received: {text!r}"
            )
        pairs[role] = name
    return pairs


def build(
    arrays: NamedArrays,
    num_classes: int,
    *,
    variables: Mapping[str, str] | None = None,
    activation: Activation | None = None,
) -> tuple[SoftmaxRegression | Perceptron, list[str]]:
    """Make a model of the arrays that fit together.

    Args:
        arrays: of one file.
        num_classes: of the data set.
        variables: role -> name, where shapes and names do not decide.
        activation: between layers, where there are several; that of the file if None.

    Returns:
        The model (one layer gives a `SoftmaxRegression`, for which the closed forms hold), and
        what was taken, one sentence each.

    Raises:
        ValueError: no or several ways to build one; several layers and no activation known;
            weights that are not finite.
    """
    if variables:
        chain = follow(variables, arrays.shapes, num_classes, arrays.where)
    else:
        chain = find_chain(arrays.shapes, num_classes, arrays.where)
    notes = [_taken(chain, arrays)]
    layers = []
    for layer in chain.layers:
        weights, said = _as_float32(arrays, layer.weights)
        notes += said
        weights = weights.T.copy() if chain.transposed else weights
        bias = np.zeros(weights.shape[1], np.float32)
        if layer.bias:
            bias, said = _as_float32(arrays, layer.bias)
            notes += said
        layers.append((weights, bias.reshape(-1)))
    if len(layers) == 1:
        return make_model(layers, None), notes
    requested = activation is not None
    activation = activation or arrays.activation
    if activation is None:
        raise ValueError(
            f"{arrays.where} holds {len(layers)} layers but not what stands between them; say "
            f"--activation={'|'.join(member.value for member in Activation)}"
        )
    said_by = "the request" if requested else "the graph beside the checkpoint"
    notes.append(f"{activation.value} between layers, by {said_by}")
    return make_model(layers, activation), notes


def _taken(chain: Chain, arrays: NamedArrays) -> str:
    def described(name: str) -> str:
        return f"{name} {list(map(int, arrays.shapes[name]))}"

    names = ", ".join(
        f"{described(layer.weights)} as weights and "
        f"{described(layer.bias) + ' as bias' if layer.bias else 'no bias'}"
        for layer in chain.layers
    )
    return f"took {names}{', transposed' if chain.transposed else ''}"


def _as_float32(arrays: NamedArrays, name: str) -> tuple[np.ndarray, list[str]]:
    stored: Any = arrays.read(name)
    with np.errstate(over="ignore"):
        values = np.asarray(stored).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError(
            f"{arrays.where} holds weights that are not finite: {name}, "
            f"{np.count_nonzero(~np.isfinite(values))} of {values.size}; its training diverged"
        )
    if stored.dtype == np.float32:
        return values, []
    error = np.abs(values.astype(np.float64) - stored.astype(np.float64)).max(initial=0)
    change = f"changed by at most {error:.1e}" if error else "exactly"
    return values, [f"{name} is {stored.dtype}; converted to float32, {change}"]
