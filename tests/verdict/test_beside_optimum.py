"""Attacks beside the optimum, float32 images, and the inverse question."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from mnist_adv import LinearModel, attack
from mnist_adv.data.datasets import Dataset
from mnist_adv.models.linear import linear_parts
from mnist_adv.models.softmax_regression import SoftmaxRegression
from mnist_adv.optimum import largest_lead, smallest_perturbation, to_float32
from mnist_adv.optimum.certificate import bounds
from mnist_adv.verdict import BelowOptimumError, compare
from tests.optimum.test_targeted import random_problem

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
    with pytest.raises(BelowOptimumError, match="trails by"):
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


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_float32_images_keep_their_class_and_stay_near(
    norm: str, trained: SoftmaxRegression, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    images, labels = digits
    W, b = trained.W.numpy(), trained.b.numpy()
    goals: tuple[dict[str, Any], ...] = ({"targets": (labels + 3) % 10}, {"labels": labels})
    for wanted in goals:
        optimum = smallest_perturbation(W, b, images, norm=norm, **wanted)
        rounded, kept = to_float32(W, b, optimum)
        assert rounded.dtype == np.float32 and kept.all()
        assert rounded.min() >= 0 and rounded.max() <= 1
        predictions = np.asarray(trained(rounded)).argmax(axis=1)
        if "targets" in wanted:
            np.testing.assert_array_equal(predictions, wanted["targets"])
        else:
            assert (predictions != labels).all()
        moved = (rounded.astype(np.float64) - images).reshape(COUNT, -1)
        distance = bounds.measure(norm, moved)
        assert (distance <= optimum.upper_bound * (1 + 1e-3) + 1e-4).all()
        if norm == "l0":
            np.testing.assert_array_equal(distance, optimum.upper_bound)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_inverse_question_inverts(norm: str) -> None:
    W, b, images, targets = random_problem(41, 25, 5, 20)
    epsilon = {"linf": 0.2, "l2": 0.6, "l1": 1.5}[norm]
    goals: tuple[dict[str, Any], ...] = ({"targets": targets}, {"labels": targets})
    for wanted in goals:
        lead = largest_lead(W, b, images, norm=norm, epsilon=epsilon, **wanted)
        assert (lead.upper_bound >= lead.lower_bound - 1e-12).all()
        assert (lead.upper_bound - lead.lower_bound).max() < 1e-6
        distance = bounds.measure(norm, lead.adversarial - images)
        assert (distance <= epsilon * (1 + 1e-12)).all()
        assert lead.adversarial.min() >= 0 and lead.adversarial.max() <= 1
        measured = bounds.leads(W, b, lead.adversarial, **wanted)
        np.testing.assert_allclose(measured, lead.lower_bound, atol=1e-12)
        optimum = smallest_perturbation(W, b, images, norm=norm, **wanted)
        np.testing.assert_array_equal(lead.certified, optimum.lower_bound > epsilon)
        # Asking for that lead as a margin needs the whole budget.
        for i in np.flatnonzero(lead.lower_bound > 0.01)[:4]:
            again = smallest_perturbation(
                W,
                b,
                images[i : i + 1],
                norm=norm,
                margin=lead.lower_bound[i],
                **{name: classes[i] for name, classes in wanted.items()},
            )
            assert again.upper_bound[0] <= epsilon * (1 + 1e-6)
            assert again.upper_bound[0] >= epsilon * (1 - 1e-4)


def test_log_odds_are_bounded_from_both_sides() -> None:
    W, b, images, targets = random_problem(42, 25, 4, 10)
    lead = largest_lead(W, b, images, targets, norm="l2", epsilon=0.5)
    low, high = lead.log_odds.T
    assert (low <= high).all() and (high - low).max() < 1e-6
    assert (high <= lead.upper_bound + 1e-6).all() and (low >= lead.lower_bound - np.log(3)).all()
    generator = np.random.default_rng(0)
    for _ in range(50):  # no image of the ball passes the upper bound
        d = generator.normal(size=images.shape)
        d *= 0.5 / np.linalg.norm(d, axis=1, keepdims=True)
        logits = np.clip(images + d, 0, 1) @ W + b
        others = np.delete(
            logits.reshape(-1), np.arange(len(images)) * 4 + targets
        ).reshape(len(images), 3)
        odds = logits[np.arange(len(images)), targets] - np.log(np.exp(others).sum(axis=1))
        assert (odds <= high).all()


def test_the_inverse_question_in_pixels() -> None:
    W, b, images, _ = random_problem(43, 20, 4, 15)
    labels = (images @ W + b).argmax(axis=1)
    optimum = smallest_perturbation(W, b, images, labels=labels, norm="l0")
    lead = largest_lead(W, b, images, labels=labels, norm="l0", epsilon=2)
    np.testing.assert_array_equal(lead.certified, optimum.upper_bound > 2)
    assert "at most" in lead.sentence(0)
    with pytest.raises(ValueError, match="norm must be"):
        largest_lead(W, b, images, 0, norm="l3", epsilon=1)
    with pytest.raises(ValueError, match="epsilon must be"):
        largest_lead(W, b, images, 0, norm="l2", epsilon=-1)
    with pytest.raises(ValueError, match="exactly one"):
        largest_lead(W, b, images, norm="l2", epsilon=1)
