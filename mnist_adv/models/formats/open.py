"""Open a model from wherever it is: one function for every format."""

from __future__ import annotations

import dataclasses
import functools
import os
from typing import Any

import numpy as np

from mnist_adv.arguments import as_path, as_text, choose, shown, whole
from mnist_adv.data import datasets
from mnist_adv.data.images import Shape, as_shape
from mnist_adv.models.activation import Activation
from mnist_adv.models.formats.registry import ReadRequest, find_format
from mnist_adv.models.formats.shapes import MNIST_SHAPE, listed
from mnist_adv.models.loaded import LoadedModel
from mnist_adv.models.logits import check_logits
from mnist_adv.models.preprocessing import Pixels, adapt
from mnist_adv.tensors.lazy import tf

# The name under which `mnist_adv` has always exported it.
OpenedModel = LoadedModel

# Enough to see what kind of outputs a model has.
_NUM_PROBES = 200
_NUM_NOISE = 32


def open_model(
    spec: str | os.PathLike[str],
    *,
    num_classes: int | None = None,
    variables: str | None = None,
    activation: Activation | str | None = None,
    pixels: Pixels = Pixels(),
    images: Any = None,
    shape: Shape | None = None,
) -> LoadedModel:
    """Open a trained classifier of images, whoever trained it.

    Args:
        spec: a TF1 or TF2 checkpoint (its prefix, one of its files, or a folder), a `.keras`
            or `.h5` file, a SavedModel folder, an `.npz`, `.npy` files ("W1.npy,b1.npy", or their
            folder), or "package.module:function".
        num_classes: that it must have; None: any number.
        variables: "W=NAME,b=NAME" (or "W1=...,b1=...,W2=...") where a file of named arrays does
            not say by itself which ones are the model.
        activation: between layers, for a file of named arrays that holds several.
        pixels: the scale and polarity that the model was trained on.
        images: `[n, h, w, c]` floats in [0, 1], a few clean ones on which the outputs are tested,
            or a function that makes them for a shape `(h, w, c)`; if None, the first MNIST test
            images for a model of their shape, else noise.
        shape: `(h, w, c)` of the images, where the model leaves a choice; that of `images` if
            None.

    Returns:
        The model, and what was taken.

    Raises:
        FileNotFoundError: no such file, or one of its parts missing; it is named.
        ValueError: damaged, of another task, ambiguous, of a kind that is never loaded, of another
            shape or number of classes, or with outputs that are neither logits nor probabilities
            of one softmax.

    Example:
        >>> import mnist_adv
        >>> opened = mnist_adv.open_model("checkpoints")
        >>> print(*opened.notes)
        took model/W [784, 10] as weights and model/b [10] as bias
    """
    name = as_path(spec, "spec")
    as_text(variables, "variables")
    kind = None if activation is None else choose(Activation, activation, "activation")
    if num_classes is not None:
        whole(num_classes, "num_classes")
    if shape is not None:
        shape = as_shape(shape, "shape")
    if not isinstance(pixels, Pixels):
        raise ValueError(f"pixels must be Pixels(scale, polarity). Received: {shown(pixels)}")
    if images is not None and not callable(images):
        shape = np.shape(images)[1:] if shape is None else shape
    probes = functools.cache(functools.partial(_probes, images, pixels, name))
    request = ReadRequest(
        images=lambda shape: pixels.apply(probes(shape)),
        shape=shape,
        num_classes=num_classes,
        variables=variables,
        activation=kind,
    )
    loaded = find_format(name).read(name, request)
    model = adapt(loaded.model, pixels)
    found = check_logits(model, tf.constant(probes(loaded.shape)))
    if num_classes not in (None, found):
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
        class_names=tuple(map(str, range(found))),
        preprocessing=pixels,
    )


def _probes(images: Any, pixels: Pixels, where: str, shape: Shape) -> np.ndarray:
    """Give clean images of a shape, for a look at what the model returns."""
    pixels.require_channels(shape)
    if callable(images):
        images = images(shape)
    if images is None and shape == MNIST_SHAPE:
        images = datasets.load(rows=(0, _NUM_PROBES)).images
    if images is None:
        return np.random.default_rng(0).random((_NUM_NOISE, *shape), np.float32)
    if tuple(np.shape(images)[1:]) != tuple(shape):
        raise ValueError(
            f"{where} must be given images {listed(shape)}. Received: images "
            f"{listed(np.shape(images)[1:])}"
        )
    return np.asarray(images[:_NUM_PROBES], np.float32)
