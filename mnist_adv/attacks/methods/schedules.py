"""How a length falls in the course of an attack."""

from __future__ import annotations

import math
from typing import Any

from mnist_adv.attacks.task import Inputs, State
from mnist_adv.tensors.lazy import tf


def progress(inputs: Inputs, state: State) -> Any:
    """Say which share of its steps each image has taken.

    Args:
        inputs: "num_steps" among them.
        state: "number" among it.

    Returns:
        `[n]` in [0, 1].
    """
    total = tf.cast(inputs["num_steps"], tf.float32)
    return tf.math.divide_no_nan(tf.cast(state["number"], tf.float32), total)


def cosine(inputs: Inputs, state: State, *, last: float) -> Any:
    """Fall from 1 to `last` along half a cosine.

    Args:
        inputs: "num_steps" among them.
        state: "number" among it.
        last: the value at the last step.

    Returns:
        `[n]`.
    """
    return last + (1 - last) * 0.5 * (1 + tf.cos(math.pi * progress(inputs, state)))
