"""Square Attack: patterns and windows against the paper, and what it reaches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mnist_adv import attack
from mnist_adv.attacks import lanes
from mnist_adv.attacks.methods import windows
from mnist_adv.geometry.norms import Norm
from mnist_adv.models.softmax_regression import SoftmaxRegression

pytestmark = pytest.mark.slow

COUNT = 32


@pytest.fixture(scope="module")
def digits(trained: SoftmaxRegression, test_set: Any) -> dict[str, Any]:
    """Images that the model gets right."""
    right = np.flatnonzero(trained(test_set.images[:90]).numpy().argmax(1) == test_set.labels[:90])
    chosen = right[:COUNT]
    return {"images": test_set.images[chosen], "labels": test_set.labels[chosen]}


@pytest.mark.parametrize("norm", [Norm.L2, Norm.L1])
@pytest.mark.parametrize("side", [3, 5, 8, 15, 27])
def test_the_patterns_are_those_of_the_papers(side: int, norm: Norm) -> None:
    """Equations 2 and 3 of Andriushchenko et al., summed as they are written; L1: as AutoAttack."""
    fall, order = {Norm.L2: (2, 2), Norm.L1: (4, 1)}[norm]

    def hill(height: int, width: int) -> np.ndarray:
        found = np.zeros((height, width))
        most = max(height // 2, width // 2) + 1
        for r in range(height):
            for s in range(width):
                for k in range(most):
                    if abs(r - height // 2) <= k and abs(s - width // 2) <= k:
                        found[r, s] += 1 / (k + 1) ** fall
        return found / np.linalg.norm(found.ravel(), order)

    both = np.concatenate([hill(side // 2, side), -hill(side - side // 2, side)])
    expected = both / np.linalg.norm(both.ravel(), order)
    np.testing.assert_allclose(windows.pattern(side, norm), expected, atol=1e-6)


@pytest.mark.parametrize(("norm", "order"), [(Norm.L2, 2), (Norm.L1, 1)])
def test_a_repainted_window_moves_budget_and_nothing_else(norm: Norm, order: int) -> None:
    generator = np.random.default_rng(5)
    places = windows.Windows((28, 28, 1), norm)
    count = 12
    inputs = {
        "clean": np.full((count, 1, 1, 784), 0.5, np.float32),  # no pixel meets its border
        "epsilon": np.full(count, 1.0, np.float32),
        "keys": generator.integers(0, 2**32, (count, 2), np.uint32),
    }
    first = windows.tiles(places, inputs["keys"], np.full(count, -1, np.int32))
    # Tiles have norm 1 each. In L1 the projection that brings them inside makes them sparser.
    share = windows._unit(norm, first)
    first = windows.spend_budget(norm, inputs, share)
    away = first.numpy().reshape(count, 28, 28) - 0.5

    def length(values: np.ndarray) -> np.ndarray:
        return np.linalg.norm(values.reshape(count, -1), order, axis=1)

    np.testing.assert_allclose(length(away), 1, rtol=1e-5)
    assert not away[:, 0].any() and not away[:, :, -2:].any()  # 25 of 28 pixels, one before
    tile = away[:, 1:6, 1:6] * 25 ** (1 / order)  # each tile holds as much as any other
    pattern = windows.pattern(5, norm)
    for found in tile:
        assert (
            min(np.abs(found - s * h).max() for s in (1, -1) for h in (pattern, pattern.T)) < 1e-5
        )
    for side in (3, 6, 15):
        sides = np.full(count, side, np.float32)
        after = windows.repaint(
            places, inputs, first, sides, np.arange(count, dtype=np.int32)
        ).numpy()
        moved = after.reshape(count, 28, 28) - 0.5
        np.testing.assert_allclose(length(moved), 1, rtol=1e-5)
        changed = ~np.isclose(moved, away, atol=1e-6)
        odd = side + 1 - side % 2
        assert changed.any(axis=(1, 2)).all()
        assert (changed.sum(axis=(1, 2)) <= 2 * odd**2).all()


@pytest.mark.parametrize(
    ("norm", "epsilon", "targeted"), [("l2", 1.2, False), ("l1", 15.0, False), ("l1", 25.0, True)]
)
def test_square_beats_noise_and_stays_inside(
    trained: SoftmaxRegression,
    digits: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    norm: str,
    epsilon: float,
    targeted: bool,
) -> None:
    monkeypatch.setattr(lanes, "_MOST", COUNT)
    options: dict[str, Any] = {"norm": norm, "epsilon": epsilon, "num_steps": 300}
    labels = digits["labels"]
    goal = {"targets": (labels + 1) % 10} if targeted else {"labels": labels}
    result = attack(trained, digits["images"], method="square", **goal, **options)
    away = (result.adversarial.astype(np.float64) - digits["images"]).reshape(COUNT, -1)
    order = 2 if norm == "l2" else 1
    assert (np.linalg.norm(away, order, axis=1) <= epsilon * (1 + 1e-6)).all()
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
