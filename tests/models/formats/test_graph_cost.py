"""The work that a graph asks for: counted by hand, and refused where no real net needs as much."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from mnist_adv.models.formats import graph_cost
from mnist_adv.models.formats.open import open_model

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda x: tf.nn.conv2d(x, tf.ones([5, 5, 3, 8]), 1, "VALID"), 2 * 4 * 4 * 8 * 5 * 5 * 3),
        (lambda x: tf.nn.depthwise_conv2d(x, tf.ones([3, 3, 3, 2]), [1] * 4, "VALID"), 6**2 * 108),
        (
            lambda x: tf.nn.conv2d_transpose(x, tf.ones([2, 2, 7, 3]), [2, 16, 16, 7], 2),
            2 * 8 * 8 * 3 * 2 * 2 * 7,
        ),
        (lambda x: tf.reshape(x, [2, 192]) @ tf.ones([192, 10]), 2 * 192 * 10),
        (lambda x: tf.matmul(tf.reshape(x, [2, 3, 64]), tf.ones([2, 64, 5])), 2 * 3 * 64 * 5),
        (lambda x: tf.einsum("bhwc,cd->bhwd", x, tf.ones([3, 4])), 2 * 8 * 8 * 3 * 4),
        (lambda x: tf.nn.max_pool2d(x, 4, 1, "VALID"), 2 * 5 * 5 * 3 * 16),
        (lambda x: tf.nn.local_response_normalization(x, 2), 2 * 8 * 8 * 3 * 5),
        (lambda x: x + 1, 0),
    ],
)
def test_multiplications_are_those_counted_by_hand(
    build: Callable[[Any], Any], expected: int
) -> None:
    with tf.Graph().as_default() as graph:
        build(tf.compat.v1.placeholder(tf.float32, [2, 8, 8, 3]))
    found = sum(map(graph_cost._multiplications, graph.get_operations()))
    assert found == expected


def test_a_model_that_would_take_hours_is_refused(tmp_path: pathlib.Path) -> None:
    model = keras.Sequential([
        keras.Input((28, 28, 1)),
        keras.layers.UpSampling2D(60),
        keras.layers.AveragePooling2D(1000, strides=1),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(10),
    ])
    model.save(tmp_path / "my.keras")
    with pytest.raises(ValueError, match=r"at most 34,359,738,368 multiplications for one image"):
        open_model(tmp_path / "my.keras")
    module = tf.Module()
    weights = np.ones([784, 10], np.float32)

    @tf.function(input_signature=[tf.TensorSpec([None, 784])], autograph=False)
    def serve(images: Any) -> Any:
        large = tf.fill([1, 1000, 1000, 1], images[0, 0])
        sums = tf.nn.conv2d(large, tf.fill([1000, 1000, 1, 2], images[0, 1]), 1, "SAME")
        return {"outputs": images @ weights + tf.reduce_sum(sums)}

    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=serve)
    with pytest.raises(
        ValueError, match=r"multiplications for one image\. Received: 1,000,000,007,840"
    ):
        open_model(tmp_path / "saved")
