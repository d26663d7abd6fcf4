"""Make a model of what a user has in memory; every public function that takes a model calls it."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np

from mnist_adv.arguments import as_array
from mnist_adv.models.from_python import NumpyModel, from_sklearn, is_estimator
from mnist_adv.models.keras_model import is_keras, logits_of_keras
from mnist_adv.models.logits import require_rows
from mnist_adv.models.model import Model
from mnist_adv.tensors.lazy import tf

# What was made of functions and estimators, by identity: programs are compiled for one object.
_MOST_KEPT = 64
_kept: collections.OrderedDict[int, tuple[Any, Model]] = collections.OrderedDict()


def as_model(model: Any, images: Any) -> Model:
    """Make a model that returns logits of what a user has in memory.

    Args:
        model: a Keras model, which stays as it is; a fitted estimator of scikit-learn; a function
            of NumPy arrays; any other callable from tensors to tensors.
        images: `[n, h, w, c]` floats that it will be given.

    Returns:
        The same object whenever it is asked for, with the weights of the moment. A Keras model is
        in inference mode and without the softmax at its end; an estimator is as `from_sklearn`
        makes it; a function of NumPy arrays has no gradient. Any other callable is itself.

    Raises:
        ValueError: no such thing, or it does not return `[n, k]`; as `logits_of_keras` and
            `from_sklearn`. What a function of the user's own raises comes as it is.
    """
    if type(model).__module__.startswith(f"{__package__}."):
        return model
    images = np.asarray(images, np.float32)
    if is_keras(model):
        few = images if len(images) else np.zeros([1, *images.shape[1:]], np.float32)
        return logits_of_keras(model, few)
    if is_estimator(model):
        return _refreshed(model)
    if not callable(model) or isinstance(model, type):
        raise ValueError(
            "model must be a function from images [n, h, w, c] to logits [n, k], a Keras model or "
            f"a fitted estimator of scikit-learn. Received: {type(model).__name__}"
        )
    if isinstance(model, tf.Module) or not len(images):
        return model
    return _recalled(model) or _keep(model, _of_function(model, images[:1]))


def _of_function(function: Any, image: np.ndarray) -> Model:
    """Tell a function of NumPy arrays from one of tensors by what it returns."""
    failed = None
    try:
        logits = function(tf.constant(image))
    except Exception as error:  # whatever a user's function raises for tensors
        failed = error
        try:
            logits = function(image)
        except Exception:
            if isinstance(failed, AttributeError | NotImplementedError | TypeError):
                raise  # what a function of arrays raises for tensors says nothing of its own error
            raise failed from None
    if failed is None and tf.is_tensor(logits):
        return function
    values = as_array(logits, "what the model returns", "numbers")
    if values.dtype.kind in "iu":
        values = values.astype(np.float32)
    return NumpyModel(function, require_rows(values, 1))


def _refreshed(estimator: Any) -> Model:
    """Make a model of an estimator, or give the one that was made the weights of the moment."""
    fresh = from_sklearn(estimator)
    known = _recalled(estimator)
    if known is None or _form(known) != _form(fresh):
        return _keep(estimator, fresh)
    for variable, value in zip(known.variables, fresh.variables):
        variable.assign(value)
    return known


def _form(model: Any) -> Any:
    return repr(model), [variable.shape for variable in model.variables]


def _recalled(source: Any) -> Any:
    return _kept[id(source)][1] if id(source) in _kept else None


def _keep(source: Any, model: Model) -> Model:
    _kept[id(source)] = source, model  # the source is held, so that its id stays its own
    _kept.move_to_end(id(source))
    while len(_kept) > _MOST_KEPT:
        _kept.popitem(last=False)
    return model
