"""Save models as Keras 2 did, with their optimizer; run as a script, for graphs only.

    python keras2_program.py DATA.npz FOLDER

Nothing here knows of mnist_adv. Each model trains a little, is saved by `model.save(folder)`, and
what it says itself of the first test images is written beside it.
"""

import sys
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

layers = keras.layers


def convolutional() -> Any:
    """Convolutions, batch normalisation, dropout and a softmax, images `[n, 28, 28]`."""
    return keras.Sequential([
        keras.Input((28, 28)),
        layers.Reshape((28, 28, 1)),
        layers.Conv2D(4, 3, activation="relu"),
        layers.BatchNormalization(momentum=0.8),
        layers.MaxPool2D(),
        layers.Conv2D(6, 3, padding="same", activation="swish"),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(10, activation="softmax"),
    ])


def flat() -> Any:
    """The beginners' tutorial on rows of 784 pixels."""
    return keras.Sequential([
        keras.Input((784,)),
        layers.Dense(32, activation="relu"),
        layers.Dropout(0.2),
        layers.Dense(10),
        layers.Softmax(),
    ])


def functional() -> Any:
    """Two branches, images `[n, 28, 28, 1]`, logits."""
    images = keras.Input((28, 28, 1))
    one = layers.Conv2D(3, 5, strides=2, padding="same", activation="tanh")(images)
    two = layers.DepthwiseConv2D(3, strides=2, padding="same")(images)
    joined = layers.Concatenate()([one, two])
    return keras.Model(images, layers.Dense(10)(layers.Flatten()(joined)))


def main() -> None:
    """Train, save and question each model."""
    with np.load(sys.argv[1]) as data:
        images, labels, test = data["images"], data["labels"], data["test"]
    for build in (convolutional, flat, functional):
        keras.utils.set_random_seed(0)
        model = build()
        shape = (-1, *model.input_shape[1:])
        from_logits = build is functional
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)
        # Until Keras 2.11 every optimizer was of this kind, without which it cannot be loaded.
        optimizer = "adam" if build is functional else keras.optimizers.legacy.Adam()
        model.compile(optimizer, loss, metrics=["accuracy"])
        model.fit(images.reshape(shape), labels, batch_size=100, epochs=1, verbose=0)
        model.save(f"{sys.argv[2]}/{build.__name__}")
        pixels = tf.constant(test.reshape(shape))
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            outputs = model(pixels, training=False)
            logits = outputs if from_logits else tf.math.log(outputs)
            value = logits[:, 2] - logits[:, 7]
        np.savez(
            f"{sys.argv[2]}/{build.__name__}.npz",
            logits=logits,
            gradient=tf.reshape(tape.gradient(value, pixels), [-1, 784]),
        )


if __name__ == "__main__":
    main()
