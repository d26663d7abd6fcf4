"""Steps: what is kept of the earlier direction."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from mnist_adv.geometry.steps import keep_momentum


def test_a_share_of_the_earlier_direction_is_kept_and_gradients_weigh_alike() -> None:
    velocity = np.array([[1.0, -2.0], [0.5, 0.0], [3.0, 1.0]], np.float32)
    gradient = np.array([[3.0, -1.0], [3e-20, 1e-20], [0.0, 0.0]], np.float32)
    unit = np.array([[0.75, -0.25], [0.75, 0.25], [0.0, 0.0]], np.float32)
    shape = (3, 1, 2, 1)
    for momentum in (0.0, 0.4, 1.0):
        kept = keep_momentum(tf.reshape(velocity, shape), tf.reshape(gradient, shape), momentum)
        expected = (momentum * velocity + unit).reshape(shape)
        np.testing.assert_allclose(kept, expected, rtol=1e-6)
