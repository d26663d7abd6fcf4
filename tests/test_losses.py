"""Losses by hand, and the sign that makes every attack descend."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from mnist_adv.losses import Loss, Objective

# exp of these is 1, 2, 5, and 4, 1, 1
LOGITS = np.log([[1.0, 2.0, 5.0], [4.0, 1.0, 1.0]])
CLASSES = np.array([1, 0])


def test_values_are_those_computed_by_hand() -> None:
    cross_entropy = Objective(Loss.CROSS_ENTROPY)(LOGITS, CLASSES)
    np.testing.assert_allclose(cross_entropy, -np.log([2 / 8, 4 / 6]), rtol=1e-12)
    probability = Objective(Loss.PROBABILITY)(LOGITS, CLASSES)
    np.testing.assert_allclose(probability, [2 / 8, 4 / 6], rtol=1e-12)


@pytest.mark.parametrize("loss", Loss)
@pytest.mark.parametrize("targeted", [True, False])
def test_descending_serves_the_goal(loss: Loss, targeted: bool) -> None:
    objective = Objective.to_descend(loss, targeted=targeted)
    likelier = LOGITS + 0.1 * np.eye(3)[CLASSES]
    change = objective(likelier, CLASSES) - objective(LOGITS, CLASSES)
    assert (change.numpy() < 0).all() if targeted else (change.numpy() > 0).all()


@pytest.mark.parametrize("loss", Loss)
@pytest.mark.parametrize("sign", [1, -1])
def test_upstream_by_hand_is_the_tapes(loss: Loss, sign: int) -> None:
    objective = Objective(loss, sign)
    logits = tf.constant(np.random.default_rng(3).normal(0, 3, (20, 10)))
    classes = tf.constant(np.arange(20) % 10)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        total = tf.reduce_sum(objective(logits, classes))
    expected = tape.gradient(total, logits)
    np.testing.assert_allclose(objective.upstream(logits, classes), expected, atol=1e-14)


@pytest.mark.parametrize("loss", Loss)
def test_extreme_logits_stay_finite(loss: Loss) -> None:
    logits = tf.constant([[1e4, 0.0, -1e4]])
    objective = Objective(loss)
    assert np.isfinite(objective(logits, tf.constant([2], tf.int64))).all()
    assert np.isfinite(objective.upstream(logits, tf.constant([2], tf.int64))).all()
