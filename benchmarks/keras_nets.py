"""The convolutional nets of the benchmarks, as a `.keras` file too.

python -m benchmarks.keras_nets keras_example cnn.keras
"""

from __future__ import annotations

import sys
from typing import Any

import tensorflow as tf

from mnist_adv.data import datasets

# Widths of the convolutions, and of the dense layers between them and the logits.
_WIDTHS: dict[str, tuple[list[Any], list[int]]] = {
    "keras_example": ([32, "pool", 64, "pool"], []),
    "small_cnn": ([32, 32, "pool", 64, 64, "pool"], [200, 200]),
}


def build(name: str) -> Any:
    """Build a net.

    Args:
        name: "keras_example", that of Keras's example, or "small_cnn", AttackBench's.

    Returns:
        A Keras model, images `[n, 28, 28, 1]` -> logits.
    """
    layers = tf.keras.layers
    convolutions, hidden = _WIDTHS[name]
    return tf.keras.Sequential([
        layers.Input([28, 28, 1]),
        *(
            layers.MaxPooling2D() if width == "pool" else layers.Conv2D(width, 3, activation="relu")
            for width in convolutions
        ),
        layers.Flatten(),
        *(layers.Dense(width, activation="relu") for width in hidden),
        layers.Dense(10),
    ])


def train(name: str) -> Any:
    """Build a net and train it for a few seconds.

    Args:
        name: of `build`.

    Returns:
        The Keras model.
    """
    tf.keras.utils.set_random_seed(0)
    net = build(name)
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.compile("adam", loss, metrics=["accuracy"])
    some = datasets.load(split="train", rows=(0, 20_000))
    net.fit(some.images, some.labels, epochs=2, batch_size=100, verbose=0)
    return net


if __name__ == "__main__":
    train(sys.argv[1]).save(sys.argv[2])
