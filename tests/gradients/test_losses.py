"""Losses by hand, and the sign that makes every attack descend."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from mnist_adv.gradients.losses import LOSSES, Loss, Objective

# exp of these is 1, 2, 5, and 4, 1, 1
LOGITS = np.log([[1.0, 2.0, 5.0], [4.0, 1.0, 1.0]])
CLASSES = np.array([1, 0])


def test_values_are_those_computed_by_hand() -> None:
    cross_entropy = Objective(Loss.CROSS_ENTROPY)(LOGITS, CLASSES)
    np.testing.assert_allclose(cross_entropy, -np.log([2 / 8, 4 / 6]), rtol=1e-12)
    probability = Objective(Loss.PROBABILITY)(LOGITS, CLASSES)
    np.testing.assert_allclose(probability, [2 / 8, 4 / 6], rtol=1e-12)


@pytest.mark.parametrize("loss", [Loss.CROSS_ENTROPY, Loss.PROBABILITY, Loss.MARGIN])
@pytest.mark.parametrize("targeted", [True, False])
def test_descending_serves_the_goal(loss: Loss, targeted: bool) -> None:
    objective = Objective.to_descend(loss, targeted=targeted)
    likelier = LOGITS + 0.1 * np.eye(3)[CLASSES]
    change = objective(likelier, CLASSES) - objective(LOGITS, CLASSES)
    assert (change.numpy() < 0).all() if targeted else (change.numpy() > 0).all()
    size = np.abs(Objective(loss)(LOGITS, CLASSES))  # the sign changes, and nothing else
    np.testing.assert_array_equal(np.abs(objective(LOGITS, CLASSES)), size)


@pytest.mark.parametrize("loss", LOSSES.values())
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


@pytest.mark.parametrize("loss", LOSSES.values())
def test_extreme_logits_stay_finite(loss: Loss) -> None:
    logits = tf.constant([[1e4, 0.0, -1e4, 5.0]])
    objective = Objective(loss)
    assert np.isfinite(objective(logits, tf.constant([2], tf.int64))).all()
    assert np.isfinite(objective.upstream(logits, tf.constant([2], tf.int64))).all()


@pytest.mark.parametrize(("loss", "below"), [(Loss.DLR, 3.0 - -1), (Loss.TARGETED_DLR, 3 - -1.5)])
def test_difference_of_logits_ratio_by_hand(loss: Loss, below: float) -> None:
    logits = tf.constant([[1.0, 3.0, -1.0, -2.0, -5.0]])
    for label, above in ((0, 1.0 - 3), (1, 3.0 - 1), (4, -5.0 - 3)):
        found = Objective(loss)(logits, tf.constant([label], tf.int64))
        np.testing.assert_allclose(found, [above / below], rtol=1e-6)


@pytest.mark.parametrize("loss", [Loss.MARGIN, Loss.DLR, Loss.TARGETED_DLR])
def test_the_sign_of_a_margin_tells_success(loss: Loss) -> None:
    logits = tf.constant(np.random.default_rng(5).normal(size=(50, 10)))
    classes = tf.constant(np.arange(50) % 10)
    reached = (tf.argmax(logits, axis=1) == classes).numpy()
    towards = Objective.to_descend(loss, targeted=True)(logits, classes).numpy()
    np.testing.assert_array_equal(towards < 0, reached)
    away = Objective.to_descend(loss, targeted=False)(logits, classes).numpy()
    np.testing.assert_array_equal(away < 0, ~reached)


def test_too_few_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"needs at least 4 classes\. Received: 3"):
        Objective(Loss.TARGETED_DLR)(tf.zeros([1, 3]), tf.constant([0], tf.int64))
