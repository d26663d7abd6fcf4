"""The judge, given cases whose answer is plain."""

from __future__ import annotations

import numpy as np
import pytest

from mnist_adv import judge
from mnist_adv.models.softmax_regression import SoftmaxRegression


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
    verdict = judge(brightness, clean, final, targets=1, norm="linf", epsilon=0.3)
    assert verdict.reached.tolist() == [True, False, True, True, False]
    assert verdict.in_budget.tolist() == [True, True, False, False, False]
    assert verdict.in_range.tolist() == [True, True, True, False, False]
    assert verdict.success.tolist() == [True, False, False, False, False]
    assert verdict.clean_predictions.tolist() == [0] * 5
    left = judge(brightness, clean, final, labels=0, norm="linf", epsilon=0.3)
    assert left.success.tolist() == verdict.success.tolist()


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
