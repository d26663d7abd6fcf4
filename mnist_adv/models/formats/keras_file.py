"""Load a model from a .keras file, in Keras's safe mode and after a check of our own.

Safe mode refuses pickled functions. Before Keras sees the file, its config is read as plain JSON:
only layers of Keras itself pass, so that nothing is imported or run that the file names.
"""

from __future__ import annotations

import json
import pathlib
import re
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from mnist_adv.errors import first_line
from mnist_adv.models.formats.keras_layers import as_perceptron
from mnist_adv.models.formats.registry import ReadRequest
from mnist_adv.models.formats.shapes import IMAGE_SHAPE, NUM_PIXELS
from mnist_adv.models.loaded import LoadedModel, digest
from mnist_adv.models.logits import are_probabilities, as_logits

_HARMLESS_MODULES = re.compile(
    r"keras(\.(layers|initializers|regularizers|constraints|activations|dtype_policies))?"
    r"|keras\.src\.(models|engine|ops|layers)(\.\w+)+"
)
# What a config writes without a module: values, not code.
_VALUES = ("__keras_tensor__", "__tensor__", "__numpy__", "__ellipsis__", "__bytes__")
# Layers that run code of the file's choosing, or open files that it names.
_REFUSED = (
    "Lambda",
    "__lambda__",
    "TorchModuleWrapper",
    "FlaxLayer",
    "JaxLayer",
    "TFSMLayer",
    "StringLookup",
    "IntegerLookup",
    "TextVectorization",
)


def load_keras(path: str, num_classes: int) -> Any:
    """Load a .keras file as a Keras model, if nothing in it is code.

    Args:
        path: the file.
        num_classes: of the data set.

    Returns:
        The Keras model.

    Raises:
        ValueError: the file is damaged; holds a Lambda or custom layer; is not a classifier of 28
            x 28 images; weights are not finite.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Keras must run on TensorFlow; unset KERAS_BACKEND. "
            f"Received: {keras.backend.backend()}"
        )
    _check(path)
    try:
        loaded = keras.saving.load_model(path, safe_mode=True, compile=False)
    except Exception as error:  # Keras raises whatever its layers raise
        raise ValueError(f"{path} cannot be loaded by Keras ({first_line(error)})") from error
    require_form(loaded, path, num_classes)
    for weight in loaded.weights:
        if not np.isfinite(np.asarray(weight, np.float64)).all():
            raise ValueError(f"{path} holds weights that are not finite: {weight.path}")
    return loaded


def load(path: str, request: ReadRequest) -> LoadedModel:
    """Load a .keras file as a model that returns logits.

    Args:
        path: the file.
        request: the number of classes, and images on which the outputs are tested.

    Returns:
        The model, and what was changed. A chain of plain Dense layers becomes a model of ours,
        which computes in float64 too and for which the closed forms hold.

    Raises:
        ValueError: as `load_keras`; or it returns neither logits nor probabilities.
    """
    return as_loaded(path, request, load_keras)


def as_loaded(path: str, request: ReadRequest, read: Callable[[str, int], Any]) -> LoadedModel:
    """Make a model that returns logits of a file that holds a Keras model.

    Args:
        path: the file.
        request: the number of classes, and images on which the outputs are tested.
        read: path and number of classes -> the Keras model.

    Returns:
        The model, and what was changed.

    Raises:
        ValueError: as `read`; or the model returns neither logits nor probabilities.
    """
    loaded = read(path, request.num_classes)
    notes = [f"took {loaded.name}: {_layers(loaded)}"]
    model, said = _take_softmax_off(loaded, path, request, read)
    return LoadedModel(model, path, digest([pathlib.Path(path)]), (*notes, *said))


def _take_softmax_off(
    loaded: Any, path: str, request: ReadRequest, read: Callable[[str, int], Any]
) -> tuple[Any, list[str]]:
    taken_off = ["its last softmax was taken off: the outputs are logits"]
    chain = as_perceptron(loaded)
    if chain is not None:
        ours, softmax = chain
        return (ours, taken_off) if softmax else as_logits(ours, request.images, path)
    model = _Callable(loaded)
    outputs = model(request.images)
    if are_probabilities(outputs):
        bare = _Callable(_without_softmax(loaded))
        if np.allclose(tf.nn.softmax(bare(request.images)), outputs, atol=1e-5):
            return bare, taken_off
        # The attempt may have changed a layer.
        model = _Callable(read(path, request.num_classes))
    return as_logits(model, request.images, path)


class _Callable:
    """A Keras model as images `[n, 28, 28, 1]` -> outputs, in inference mode.

    Keras computes in the dtype that its layers were built in; for float64 images a twin is built.

    Args:
        model: as Keras made it.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._compiled: dict[Any, Any] = {}

    def __call__(self, images: Any) -> Any:
        images = tf.convert_to_tensor(images)
        if images.dtype not in self._compiled:
            self._compiled[images.dtype] = self._compile(images.dtype)
        return self._compiled[images.dtype](images)

    def __repr__(self) -> str:
        return f"Keras model {self._model.name!r}"

    def _compile(self, dtype: Any) -> Any:
        model = _in_float64(self._model) if dtype == tf.float64 else self._model
        shape = model.input_shape[1:]

        def call(images: Any) -> Any:
            return model(tf.reshape(images, [-1, *shape]), training=False)

        # Compiled once for all batch sizes: called plainly, Keras takes longer than its products.
        return tf.function(call, input_signature=[tf.TensorSpec([None, *IMAGE_SHAPE], dtype)])


