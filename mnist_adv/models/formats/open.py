"""Open a model from wherever it is: one function for every format."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np

from mnist_adv.data import datasets
from mnist_adv.models.activation import Activation
from mnist_adv.models.formats.registry import ReadRequest, find_format
from mnist_adv.models.loaded import LoadedModel
from mnist_adv.models.logits import check_logits
from mnist_adv.models.preprocessing import Pixels, adapt
from mnist_adv.tensors.lazy import tf

# The name under which `mnist_adv` has always exported it.
OpenedModel = LoadedModel

# Enough to see what kind of outputs a model has.
_NUM_PROBES = 200


def open_model(
    spec: str | os.PathLike[str],
    *,
    num_classes: int = 10,
    variables: str | None = None,
    activation: Activation | str | None = None,
    pixels: Pixels = Pixels(),
    images: Any = None,
) -> LoadedModel:
    """Open a trained classifier of 28 x 28 images, whoever trained it.

    Args:
        spec: a TF1 or TF2 checkpoint (its prefix, one of its files, or a folder), a `.keras`
            or `.h5` file, a SavedModel folder, an `.npz`, or "package.module:function".
        num_classes: of the data set.
        variables: "W=NAME,b=NAME" (or "W1=...,b1=...,W2=...") where a file of named arrays does
            not say by itself which ones are the model.
        activation: between layers, for a file of named arrays that holds several.
        pixels: the scale and polarity that the model was trained on.
        images: `[n, 28, 28, 1]` floats in [0, 1], a few clean ones on which the outputs are
            tested; the first MNIST test images if None.

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
    request = ReadRequest(
        num_classes=num_classes,
        images=np.asarray(adapt(lambda x: x, pixels)(probes)),
        variables=variables,
        activation=None if activation is None else Activation(activation),
    )
    name = os.fspath(spec)
    loaded = find_format(name).read(name, request)
    model = adapt(loaded.model, pixels)
    found = check_logits(model, tf.constant(probes))
    if found != num_classes:
        raise ValueError(
            f"{loaded.where} must return {num_classes} logits per image. Received: {found}"
        )
    notes = loaded.notes
    if not pixels.plain:
        notes = (*notes, f"images are given to it as {pixels}")
    return dataclasses.replace(
        loaded,
        model=model,
        notes=notes,
        class_names=tuple(map(str, range(num_classes))),
        preprocessing=pixels,
    )
