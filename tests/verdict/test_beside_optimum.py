"""Attacks beside the optimum."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from mnist_adv import LinearModel, attack
from mnist_adv.data.datasets import Dataset
from mnist_adv.models.linear import linear_parts
from mnist_adv.models.softmax_regression import SoftmaxRegression
from mnist_adv.verdict import BelowOptimumError, Comparison, compare

COUNT = 40


@pytest.fixture(scope="module")
def digits(test_set: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Some test images and their labels."""
    return test_set.images[:COUNT], test_set.labels[:COUNT]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("targeted", [True, False])
def test_the_optimum_is_an_attack_that_no_attack_beats(
    norm: str,
    targeted: bool,
    trained: SoftmaxRegression,
    digits: tuple[np.ndarray, np.ndarray],
) -> None:
    images, labels = digits
    wanted: dict[str, Any] = {"labels": labels}
    if targeted:
        wanted = {"targets": (labels + 1) % 10}
    best = attack(trained, images, method="optimum", norm=norm, **wanted)
    optimum = best.certificate
    assert optimum is not None
    assert best.success.all()
    comparison = compare(trained, best)
    assert comparison.optimum is optimum
    moved = optimum.upper_bound > 1e-3
    assert np.nanmax(comparison.ratio[moved]) < 1 + 1e-3
    assert np.nanmin(comparison.ratio) > 1 - 1e-6
    pgd = attack(trained, images, norm=norm, num_steps=60, **wanted)
    above = compare(trained, pgd, optimum=optimum)
    assert np.nanmedian(above.ratio) > 1
    assert "above the smallest possible (median)" in above.sentence
    assert 0 < above.share_found(float(np.median(optimum.upper_bound))) <= 1


def test_a_claim_below_the_bound_stops_loudly(
    trained: SoftmaxRegression, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    images, labels = digits
    goal: dict[str, Any] = {"targets": (labels + 1) % 10, "norm": "l2"}
    result = attack(trained, images, method="optimum", **goal)
    optimum = result.certificate
    assert optimum is not None
    shorter = {**result.verdict.norms, "l2": result.verdict.norms["l2"] * 0.999}
    false = dataclasses.replace(result, verdict=dataclasses.replace(result.verdict, norms=shorter))
    with pytest.raises(BelowOptimumError, match="claims a l2 distance"):
        compare(trained, false, optimum=optimum)
    clean = dataclasses.replace(result, adversarial=result.images)
    with pytest.raises(BelowOptimumError, match="is short by"):
        compare(trained, clean, optimum=optimum)
    with pytest.raises(ValueError, match="must belong to"):
        compare(trained, result, optimum=dataclasses.replace(optimum, norm="linf"))


def test_only_linear_models_are_compared(
    network: Any, trained: SoftmaxRegression, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    images, labels = digits
    assert linear_parts(network) is None
    W, b = linear_parts(trained) or (None, None)
    adapter = LinearModel(W, b)
    np.testing.assert_allclose(adapter(images), trained(images), rtol=1e-6)
    with pytest.raises(ValueError, match="must be a SoftmaxRegression or a LinearModel"):
        attack(network, images, labels=labels, method="optimum")
    with pytest.raises(ValueError, match="must have shape"):
        LinearModel(np.zeros((3, 2)), np.zeros(3))


@pytest.mark.parametrize(
    ("ratio", "sentence"),
    [
        ([1.086], "8.6 % above the smallest possible"),
        ([1.5, 1.9], "70 % above the smallest possible (median)"),
        ([3.6], "3.6 times the smallest possible"),
        ([2.0, 260.0], "131 times the smallest possible (median)"),
    ],
)
def test_what_is_twice_as_far_is_told_in_times(ratio: list[float], sentence: str) -> None:
    distances = np.array(ratio)
    comparison = Comparison(None, distances, distances)  # type: ignore[arg-type]
    assert comparison.sentence == sentence
