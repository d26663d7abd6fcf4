"""Closed forms of one constraint, and the nearest border of all, against brute force and HiGHS."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.optimum_oracles import highs, quadratic
from mnist_adv.optimum import Status, check, smallest_perturbation
from mnist_adv.optimum.in_ball.support import support_function
from mnist_adv.optimum.solvers.one_constraint import smallest
from tests.optimum.test_targeted import random_problem

NORMS = ("linf", "l2", "l1", "l0")


def test_one_constraint_by_hand() -> None:
    magnitudes = np.array([2.0, 1.0, 0.5])
    ranges = np.array([[0.25, 1.0, 1.0]])
    expected = {
        # 2 * 0.25 + 1 * e + 0.5 * e = 1.25 once the first pixel is at its end
        "linf": (0.5, [0.25, 0.5, 0.5]),
        # 2 * 0.25 + t + 0.25 t = 1.25 likewise
        "l2": (np.sqrt(0.25**2 + 0.6**2 + 0.3**2), [0.25, 0.6, 0.3]),
        "l1": (1.0, [0.25, 0.75, 0.0]),
        "l0": (2.0, [0.25, 1.0, 0.0]),
    }
    for norm, (size, perturbations) in expected.items():
        for shape in (magnitudes, magnitudes[np.newaxis]):
            got, how = smallest(norm, shape, ranges, np.array([1.25]))
            assert got[0] == pytest.approx(size, rel=1e-14)
            np.testing.assert_allclose(how[0], perturbations, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.97, 1.2])
def test_only_the_strongest_are_sorted_but_all_count(share: float) -> None:
    generator = np.random.default_rng(7)
    magnitudes = generator.exponential(1, (5, 400)).round(2)  # with ties and zeros
    ranges = generator.uniform(0, 1, (5, 400)) * (generator.random((5, 400)) < 0.7)
    rhs = share * (magnitudes * ranges).sum(axis=1)
    sizes, perturbations = smallest("l1", magnitudes, ranges, rhs)
    for i in range(5):  # strengths shared by all images are sorted as a whole
        size, move = smallest("l1", magnitudes[i], ranges[i : i + 1], rhs[i : i + 1])
        assert sizes[i] == pytest.approx(size[0], rel=1e-12)
        assert perturbations[i].sum() == pytest.approx(move[0].sum(), rel=1e-12)
        assert np.isinf(sizes[i]) == (share > 1)
        if share <= 1:
            assert (magnitudes[i] * perturbations[i]).sum() == pytest.approx(rhs[i], rel=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_no_need_no_move_and_no_way_no_answer(norm: str) -> None:
    magnitudes, ranges = np.array([[1.0, 3.0]]), np.array([[0.5, 0.25]])
    assert smallest(norm, magnitudes, ranges, np.array([0.0]))[0] == 0
    assert smallest(norm, magnitudes, ranges, np.array([-1.0]))[0] == 0
    assert np.isinf(smallest(norm, magnitudes, ranges, np.array([1.2500001]))[0])
    assert np.isfinite(smallest(norm, magnitudes, ranges, np.array([1.25]))[0])
    assert np.isinf(smallest(norm, 0 * magnitudes, ranges, np.array([1e-9]))[0])


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    norm=st.sampled_from(NORMS),
    pixels=st.integers(1, 30),
    share=st.floats(0.01, 1.0),
)
def test_need_and_budget_are_inverse(seed: int, norm: str, pixels: int, share: float) -> None:
    generator = np.random.default_rng(seed)
    magnitudes = generator.exponential(1, (3, pixels)) * (generator.random((3, pixels)) < 0.8)
    ranges = np.clip(generator.uniform(-0.3, 1.2, (3, pixels)), 0, 1)
    rhs = share * (magnitudes * ranges).sum(axis=1)
    sizes, perturbations = smallest(norm, magnitudes, ranges, rhs)
    assert (perturbations >= 0).all() and (perturbations <= ranges).all()
    assert ((magnitudes * perturbations).sum(axis=1) >= rhs * (1 - 1e-12)).all()
    for i in range(3):
        gain, _ = support_function(norm, magnitudes[i : i + 1], ranges[i : i + 1], float(sizes[i]))
        if norm == "l0":
            assert gain[0] >= rhs[i] * (1 - 1e-12)
            fewer, _ = support_function(
                norm, magnitudes[i : i + 1], ranges[i : i + 1], sizes[i] - 1
            )
            assert sizes[i] == 0 or fewer[0] < rhs[i]
        else:
            assert gain[0] == pytest.approx(rhs[i], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("margin", [0.0, 0.4])
def test_the_nearest_border_is_the_least_over_rivals(norm: str, margin: float) -> None:
    W, b, images, _ = random_problem(21, 12, 5, 30)
    labels = (images @ W + b).argmax(axis=1)
    labels[:3] = (labels[:3] + 1) % 5  # some are outside their class already
    optimum = smallest_perturbation(W, b, images, labels=labels, norm=norm, margin=margin)
    for i, (image, label) in enumerate(zip(images, labels)):
        expected = min(
            _one_rival(norm, W, b, image, label, rival, margin)
            for rival in range(5)
            if rival != label
        )
        assert optimum.upper_bound[i] == pytest.approx(expected, rel=1e-8, abs=1e-9)
    certificate = check(
        W,
        b,
        images,
        optimum.adversarial,
        norm=norm,
        labels=labels,
        margin=margin,
        claimed_lower=optimum.lower_bound,
        claimed_upper=optimum.upper_bound,
    )
    assert certificate.accepted.all(), certificate.reasons
    if margin == 0:
        assert (optimum.status[:3] == Status.ALREADY).all()


def _one_rival(
    norm: str,
    W: np.ndarray,
    b: np.ndarray,
    image: np.ndarray,
    label: int,
    rival: int,
    margin: float,
) -> float:
    coefficients = W[:, rival] - W[:, label]
    rhs = (image @ W + b)[label] - (image @ W + b)[rival] + margin
    if rhs <= 0:
        return 0.0
    if norm == "l2":
        return quadratic(coefficients[np.newaxis], np.array([rhs]), 1 - image, image)
    if norm != "l0":
        return highs(norm, coefficients[np.newaxis], np.array([rhs]), 1 - image, image)
    gains = np.maximum(coefficients * (1 - image), -coefficients * image)
    for size in range(1, len(image) + 1):
        if any(gains[list(c)].sum() >= rhs for c in itertools.combinations(range(12), size)):
            return size
    return np.inf


@pytest.mark.parametrize("norm", NORMS)
def test_a_classifier_that_cannot_be_left(norm: str) -> None:
    W, b = np.zeros((4, 3)), np.array([1.0, 0.0, 0.0])
    images = np.full((2, 4), 0.5)
    optimum = smallest_perturbation(W, b, images, labels=0, norm=norm)
    assert (optimum.status == Status.INFEASIBLE).all()
    np.testing.assert_array_equal(optimum.adversarial, images)
    certificate = check(W, b, images, images, norm=norm, labels=np.zeros(2, int))
    assert certificate.accepted.all()


def test_any_box_and_any_shape() -> None:
    generator = np.random.default_rng(4)
    W, b = generator.normal(size=(12, 3)), generator.normal(size=3)
    lower, upper = -generator.uniform(1, 2, 12), generator.uniform(1, 2, 12)
    upper[3] = lower[3] = 0.5  # a pixel that cannot move
    images = generator.uniform(lower, upper, (10, 12)).reshape(10, 3, 4)
    labels = (images.reshape(10, 12) @ W + b).argmax(axis=1)
    for norm in NORMS:
        goals: tuple[dict[str, Any], ...] = ({"labels": labels}, {"targets": (labels + 1) % 3})
        for wanted in goals:
            optimum = smallest_perturbation(
                W, b, images, norm=norm, lower=lower, upper=upper, **wanted
            )
            assert optimum.adversarial.shape == (10, 3, 4)
            assert (optimum.perturbation.reshape(10, 12)[:, 3] == 0).all()
            certificate = check(
                W,
                b,
                images,
                optimum.adversarial,
                norm=norm,
                dual_variables=optimum.dual_variables,
                lower=lower,
                upper=upper,
                **wanted,
            )
            assert certificate.in_box.all() and (certificate.shortfall <= 0).all()
            assert certificate.accepted.all() or norm == "l0"
