"""AutoPGD in L1 and Square Attack in L2: budgets, floors, and what others reach."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mnist_adv import attack, smallest_perturbation
from mnist_adv.attacks import lanes
from mnist_adv.attacks.methods import square_l2
from mnist_adv.geometry.norms import Norm
from mnist_adv.models.softmax_regression import SoftmaxRegression

pytestmark = pytest.mark.slow

COUNT = 32


@pytest.fixture(scope="module")
def digits(trained: SoftmaxRegression, test_set: Any) -> dict[str, Any]:
    """Images that the model gets right, a target for each, and the least L1 way to it."""
    right = np.flatnonzero(trained(test_set.images[:90]).numpy().argmax(1) == test_set.labels[:90])
    chosen = right[:COUNT]
    images, labels = test_set.images[chosen], test_set.labels[chosen]
    targets = (labels + 1) % 10
    optimum = smallest_perturbation(
        trained.W.numpy(), trained.b.numpy(), images, targets, norm="l1"
    )
    return {"images": images, "labels": labels, "targets": targets, "l1": optimum.lower_bound}


# The DLR loss is no convex function of the pixels, and gets stuck a little more often.
@pytest.mark.parametrize(("method", "share"), [("apgd_ce", 0.9), ("apgd_dlr", 0.8)])
def test_l1_autopgd_reaches_what_there_is_and_no_more(
    trained: SoftmaxRegression, digits: dict[str, Any], method: str, share: float
) -> None:
    epsilon = np.maximum(1.1 * digits["l1"], 0.5)  # each image's own: all can be reached
    options: dict[str, Any] = {"targets": digits["targets"], "method": method, "norm": "l1"}
    result = attack(trained, digits["images"], epsilon=epsilon, **options)
    assert (result.verdict.norms["l1"] <= epsilon + 1e-6).all()
    assert result.success.mean() >= share
    assert (result.distances[result.success] >= digits["l1"][result.success] * (1 - 1e-6)).all()
    below = attack(trained, digits["images"], epsilon=0.99 * digits["l1"], **options)
    assert not below.success.any()
    # PGD's step is exact on a linear model: nothing does better
    pgd = attack(
        trained, digits["images"], epsilon=epsilon, num_steps=100, **{**options, "method": "pgd"}
    )
    assert 1 - share >= pgd.success.mean() - result.success.mean() >= 0


def test_l1_autopgd_counts_its_stages_and_stops_early(
    trained: SoftmaxRegression, digits: dict[str, Any]
) -> None:
    images, targets = digits["images"][:8], digits["targets"][:8]
    options: dict[str, Any] = {"method": "apgd_ce", "norm": "l1", "epsilon": 25.0}
    result = attack(trained, images, targets=targets, **options)
    found = result.success
    assert found.sum() >= 6
    # 1 for the start, 31 in each of the larger balls, and the budget's own
    assert ((result.num_queries < 1 + 31 + 31 + 41) == found).all()
    assert (result.num_queries > 1 + 31 + 31).all()
    assert (result.num_steps >= 60).all() and (result.num_steps < 100).all()
    there = attack(trained, images, targets=digits["labels"][:8], **options)
    assert (there.num_queries == 1).all() and not there.perturbation.any()
    sure = attack(trained, images, targets=targets, stop_early=False, **options)
    assert (sure.num_queries == 1 + 31 + 31 + 41).all()
    lower = np.take_along_axis(result.verdict.probabilities, targets[:, None], 1)
    higher = np.take_along_axis(sure.verdict.probabilities, targets[:, None], 1)
    assert (higher >= lower).all() and (higher[found] > lower[found]).all()
    short = attack(trained, images, targets=targets, num_steps=3, **options)
    assert (short.num_steps <= 3).all() and (short.num_queries <= 1 + 3 + 3).all()


def test_l1_autopgd_moves_few_pixels(trained: SoftmaxRegression, digits: dict[str, Any]) -> None:
    options: dict[str, Any] = {"targets": digits["targets"], "norm": "l1", "epsilon": 10.0}
    sparse = attack(trained, digits["images"], method="apgd_ce", stop_early=False, **options)
    # ten pixels' worth of way: spread over tens of pixels, not over all that have a slope
    dense = attack(trained, digits["images"], method="pgd", step="unit", step_size=0.3, **options)
    assert 2 * np.median(sparse.verdict.norms["l0"]) < np.median(dense.verdict.norms["l0"])


@pytest.mark.parametrize("side", [3, 5, 8, 15, 27])
def test_the_patterns_are_those_of_the_paper(side: int) -> None:
    """Equations 2 and 3 of Andriushchenko et al., summed as they are written."""

    def hill(height: int, width: int) -> np.ndarray:
        found = np.zeros((height, width))
        most = max(height // 2, width // 2) + 1
        for r in range(height):
            for s in range(width):
                for k in range(most):
                    if abs(r - height // 2) <= k and abs(s - width // 2) <= k:
                        found[r, s] += 1 / (k + 1) ** 2
        return found / np.linalg.norm(found)

    both = np.concatenate([hill(side // 2, side), -hill(side - side // 2, side)])
    np.testing.assert_allclose(square_l2.pattern(side), both / np.linalg.norm(both), atol=1e-6)


def test_a_repainted_window_moves_budget_and_nothing_else() -> None:
    generator = np.random.default_rng(5)
    windows = square_l2.Windows((28, 28, 1))
    count = 12
    inputs = {
        "clean": np.full((count, 1, 1, 784), 0.5, np.float32),  # no pixel meets its border
        "epsilon": np.full(count, 1.0, np.float32),
        "keys": generator.integers(0, 2**32, (count, 2), np.uint32),
    }
    first = square_l2.spend_budget(
        inputs, square_l2.tiles(windows, inputs["keys"], np.full(count, -1, np.int32))
    )
    away = first.numpy().reshape(count, 28, 28) - 0.5
    np.testing.assert_allclose(np.linalg.norm(away, axis=(1, 2)), 1, rtol=1e-5)
    assert not away[:, 0].any() and not away[:, :, -2:].any()  # 25 of 28 pixels, one before
    tile = away[:, 1:6, 1:6] * 5  # each tile holds a fifth of the length
    pattern = square_l2.pattern(5)
    for found in tile:
        assert (
            min(np.abs(found - s * h).max() for s in (1, -1) for h in (pattern, pattern.T)) < 1e-5
        )
    for side in (3, 6, 15):
        sides = np.full(count, side, np.float32)
        after = square_l2.repaint(
            windows, inputs, first, sides, np.arange(count, dtype=np.int32)
        ).numpy()
        moved = after.reshape(count, 28, 28) - 0.5
        np.testing.assert_allclose(np.linalg.norm(moved, axis=(1, 2)), 1, rtol=1e-5)
        changed = ~np.isclose(moved, away, atol=1e-6)
        odd = side + 1 - side % 2
        assert changed.any(axis=(1, 2)).all()
        assert (changed.sum(axis=(1, 2)) <= 2 * odd**2).all()


def test_square_in_l2_beats_noise_and_stays_inside(
    trained: SoftmaxRegression, digits: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "_MOST", COUNT)
    options: dict[str, Any] = {"norm": "l2", "epsilon": 1.2, "num_steps": 300}
    goal = {"labels": digits["labels"]}
    result = attack(trained, digits["images"], method="square", **goal, **options)
    assert (result.verdict.norms["l2"] <= 1.2 + 1e-6).all()
    assert result.num_gradients.max() == 0
    noise = [
        attack(trained, digits["images"], method=name, **goal, **options).success.mean()
        for name in ("gaussian_noise", "uniform_noise")
    ]
    pgd = attack(trained, digits["images"], method="pgd", **goal, **options)
    assert max(noise) + 0.3 < result.success.mean() <= pgd.success.mean()


def test_square_follows_a_model_without_a_gradient(trained: SoftmaxRegression) -> None:
    def blind(images: Any) -> Any:
        return tf.stop_gradient(tf.round(4 * trained(images)) / 4)

    images = np.full((4, 28, 28, 1), 0.5, np.float32)
    labels = blind(images).numpy().argmax(axis=1)
    result = attack(blind, images, labels=labels, method="square", norm=Norm.L2, epsilon=4.0)
    assert result.success.all()
