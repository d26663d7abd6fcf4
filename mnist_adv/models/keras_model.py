"""Keras models as models of ours: in inference mode, without the softmax at their end."""

from __future__ import annotations

from typing import Any

import numpy as np

from mnist_adv.data.images import Shape
from mnist_adv.errors import first_line
from mnist_adv.models.formats.shapes import Layout, find_layout
from mnist_adv.models.logits import LogProbabilities, are_probabilities
from mnist_adv.tensors.lazy import tf

# Where a model of the user's own keeps what was made of it: as long as it lives.
_KEPT = "_mnist_adv_models"
_NUM_PROBES = 8


class KerasModel:
    """A Keras model as images `[n, h, w, c]` -> outputs, in inference mode.

    Keras computes in the dtype that its layers were built in; for float64 images a twin is built.

    Args:
        model: as Keras made it.
        layout: how images become its inputs.
        last: its last layer, a Dense one with a softmax in place of which logits are returned;
            None: what the model returns is returned.
    """

    def __init__(self, model: Any, layout: Layout, last: Any = None) -> None:
        self._model = model
        self._layout = layout
        self._last = last
        self._compiled: dict[Any, Any] = {}
        self._twin: Any = None

    def __call__(self, images: Any) -> Any:
        """Compute what the model returns.

        Args:
            images: `[n, h, w, c]`, as the model expects them, float32 or float64.

        Returns:
            `[n, k]` in the dtype of the images.
        """
        images = tf.convert_to_tensor(images)
        if images.dtype not in self._compiled:
            self._compiled[images.dtype] = self._compile(images.dtype)
        return self._compiled[images.dtype](images)

    def __repr__(self) -> str:
        return f"Keras model {self._model.name!r}"

    def refresh(self) -> None:
        """Take over weights that were trained further since float64 was last computed with."""
        if self._twin is not None:
            self._twin.set_weights(self._model.get_weights())

    def _compile(self, dtype: Any) -> Any:
        model = self._model
        if dtype == tf.float64:
            self._twin = model = _in_float64(self._model)

        def call(images: Any) -> Any:
            outputs = model(self._layout.arrange(images), training=False)
            if self._last is None:
                return outputs
            kernel, bias = (
                part if part is None else tf.cast(tf.convert_to_tensor(part), dtype)
                for part in (self._last.kernel, self._last.bias)
            )
            logits = tf.cast(outputs, dtype) @ kernel
            return logits if bias is None else logits + bias

        # Compiled once for all batch sizes: called plainly, Keras takes longer than its products.
        shape = [None, *self._layout.shape]
        return tf.function(call, input_signature=[tf.TensorSpec(shape, dtype)])


def _in_float64(model: Any) -> Any:
    try:
        twin = type(model).from_config(_with_float64(model.get_config()))
        twin.set_weights(model.get_weights())
    except Exception as error:  # Keras raises whatever the user's layers raise
        raise ValueError(
            f"Keras model {model.name!r} cannot be built in float64 ({first_line(error)})"
        ) from error
    return twin


def _with_float64(config: Any) -> Any:
    if isinstance(config, dict):
        return {key: _with_float64(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(_with_float64(value) for value in config)
    return "float64" if config == "float32" else config


def without_softmax(model: Any, layout: Layout) -> KerasModel | None:
    """Take a softmax off the end of a Keras model, which stays as it is.

    Args:
        model: as Keras made it.
        layout: how images become its inputs.

    Returns:
        A model that shares its layers and returns the values before the softmax; None where its
        last layer is no softmax.
    """
    last: Any = model.layers[-1] if getattr(model, "layers", None) else None
    activation = getattr(getattr(last, "activation", None), "__name__", None)
    kind = type(last).__name__
    if kind == "Softmax" or (activation == "softmax" and kind in ("Activation", "Dense")):
        try:
            before = _model_class(model)(model.inputs, last.input)
        except (AttributeError, TypeError, ValueError):  # of layers that are called one by one
            return None
        if kind != "Dense":
            return KerasModel(before, layout)
        if len(last.input.shape) == 2 and getattr(last, "quantization_mode", None) is None:
            return KerasModel(before, layout, last)
    return None


def is_keras(model: Any) -> bool:
    """Tell a model of Keras 2 or 3 from any other callable.

    Args:
        model: anything.

    Returns:
        Whether it is one.
    """
    return _model_class(model) is not None


def _model_class(model: Any) -> Any:
    for cls in type(model).__mro__:
        if cls.__name__ == "Model" and cls.__module__.split(".")[0] in ("keras", "tf_keras"):
            return cls
    return None


def as_model(model: Any, images: Any) -> Any:
    """Make a model that returns logits of what a user has in memory.

    Args:
        model: a Keras model, which stays as it is; any other callable.
        images: `[n, h, w, c]` floats that it will be given.

    Returns:
        For a Keras model one in inference mode, without the softmax at its end, that shares its
        variables; the same one whenever it is asked for. Any other callable itself.

    Raises:
        ValueError: a Keras model of other images, of whole numbers, of several inputs or outputs;
            that ends in sigmoids; or that fails.
    """
    if not is_keras(model):
        return model
    shape = tuple(int(length) for length in np.shape(images)[1:])
    kept = model.__dict__.setdefault(_KEPT, {})
    if shape not in kept:
        kept[shape] = _logits_of(model, (shape[0], shape[1], shape[2]), images)
    found = kept[shape]
    getattr(found, "model", found).refresh()
    return found


def _logits_of(model: Any, shape: Shape, images: Any) -> KerasModel | LogProbabilities:
    where = f"Keras model {model.name!r}"
    layout = Layout(shape, shape)
    if getattr(model, "inputs", None):
        if len(model.inputs) != 1 or len(getattr(model, "outputs", None) or [0]) != 1:
            raise ValueError(
                f"{where} must have one input and one output. Received: {len(model.inputs)} and "
                f"{len(model.outputs)}"
            )
        dtype = tf.as_dtype(model.inputs[0].dtype)
        if not dtype.is_floating:
            raise ValueError(
                f"{where} must take images of floats, as whole numbers have no gradient. "
                f"Received: an input of {dtype.name}; build it with keras.Input(shape)"
            )
        layout = find_layout(model.inputs[0].shape[1:], shape, where)
    if layout.shape != shape:
        raise ValueError(f"{where} takes images {layout.shape}. Received: images {shape}")
    if _ends_in_sigmoids(model):
        raise ValueError(
            f"{where} must return logits or the probabilities of one softmax. Received: a model "
            "that ends in sigmoids; take them off"
        )
    bare = without_softmax(model, layout)
    if bare is not None:
        return bare
    plain = KerasModel(model, layout)
    try:
        outputs = plain(tf.constant(np.asarray(images[:_NUM_PROBES], np.float32)))
    except Exception as error:  # Keras raises whatever its layers raise
        raise ValueError(f"{where} fails on images {shape} ({first_line(error)})") from error
    return LogProbabilities(plain) if are_probabilities(outputs) else plain


def _ends_in_sigmoids(model: Any) -> bool:
    last = model.layers[-1] if getattr(model, "layers", None) else None
    return getattr(getattr(last, "activation", None), "__name__", None) == "sigmoid"
