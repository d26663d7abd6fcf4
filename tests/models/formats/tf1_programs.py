"""Four classic TensorFlow 1 programs, as people wrote them; run as a script, for graphs only.

    python tf1_programs.py DATA.npz FOLDER

Nothing here knows of mnist_adv. Each program trains a little, saves with `tf.train.Saver`, and
writes beside its checkpoint what its own session says of the first test images.
"""

import os
import sys
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf


class Batches:
    """The `mnist.train` of the tutorials."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, np.eye(10, dtype=np.float32)[labels]
        self._start = 0

    def next_batch(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the next images and one-hot labels, from the start again at the end."""
        start = self._start if self._start + size <= len(self.images) else 0
        self._start = start + size
        return self.images[start : self._start], self.labels[start : self._start]


def oracle(path: str, sess: Any, x: Any, logits: Any, images: np.ndarray) -> None:
    """Save the session's own logits and the gradient of their sum for class 2."""
    gradient = tf.gradients(logits[:, 2], x)[0]
    values = sess.run([logits, gradient], feed_dict={x: images})
    np.savez(path, logits=values[0], gradient=values[1])


def softmax_tutorial(train: Batches, test: np.ndarray, folder: str) -> None:
    """The MNIST-for-beginners program: `W`, `b`, cross-entropy from logits."""
    x = tf.placeholder(tf.float32, [None, 784])
    W = tf.Variable(tf.zeros([784, 10]))
    b = tf.Variable(tf.zeros([10]))
    y = tf.matmul(x, W) + b
    y_ = tf.placeholder(tf.float32, [None, 10])
    cross_entropy = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits_v2(labels=y_, logits=y))
    train_step = tf.train.GradientDescentOptimizer(0.5).minimize(cross_entropy)
    sess = tf.InteractiveSession()
    tf.global_variables_initializer().run()
    for _ in range(150):
        batch_xs, batch_ys = train.next_batch(100)
        sess.run(train_step, feed_dict={x: batch_xs, y_: batch_ys})
    tf.train.Saver().save(sess, f"{folder}/softmax.ckpt", global_step=150, write_meta_graph=False)
    tf.train.Saver(write_version=tf.train.SaverDef.V1).save(sess, f"{folder}/old.ckpt")
    oracle(f"{folder}/softmax.npz", sess, x, y, test)
    oracle(f"{folder}/old.npz", sess, x, y, test)
    sess.close()


def logistic_regression(train: Batches, test: np.ndarray, folder: str) -> None:
    """The question's program: `pred`, `cost`, plain gradient descent."""
    x = tf.placeholder(tf.float32, [None, 784])
    y = tf.placeholder(tf.float32, [None, 10])
    W = tf.Variable(tf.zeros([784, 10]))
    b = tf.Variable(tf.zeros([10]))
    pred = tf.nn.softmax(tf.matmul(x, W) + b)
    cost = tf.reduce_mean(-tf.reduce_sum(y * tf.log(pred), reduction_indices=1))
    optimizer = tf.train.GradientDescentOptimizer(0.01).minimize(cost)
    saver = tf.train.Saver()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(300):
            batch_xs, batch_ys = train.next_batch(100)
            sess.run([optimizer, cost], feed_dict={x: batch_xs, y: batch_ys})
        saver.save(sess, f"{folder}/model.ckpt")
    with tf.Session() as sess:
        saver.restore(sess, f"{folder}/model.ckpt")
        x_in = np.expand_dims(test[0], axis=0)
        classification = sess.run(tf.argmax(pred, 1), feed_dict={x: x_in})
        oracle(f"{folder}/model.npz", sess, x, tf.log(pred), test)
        np.save(f"{folder}/classification.npy", classification)
        tf.saved_model.simple_save(sess, f"{folder}/served", {"x": x}, {"pred": pred})


