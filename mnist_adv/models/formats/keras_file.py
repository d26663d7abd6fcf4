"""Load a model from a .keras file, in Keras's safe mode and after a check of our own.

Safe mode refuses pickled functions. Before Keras sees the file, its config is read as plain JSON:
only layers of Keras itself pass, by their exact names, so that nothing is imported or run that the
file names; and it is that checked config which the model is built from.
"""

from __future__ import annotations

import copy
import json
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from mnist_adv import archives
from mnist_adv.errors import first_line
from mnist_adv.models.digests import digest_layers, digest_parts
from mnist_adv.models.formats import keras_sizes
from mnist_adv.models.formats.hdf5_look import require_readable
from mnist_adv.models.formats.keras_layers import as_perceptron
from mnist_adv.models.formats.keras_names import NAMES, VALUES
from mnist_adv.models.formats.registry import ReadRequest
from mnist_adv.models.formats.saved_graph import plain
from mnist_adv.models.formats.shapes import Layout, find_layout
from mnist_adv.models.keras_model import KerasModel, without_softmax
from mnist_adv.models.loaded import LoadedModel
from mnist_adv.models.logits import are_probabilities, as_logits, note_blank
from mnist_adv.models.perceptron import Perceptron
from mnist_adv.models.softmax_regression import SoftmaxRegression
from mnist_adv.tensors.lazy import tf

# In bytes. Those of the largest published nets have two million.
_LARGEST_CONFIG = 2**24
# Layers in a note.
_MOST_LISTED = 12
# What keeps no weight and decides no number, or only how it is computed.
_LEFT_OUT = ("compile_config", "unroll")
_ZEROS = {"module": "keras.initializers", "class_name": "Zeros", "config": {}}
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


Reading = Callable[[str, ReadRequest], tuple[Any, Layout]]


def load_keras(path: str, request: ReadRequest) -> tuple[Any, Layout]:
    """Load a .keras file as a Keras model, if nothing in it is code.

    Args:
        path: the file.
        request: the shape of the images at hand, where the model leaves a choice.

    Returns:
        The Keras model, and how images become its inputs.

    Raises:
        ValueError: the file is damaged; holds a Lambda or custom layer; is no classifier of
            images; weights are not finite.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Keras must run on TensorFlow; unset KERAS_BACKEND. "
            f"Received: {keras.backend.backend()}"
        )
    config, held = _check(path)

    def build() -> Any:
        # Keras changes what it reads.
        return keras.saving.deserialize_keras_object(copy.deepcopy(config), safe_mode=True)

    with keras_sizes.shapes_alone(lambda: _guarded(build, path)) as empty:
        layout = require_form(empty, path, request)
        keras_sizes.require_weights(empty, held, path)
        keras_sizes.require_room(empty, layout, path)
    loaded = _guarded(lambda: _filled(build(), path), path)
    for weight in loaded.weights:
        if not np.isfinite(np.asarray(weight, np.float64)).all():
            raise ValueError(f"{path} holds weights that are not finite: {weight.path}")
    return loaded, layout


def load(path: str, request: ReadRequest) -> LoadedModel:
    """Load a .keras file as a model that returns logits.

    Args:
        path: the file.
        request: images on which the outputs are tested, and their shape.

    Returns:
        The model, and what was changed. A chain of plain Dense layers becomes a model of ours,
        which computes in float64 too and for which the closed forms hold.

    Raises:
        ValueError: as `load_keras`; or it returns neither logits nor probabilities.
    """
    return as_loaded(path, request, load_keras)


def as_loaded(path: str, request: ReadRequest, read: Reading) -> LoadedModel:
    """Make a model that returns logits of a file that holds a Keras model.

    Args:
        path: the file.
        request: images on which the outputs are tested, and their shape.
        read: path and request -> the Keras model, and how images become its inputs.

    Returns:
        The model, and what was changed.

    Raises:
        ValueError: as `read`; or the model returns neither logits nor probabilities.
    """
    loaded, layout = read(path, request)
    notes = [f"took {loaded.name}: {_layers(loaded)}"]
    images = request.images(layout.shape)
    model, said = _take_softmax_off(loaded, layout, images, path)
    notes += [*said, *note_blank(model, images)]
    content = _digest(loaded, model, layout)
    return LoadedModel(model, path, content, layout.shape, tuple(notes))


def _digest(loaded: Any, model: Any, layout: Layout) -> str:
    if isinstance(model, SoftmaxRegression | Perceptron):
        return digest_layers(model, layout.shape)
    config = json.dumps(loaded.get_config(), sort_keys=True, default=str)
    return digest_parts([config.encode()], map(np.asarray, loaded.weights))


def _take_softmax_off(
    loaded: Any, layout: Layout, images: np.ndarray, path: str
) -> tuple[Any, list[str]]:
    """Make a model that returns logits of a Keras model."""
    taken_off = ["its last softmax was taken off: the outputs are logits"]
    chain = as_perceptron(loaded, layout)
    if chain is not None:
        ours, softmax = chain
        return (ours, taken_off) if softmax else as_logits(ours, images, path)
    model = KerasModel(loaded, layout)
    outputs = model(images)
    if not are_probabilities(outputs):
        return as_logits(model, images, path)
    bare = without_softmax(loaded, layout)
    if bare is not None and np.allclose(tf.nn.softmax(bare(images)), outputs, atol=1e-5):
        return bare, taken_off
    return as_logits(model, images, path)


def _guarded(action: Callable[[], Any], path: str) -> Any:
    try:
        return action()
    except Exception as error:  # Keras raises whatever its layers raise
        raise ValueError(f"{path} cannot be loaded by Keras ({first_line(error)})") from error


def _filled(model: Any, path: str) -> Any:
    """Give a model the weights of the file, whose config is not read again."""
    if path.endswith(".keras"):
        model.load_weights(path)
        return model
    # Keras goes by the name.
    with tempfile.TemporaryDirectory() as folder:
        model.load_weights(shutil.copyfile(path, pathlib.Path(folder) / "model.keras"))
    return model


def _check(path: str) -> tuple[dict[str, Any], list[tuple[int, ...]]]:
    """Refuse a file that is not whole or holds code; return its config and its arrays' shapes."""
    import h5py

    try:
        with archives.open_zip(path) as archive:
            require_short(archive.getinfo("config.json").file_size, "config.json", path)
            config = _parsed(archive.read("config.json"), path)
            with tempfile.TemporaryDirectory() as folder:
                stored = archive.extract("model.weights.h5", folder)
                require_readable(stored, path)
                with h5py.File(stored, "r") as weights:
                    held = keras_sizes.stored_shapes(weights, path)
    except (OSError, TypeError, KeyError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged ({first_line(error)}); use an intact copy") from error
    try:
        cleaned = _cleaned(config)
        for part in _parts(cleaned):
            _require_known(part, path)
        keras_sizes.require_few_calls(cleaned, path)
    except (RecursionError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged (its config.json: {first_line(error)}); use an intact copy"
        ) from error
    return cleaned, held


def _require_known(part: Mapping[str, Any], path: str) -> None:
    """Refuse what is not, by its exact name, a part of nets that computes with numbers alone."""
    kind, module = part["class_name"], part.get("module") or ""
    if kind in _REFUSED:
        raise ValueError(
            f"{path} holds a {kind} layer, which runs code or opens files of the model file's "
            "choosing; nothing of it was run. Rebuild it with plain layers, or give your own "
            "code as --model=package.module:function"
        )
    known = kind in VALUES or kind in NAMES.get(module, ())
    if not known or part.get("registered_name") not in (None, kind):
        raise ValueError(
            f"{path} holds {plain(str(kind))} of {plain(str(module) or 'another program')}, which "
            "is none of the parts of Keras that are read; nothing of it was run. Give your own "
            "code as --model=package.module:function"
        )


def _cleaned(config: Any) -> Any:
    """Copy a config without what does not decide the outputs, and with zeros as initial values."""
    if isinstance(config, list):
        return [_cleaned(value) for value in config]
    if not isinstance(config, dict):
        return config
    name = config.get("class_name")
    if config.get("module") == _ZEROS["module"] and name in NAMES["keras.initializers"]:
        return dict(_ZEROS)
    return {name: _cleaned(value) for name, value in config.items() if name not in _LEFT_OUT}


def _parsed(text: bytes, path: str) -> dict[str, Any]:
    try:
        config = json.loads(text)
        if not isinstance(config, dict):
            raise ValueError("it describes no model")
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged (its config.json: {first_line(error)}); use an intact copy"
        ) from error
    return config


