"""Load a model from Keras's HDF5: its config is checked and built anew, its arrays are filled in.

Keras itself ignores its safe mode for HDF5 (CVE-2025-9905), so that its loader is never called.
"""

from __future__ import annotations

import copy
import json
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from mnist_adv.errors import first_line
from mnist_adv.models.formats import keras_config, keras_file
from mnist_adv.models.formats.registry import ReadRequest
from mnist_adv.models.loaded import LoadedModel

_WEIGHTS = "model_weights"


def load_hdf5(path: str, num_classes: int) -> Any:
    """Load an HDF5 file of Keras 1, 2 or 3 as a Keras 3 model, if it holds plain layers alone.

    Args:
        path: the file.
        num_classes: of the data set.

    Returns:
        The Keras model.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged; holds weights without their layers; holds a layer or a
            setting that is not built; is not a classifier of 28 x 28 images; weights are not
            finite.
    """
    import h5py

    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        with h5py.File(path, "r") as file:
            config, version = _config(file, path)
            # What `clean` meets where the file is not what Keras writes, it raises as these.
            model = _filled(config, version, file[_WEIGHTS], path)
    except (AttributeError, IndexError, KeyError, OSError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({first_line(error)}); use an intact copy") from error
    keras_file.require_form(model, path, num_classes)
    return model


def load(path: str, request: ReadRequest) -> LoadedModel:
    """Load an HDF5 file of Keras as a model that returns logits.

    Args:
        path: the file.
        request: the number of classes, and images on which the outputs are tested.

    Returns:
        The model, and what was changed; as `keras_file.load`.

    Raises:
        ValueError: as `load_hdf5`; or it returns neither logits nor probabilities.
    """
    return keras_file.as_loaded(path, request, load_hdf5)


def _config(file: Any, path: str) -> tuple[Any, str]:
    """Read the model's config, and the version of the Keras that wrote it."""
    if "model_config" not in file.attrs:
        held = "weights without the layers that they belong to"
        if not ({"layer_names", "layers", "_layer_checkpoint_dependencies"} & {*file.attrs, *file}):
            held = f"no Keras model, but {', '.join(sorted(file)[:5]) or 'nothing'}"
        raise ValueError(
            f"{path} is HDF5 and holds {held}; build the model in code, load them with "
            "model.load_weights(path), and save the whole with model.save('model.keras')"
        )
    try:
        config = json.loads(_text(file.attrs["model_config"]))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is damaged (its model_config is no JSON: {first_line(error)}); use an intact "
            "copy"
        ) from error
    version = _text(file.attrs.get("keras_version", file[_WEIGHTS].attrs.get("keras_version", "1")))
    return config, version


def _filled(config: Any, version: str, group: Any, path: str) -> Any:
    """Build a model and give it the arrays of the file."""
    import keras

    try:
        cleaned = keras_config.clean(config, version)
    except keras_config.Refused as error:
        raise ValueError(f"{path} holds {error}; nothing of it was run") from error
    names = [name for name in _names(group, "layer_names") if _names(group[name], "weight_names")]
    # There, variables have shapes and take no memory.
    with tf.Graph().as_default(), keras.StatelessScope():
        shapes = [[tuple(w.shape) for w in layer] for layer in _by_layer(_built(cleaned, path))]
    held = [[tuple(group[n][w].shape) for w in _names(group[n], "weight_names")] for n in names]
    if shapes != held:
        wanted, found = next(
            ((a, b) for a, b in zip(shapes, held) if a != b), (len(shapes), len(held))
        )
        raise ValueError(
            f"{path} is damaged (its config asks for weights {wanted}, and it holds {found}); use "
            "an intact copy"
        )
    model = _built(cleaned, path)
    for variables, name in zip(_by_layer(model), names):
        for variable, stored in zip(variables, _names(group[name], "weight_names")):
            values = np.asarray(group[name][stored], np.float32)
            if not np.isfinite(values).all():
                raise ValueError(f"{path} holds weights that are not finite: {stored}")
            variable.assign(values)
    return model


def _built(config: Any, path: str) -> Any:
    import keras

    kind = keras.Sequential if config["class_name"] == "Sequential" else keras.Model
    try:
        return kind.from_config(copy.deepcopy(config["config"]))  # Keras changes what it reads
    except Exception as error:  # Keras raises whatever its layers raise
        raise ValueError(f"{path} cannot be built by Keras ({first_line(error)})") from error


def _by_layer(model: Any) -> list[list[Any]]:
    """List each layer's variables, in the order of the file: what is trained comes first."""
    layers = (layer for layer in model.layers if layer.weights)
    return [[*layer.trainable_weights, *layer.non_trainable_weights] for layer in layers]


def _names(group: Any, name: str) -> list[str]:
    """Read a list of names, which Keras cuts into numbered parts where it is long."""
    if name in group.attrs:
        return [_text(one) for one in group.attrs[name]]
    parts = sorted(
        (key for key in group.attrs if key.startswith(name) and key[len(name) :].isdigit()),
        key=lambda key: int(key[len(name) :]),
    )
    return [_text(one) for key in parts for one in group.attrs[key]]


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