def fully_connected_feed(train: Batches, test: np.ndarray, folder: str) -> None:
    """Two hidden layers in named scopes, Adam and a global step."""
    images = tf.placeholder(tf.float32, [None, 784])
    labels = tf.placeholder(tf.int64, [None])
    values = images
    for scope, inputs, outputs in (("hidden1", 784, 64), ("hidden2", 64, 32)):
        with tf.name_scope(scope):
            deviation = 1.0 / np.sqrt(float(inputs))
            weights = tf.Variable(
                tf.truncated_normal([inputs, outputs], stddev=deviation, seed=1), name="weights"
            )
            biases = tf.Variable(tf.zeros([outputs]), name="biases")
            values = tf.nn.relu(tf.matmul(values, weights) + biases)
    with tf.name_scope("softmax_linear"):
        weights = tf.Variable(tf.truncated_normal([32, 10], stddev=0.18, seed=2), name="weights")
        biases = tf.Variable(tf.zeros([10]), name="biases")
        logits = tf.matmul(values, weights) + biases
    loss = tf.losses.sparse_softmax_cross_entropy(labels=labels, logits=logits)
    global_step = tf.Variable(0, name="global_step", trainable=False)
    train_op = tf.train.AdamOptimizer(0.001).minimize(loss, global_step=global_step)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(300):
            batch_xs, batch_ys = train.next_batch(100)
            sess.run(train_op, feed_dict={images: batch_xs, labels: batch_ys.argmax(1)})
        tf.train.Saver().save(sess, f"{folder}/feed.ckpt", global_step=global_step)
        oracle(f"{folder}/feed.npz", sess, images, logits, test)


def dense(values: Any, units: int, name: str) -> Any:
    """Call `tf.layers.dense`, which needs the old Keras; without that, do by hand what it does."""
    if os.environ.get("TF_USE_LEGACY_KERAS"):
        return tf.layers.dense(values, units)
    with tf.variable_scope(name):
        kernel = tf.get_variable(
            "kernel", [values.shape[1], units], initializer=tf.glorot_uniform_initializer(seed=3)
        )
        bias = tf.get_variable("bias", [units], initializer=tf.zeros_initializer())
        return tf.nn.bias_add(tf.matmul(values, kernel), bias)


def layers_model(train: Batches, test: np.ndarray, folder: str) -> None:
    """A `tf.layers` model: three equal hidden layers, dropout, momentum, an average of weights."""
    features = tf.placeholder(tf.float32, [None, 784])
    labels = tf.placeholder(tf.int64, [None])
    keep_prob = tf.placeholder_with_default(1.0, [])
    hidden = features
    for name in ("dense", "dense_1", "dense_2"):
        hidden = tf.nn.dropout(tf.nn.tanh(dense(hidden, 48, name)), keep_prob=keep_prob)
    logits = dense(hidden, 10, "dense_3")
    loss = tf.losses.sparse_softmax_cross_entropy(labels=labels, logits=logits)
    step = tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss)
    with tf.control_dependencies([step]):
        train_op = tf.train.ExponentialMovingAverage(0.99).apply(tf.trainable_variables())
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(200):
            batch_xs, batch_ys = train.next_batch(100)
            feed = {features: batch_xs, labels: batch_ys.argmax(1), keep_prob: 0.9}
            sess.run(train_op, feed_dict=feed)
        tf.train.Saver().save(sess, f"{folder}/layers.ckpt")
        oracle(f"{folder}/layers.npz", sess, features, logits, test)


def main() -> None:
    """Run all programs, each in a graph of its own."""
    tf.disable_eager_execution()
    tf.logging.set_verbosity(tf.logging.ERROR)
    with np.load(sys.argv[1]) as data:
        images, labels, test = data["images"], data["labels"], data["test"]
    for program in (softmax_tutorial, logistic_regression, fully_connected_feed, layers_model):
        with tf.Graph().as_default():
            tf.set_random_seed(0)
            program(Batches(images, labels), test, sys.argv[2])


if __name__ == "__main__":
    main()
