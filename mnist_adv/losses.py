"""What an attack descends: one number per image, from its logits and one class.

The sign lives here and nowhere else. An `Objective` falls as the image comes nearer to the goal,
targeted or not, whatever the loss; so every attack descends.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from typing import Any

from mnist_adv._lazy import tf


class Loss(enum.Enum):
    """A loss for one class, by name; its formula is its row in the table below."""

    CROSS_ENTROPY = "cross_entropy"
    PROBABILITY = "probability"


@dataclasses.dataclass(frozen=True)
class _Row:
    # value(logits [n, k], classes [n]) -> [n]
    value: Callable[[Any, Any], Any]
    # upstream(logits [n, k], classes [n]) -> [n, k], the value's derivative by hand
    upstream: Callable[[Any, Any], Any]
    # does the value fall when the class becomes more probable?
    falls: bool


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


def _onehot(logits: Any, classes: Any) -> Any:
    return tf.one_hot(classes, tf.shape(logits)[1], dtype=logits.dtype)


def _cross_entropy_upstream(logits: Any, classes: Any) -> Any:
    return tf.nn.softmax(logits) - _onehot(logits, classes)


def _probability_upstream(logits: Any, classes: Any) -> Any:
    p_class = probability(logits, classes)[:, tf.newaxis]
    return p_class * (_onehot(logits, classes) - tf.nn.softmax(logits))


_TABLE = {
    Loss.CROSS_ENTROPY: _Row(cross_entropy, _cross_entropy_upstream, falls=True),
    Loss.PROBABILITY: _Row(probability, _probability_upstream, falls=False),
}


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
        return cls(loss, 1 if _TABLE[loss].falls == targeted else -1)

    def __call__(self, logits: Any, classes: Any) -> Any:
        """Compute the signed loss of each image.

        Args:
            logits: `[n, k]`.
            classes: `[n]` int64 in [0, k).

        Returns:
            `[n]`.
        """
        return self.sign * _TABLE[self.loss].value(logits, classes)

    def upstream(self, logits: Any, classes: Any) -> Any:
        """Compute the signed loss's derivative with respect to the logits, by hand.

        Args:
            logits: `[n, k]`.
            classes: `[n]` int64 in [0, k).

        Returns:
            `[n, k]`.
        """
        return self.sign * _TABLE[self.loss].upstream(logits, classes)
