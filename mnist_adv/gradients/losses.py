"""What an attack descends: one number per image, from its logits and one class.

The sign lives here and nowhere else. An `Objective` falls as the image comes nearer to the goal,
targeted or not, whatever the loss; so every attack descends. A loss is one row of `LOSSES`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from mnist_adv.registry import Registry
from mnist_adv.tensors.lazy import tf


@dataclasses.dataclass(frozen=True)
class Loss:
    """A loss for one class; the rows of `LOSSES` stand at the end of this file.

    Attributes:
        name: by which it is found.
        value: logits `[n, k]`, classes `[n]` int64 -> `[n]`.
        upstream: logits, classes -> `[n, k]`, the derivative of `value` by hand.
        falls: whether the value falls when the class becomes more probable.
    """

    name: str
    value: Callable[[Any, Any], Any]
    upstream: Callable[[Any, Any], Any]
    falls: bool

    CROSS_ENTROPY: ClassVar[Loss]
    PROBABILITY: ClassVar[Loss]
    MARGIN: ClassVar[Loss]
    DLR: ClassVar[Loss]
    TARGETED_DLR: ClassVar[Loss]

    def __repr__(self) -> str:
        return f"Loss({self.name!r})"


LOSSES: Registry[Loss] = Registry("loss")


def cross_entropy(logits: Any, classes: Any) -> Any:
    """Compute `-log p[class]`.

    Args:
        logits: `[n, k]`.
        classes: `[n]` int64 in [0, k).

    Returns:
        `[n]`, at least 0.
    """
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=classes, logits=logits)


def probability(logits: Any, classes: Any) -> Any:
    """Compute `p[class]`, the quantity whose gradient Evans's article follows.

    Args:
        logits: `[n, k]`.
        classes: `[n]` int64 in [0, k).

    Returns:
        `[n]` in [0, 1].

    References:
        Julia Evans, "How to trick a neural network into thinking a panda is a vulture", 2016.
    """
    return tf.gather(tf.nn.softmax(logits), classes, axis=1, batch_dims=1)


def margin(logits: Any, classes: Any) -> Any:
    """Compute `z[class] - max of the other z`; positive just when the class is predicted.

    Args:
        logits: `[n, k]`.
        classes: `[n]` int64 in [0, k).

    Returns:
        `[n]`.

    References:
        Carlini, Wagner, "Towards Evaluating the Robustness of Neural Networks", 2017.
    """
    return tf.reduce_sum(_margin_upstream(logits, classes) * logits, axis=1)


def dlr(logits: Any, classes: Any) -> Any:
    """Compute the margin over `z_(1) - z_(3)`, the largest less the third largest logit.

    The difference of logits ratio does not change when all logits are scaled or shifted, so its
    gradient never underflows however sure the model is.

    Args:
        logits: `[n, k]`, k at least 3.
        classes: `[n]` int64 in [0, k).

    Returns:
        `[n]`; 0 where the three largest logits are equal.

    Raises:
        ValueError: fewer than 3 classes.

    References:
        Croce, Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
        parameter-free attacks", 2020.
    """
    return _ratio(logits, classes, _DLR_WEIGHTS)[0]


def targeted_dlr(logits: Any, classes: Any) -> Any:
    """Compute the margin over `z_(1) - (z_(3) + z_(4)) / 2`.

    Croce and Hein's numerator is `z[label] - z[target]`; here the best other logit stands for the
    label's, which is the same while the label has the largest logit. So the sign still tells
    success.

    Args:
        logits: `[n, k]`, k at least 4.
        classes: `[n]` int64 in [0, k).

    Returns:
        `[n]`; 0 where the four largest logits are equal.

    Raises:
        ValueError: fewer than 4 classes.

    References:
        Croce, Hein, 2020, as `dlr`.
    """
    return _ratio(logits, classes, _TARGETED_DLR_WEIGHTS)[0]


# how much the k-th largest logit weighs in the denominator
_DLR_WEIGHTS = (1.0, 0.0, -1.0)
_TARGETED_DLR_WEIGHTS = (1.0, 0.0, -0.5, -0.5)


def _onehot(logits: Any, classes: Any) -> Any:
    return tf.one_hot(classes, tf.shape(logits)[1], dtype=logits.dtype)


def _largest(logits: Any) -> Any:
    return _onehot(logits, tf.argmax(logits, axis=1))


def _hide(logits: Any, chosen: Any) -> Any:
    return tf.where(chosen > 0, tf.constant(-np.inf, logits.dtype), logits)


def _ratio(logits: Any, classes: Any, weights: tuple[float, ...]) -> tuple[Any, Any]:
    num_classes = logits.shape[1]
    if num_classes is not None and num_classes < len(weights):
        raise ValueError(
            f"this loss needs at least {len(weights)} classes. Received: {num_classes}"
        )
    left, spread = logits, tf.zeros_like(logits)
    for weight in weights:
        chosen = _largest(left)
        spread += weight * chosen
        left = _hide(left, chosen)
    difference = _margin_upstream(logits, classes)
    below = tf.reduce_sum(spread * logits, axis=1, keepdims=True)
    above = tf.reduce_sum(difference * logits, axis=1, keepdims=True)
    value = tf.math.divide_no_nan(above, below)
    return value[:, 0], tf.math.divide_no_nan(difference - value * spread, below)


def _margin_upstream(logits: Any, classes: Any) -> Any:
    wanted = _onehot(logits, classes)
    return wanted - _largest(_hide(logits, wanted))


def _cross_entropy_upstream(logits: Any, classes: Any) -> Any:
    return tf.nn.softmax(logits) - _onehot(logits, classes)


def _probability_upstream(logits: Any, classes: Any) -> Any:
    p_class = probability(logits, classes)[:, tf.newaxis]
    return p_class * (_onehot(logits, classes) - tf.nn.softmax(logits))


@dataclasses.dataclass(frozen=True)
class Objective:
    """A signed loss.

    Attributes:
        loss: which.
        sign: +1 or -1.
    """

    loss: Loss
    sign: int = 1

    @classmethod
    def to_descend(cls, loss: Loss, *, targeted: bool) -> Objective:
        """Sign a loss so that descending it serves the goal.

        Args:
            loss: which.
            targeted: whether the classes are to be reached (True) or left (False).

        Returns:
            The objective; lower is nearer to the goal.
        """
        return cls(loss, 1 if loss.falls == targeted else -1)

    def __call__(self, logits: Any, classes: Any) -> Any:
        """Compute the signed loss of each image.

        Args:
            logits: `[n, k]`.
            classes: `[n]` int64 in [0, k).

        Returns:
            `[n]`.
        """
        return self.sign * self.loss.value(logits, classes)

    def upstream(self, logits: Any, classes: Any) -> Any:
        """Compute the signed loss's derivative with respect to the logits, by hand.

        Args:
            logits: `[n, k]`.
            classes: `[n]` int64 in [0, k).

        Returns:
            `[n, k]`.
        """
        return self.sign * self.loss.upstream(logits, classes)


Loss.CROSS_ENTROPY = LOSSES.add(
    Loss("cross_entropy", cross_entropy, _cross_entropy_upstream, falls=True)
)
Loss.PROBABILITY = LOSSES.add(Loss("probability", probability, _probability_upstream, falls=False))
Loss.MARGIN = LOSSES.add(Loss("margin", margin, _margin_upstream, falls=False))
Loss.DLR = LOSSES.add(
    Loss("dlr", dlr, lambda logits, classes: _ratio(logits, classes, _DLR_WEIGHTS)[1], falls=False)
)
Loss.TARGETED_DLR = LOSSES.add(
    Loss(
        "targeted_dlr",
        targeted_dlr,
        lambda logits, classes: _ratio(logits, classes, _TARGETED_DLR_WEIGHTS)[1],
        falls=False,
    )
)
