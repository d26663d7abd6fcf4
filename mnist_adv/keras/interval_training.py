"""Interval bound training: learn what is proved of a whole ball, at the price of one more pass."""

from __future__ import annotations

from typing import Any

import keras
from typing_extensions import override

from mnist_adv.arguments import ABOVE_0, real, whole
from mnist_adv.data.images import UNIT, Bounds, checked_bounds
from mnist_adv.keras.intervals import make_chain
from mnist_adv.keras.wrapper import Wrapper
from mnist_adv.tensors.lazy import tf


class IntervalBoundTraining(Wrapper):
    """Train a Keras model on the worst outputs that interval bounds allow inside an L-inf ball.

    The loss is `kappa` times the compiled one of the outputs plus `1 - kappa` times that of the
    worst outputs: the label's logit is at its least against each other one. Both schedules count
    the optimizer's steps: after `warmup_steps` at epsilon 0 and kappa 1, both move along a line for
    `ramp_steps`, to `epsilon` and `kappa`, where they stay.

    `evaluate` and validation add `certified_accuracy`: the share of images whose label the bounds
    prove at the radius `certified_epsilon`. It is computed in float32, and rounding is not counted.
    Bounds are those of inference: no dropout, batch normalisation by its moving averages.

    Args:
        model: as Keras made it, built: a chain of Dense, Conv1D, Conv2D, pooling, Flatten, Reshape,
            ZeroPadding2D, Rescaling, BatchNormalization, Dropout and rising activations, with a
            Dense layer of logits, or a softmax on it, at the end.
        epsilon: the radius that is trained for, above 0, in units of the pixels. Radii are easier
            to prove for models that were trained for larger ones (in the paper 0.2 for 0.1).
        certified_epsilon: the radius of `certified_accuracy`; None: `epsilon`.
        kappa: the last weight of the clean loss, in [0, 1].
        warmup_steps: at least 0.
        ramp_steps: at least 1.
        bounds: the least and the largest value of a pixel.

    Attributes:
        model: the same object, with the weights of the moment.

    Raises:
        ValueError: an argument out of form or range; a model without bounds.

    Example:
        >>> import keras
        >>> import mnist_adv.keras
        >>> layers = [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
        >>> model = keras.Sequential(layers)
        >>> wrapper = mnist_adv.keras.IntervalBoundTraining(
        ...     model, epsilon=0.1, warmup_steps=5, ramp_steps=10
        ... )
        >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        >>> wrapper.compile("adam", loss, metrics=["accuracy"])
        >>> digits = mnist_adv.load("mnist", "test")
        >>> _ = wrapper.fit(digits.images[:640], digits.labels[:640], verbose=0)
        >>> sorted(wrapper.evaluate(digits.images, digits.labels, return_dict=True, verbose=0))
        ['accuracy', 'certified_accuracy', 'loss']

    References:
        Gowal et al., "On the Effectiveness of Interval Bound Propagation for Training Verifiably
        Robust Models", 2018.
    """

    def __init__(
        self,
        model: Any,
        *,
        epsilon: float,
        certified_epsilon: float | None = None,
        kappa: float = 0.5,
        warmup_steps: int = 2000,
        ramp_steps: int = 10_000,
        bounds: Bounds = UNIT,
    ) -> None:
        super().__init__(model)
        self._chain = make_chain(model)
        self._epsilon = float(real(epsilon, "epsilon", ABOVE_0))
        if certified_epsilon is None:
            certified_epsilon = self._epsilon
        self._certified_epsilon = float(real(certified_epsilon, "certified_epsilon", 0))
        self._kappa = float(real(kappa, "kappa", 0, 1))
        self._warmup_steps = int(whole(warmup_steps, "warmup_steps", 0))
        self._ramp_steps = int(whole(ramp_steps, "ramp_steps"))
        self._box = checked_bounds(bounds)
        self._certified = keras.metrics.Mean(name="certified_accuracy")

    def progress(self) -> Any:
        """Tell how far both schedules are.

        Returns:
            A scalar tensor: 0 during the warm-up, 1 after the ramp.
        """
        done = tf.cast(self.optimizer.iterations, tf.float32) - self._warmup_steps
        return tf.clip_by_value(done / self._ramp_steps, 0.0, 1.0)

    @override
    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        clean = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not training:
            return clean
        progress = self.progress()
        worst = -self._margins(x, y, self._epsilon * progress)
        if self._chain.softmax:
            worst = tf.nn.softmax(worst)
        robust = super().compute_loss(x, y, worst, sample_weight, training)
        kappa = 1 - (1 - self._kappa) * progress
        return kappa * clean + (1 - kappa) * robust

    @override
    def train_step(self, data: Any) -> Any:
        logs = super().train_step(data)
        return {name: value for name, value in logs.items() if name != self._certified.name}

    @override
    def test_step(self, data: Any) -> Any:
        logs = super().test_step(data)
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        margins = self._margins(images, labels, self._certified_epsilon)
        own = tf.one_hot(_classes(labels), margins.shape[1], on_value=True, off_value=False)
        proved = tf.reduce_all((margins > 0) | own, axis=1)
        self._certified.update_state(tf.cast(proved, tf.float32), weights)
        return {**logs, self._certified.name: self._certified.result()}

    def _margins(self, images: Any, labels: Any, epsilon: Any) -> Any:
        images = tf.cast(images, tf.float32)
        low, high = self._box
        # What lies outside the box stays where it is.
        lower = tf.minimum(tf.maximum(images - epsilon, low), images)
        upper = tf.maximum(tf.minimum(images + epsilon, high), images)
        return self._chain.margins(lower, upper, _classes(labels))


def _classes(labels: Any) -> Any:
    """Make classes `[n]` of labels as a cross-entropy takes them: numbers, or one-hot."""
    labels = tf.convert_to_tensor(labels)
    if labels.shape.rank == 2 and labels.shape[1] != 1:
        return tf.argmax(labels, axis=1, output_type=tf.int32)
    return tf.cast(tf.reshape(labels, [-1]), tf.int32)
