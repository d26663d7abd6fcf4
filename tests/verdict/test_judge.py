"""The judge, given cases whose answer is plain."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mnist_adv import attack, judge
from mnist_adv.gradients.goals import Goal
from mnist_adv.models.softmax_regression import SoftmaxRegression
from mnist_adv.verdict.judge import FinalVerdict, judge_final, judge_goal


@pytest.fixture
def brightness() -> SoftmaxRegression:
    """A model that sees a 1 where pixel 0 is above one half, else a 0."""
    model = SoftmaxRegression()
    weights = np.zeros((784, 10), np.float32)
    weights[0, 1] = 10
    model.W.assign(weights)
    model.b.assign([0, -5, *[-100] * 8])
    return model


def images(*pixels: float) -> np.ndarray:
    batch = np.zeros((len(pixels), 28, 28, 1), np.float32)
    batch[:, 0, 0, 0] = pixels
    return batch


def test_each_part_of_a_verdict(brightness: SoftmaxRegression) -> None:
    clean = images(0.4, 0.4, 0.4, 0.4, 0.4)
    final = images(0.6, 0.45, 0.9, 1.2, np.nan)
    to_one = Goal(np.full(5, 1), targeted=True)
    verdict = judge_goal(brightness, clean, final, to_one, norm="linf", epsilon=0.3)
    assert verdict.reached.tolist() == [True, False, True, True, False]
    assert verdict.in_budget.tolist() == [True, True, False, False, False]
    assert verdict.in_range.tolist() == [True, True, True, False, False]
    assert verdict.success.tolist() == [True, False, False, False, False]
    assert verdict.clean_predictions.tolist() == [0] * 5
    left = judge(brightness, clean[:4], final[:4], labels=0, norm="linf", epsilon=0.3)
    assert left.success.tolist() == verdict.success.tolist()[:4]


def test_without_the_clean_images_it_says_the_same(brightness: SoftmaxRegression) -> None:
    question = images(0.4, 0.4, 0.4), images(0.6, 0.45, np.nan), Goal(np.full(3, 1), targeted=True)
    whole = judge_goal(brightness, *question, norm="linf", epsilon=0.3)
    final = judge_final(brightness, *question, norm="linf", epsilon=0.3)
    np.testing.assert_equal(
        vars(final),
        {field.name: getattr(whole, field.name) for field in dataclasses.fields(FinalVerdict)},
    )
    assert repr(final) == "FinalVerdict(1 of 3 succeed)"
    assert repr(whole) == "Verdict(1 of 3 succeed)"


def test_norms_by_hand(brightness: SoftmaxRegression) -> None:
    final = images(0.5)
    final[0, 1, 1, 0] = 0.25
    verdict = judge(brightness, images(0.0), final, targets=1, norm="l2", epsilon=[0.5])
    found = {name: float(values[0]) for name, values in verdict.norms.items()}
    assert found == {"linf": 0.5, "l2": np.sqrt(0.3125), "l1": 0.75, "l0": 2}
    assert not verdict.in_budget[0]


def test_rounding_of_float32_is_forgiven_and_no_more(brightness: SoftmaxRegression) -> None:
    clean = images(0.7, 0.7)
    final = images(0.7 + 0.3, 0.7 + 0.3 - 1e-4)
    within = judge(brightness, clean, final, targets=1, norm="linf", epsilon=[0.3, 0.2998])
    assert within.in_budget.tolist() == [True, False]


def test_confidence_is_part_of_success(brightness: SoftmaxRegression) -> None:
    final = images(0.55, 0.9)
    verdict = judge(
        brightness, images(0.4, 0.4), final, targets=1, norm="linf", epsilon=1, confidence=0.9
    )
    assert verdict.reached.all() and verdict.success.tolist() == [False, True]
    np.testing.assert_allclose(verdict.probabilities[:, 1], 1 / (1 + np.exp([-0.5, -4])), rtol=1e-5)


def test_wrong_questions_are_refused(brightness: SoftmaxRegression) -> None:
    clean = images(0.4)
    with pytest.raises(ValueError, match="must have the same shape"):
        judge(brightness, clean, images(0.1, 0.2), targets=1, norm="linf", epsilon=1)
    with pytest.raises(ValueError, match="exactly one of targets and labels"):
        judge(brightness, clean, clean, norm="linf", epsilon=1)
    with pytest.raises(ValueError, match="norm must be one of linf, l2, l1, l0"):
        judge(brightness, clean, clean, targets=1, norm="l3", epsilon=1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"targets": 99}, r"targets must lie in 0\.\.9\. Received: 99"),
        ({"targets": -1}, r"targets must lie in 0\.\.9\. Received: -1"),
        ({"targets": np.nan}, "targets must be integers. Received: nan"),
        ({"targets": "2"}, "targets must be integers. Received: '2'"),
        ({"targets": 3.5}, "targets must be integers. Received: 3.5"),
        ({"targets": [6, 1]}, "one integer or one for each of the 1 images"),
        ({"adversarial": images(np.nan)}, "adversarial must be finite. Received: 1 pixels"),
        ({"adversarial": images(255.0)}, "adversarial must lie in .* divide grey levels"),
        ({"adversarial": images(1).astype(np.uint8)}, "adversarial must be floats .* dtype=uint8"),
        ({"images": images(1.5)}, "images must lie in .* Received: pixels from 0 to 1.5"),
        ({"epsilon": np.nan}, "epsilon must be a finite number, at least 0, .* Received: nan"),
        ({"epsilon": -1}, "epsilon must be a finite number, at least 0, .* Received: -1"),
        ({"epsilon": [1, 2]}, r"epsilon must be one number or one for .* Received: shape \[2\]"),
        ({"confidence": 1.5}, r"confidence must lie in \(0, 1\)\. Received: 1.5"),
        ({"bounds": (1, 0)}, r"bounds must be two finite numbers.* Received: \(1, 0\)"),
        ({"model": lambda images: np.zeros((1, 10, 1))}, r"model must .* Received: \[1, 10, 1\]"),
        ({"model": 3}, "model must be a function"),
    ],
)
def test_what_cannot_be_judged_is_refused(
    brightness: SoftmaxRegression, wrong: dict[str, Any], message: str
) -> None:
    question: dict[str, Any] = {
        "model": brightness,
        "images": images(0.4),
        "adversarial": images(0.6),
        "targets": 1,
        "norm": "linf",
        "epsilon": 0.3,
    }
    assert judge(**question).success.all()
    with pytest.raises(ValueError, match=message) as caught:
        judge(**{**question, **wrong})
    assert "\n" not in str(caught.value)


def test_a_model_that_returns_one_row_for_many_images_is_refused() -> None:
    def one_row(images: Any) -> tf.Tensor:
        return tf.reduce_sum(images, axis=[0, 1, 2]) * tf.ones([1, 10])

    clean = images(0.4, 0.4, 0.4)
    with pytest.raises(ValueError, match=r"Received: \[1, 10\] for n = 3"):
        judge(one_row, clean, clean, labels=0, norm="linf", epsilon=0.3)
    with pytest.raises(ValueError, match=r"Received: \[1, 10\] for n = 2"):
        attack(one_row, clean, labels=0)


def test_images_beyond_one_block_are_judged_alike(brightness: SoftmaxRegression) -> None:
    # More than the model sees at once, and no multiple of what is measured at once.
    clean = images(*np.full(2307, 0.4))
    final = images(*np.linspace(0.2, 0.8, 2307))
    verdict = judge(brightness, clean, final, targets=1, norm="linf", epsilon=0.3)
    moved = np.abs(final - clean)[:, 0, 0, 0].astype(np.float64)
    for norm in ("linf", "l2", "l1"):
        np.testing.assert_allclose(verdict.norms[norm], moved, atol=1e-7)
    assert verdict.predictions.tolist() == (final[:, 0, 0, 0] > 0.5).astype(int).tolist()
    assert verdict.in_range.all()
    reached = final[:, 0, 0, 0] > 0.5
    assert verdict.success.tolist() == (reached & (moved <= 0.3 + 1e-6)).tolist()
    assert 0 < verdict.success.sum() < reached.sum()


def test_no_image_is_judged_too(brightness: SoftmaxRegression) -> None:
    none = np.zeros((0, 28, 28, 1), np.float32)
    assert len(judge(brightness, none, none, labels=1, norm="l2", epsilon=1).success) == 0
