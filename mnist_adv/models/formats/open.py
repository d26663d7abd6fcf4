"""Open a model from wherever it is: one function for every kind of file."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from mnist_adv.data import datasets
from mnist_adv.models.formats import arrays, keras_file, npz, python_function, saved_model, tf1
from mnist_adv.models.activation import Activation
from mnist_adv.models.logits import as_logits
from mnist_adv.models.preprocessing import Pixels, adapt
from mnist_adv.models.logits import check_logits
from mnist_adv.models.model import Model

# Enough to see what kind of outputs a model has.
_NUM_PROBES = 200

_PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".npy")
_HDF5 = (".h5", ".hdf5")


@dataclasses.dataclass(frozen=True)
class OpenedModel:
    """A model from a file, with what was taken of it.

    Attributes:
        model: images `[n, 28, 28, 1]` in [0, 1], light on dark -> logits.
        where: the file, the folder, the checkpoint's prefix or the function's name.
        notes: what was taken and changed, one sentence each.
        digest: SHA-256 over its files, hexadecimal; empty for a function.
    """

    model: Model
    where: str
    notes: tuple[str, ...]
    digest: str


def open_model(
    spec: str | os.PathLike[str],
    *,
    num_classes: int = 10,
    variables: str | None = None,
    activation: Activation | str | None = None,
    pixels: Pixels = Pixels(),
    images: Any = None,
) -> OpenedModel:
    """Open a trained classifier of 28 x 28 images, whoever trained it.

    Args:
        spec: a TF1 or TF2 checkpoint (its prefix, one of its files, or a folder), a `.keras`
            file, a SavedModel folder, an `.npz`, or "package.module:function".
        num_classes: of the data set.
        variables: "W=NAME,b=NAME" (or "W1=...,b1=...,W2=...") where a file of named arrays does
            not say by itself which ones are the model.
        activation: between layers, for a file of named arrays that holds several.
        pixels: the scale and polarity that the model was trained on.
        images: `[n, 28, 28, 1]` in [0, 1], a few clean ones on which the outputs are looked at;
            the first MNIST test images if None.

    Returns:
        The model, and what was taken.

    Raises:
        FileNotFoundError: no such file, or one of its parts missing; it is named.
        ValueError: damaged, of another task, ambiguous, of a kind that is never loaded, or with
            outputs that are neither logits nor probabilities of one softmax.

    Example:
        >>> import mnist_adv
        >>> opened = mnist_adv.open_model("checkpoints")
        >>> print(*opened.notes)
        took model/W [784, 10] as weights and model/b [10] as bias
    """
    if images is None:
        images = datasets.load().images
    probes = np.asarray(images[:_NUM_PROBES], np.float32)
    seen = np.asarray(adapt(lambda x: x, pixels)(probes))
    activation = Activation(activation) if activation is not None else None
    name = os.fspath(spec)
    model: Any
    if python_function.is_spec(name):
        function = python_function.load(name)
        model, notes = as_logits(function, seen, name)
        where, files = name, []
    elif name.endswith(".keras"):
        where, files = name, [_existing(name)]
        model, notes = keras_file.load(name, seen, num_classes)
    elif saved_model.is_folder(name):
        where = name
        files = sorted(path for path in pathlib.Path(name).rglob("*") if path.is_file())
        model, notes = saved_model.load(name, seen, num_classes)
    else:
        named = named_arrays(name)
        model, notes = arrays.build(
            named, num_classes, variables=arrays.parse_variables(variables), activation=activation
        )
        where = named.where
        files = [pathlib.Path(name)] if name.endswith(".npz") else tf1.files(where)
    model = adapt(model, pixels)
    found = check_logits(model, tf.constant(probes))
    if found != num_classes:
        raise ValueError(f"{where} must return {num_classes} logits per image. Received: {found}")
    if not pixels.plain:
        notes = [*notes, f"images are handed to it as {pixels}"]
    return OpenedModel(model=model, where=where, notes=tuple(notes), digest=_digest(files))


def named_arrays(name: str) -> arrays.NamedArrays:
    """Open a file of named arrays: a checkpoint or an .npz.

    Args:
        name: the file, a checkpoint's prefix, or a folder of checkpoints.

    Returns:
        Its float arrays.

    Raises:
        FileNotFoundError: no such file, or one of its parts missing; it is named.
        ValueError: damaged, or of a kind that is never loaded.
    """
    suffix = pathlib.Path(name).suffix.lower()
    if suffix in _PICKLES:
        raise ValueError(
            f"{name} may hold pickled code, which is never loaded; save the weights with "
            "numpy.savez(path, W=..., b=...)"
        )
    if suffix in _HDF5:
        raise ValueError(
            f"{name} is HDF5, whose layers Keras does not check for code; open it where you trust "
            "it and save it as .keras"
        )
    if suffix == ".npz":
        _existing(name)
        return npz.read(name)
    return tf1.read(tf1.find_prefix(name))


def _existing(name: str) -> pathlib.Path:
    path = pathlib.Path(name)
    if not path.is_file():
        raise FileNotFoundError(f"no file {name}")
    return path


def _digest(files: Sequence[pathlib.Path]) -> str:
    if not files:
        return ""
    content = hashlib.sha256()
    for file in files:
        content.update(file.read_bytes())
    return content.hexdigest()
