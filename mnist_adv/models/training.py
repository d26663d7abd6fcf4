"""Train softmax regression by stochastic gradient descent, on images or on their worst case."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, cast

import numpy as np

from mnist_adv.arguments import shown, whole
from mnist_adv.data.datasets import Dataset
from mnist_adv.geometry.norms import Norm
from mnist_adv.models.softmax_regression import SoftmaxRegression
from mnist_adv.models.training_config import TrainingConfig
from mnist_adv.models.worst_margins import worst_margins
from mnist_adv.tensors.lazy import tf

# Epsilon rises from 0 over so much of a training.
_RAMP = 1 / 2


@dataclasses.dataclass(frozen=True)
class Metrics:
    """Mean loss and accuracy over one split.

    Attributes:
        loss: mean cross-entropy, in nats.
        accuracy: share of the images that are classified correctly, in [0, 1].
    """

    loss: float
    accuracy: float


@dataclasses.dataclass(frozen=True)
class EpochReport:
    """Measurements after an epoch.

    Attributes:
        epoch: how many are done, from 1.
        train: over all training images, with the epoch's final weights.
        test: over all test images.
        learning_rate: of the epoch's last step.
    """

    epoch: int
    train: Metrics
    test: Metrics
    learning_rate: float


def train(
    model: SoftmaxRegression,
    train_set: Dataset,
    test_set: Dataset,
    config: TrainingConfig = TrainingConfig(),
    *,
    first_epoch: int = 0,
) -> Iterator[EpochReport]:
    """Train in place, epoch by epoch.

    The order of an epoch's images is a function of the seed and the epoch's number, rate and
    epsilon of the step's: going on from epoch k gives the weights of an unbroken run, bit for bit.

    With `config.defend` an image's loss is `log(1 + sum_k exp(1 - m_k))`, m_k its worst margin over
    class k inside ball and box: convex in the weights, and above the multi-class hinge of the worst
    image.

    Args:
        model: holds the weights after `first_epoch` epochs.
        train_set: what it learns from.
        test_set: what it is measured on.
        config: the settings.
        first_epoch: how many epochs the model has seen already.

    Yields:
        A report after every epoch, when the model holds that epoch's weights.

    Raises:
        ValueError: an argument of another kind; the batch is larger than the training set, or the
            loss is no longer finite.

    Example:
        >>> import mnist_adv
        >>> model = mnist_adv.SoftmaxRegression()
        >>> config = mnist_adv.TrainingConfig(num_epochs=1)
        >>> digits = mnist_adv.load("mnist", "train"), mnist_adv.load("mnist", "test")
        >>> for report in mnist_adv.train(model, *digits, config):
        ...     print(report.epoch, report.test.accuracy > 0.9)
        1 True

    References:
        Crammer, Singer, "On the Algorithmic Implementation of Multiclass Kernel-based Vector
        Machines", 2001 (the hinge).
    """
    _require_kinds(model, train_set, test_set, config)
    first_epoch = int(whole(first_epoch, "first_epoch", 0))
    num_images = len(train_set.labels)
    if config.batch_size > num_images:
        raise ValueError(
            f"batch_size must be at most the {num_images} training images. "
            f"Received: {config.batch_size}"
        )
    num_batches = num_images // config.batch_size
    images, labels = _on_device(train_set)
    test_images, test_labels = _on_device(test_set)
    for epoch in range(first_epoch, config.num_epochs):
        order = np.random.default_rng([config.seed, epoch]).permutation(num_images)
        batches = order[: num_batches * config.batch_size].reshape(num_batches, -1)
        steps = epoch * num_batches + np.arange(num_batches)
        progress = steps / (config.num_epochs * num_batches)
        epsilons = (config.epsilon or 0) * np.minimum(progress / _RAMP, 1)
        rates = _rate(config) * 0.5 * (1 + np.cos(np.pi * progress))
        weights, bias = _train_epoch(
            model.W.value(),
            model.b.value(),
            images,
            labels,
            tf.constant(batches, tf.int32),
            tf.constant(rates, tf.float32),
            tf.constant(epsilons, tf.float32),
            config.defend,
            config.epsilon,
        )
        model.W.assign(weights)
        model.b.assign(bias)
        report = EpochReport(
            epoch=epoch + 1,
            train=_measure(model, images, labels),
            test=_measure(model, test_images, test_labels),
            learning_rate=float(rates[-1]),
        )
        if not math.isfinite(report.train.loss):
            raise ValueError(
                f"training diverged in epoch {epoch + 1}; lower the learning_rate. "
                f"Received: {_rate(config)}"
            )
        yield report


def _require_kinds(model: Any, train_set: Any, test_set: Any, config: Any) -> None:
    for name, value, kind in (
        ("model", model, SoftmaxRegression),
        ("train_set", train_set, Dataset),
        ("test_set", test_set, Dataset),
        ("config", config, TrainingConfig),
    ):
        if not isinstance(value, kind):
            raise ValueError(f"{name} must be a {kind.__name__}. Received: {shown(value)}")


def epoch_graph(model: SoftmaxRegression, num_images: int, config: TrainingConfig) -> Any:
    """Get the graph that is compiled for an epoch, to be displayed.

    Args:
        model: gives the number of classes.
        num_images: in the training set.
        config: gives the batches.

    Returns:
        A `tf.Graph`.
    """
    num_batches = num_images // config.batch_size
    return _train_epoch.get_concrete_function(
        tf.TensorSpec(model.W.shape),
        tf.TensorSpec(model.b.shape),
        tf.TensorSpec([num_images, model.W.shape[0]]),
        tf.TensorSpec([num_images], tf.int32),
        tf.TensorSpec([num_batches, config.batch_size], tf.int32),
        tf.TensorSpec([num_batches]),
        tf.TensorSpec([num_batches]),
        config.defend,
        config.epsilon,
    ).graph


def _rate(config: TrainingConfig) -> float:
    return cast(float, config.learning_rate)  # a config replaces None


def _on_device(dataset: Dataset) -> tuple[Any, Any]:
    images = dataset.images.reshape(len(dataset.labels), -1)
    return tf.constant(images), tf.constant(dataset.labels.astype(np.int32))


# AutoGraph reads source code, and what it can read changes with Python: the loop is written out.
@tf.function(jit_compile=True, autograph=False)
def _train_epoch(
    weights: Any,
    bias: Any,
    images: Any,
    labels: Any,
    batches: Any,
    rates: Any,
    epsilons: Any,
    defend: str | None,
    epsilon: float | None,
) -> tuple[Any, Any]:
    def step(number: Any, weights: Any, bias: Any) -> tuple[Any, Any, Any]:
        # Gathered batch by batch: a whole epoch's copy of the images would leave the cache.
        pixels = tf.gather(images, batches[number])
        classes = tf.gather(labels, batches[number])
        with tf.GradientTape() as tape:
            tape.watch((weights, bias))
            if defend is None or epsilon is None:
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
                    labels=classes, logits=pixels @ weights + bias
                )
            else:
                margins = worst_margins(
                    Norm(defend), weights, bias, pixels, classes, epsilons[number], epsilon
                )
                others = 1 - tf.one_hot(classes, weights.shape[1])
                losses = tf.reduce_logsumexp(others - margins, axis=1)
            mean = tf.reduce_mean(losses)
        weights_gradient, bias_gradient = tape.gradient(mean, (weights, bias))
        weights -= rates[number] * weights_gradient
        bias -= rates[number] * bias_gradient
        return number + 1, weights, bias

    def going(number: Any, *_: Any) -> Any:
        return number < tf.shape(batches)[0]

    _, weights, bias = tf.while_loop(going, step, (tf.constant(0), weights, bias))
    return weights, bias


def _measure(model: SoftmaxRegression, images: Any, labels: Any) -> Metrics:
    logits = images @ model.W + model.b
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    correct = tf.argmax(logits, axis=1, output_type=tf.int32) == labels
    return Metrics(
        loss=float(tf.reduce_mean(losses)),
        accuracy=int(tf.math.count_nonzero(correct)) / len(labels),
    )
