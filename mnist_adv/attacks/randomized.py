"""Models that draw at random: the mean over several draws, and draws that repeat."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv.tensors.lazy import tf

if TYPE_CHECKING:
    from mnist_adv.models.model import Model

_KERAS_STATE = "seed_generator_state"  # the variable by which Keras layers draw


class MeanOfDraws:
    """A model whose logits are the mean of several draws of another (Athalye et al., 2018).

    Its gradient is the expectation over transformation of "Synthesizing Robust Adversarial
    Examples": that of the mean of the logits.
    """

    def __init__(self, model: Model, num_samples: int) -> None:
        """Draw more than once.

        Args:
            model: images -> logits, which draws for each image of a batch.
            num_samples: how many draws, at least 1.
        """
        self.model, self.num_samples = model, num_samples

    def __call__(self, images: Any) -> Any:
        """Compute the mean logits.

        Args:
            images: `[n, h, w, c]`.

        Returns:
            `[n, k]`.
        """
        images = tf.convert_to_tensor(images)
        logits = tf.convert_to_tensor(self.model(tf.repeat(images, self.num_samples, axis=0)))
        num_classes = logits.shape[-1]
        return tf.reduce_mean(tf.reshape(logits, [-1, self.num_samples, num_classes]), axis=1)


@contextlib.contextmanager
def repeatable(model: Model, images: np.ndarray, seed: int) -> Iterator[None]:
    """Seed what a model draws from: TensorFlow's and NumPy's global state, and Keras layers.

    NumPy's state and that of Keras layers are put back afterwards; TensorFlow's global seed cannot
    be read, and stays.

    Args:
        model: images -> logits; traced once, if it can be, to find the layers that draw.
        images: `[n, h, w, c]` float32, whose form it knows.
        seed: in 0..2**32 - 1.

    Yields:
        While the same calls give the same draws.
    """
    layers = _drawing_layers(model, images)
    before = [variable.numpy() for variable in layers]
    kept = np.random.get_state()  # noqa: NPY002 - models that are NumPy inside draw from it
    np.random.seed(seed)  # noqa: NPY002
    tf.random.set_seed(seed)
    for variable in layers:
        variable.assign(tf.constant([seed, 0], variable.dtype))
    try:
        yield
    finally:
        np.random.set_state(kept)  # noqa: NPY002
        for variable, value in zip(layers, before):
            variable.assign(value)


def _drawing_layers(model: Model, images: np.ndarray) -> list[Any]:
    spec = tf.TensorSpec([1, *images.shape[1:]], tf.float32)
    try:
        traced = tf.function(lambda batch: model(batch), autograph=False)
        variables = traced.get_concrete_function(spec).graph.variables
    except (AttributeError, NotImplementedError, TypeError):
        return []  # Python or NumPy inside
    return [variable for variable in variables if _KERAS_STATE in variable.name]
