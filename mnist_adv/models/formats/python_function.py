"""Load a model from Python code that the user names: `package.module:name`."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mnist_adv.data.images import Shape
from mnist_adv.errors import first_line
from mnist_adv.models.formats.registry import ReadRequest
from mnist_adv.models.formats.shapes import MNIST_SHAPE, find_layout
from mnist_adv.models.from_python import NumpyModel, from_numpy, from_sklearn
from mnist_adv.models.keras_model import as_model, is_keras
from mnist_adv.models.loaded import LoadedModel, digest
from mnist_adv.models.logits import as_logits
from mnist_adv.models.perceptron import layers_of
from mnist_adv.tensors.lazy import tf


def load(spec: str, request: ReadRequest) -> LoadedModel:
    """Import a function, Keras model or estimator by name; the current folder is searched too.

    Args:
        spec: "package.module:function".
        request: the images on which its outputs are tested; they are MNIST's if it does not say.

    Returns:
        The model; its digest is over the name and the file that defines the module.

    Raises:
        ValueError: the module cannot be imported, or has no such callable; it returns neither
            logits nor probabilities.
    """
    found = _import(spec)
    if is_keras(found) and getattr(found, "inputs", None):
        shape = find_layout(found.inputs[0].shape[1:], request.shape, spec).shape
        model, notes = as_model(found, request.images(shape)), ["took a Keras model"]
    elif hasattr(found, "predict") and hasattr(found, "classes_"):
        model, notes = from_sklearn(found), [f"took scikit-learn's {type(found).__name__}"]
        pixels = layers_of(model)[0][0][0].shape[0]
        shape = find_layout([pixels], request.shape, spec).shape
    else:
        shape = request.shape or MNIST_SHAPE
        function = _as_function(found, spec, shape)
        model, notes = as_logits(function, request.images(shape), spec)
    file = getattr(sys.modules[spec.partition(":")[0]], "__file__", None)
    files = [pathlib.Path(file)] if file is not None else []
    return LoadedModel(model, spec, digest(files, spec), shape, tuple(notes))


def _as_function(found: Any, spec: str, shape: Shape) -> Function | NumpyModel:
    """Make a model of a callable; one of NumPy arrays stays outside TensorFlow's graphs."""
    if not callable(found) or isinstance(found, type):
        raise ValueError(
            f"{spec} must be a function from images [n, h, w, c] to logits, a Keras model, or an "
            f"estimator of scikit-learn. Received: {type(found).__name__}"
        )
    function = Function(found, spec)
    with contextlib.suppress(Exception):  # what it raises for tensors, it raises again
        if isinstance(found(np.zeros([2, *shape], np.float32)), np.ndarray):
            return from_numpy(found, shape)
    return function


def _import(spec: str) -> Any:
    module_name, _, attribute = spec.partition(":")
    with _current_folder_searched():
        try:
            found: Any = importlib.import_module(module_name)
        except Exception as error:  # whatever the user's module raises
            raise ValueError(
                f"cannot import {module_name} ({type(error).__name__}: {first_line(error)})"
            ) from error
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise ValueError(f"{module_name} has no {attribute!r}; give package.module:function")
        found = getattr(found, name)
    return found


@dataclasses.dataclass(frozen=True)
class Function:
    """A user's function, called with tensors; what it returns becomes a tensor.

    Attributes:
        function: images -> logits.
        spec: its name.
    """

    function: Callable[[Any], Any]
    spec: str

    def __call__(self, images: Any) -> Any:
        """Compute what the function returns.

        Args:
            images: `[n, h, w, c]`, as the function expects them.

        Returns:
            What it returns, as a tensor.

        Raises:
            ValueError: the function fails.
        """
        images = tf.convert_to_tensor(images)
        try:
            return tf.convert_to_tensor(self.function(images))
        except Exception as error:  # whatever the user's function raises
            raise ValueError(
                f"{self.spec} fails on images {images.shape} of {images.dtype.name} "
                f"({type(error).__name__}: {first_line(error)})"
            ) from error


@contextlib.contextmanager
def _current_folder_searched() -> Iterator[None]:
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