def _in_float64(model: Any) -> Any:
    twin = type(model).from_config(_with_float64(model.get_config()))
    twin.set_weights(model.get_weights())
    return twin


def _with_float64(config: Any) -> Any:
    if isinstance(config, dict):
        return {key: _with_float64(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(_with_float64(value) for value in config)
    return "float64" if config == "float32" else config


def _check(path: str) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
            if broken:
                raise ValueError(f"{path} is damaged (checksum of {broken}); use an intact copy")
            config = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, KeyError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} is damaged or no .keras file ({first_line(error)}); use an intact copy"
        ) from error
    config.pop("compile_config", None)
    for part in _parts(config):
        kind, module = part["class_name"], part.get("module")
        if kind in _REFUSED:
            raise ValueError(
                f"{path} holds a {kind} layer, which runs code or opens files of the model file's "
                "choosing; nothing of it was run. Rebuild it with plain layers, or give your own "
                "code as --model=package.module:function"
            )
        harmless = kind in _VALUES or _HARMLESS_MODULES.fullmatch(module or "")
        if not harmless or part.get("registered_name") not in (None, kind):
            raise ValueError(
                f"{path} holds {kind} of {module or 'another program'}, which is no part of Keras; "
                "nothing of it was run. Give your own code as --model=package.module:function"
            )


def _parts(config: Any) -> Iterator[dict[str, Any]]:
    """Yield every object that a Keras config describes."""
    if isinstance(config, dict):
        if isinstance(config.get("class_name"), str):
            yield config
        for value in config.values():
            yield from _parts(value)
    elif isinstance(config, list):
        for value in config:
            yield from _parts(value)


def require_form(model: Any, path: str, num_classes: int) -> None:
    """Refuse a Keras model that is no classifier of 28 x 28 images.

    Args:
        model: the Keras model.
        path: of its file, for the message.
        num_classes: of the data set.

    Raises:
        ValueError: it is none.
    """
    inputs, outputs = getattr(model, "input_shape", None), getattr(model, "output_shape", None)
    fits = (
        isinstance(inputs, tuple)
        and isinstance(outputs, tuple)
        and None not in inputs[1:]
        and np.prod(inputs[1:]) == NUM_PIXELS
        and outputs[1:] == (num_classes,)
    )
    if not fits:
        raise ValueError(
            f"{path} must map images of {NUM_PIXELS} pixels to {num_classes} outputs. "
            f"Received: {inputs} to {outputs}"
        )


def _without_softmax(model: Any) -> Any:
    """Take off a softmax that ends the model; a model that ends otherwise stays as it is."""
    import keras

    last = model.layers[-1]
    softmaxed = getattr(last, "activation", None) is keras.activations.softmax
    if isinstance(last, keras.layers.Softmax) or (
        softmaxed and isinstance(last, keras.layers.Activation)
    ):
        return keras.Model(model.inputs, last.input)
    if softmaxed and isinstance(last, keras.layers.Dense):
        last.activation = keras.activations.linear
    return model


def _layers(model: Any) -> str:
    return " -> ".join(type(layer).__name__ for layer in model.layers)
