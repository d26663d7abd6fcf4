"""What the wrappers share: they train a model of the user's, which stays an ordinary one."""

from __future__ import annotations

from typing import Any

import keras
from typing_extensions import override

from mnist_adv.arguments import shown
from mnist_adv.tensors.lazy import tf


class Wrapper(keras.Model):
    """Train a Keras model by another loss; `fit`, callbacks and `tf.data` work as ever.

    The weights are the model's own. `save` and `export` write the model, not the wrapper, so
    `ModelCheckpoint` does too; `save_weights` writes the wrapper, to go on training from.

    Without a GPU it is compiled without XLA, in which convolutions are slower on a CPU, unless
    `compile(jit_compile=True)` asks for it.

    Args:
        model: as Keras made it, built, with one input and one output.

    Attributes:
        model: the same object.
    """

    def __init__(self, model: Any) -> None:
        if not isinstance(model, keras.Model) or isinstance(model, Wrapper):
            raise ValueError(f"model must be a Keras model. Received: {shown(model)}")
        if not model.built or len(model.inputs or []) != 1 or len(model.outputs or []) != 1:
            raise ValueError(
                "model must be built, with one input and one output, as a Sequential model with "
                f"keras.Input or a functional one is. Received: {shown(model.name)}"
            )
        super().__init__(name=f"{type(self).__name__.lower()}_of_{model.name}")
        self.model = model
        self.built = True
        self._compiled_model = False

    @override
    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        return self.model(inputs, training=training, mask=mask)

    @override
    def compile(self, *args: Any, jit_compile: Any = "auto", **kwargs: Any) -> None:
        """Configure the training.

        Args:
            *args: as `keras.Model.compile` takes them.
            jit_compile: likewise; "auto" is False where there is no GPU.
            **kwargs: likewise.
        """
        if jit_compile == "auto" and not tf.config.list_physical_devices("GPU"):
            jit_compile = False
        super().compile(*args, jit_compile=jit_compile, **kwargs)

    @override
    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> Any:
        """Save the model, not the wrapper.

        A model that was not compiled by itself is saved compiled as the wrapper is, with the state
        of its optimizer.

        Args:
            filepath: as `keras.Model.save` takes it.
            *args: likewise.
            **kwargs: likewise.

        Returns:
            What `keras.Model.save` returns.
        """
        if self.compiled and not self.model.compiled:
            config = {**self.get_compile_config(), "jit_compile": "auto"}
            self.model.compile_from_config(config)
            self._compiled_model = True
        if self._compiled_model and self.optimizer.built:
            for ours, theirs in zip(self.optimizer.variables, self.model.optimizer.variables):
                theirs.assign(ours)
        return self.model.save(filepath, *args, **kwargs)

    @override
    def export(self, filepath: Any, *args: Any, **kwargs: Any) -> Any:
        """Export the model.

        Args:
            filepath: as `keras.Model.export` takes it.
            *args: likewise.
            **kwargs: likewise.

        Returns:
            What `keras.Model.export` returns.
        """
        return self.model.export(filepath, *args, **kwargs)
