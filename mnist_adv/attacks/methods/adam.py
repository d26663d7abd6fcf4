"""Adam: steps scaled by running means of the gradient and of its square (Kingma, Ba, 2015)."""

from __future__ import annotations

from typing import Any

from mnist_adv.attacks.task import State
from mnist_adv.geometry.norms import per_image
from mnist_adv.tensors.lazy import tf

_DECAY, _SQUARE_DECAY, _TINY = 0.9, 0.999, 1e-8


def start(like: Any) -> State:
    """Make Adam's entries of the state before the first step.

    Args:
        like: `[n, *flat]`, what is optimised.

    Returns:
        "mean" and "square", the same shape.
    """
    return {"mean": tf.zeros_like(like), "square": tf.zeros_like(like)}


def step(state: State, gradient: Any, rate: Any) -> tuple[Any, State]:
    """Choose a step.

    Args:
        state: "mean", "square" and "number" among it.
        gradient: `[n, *flat]`.
        rate: learning rate, one number or `[n]`.

    Returns:
        What is subtracted from the variables, and "mean" and "square" after it.
    """
    mean = _DECAY * state["mean"] + (1 - _DECAY) * gradient
    square = _SQUARE_DECAY * state["square"] + (1 - _SQUARE_DECAY) * gradient * gradient
    count = tf.cast(state["number"] + 1, tf.float32)
    rate = rate * tf.sqrt(1 - _SQUARE_DECAY**count) / (1 - _DECAY**count)
    return per_image(rate) * mean / (tf.sqrt(square) + _TINY), {"mean": mean, "square": square}


def scale(state: State) -> Any:
    """Compute what a step divides the mean gradient by.

    Args:
        state: "square" as after the step, and "number" as before it.

    Returns:
        `[n, *flat]`, above 0.
    """
    count = tf.cast(state["number"] + 1, tf.float32)
    return tf.sqrt(state["square"] / per_image(1 - _SQUARE_DECAY**count)) + _TINY
