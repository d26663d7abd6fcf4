"""The checker: it accepts what is proved and refuses every kind of wrong claim."""

from __future__ import annotations

import ast
import inspect
import types
from typing import Any

import numpy as np
import pytest

from mnist_adv.optimum import Certificate, Optimum, Status, check, smallest_perturbation
from mnist_adv.optimum.certificate import bounds, in_ball, smallest
from tests.optimum.test_targeted import random_problem

W, B, IMAGES, TARGETS = random_problem(31, 30, 5, 12)
AWAY = (IMAGES @ W + B).argmax(axis=1) != TARGETS
IMAGES, TARGETS = IMAGES[AWAY], TARGETS[AWAY]
NORMS = ("linf", "l2", "l1")


@pytest.fixture(scope="module", params=NORMS)
def optimum(request: pytest.FixtureRequest) -> Optimum:
    """A correct answer in each norm."""
    return smallest_perturbation(W, B, IMAGES, TARGETS, norm=request.param)


def judge(optimum: Optimum, **changes: Any) -> Certificate:
    """Check the answer, with some of it replaced."""
    claim: dict[str, Any] = {
        "adversarial": optimum.adversarial,
        "dual_variables": optimum.dual_variables,
        "claimed_lower": optimum.lower_bound,
        "claimed_upper": optimum.upper_bound,
        **changes,
    }
    return check(W, B, IMAGES, norm=optimum.norm, targets=TARGETS, **claim)


def test_the_checker_imports_nothing_of_the_solvers() -> None:
    own = {"__future__", "dataclasses", "typing", "numpy"}
    assert _imports(bounds) <= own
    for module in (smallest, in_ball):
        assert _imports(module) <= own | {"mnist_adv.optimum.certificate.bounds"}


def _imports(module: types.ModuleType) -> set[str | None]:
    found: set[str | None] = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ImportFrom):
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def test_correct_answers_are_accepted(optimum: Optimum) -> None:
    assert judge(optimum).accepted.all()
    assert judge(optimum, dual_variables=optimum.dual_variables * 7.5).accepted.all()  # any scale


def test_wrong_dual_variables_are_refused(optimum: Optimum) -> None:
    for wrong in (
        np.zeros_like(optimum.dual_variables),
        np.roll(optimum.dual_variables, 1, axis=1),
        optimum.dual_variables + 0.05 * optimum.dual_variables.max(axis=1, keepdims=True),
        -optimum.dual_variables,
        np.full_like(optimum.dual_variables, np.nan),
    ):
        verdict = judge(optimum, dual_variables=wrong)
        assert not verdict.accepted.any()
        assert all(verdict.reasons)
        negative = not (wrong >= 0).all()
        assert all(("negative or not finite" in why) == negative for why in verdict.reasons)
        # ... and whatever the dual variables, the bound they give is a true one.
        assert (verdict.lower_bound <= optimum.upper_bound * (1 + 1e-9)).all()


def test_wrong_images_are_refused(optimum: Optimum) -> None:
    away = optimum.perturbation
    short = judge(optimum, adversarial=IMAGES + 0.999 * away)
    assert not short.accepted.any() and np.isinf(short.upper_bound).all()
    assert (short.gap == 1).all()
    outside = optimum.adversarial.copy()
    outside[:, 0] = 1.0 + 1e-7
    assert all("leaves the box" in reason for reason in judge(optimum, adversarial=outside).reasons)
    nan = optimum.adversarial.copy()
    nan[:, 0] = np.nan
    assert not judge(optimum, adversarial=nan).accepted.any()
    # A feasible image, but a farther one than the claim: an interior move of one more pixel.
    farther = np.clip(IMAGES + 1.2 * away, 0, 1)
    verdict = judge(optimum, adversarial=farther)
    assert not verdict.accepted.any()


def test_wrong_gaps_are_refused(optimum: Optimum) -> None:
    for changes in (
        {"claimed_lower": optimum.lower_bound * (1 + 1e-6)},
        {"claimed_upper": optimum.upper_bound * (1 - 1e-6)},
        {"claimed_lower": np.full(len(IMAGES), np.nan)},
        {"claimed_lower": np.full(len(IMAGES), np.inf)},
    ):
        assert not judge(optimum, **changes).accepted.any()
    strict = judge(optimum, allowed_gap=0.0)
    assert not strict.accepted.all()