def _parts(config: Any) -> Iterator[dict[str, Any]]:
    """Yield every object that a Keras config describes."""
    if isinstance(config, dict):
        if "class_name" in config:
            yield config
        for value in config.values():
            yield from _parts(value)
    elif isinstance(config, list):
        for value in config:
            yield from _parts(value)


def require_short(length: int, name: str, path: str) -> None:
    """Refuse a config that takes much memory as objects of Python.

    Args:
        length: of its text.
        name: of it, for the message.
        path: of the file, for the message.

    Raises:
        ValueError: it is longer than 2**24.
    """
    if length > _LARGEST_CONFIG:
        raise ValueError(
            f"{path} must have a {name} of at most {_LARGEST_CONFIG:,} bytes. Received: {length:,}"
        )


def require_form(model: Any, path: str, request: ReadRequest) -> Layout:
    """Refuse a Keras model that is no classifier of images.

    Args:
        model: the Keras model.
        path: of its file, for the message.
        request: the shape of the images at hand, where the model leaves a choice.

    Returns:
        How images become its inputs.

    Raises:
        ValueError: it is none.
    """
    inputs, outputs = getattr(model, "input_shape", None), getattr(model, "output_shape", None)
    if (
        not isinstance(inputs, tuple)
        or not isinstance(outputs, tuple)
        or len(outputs) != 2
        or (outputs[1] or 0) < 2
    ):
        raise ValueError(
            f"{path} must map images to one number per class, at least two. "
            f"Received: a model of {inputs} to {outputs}"
        )
    return find_layout(inputs[1:], request.shape, path)


def _layers(model: Any) -> str:
    names = [type(layer).__name__ for layer in model.layers]
    if len(names) > _MOST_LISTED:
        names[_MOST_LISTED - 1 : -1] = [f"{len(names) - _MOST_LISTED} more"]
    return " -> ".join(names)
