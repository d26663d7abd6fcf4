"""Turn a model's config, as Keras 1, 2 or 3 wrote it, into one of plain Keras 3 layers.

Only the settings that decide a layer's numbers at inference are copied, each after a check of its
value: numbers, and words out of short lists. So nothing that a file names is looked up or run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mnist_adv.data.images import Shape
from mnist_adv.models.formats.shapes import MNIST_SHAPE

Config = dict[str, Any]

_CONV = ("kernel_size", "strides", "padding", "data_format", "dilation_rate", "activation")
_POOL = ("pool_size", "strides", "padding", "data_format")
_GLOBAL = ("data_format", "keepdims")
# Each layer that is built, and its settings that decide numbers.
_LAYERS: Mapping[str, Sequence[str]] = {
    "Dense": ("units", "activation", "use_bias"),
    "Activation": ("activation",),
    "Flatten": ("data_format",),
    "Reshape": ("target_shape",),
    "Permute": ("dims",),
    "Rescaling": ("scale", "offset"),
    **dict.fromkeys(("Conv1D", "Conv2D"), ("filters", "groups", "use_bias", *_CONV)),
    "DepthwiseConv2D": ("depth_multiplier", "use_bias", *_CONV),
    "SeparableConv2D": ("filters", "depth_multiplier", "use_bias", *_CONV),
    **dict.fromkeys(("MaxPooling1D", "MaxPooling2D"), _POOL),
    **dict.fromkeys(("AveragePooling1D", "AveragePooling2D"), _POOL),
    **dict.fromkeys(("GlobalMaxPooling1D", "GlobalMaxPooling2D"), _GLOBAL),
    **dict.fromkeys(("GlobalAveragePooling1D", "GlobalAveragePooling2D"), _GLOBAL),
    "ZeroPadding2D": ("padding", "data_format"),
    "Cropping2D": ("cropping", "data_format"),
    "BatchNormalization": ("axis", "epsilon", "center", "scale"),
    "LayerNormalization": ("axis", "epsilon", "center", "scale"),
    "ReLU": ("max_value", "negative_slope", "threshold"),
    "LeakyReLU": ("negative_slope",),
    "PReLU": ("shared_axes",),
    "ELU": ("alpha",),
    "Softmax": ("axis",),
    "Concatenate": ("axis",),
    **dict.fromkeys(("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"), ()),
}
# Layers that change no number at inference; a Dropout of nothing stands for each.
_PASSING = (
    "Dropout",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "AlphaDropout",
    "GaussianDropout",
    "GaussianNoise",
    "ActivityRegularization",
    "RandomFlip",
    "RandomRotation",
    "RandomTranslation",
    "RandomZoom",
    "RandomContrast",
)
_MODELS = ("Sequential", "Functional", "Model")
_OLD_LAYERS = {"Convolution1D": "Conv1D", "Convolution2D": "Conv2D"}
_OLD_SETTINGS = {
    "output_dim": "units",
    "nb_filter": "filters",
    "filter_length": "kernel_size",
    "subsample": "strides",
    "subsample_length": "strides",
    "stride": "strides",
    "pool_length": "pool_size",
    "border_mode": "padding",
    "bias": "use_bias",
    "dim_ordering": "data_format",
}
_WORDS = {
    "data_format": ("channels_last", "channels_first"),
    "padding": ("valid", "same"),
    "activation": (
        *("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "swish"),
        *("mish", "sigmoid", "hard_sigmoid", "tanh", "softplus", "softsign", "exponential"),
        *("softmax", "log_softmax"),
    ),
}


class Refused(ValueError):
    """A config that asks for more than plain layers; the text says what it holds."""


def clean(config: Any, version: str, assumed: Shape | None = MNIST_SHAPE) -> Config:
    """Copy a model's config, keeping what decides its numbers, in the words of Keras 3.

    Args:
        config: as JSON says it: `{"class_name": ..., "config": ...}`.
        version: of the Keras that wrote it, "1", "2.2.4-tf", ...
        assumed: shape `(h, w, c)` of the images of a model that does not say it.

    Returns:
        A config of `keras.Sequential` or of a functional `keras.Model`, of layers of Keras alone.

    Raises:
        Refused: another layer or setting, which is named.
        KeyError: a part is missing. AttributeError, TypeError: it is no config at all.
    """
    kind, inner = config["class_name"], config["config"]
    if kind not in _MODELS:
        raise Refused(f"a model of the class {kind!r}, which is code that the file does not hold")
    if kind == "Sequential":
        return {"class_name": kind, "config": _sequential(inner, version, assumed)}
    layers = [
        {
            **_part(layer, version),
            "name": _name(layer["name"]),
            "inbound_nodes": [_sources(node) for node in layer["inbound_nodes"]],
        }
        for layer in inner["layers"]
    ]
    ends = {
        end: [_tensor(tensor) for tensor in _listed(inner[end])]
        for end in ("input_layers", "output_layers")
    }
    # A list of one tensor would make a model of lists.
    ends = {end: found[0] if len(found) == 1 else found for end, found in ends.items()}
    name = _name(inner.get("name", "model"))
    return {"class_name": "Functional", "config": {"name": name, "layers": layers, **ends}}


def _sequential(inner: Any, version: str, assumed: Shape | None) -> Config:
    # Keras 1 and 2.0 wrote the bare list of layers.
    said = {} if isinstance(inner, list) else inner
    given = inner if isinstance(inner, list) else inner["layers"]
    layers = [_part(layer, version) for layer in given]
    if layers and layers[0]["class_name"] != "InputLayer":
        first = given[0]["config"]
        shape = None
        if isinstance(first, dict):
            shape = first.get("batch_input_shape") or first.get("batch_shape")
            if shape is None and first.get("input_dim") and given[0]["class_name"] == "Dense":
                shape = [None, first["input_dim"]]
        shape = shape or said.get("build_input_shape")
        if shape is None and assumed is not None and layers[0]["class_name"] not in _MODELS:
            flat = layers[0]["class_name"] in ("Dense", "Reshape", "Activation", "Dropout")
            shape = [None, math.prod(assumed)] if flat else [None, *assumed]
        if shape is not None:
            layers.insert(0, _input({"batch_shape": shape, "name": "input_layer"}))
    return {"name": _name(said.get("name", "sequential")), "layers": layers}


def _part(layer: Any, version: str) -> Config:
    kind, given = layer["class_name"], layer["config"]
    if kind in _MODELS:
        # Inside another, a model takes the shape of what is before it.
        inner = clean(layer, version, assumed=None)
        inner["config"]["name"] = _name(layer.get("name") or inner["config"]["name"])
        return inner
    kind = _OLD_LAYERS.get(kind, kind)
    if kind == "InputLayer":
        return _input(given)
    common = {"name": _name(given["name"]), "dtype": "float32"}
    if isinstance(given.get("trainable"), bool):
        common["trainable"] = given["trainable"]  # decides the order of the weights in the file
    if kind in _PASSING:
        return {"class_name": "Dropout", "config": {**common, "rate": 0.0}}
    if kind not in _LAYERS:
        raise Refused(f"a {kind} layer, which is not among the plain layers that are built")
    if kind == "BatchNormalization" and _major(version) < 2:
        raise Refused("batch normalisation of Keras 1, whose statistics depend on the backend")
    renamed = _renamed(kind, given)
    is_flipped = renamed.get("data_format") == "channels_first" and _major(version) < 2
    if kind in ("Conv1D", "Conv2D") and is_flipped:
        raise Refused("convolutions of Keras 1 in Theano's order, which may be flipped or not")
    if renamed.get("activation") == "hard_sigmoid" and _major(version) < 3:
        raise Refused("hard_sigmoid, which is another function in Keras 3")
    kept = {
        name: _value(kind, name, renamed[name])
        for name in _LAYERS[kind]
        if renamed.get(name) is not None
    }
    if "data_format" in _LAYERS[kind]:
        kept.setdefault("data_format", "channels_last")
    return {"class_name": kind, "config": {**common, **kept}}


def _renamed(kind: str, given: Config) -> Config:
    renamed = {_OLD_SETTINGS.get(name, name): value for name, value in given.items()}
    if "nb_row" in given:
        renamed["kernel_size"] = [given["nb_row"], given["nb_col"]]
    orders = {"th": "channels_first", "tf": "channels_last"}
    if renamed.get("data_format") in list(orders):
        renamed["data_format"] = orders[renamed["data_format"]]
    if kind == "LeakyReLU" and "alpha" in given:
        renamed["negative_slope"] = given["alpha"]
    return renamed


def _value(kind: str, name: str, value: Any) -> Any:
    if isinstance(value, dict) and value.get("type") == "ndarray":
        value = value["value"]  # how Keras 2 wrote a slope
    if isinstance(value, str) and value in _WORDS.get(name, ()):
        return value
    numbers = value if isinstance(value, list) else [value]
    if kind == "ZeroPadding2D" or name == "cropping":
        numbers = [n for each in numbers for n in (each if isinstance(each, list) else [each])]
    if name != "activation" and all(isinstance(n, int | float) for n in numbers):
        return value
    shown = value.get("class_name") if isinstance(value, dict) else value
    raise Refused(f"a {kind} layer with {name} {shown!r}, which is not among the plain settings")


def _input(given: Config) -> Config:
    shape = given.get("batch_shape") or given.get("batch_input_shape")
    if not isinstance(shape, list) or not all(n is None or isinstance(n, int) for n in shape):
        raise Refused(f"an input of the shape {shape!r}")
    named = {"name": _name(given["name"]), "dtype": "float32"}
    return {"class_name": "InputLayer", "config": {"batch_shape": [None, *shape[1:]], **named}}


def _sources(node: Any) -> list[list[Any]]:
    """List the tensors that a layer is called with, in the form that Keras 2 wrote."""
    if isinstance(node, dict):  # Keras 3
        tensors = [part["config"]["keras_history"] for part in _tensors(node["args"])]
        settings = [node["kwargs"]]
    else:
        # Keras 2 wrote a single tensor bare at times.
        tensors = [node] if node and isinstance(node[0], str) else node
        settings = [tensor[3] for tensor in tensors if len(tensor) > 3]
    for setting in settings:
        changed = {name for name, value in setting.items() if value not in (None, False)}
        if changed:
            raise Refused(f"a layer that is called with {', '.join(sorted(changed))}")
    return [[*_tensor(tensor[:3]), {}] for tensor in tensors]


def _tensors(arguments: Any) -> Iterator[Config]:
    for argument in arguments:
        if isinstance(argument, list):
            yield from _tensors(argument)
        elif argument["class_name"] == "__keras_tensor__":
            yield argument
        else:
            raise Refused(f"a layer that is called with {argument['class_name']!r}")


def _listed(tensors: Any) -> Any:
    return [tensors] if isinstance(tensors[0], str) else tensors


def _tensor(tensor: Any) -> list[Any]:
    name, node, index = tensor
    return [_name(name), int(node), int(index)]


def _name(name: Any) -> str:
    # Keras 3 takes no slash.
    return str(name).replace("/", "_")


def _major(version: str) -> int:
    digits = version.split(".")[0]
    return int(digits) if digits.isdigit() else 1
