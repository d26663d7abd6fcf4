"""The question's own code, which restores a checkpoint; run as a script, for graphs only.

    python tf1_restore.py DATA.npz PREFIX NAMED_PREFIX DEEP_PREFIX RESTORED.npz

Nothing here knows of mnist_adv.
"""

import sys
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf


def question(prefix: str, images: np.ndarray) -> dict[str, np.ndarray]:
    """Restore the logistic regression of the question, and classify the first image."""
    x = tf.placeholder(tf.float32, [None, 784])
    W = tf.Variable(tf.zeros([784, 10]))
    b = tf.Variable(tf.zeros([10]))
    pred = tf.nn.softmax(tf.matmul(x, W) + b)
    saver = tf.train.Saver()
    with tf.Session() as sess:
        saver.restore(sess, prefix)
        x_in = np.expand_dims(images[0], axis=0)
        classification = sess.run(tf.argmax(pred, 1), feed_dict={x: x_in})
        return {"W": sess.run(W), "b": sess.run(b), "classification": classification}


def named(prefix: str) -> dict[str, np.ndarray]:
    """Restore variables that have names in a scope."""
    with tf.variable_scope("softmax_linear"):
        weights = tf.get_variable("weights", [784, 10])
        biases = tf.get_variable("biases", [10])
    with tf.Session() as sess:
        tf.train.Saver().restore(sess, prefix)
        return {"weights": sess.run(weights), "biases": sess.run(biases)}


def deep(prefix: str, images: np.ndarray) -> dict[str, np.ndarray]:
    """Restore a perceptron of two layers into nameless variables."""
    x = tf.placeholder(tf.float32, [None, 784])
    W1, b1 = tf.Variable(tf.zeros([784, 12])), tf.Variable(tf.zeros([12]))
    W2, b2 = tf.Variable(tf.zeros([12, 10])), tf.Variable(tf.zeros([10]))
    logits = tf.matmul(tf.nn.tanh(tf.matmul(x, W1) + b1), W2) + b2
    with tf.Session() as sess:
        tf.train.Saver().restore(sess, prefix)
        return {"deep_logits": sess.run(logits, feed_dict={x: images})}


def imported(prefix: str, images: np.ndarray) -> dict[str, np.ndarray]:
    """Restore graph and variables from the files alone."""
    saver = tf.train.import_meta_graph(f"{prefix}.meta")
    with tf.Session() as sess:
        saver.restore(sess, prefix)
        pred, logits = sess.run(["pred:0", "logits:0"], feed_dict={"x:0": images})
        return {"imported_pred": pred, "imported_logits": logits}


def main() -> None:
    """Run the four restores, each in a graph of its own."""
    tf.disable_eager_execution()
    data, prefix, named_prefix, deep_prefix, target = sys.argv[1:]
    with np.load(data) as stored:
        images = stored["images"]
    found: dict[str, Any] = {}
    with tf.Graph().as_default():
        found.update(question(prefix, images))
    with tf.Graph().as_default():
        found.update(named(named_prefix))
    with tf.Graph().as_default():
        found.update(deep(deep_prefix, images))
    with tf.Graph().as_default():
        found.update(imported(deep_prefix, images))
    np.savez(target, **found)


if __name__ == "__main__":
    main()
