"""Keras models as models of ours: in inference mode, without the softmax at their end."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mnist_adv.data.images import Shape
from mnist_adv.errors import first_line
from mnist_adv.models.formats.shapes import Layout, find_layout
from mnist_adv.models.logits import as_logits
from mnist_adv.models.model import Model
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
        bare: whether the softmax at its end is left out.
    """

    def __init__(self, model: Any, layout: Layout, *, bare: bool = False) -> None:
        self._model = model
        self._layout = layout
        self._bare = bare
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
            arranged = self._layout.arrange(images)
            # While it is traced alone: the model stays as it is.
            with _without_softmax(model) if self._bare else contextlib.nullcontext():
                return tf.cast(model(arranged, training=False), dtype)

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
    """Leave out the softmax at the end of a Keras model, which stays as it is.

    Args:
        model: as Keras made it.
        layout: how images become its inputs.

    Returns:
        A model that shares its layers and returns the values before the softmax; None where its
        last layer is no softmax.
    """
    last = _last_layer(model)
    softmax = type(last).__name__ == "Softmax" or _activation(last) == "softmax"
    return KerasModel(model, layout, bare=True) if softmax else None


def _last_layer(model: Any) -> Any:
    """Find what computes a model's outputs: of models inside models, in the innermost."""
    while getattr(model, "layers", None):
        # A subclass calls its layers itself, mostly in the order in which it made them.
        model = (getattr(model, "operations", None) or model.layers)[-1]
    return model


def _activation(layer: Any) -> str | None:
    return getattr(getattr(layer, "activation", None), "__name__", None)


@contextlib.contextmanager
def _without_softmax(model: Any) -> Iterator[None]:
    last = _last_layer(model)
    name = "activation" if hasattr(last, "activation") else "call"
    before = last.__dict__.get(name)
    object.__setattr__(last, name, _first)
    try:
        yield
    finally:
        if before is None:
            object.__delattr__(last, name)
        else:
            object.__setattr__(last, name, before)


def _first(values: Any, *_: Any, **__: Any) -> Any:
    return values


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


def logits_of_keras(model: Any, images: np.ndarray) -> Model:
    """Make a model that returns logits of a Keras model, which stays as it is.

    Args:
        model: as Keras made it.
        images: `[n, h, w, c]` floats that it will be given, at least one.

    Returns:
        A model in inference mode, without the softmax at its end, with the weights of the moment;
        the same one whenever it is asked for, until layers are changed. A chain of plain Dense
        layers becomes a model of ours, for which the closed forms hold.

    Raises:
        ValueError: it takes other images, whole numbers, or several inputs; has several outputs;
            ends in sigmoids; returns probabilities from which logits cannot be got back; or fails.
    """
    shape: Shape = (int(images.shape[1]), int(images.shape[2]), int(images.shape[3]))
    layers = getattr(model, "layers", None) or []
    form = (shape, _activation(_last_layer(model)), *layers)
    kept = model.__dict__.setdefault(_KEPT, {})
    if form not in kept:
        kept[form] = _logits_of(model, shape, images)
    found, refresh = kept[form]
    refresh()
    return found


def _logits_of(model: Any, shape: Shape, images: np.ndarray) -> tuple[Model, Callable[[], None]]:
    """Make the model, and what gives it the weights of the moment."""
    where = f"Keras model {model.name!r}"
    layout = _layout(model, shape, where)
    if _activation(_last_layer(model)) == "sigmoid":
        raise ValueError(
            f"{where} must return logits or the probabilities of one softmax. Received: a model "
            "that ends in sigmoids; take them off"
        )
    plain = KerasModel(model, layout)
    few = np.nan_to_num(images[:_NUM_PROBES], posinf=1, neginf=0)
    noise = np.random.default_rng(0).uniform(few.min(), few.max(), (_NUM_PROBES, *shape))
    probes = np.concatenate([few, noise]).astype(np.float32)
    try:
        outputs = plain(tf.constant(probes))
    except Exception as error:  # Keras raises whatever its layers raise
        raise ValueError(f"{where} fails on images {shape} ({first_line(error)})") from error
    chain = _dense_chain(model, layout)
    if chain is not None:
        return chain
    bare = without_softmax(model, layout)
    if bare is not None and np.allclose(tf.nn.softmax(bare(probes)), outputs, atol=1e-5):
        return bare, bare.refresh
    if len(outputs.shape) != 2 or not np.isfinite(outputs).all():
        return plain, plain.refresh  # to be told with what it is used for
    return as_logits(plain, probes, where)[0], plain.refresh


def _dense_chain(model: Any, layout: Layout) -> tuple[Model, Callable[[], None]] | None:
    """Make a model of ours of Dense layers, for which the closed forms hold."""
    from mnist_adv.models.formats.keras_layers import as_perceptron, copy_weights

    try:
        found = as_perceptron(model, layout)
    except NotImplementedError:  # of layers that do not describe themselves
        return None
    if found is None:
        return None
    ours, _ = found
    return ours, functools.partial(copy_weights, model, ours)


def _layout(model: Any, shape: Shape, where: str) -> Layout:
    """Find how images become inputs, and refuse what has no image as its one input."""
    if not getattr(model, "inputs", None):
        return Layout(shape, shape)
    if len(model.inputs) != 1 or len(getattr(model, "outputs", None) or [0]) != 1:
        raise ValueError(
            f"{where} must have one input and one output. Received: {len(model.inputs)} and "
            f"{len(model.outputs)}"
        )
    (taken,) = model.inputs
    dtype = tf.as_dtype(taken.dtype)
    if not dtype.is_floating:
        raise ValueError(
            f"{where} must take floats, as whole numbers have no gradient. "
            f"Received: an input of {dtype.name}; build it with keras.Input(shape)"
        )
    inputs = tuple(taken.shape[1:])
    if len(inputs) == 3 and all(length in (None, given) for length, given in zip(inputs, shape)):
        return Layout(shape, shape)
    layout = find_layout(inputs, shape, where)
    if layout.shape != shape:
        raise ValueError(f"{where} takes images {layout.shape}. Received: images {shape}")
    return layout
