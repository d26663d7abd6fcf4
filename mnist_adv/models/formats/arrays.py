"""Turn a file of named arrays (a checkpoint, an .npz) into a model."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mnist_adv.models.activation import Activation
from mnist_adv.models.digests import digest_layers
from mnist_adv.models.formats.find_layers import Chain, find_chain, follow
from mnist_adv.models.formats.registry import ReadRequest
from mnist_adv.models.formats.shapes import MNIST_SHAPE, Layout, find_layout
from mnist_adv.models.loaded import LoadedModel
from mnist_adv.models.logits import note_blank
from mnist_adv.models.perceptron import make_model


@dataclasses.dataclass(frozen=True)
class NamedArrays:
    """The float variables of a file, read one by one when they are wanted.

    Attributes:
        where: the file, for messages.
        shapes: name -> shape.
        read: name -> array; raises ValueError if that part of the file is damaged.
        files: that hold them.
        activation: between layers, if the file itself says so.
        doubt: why what the file says of it is not believed, if so.
    """

    where: str
    shapes: Mapping[str, Sequence[int]]
    read: Callable[[str], np.ndarray]
    files: Sequence[pathlib.Path]
    activation: Activation | None = None
    doubt: str = ""


def parse_variables(text: str | None, flag: str = "variables") -> dict[str, str]:
    """Read the flag --variables, or another of its form.

    Args:
        text: "W=NAME,b=NAME" or "W1=NAME,b1=NAME,W2=NAME,...".
        flag: the flag's name.

    Returns:
        role -> name; empty if nothing was given.

    Raises:
        ValueError: a part that is not ROLE=NAME, or a role given twice.
    """
    pairs: dict[str, str] = {}
    for part in text.split(",") if text else []:
        role, equals, name = (piece.strip() for piece in part.partition("="))
        if not (role and equals and name) or role in pairs:
            raise ValueError(f"--{flag} must be W=NAME,b=NAME, each role once. Received: {text!r}")
        pairs[role] = name
    return pairs


def build(arrays: NamedArrays, request: ReadRequest) -> LoadedModel:
    """Make a model of the arrays that fit together.

    Args:
        arrays: of one file.
        request: the number of classes; names where shapes and names do not decide; the activation
            where there are several layers and the file does not say.

    Returns:
        The model, and what was taken; one layer gives a `SoftmaxRegression`, for which the closed
        forms hold, several a `Perceptron`.

    Raises:
        ValueError: no or several ways to build one; several layers and no activation known;
            weights that are not finite.
    """
    variables = parse_variables(request.variables)
    layout = _find_layout(arrays, request)
    known = (arrays.shapes, request.num_classes, arrays.where, math.prod(layout.shape))
    chain = follow(variables, *known) if variables else find_chain(*known)
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
    activation = request.activation or arrays.activation if len(layers) > 1 else None
    if len(layers) > 1 and activation is None:
        raise ValueError(
            f"{arrays.where} holds {len(layers)} layers but not the activation between them"
            f"{f' ({arrays.doubt})' if arrays.doubt else ''}; say "
            f"--activation={'|'.join(member.value for member in Activation)}"
        )
    if activation is not None:
        said_by = "the request" if request.activation else "the graph beside the checkpoint"
        notes.append(f"{activation.value} between layers, by {said_by}")
    model = make_model(layers, activation)
    if all(layer.bias for layer in chain.layers):  # else it is said already
        notes += note_blank(model, request.images(layout.shape))
    content = digest_layers(model, layout.shape)
    return LoadedModel(model, arrays.where, content, layout.shape, tuple(notes))


def _find_layout(arrays: NamedArrays, request: ReadRequest) -> Layout:
    """Find the shape of the images whose pixels the first layer takes: the likeliest."""
    lengths = {length for shape in arrays.shapes.values() if len(shape) == 2 for length in shape}
    for shape in (request.shape, MNIST_SHAPE):
        if shape is not None and math.prod(shape) in lengths:
            return find_layout([math.prod(shape)], shape, arrays.where)
    for pixels in sorted(lengths, reverse=True):
        with contextlib.suppress(ValueError):
            return find_layout([pixels], None, arrays.where)
    shape = request.shape or MNIST_SHAPE
    return find_layout([math.prod(shape)], shape, arrays.where)


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
