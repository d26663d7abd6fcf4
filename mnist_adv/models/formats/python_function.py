"""Load a model from Python code that the user names: `package.module:name`."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import os
import pathlib
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from mnist_adv.data.images import Shape
from mnist_adv.errors import first_line
from mnist_adv.models.as_model import as_model
from mnist_adv.models.digests import digest_files
from mnist_adv.models.formats.registry import ReadRequest
from mnist_adv.models.formats.shapes import MNIST_SHAPE, find_layout
from mnist_adv.models.from_python import is_estimator
from mnist_adv.models.keras_model import is_keras
from mnist_adv.models.loaded import LoadedModel
from mnist_adv.models.logits import as_logits
from mnist_adv.tensors.lazy import tf


def load(spec: str, request: ReadRequest) -> LoadedModel:
    """Import a function, Keras model or estimator by name; the current folder is searched too.

    Args:
        spec: "package.module:name"; of a function without arguments, what it returns is taken.
        request: the images on which its outputs are tested; they are MNIST's if it does not say.

    Returns:
        The model; its digest is over the name and the file that defines the module.

    Raises:
        ValueError: the module cannot be imported, or has no such callable; it returns neither
            logits nor probabilities.
    """
    found = _made(_import(spec), spec)
    if not (callable(found) or is_estimator(found)) or isinstance(found, type):
        raise ValueError(
            f"{spec} must be a function from images [n, h, w, c] to logits, a Keras model, or an "
            f"estimator of scikit-learn. Received: {type(found).__name__}"
        )
    notes = [] if isinstance(found, types.FunctionType) else [f"took a {type(found).__name__}"]
    shape = _shape(found, request.shape, spec)
    images = request.images(shape)
    try:
        model = as_model(found, images)
    except ValueError:
        raise
    except Exception as error:  # whatever the user's function raises
        raise ValueError(
            f"model {getattr(found, '__name__', spec)!r} fails on images {[1, *shape]} "
            f"({type(error).__name__}: {first_line(error)})"
        ) from error
    model, said = as_logits(Function(found, spec) if model is found else model, images, spec)
    file = getattr(sys.modules[spec.partition(":")[0]], "__file__", None)
    files = [pathlib.Path(file)] if file is not None else []
    return LoadedModel(model, spec, digest_files(files, spec), shape, (*notes, *said))


def _made(found: Any, spec: str) -> Any:
    """Call a function that takes nothing: it makes the model."""
    if not isinstance(found, types.FunctionType) or inspect.signature(found).parameters:
        return found
    try:
        return found()
    except Exception as error:  # whatever the user's function raises
        raise ValueError(f"{spec}() fails ({type(error).__name__}: {first_line(error)})") from error


def _shape(found: Any, hint: Shape | None, spec: str) -> Shape:
    """Find the shape of the images that a model takes, where it says so."""
    if is_keras(found) and getattr(found, "inputs", None):
        return find_layout(found.inputs[0].shape[1:], hint, spec).shape
    if hasattr(found, "n_features_in_"):
        return find_layout([found.n_features_in_], hint, spec).shape
    return hint or MNIST_SHAPE


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
