"""Keras models as models of ours."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from mnist_adv.models.formats.shapes import Layout


class KerasModel:
    """A Keras model as images `[n, h, w, c]` -> outputs, in inference mode.

    Keras computes in the dtype that its layers were built in; for float64 images a twin is built.

    Args:
        model: as Keras made it.
        layout: how images become its inputs.
    """

    def __init__(self, model: Any, layout: Layout) -> None:
        self._model = model
        self._layout = layout
        self._compiled: dict[Any, Any] = {}

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

    def _compile(self, dtype: Any) -> Any:
        model = _in_float64(self._model) if dtype == tf.float64 else self._model

        def call(images: Any) -> Any:
            return model(self._layout.arrange(images), training=False)

        # Compiled once for all batch sizes: called plainly, Keras takes longer than its products.
        shape = [None, *self._layout.shape]
        return tf.function(call, input_signature=[tf.TensorSpec(shape, dtype)])


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
