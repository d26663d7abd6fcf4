"""Load a model from Keras's HDF5: its config is checked and built anew, its arrays are filled in.

Keras itself ignores its safe mode for HDF5 (CVE-2025-9905), so that its loader is never called.
"""

from __future__ import annotations

import copy
import itertools
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from mnist_adv.errors import first_line
from mnist_adv.models.formats import keras_config, keras_file, keras_sizes
from mnist_adv.models.formats.hdf5_look import require_readable
from mnist_adv.models.formats.registry import ReadRequest
from mnist_adv.models.formats.shapes import MNIST_SHAPE, Layout
from mnist_adv.models.loaded import LoadedModel

_WEIGHTS = "model_weights"
_SAID = ("keras_version", "backend")


def load_hdf5(path: str, request: ReadRequest) -> tuple[Any, Layout]:
    """Load an HDF5 file of Keras 1, 2 or 3 as a Keras 3 model, if it holds plain layers alone.

    Args:
        path: the file.
        request: the shape of the images at hand, where the model leaves a choice.

    Returns:
        The Keras model, and how images become its inputs.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged; holds weights without their layers; holds a layer or a
            setting that is not built; holds links or arrays that lie elsewhere; is no classifier
            of images; weights are not finite.
    """
    import h5py

    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"no file {path}")
    require_readable(path, path)
    try:
        with h5py.File(path, "r") as file:
            config, version = _config(file, path)
            # What `clean` meets where the file is not what Keras writes, it raises as these.
            return _filled(config, version, _inside(file, _WEIGHTS, path), path, request)
    except (AttributeError, IndexError, KeyError, OSError, RuntimeError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({first_line(error)}); use an intact copy") from error


def load(path: str, request: ReadRequest) -> LoadedModel:
    """Load an HDF5 file of Keras as a model that returns logits.

    Args:
        path: the file.
        request: images on which the outputs are tested, and their shape.

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
    text = _text(file.attrs["model_config"])
    keras_file.require_short(len(text), "model_config", path)
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is damaged (its model_config is no JSON: {first_line(error)}); use an intact "
            "copy"
        ) from error
    group = _inside(file, _WEIGHTS, path)
    said = {
        name: _text(at.attrs[name]) for at in (group, file) for name in _SAID if name in at.attrs
    }
    if said.get("backend") == "theano" and "Conv" in json.dumps(config):
        # Theano turns a kernel around that TensorFlow does not.
        raise ValueError(
            f"{path} holds convolutions of Keras on Theano, whose kernels are turned around; save "
            "it with Keras on TensorFlow"
        )
    return config, said.get("keras_version", "1")


def _filled(
    config: Any, version: str, group: Any, path: str, request: ReadRequest
) -> tuple[Any, Layout]:
    """Build a model and give it the arrays of the file."""
    try:
        cleaned = keras_config.clean(config, version, request.shape or MNIST_SHAPE)
    except keras_config.Refused as error:
        raise ValueError(f"{path} holds {error}; nothing of it was run") from error
    keras_sizes.require_few_calls(cleaned, path)
    arrays = []
    for name in _names(group, "layer_names"):
        layer = _inside(group, name, path)
        mine = [_array(layer, stored, path) for stored in _names(layer, "weight_names")]
        arrays += [mine] if mine else []
    with keras_sizes.shapes_alone(lambda: _built(cleaned, path)) as empty:
        layout = keras_file.require_form(empty, path, request)
        _require_same(_by_layer(empty), arrays, path)
        keras_sizes.require_room(empty, layout, path)
    model = _built(cleaned, path)
    for variables, layer in zip(_by_layer(model), arrays):
        for variable, array in zip(variables, layer):
            values = np.asarray(array, np.float32).reshape(variable.shape)
            if not np.isfinite(values).all():
                raise ValueError(f"{path} holds weights that are not finite: {array.name}")
            variable.assign(values)
    return model, layout


def _require_same(variables: Sequence[Sequence[Any]], arrays: Any, path: str) -> None:
    """Refuse arrays of other shapes than the config asks for."""
    shapes = [[tuple(variable.shape) for variable in layer] for layer in variables]
    held = [
        [_shape(array, wanted) for array, wanted in itertools.zip_longest(layer, wants)]
        for layer, wants in itertools.zip_longest(arrays, shapes, fillvalue=())
    ]
    if shapes != held:
        wanted, found = next(
            ((a, b) for a, b in zip(shapes, held) if a != b), (len(shapes), len(arrays))
        )
        raise ValueError(
            f"{path} is damaged (its config asks for weights {wanted}, and it holds {found}); use "
            "an intact copy"
        )


def _shape(array: Any, wanted: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Give an array's shape, without the width of 1 that Keras 1 gave one-dimensional kernels."""
    shape = None if array is None else tuple(array.shape)
    if wanted is not None and len(wanted) == 3 and shape == (wanted[0], 1, *wanted[1:]):
        return wanted
    return shape


def _inside(group: Any, name: str, path: str) -> Any:
    """Follow a name as long as it stays in the file: a link may lead to any other one."""
    import h5py

    for part in name.split("/"):
        link = group.get(part, getlink=True)  # None where there is nothing of that name
        if link is not None and not isinstance(link, h5py.HardLink):
            raise ValueError(f"{path} holds {name} as a link, which is not followed")
        group = group[part]
    return group


def _array(group: Any, name: str, path: str) -> Any:
    """Find an array that is in the file, with all its bytes."""
    array = _inside(group, name, path)
    keras_sizes.require_whole(array, name, path)
    return array


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
