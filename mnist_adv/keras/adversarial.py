"""Adversarial training: every batch is attacked before it is learned."""

from __future__ import annotations

from typing import Any

import keras
from typing_extensions import override

from mnist_adv.arguments import ABOVE_0, UINT32, choose, real, shown, whole, yes_or_no
from mnist_adv.data.images import UNIT, Bounds, checked_bounds
from mnist_adv.geometry.norms import Norm
from mnist_adv.keras.pgd import perturb, random_start
from mnist_adv.keras.wrapper import Wrapper
from mnist_adv.tensors.lazy import tf


class AdversarialTraining(Wrapper):
    """Train a Keras model on adversarial images that projected gradient descent makes in each step.

    Without `trades` the compiled loss is taken at the adversarial images alone, and so are the
    metrics that `fit` shows for the training images. With it, the loss is the compiled one at the
    clean images plus `trades` times the divergence of the probabilities between both, and metrics
    are of the clean images. `evaluate` and validation are plain; see `RobustAccuracy`.

    The attack sees the model in inference mode: no dropout, batch normalisation by its moving
    averages. The step that learns runs it with `training=True`.

    Args:
        model: as Keras made it, built, with one input `[n, ...]` of floats and one output: logits,
            or probabilities, as the compiled loss expects.
        norm: "linf", "l2" or "l1".
        epsilon: the radius of the ball around each image, above 0, in units of the pixels.
        step_size: above 0, in the same unit; None: `2.5 epsilon / num_steps`.
        num_steps: at least 1.
        random_start: whether the attack starts at a random point of the ball.
        trades: the weight of the divergence, above 0 (6 in the paper); None: Madry's training. The
            model must return probabilities, or logits with a loss of `from_logits=True`; the loss
            is one of `keras.losses`.
        bounds: the least and the largest value of a pixel.
        seed: of the random starts, 0 to 2**32 - 1. They follow from it and the number of the step,
            so that a training that goes on from a backup equals an unbroken one.

    Attributes:
        model: the same object, with the weights of the moment.

    Raises:
        ValueError: an argument out of form or range.

    Example:
        >>> import keras
        >>> import mnist_adv.keras
        >>> layers = [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
        >>> model = keras.Sequential(layers)
        >>> wrapper = mnist_adv.keras.AdversarialTraining(model, epsilon=0.1)
        >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        >>> wrapper.compile("adam", loss, metrics=["accuracy"])
        >>> digits = mnist_adv.load("mnist", "test")
        >>> _ = wrapper.fit(digits.images[:500], digits.labels[:500], verbose=0)

    References:
        Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", 2018.
        Zhang et al., "Theoretically Principled Trade-off between Robustness and Accuracy", 2019
        (TRADES).
    """

    def __init__(
        self,
        model: Any,
        *,
        norm: Norm | str = Norm.LINF,
        epsilon: float,
        step_size: float | None = None,
        num_steps: int = 10,
        random_start: bool = True,
        trades: float | None = None,
        bounds: Bounds = UNIT,
        seed: int = 0,
    ) -> None:
        norm = choose(Norm, norm, "norm")
        if norm is Norm.L0:
            raise ValueError("norm must be one of linf, l2, l1. Received: 'l0'")
        epsilon = float(real(epsilon, "epsilon", ABOVE_0))
        num_steps = int(whole(num_steps, "num_steps"))
        if step_size is None:
            step_size = 2.5 * epsilon / num_steps
        super().__init__(model)
        self._attack: dict[str, Any] = {
            "norm": norm,
            "epsilon": epsilon,
            "step_size": float(real(step_size, "step_size", ABOVE_0)),
            "num_steps": num_steps,
            "bounds": checked_bounds(bounds),
        }
        self._random_start = yes_or_no(random_start, "random_start")
        self._trades = None if trades is None else float(real(trades, "trades", ABOVE_0))
        if trades is not None and not random_start:
            raise ValueError(
                "trades needs random_start: the divergence has no gradient at the clean image. "
                "Received: random_start False"
            )
        self._seed = int(whole(seed, "seed", 0, UINT32))

    @override
    def train_step(self, data: Any) -> Any:
        if self._trades is not None:
            return super().train_step(data)
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)

        def objective(moved: Any) -> Any:
            outputs = self.model(moved, training=False)
            return -super(AdversarialTraining, self).compute_loss(moved, labels, outputs)

        return super().train_step((self._perturb(objective, images), labels, weights))

    @override
    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if self._trades is None or not training:
            return loss
        clean = self._log_probabilities(self.model(x, training=False))

        def objective(moved: Any) -> Any:
            return -tf.reduce_sum(self._divergence(clean, self.model(moved, training=False)))

        outputs = self.model(self._perturb(objective, x), training=True)
        divergence = self._divergence(self._log_probabilities(y_pred), outputs)
        if sample_weight is not None:
            divergence *= tf.cast(tf.reshape(sample_weight, [-1]), divergence.dtype)
        return loss + self._trades * tf.reduce_mean(divergence)

    def _perturb(self, objective: Any, images: Any) -> Any:
        images = tf.convert_to_tensor(images)
        if not images.dtype.is_floating or None in images.shape[1:]:
            raise ValueError(
                "images must be floats of one shape. "
                f"Received: {images.dtype.name} {list(images.shape)}"
            )
        start = tf.zeros_like(images)
        if self._random_start:
            start = random_start(
                self._attack["norm"],
                images,
                self._attack["epsilon"],
                seed=self._seed,
                number=self.optimizer.iterations,
            )
        return perturb(objective, images, start, **self._attack)

    def _divergence(self, clean: Any, outputs: Any) -> Any:
        """Compute the divergence of each image's probabilities from the clean ones, `[n]`."""
        logs = self._log_probabilities(outputs)
        return tf.reduce_sum(tf.exp(clean) * (clean - logs), axis=-1)

    def _log_probabilities(self, outputs: Any) -> Any:
        if gives_logits(self.loss):
            return tf.nn.log_softmax(outputs)
        return tf.math.log(tf.maximum(outputs, keras.config.epsilon()))


def gives_logits(loss: Any) -> bool:
    """Tell by the compiled loss whether a model returns logits.

    Args:
        loss: as `compile` got it.

    Returns:
        Whether it is a loss of logits; else it takes probabilities.

    Raises:
        ValueError: it is neither a name nor a `keras.losses.Loss`, and so does not say.
    """
    if isinstance(loss, keras.losses.Loss):
        return bool(loss.get_config().get("from_logits", False))
    if isinstance(loss, str):
        return False
    raise ValueError(
        "trades needs a loss of keras.losses, or its name, which says whether the model returns "
        f"logits. Received: {shown(loss)}"
    )