def test_false_proofs_of_impossibility_are_refused(optimum: Optimum) -> None:
    verdict = judge(
        optimum,
        adversarial=IMAGES,
        claimed_lower=np.full(len(IMAGES), np.inf),
        claimed_upper=np.full(len(IMAGES), np.inf),
    )
    assert not verdict.accepted.any()


def test_any_dual_variables_give_a_true_bound() -> None:
    generator = np.random.default_rng(5)
    for norm in (*NORMS, "l0"):
        answer = smallest_perturbation(W, B, IMAGES, TARGETS, norm=norm)
        for _ in range(20):
            guess = generator.exponential(1, answer.dual_variables.shape)
            bound = bounds.lower_bounds(
                W, B, IMAGES, norm=norm, targets=TARGETS, dual_variables=guess
            )
            assert (bound <= answer.upper_bound * (1 + 1e-9)).all()


@pytest.mark.parametrize("norm", [*NORMS, "l0"])
def test_nothing_is_needed_where_the_goal_is_met(norm: str) -> None:
    there = (IMAGES @ W + B).argmax(axis=1)
    met: tuple[dict[str, Any], ...] = (
        {"targets": there, "dual_variables": np.ones((len(IMAGES), W.shape[1]))},
        {"labels": TARGETS},
    )
    for wanted in met:
        assert (bounds.lower_bounds(W, B, IMAGES, norm=norm, **wanted) == 0).all()
    away: dict[str, Any] = {"norm": norm, "labels": there}
    defaults = bounds.lower_bounds(W, B, IMAGES, **away)
    explicit = bounds.lower_bounds(W, B, IMAGES, **away, margin=0.0, lower=0.0, upper=1.0)
    np.testing.assert_array_equal(defaults, explicit)
    assert (defaults > 0).all()


@pytest.mark.parametrize("norm", [*NORMS, "l0"])
def test_what_no_pixel_can_reach_is_infinitely_far(norm: str) -> None:
    # One pixel, which decides by its value: at 1 the second class leads by 1.
    problem: dict[str, Any] = {"norm": norm, "targets": [1], "dual_variables": [[1.0, 0.0]]}
    for margin, reachable in ((0.99, True), (1.01, False), (1.3, False)):
        bound = bounds.lower_bounds([[0.0, 1.0]], [0.0, 0.0], [[0.25]], margin=margin, **problem)
        assert np.isfinite(bound).all() == reachable


def test_a_box_may_differ_from_pixel_to_pixel(optimum: Optimum) -> None:
    low, high = np.minimum(IMAGES.min(axis=0), 0.2), np.maximum(IMAGES.max(axis=0), 0.7)
    options: dict[str, Any] = {"norm": optimum.norm, "targets": TARGETS}
    found = smallest_perturbation(W, B, IMAGES, **options, lower=low, upper=high)
    claim: dict[str, Any] = {
        "adversarial": found.adversarial,
        "dual_variables": found.dual_variables,
    }
    feasible = np.isfinite(found.upper_bound)
    verdict = check(W, B, IMAGES, **options, **claim, lower=low, upper=high)
    assert verdict.accepted[feasible].all() and feasible.sum() > 3
    narrower = np.minimum(high, found.adversarial.max(axis=0) - 0.01)  # leaves an answer outside
    assert not check(W, B, IMAGES, **options, **claim, lower=low, upper=narrower).accepted.all()


def test_shapes_that_do_not_fit_are_named(optimum: Optimum) -> None:
    with pytest.raises(ValueError, match="equally many"):
        judge(optimum, adversarial=optimum.adversarial[1:])
    with pytest.raises(ValueError, match="exactly one"):
        check(W, B, IMAGES, IMAGES, norm="l2")
    with pytest.raises(ValueError, match="one class per image"):
        check(W, B, IMAGES, IMAGES, norm="l2", labels=3)


def test_results_explain_themselves(optimum: Optimum) -> None:
    assert (optimum.status == Status.OPTIMAL).all()
    sentence = optimum.sentence(0)
    assert sentence.startswith(f"{optimum.norm} to be classified as {TARGETS[0]}: no smaller")
    assert f"{optimum.upper_bound[0]:.9g}" in sentence
    statistics = optimum.statistics()
    assert statistics["status"]["optimal"] == len(IMAGES)
    assert statistics["largest_gap"] <= 1e-6
    assert repr(optimum).startswith(f"Optimum(targeted, {optimum.norm}: {len(IMAGES)} optimal, ")
