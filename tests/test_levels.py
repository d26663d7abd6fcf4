"""Rounding to 256 levels: inside the budget, and still adversarial."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mnist_adv import attack, judge, to_levels
from mnist_adv.data import to_float
from mnist_adv.goals import Goal
from mnist_adv.models import SoftmaxRegression
from mnist_adv.norms import Norm
from mnist_adv.verdict import judge_goal


@pytest.mark.parametrize(
    ("norm", "epsilon", "step_size"), [("linf", 0.3, 0.004), ("l2", 3.0, 0.03)]
)
def test_what_plain_rounding_undoes_is_repaired(
    trained: SoftmaxRegression, test_set: Any, norm: str, epsilon: float, step_size: float
) -> None:
    images, labels = test_set.images[:200], test_set.labels[:200]
    result = attack(
        trained,
        images,
        targets=(labels + 1) % 10,
        norm=norm,
        epsilon=epsilon,
        step_size=step_size,
        num_steps=150,
    )
    question: dict[str, Any] = {"norm": norm, "epsilon": epsilon}
    plain = np.rint(255 * result.adversarial).astype(np.uint8)
    undone = (
        result.success
        & ~judge_goal(trained, images, to_float(plain), result.goal, **question).success
    )
    assert undone.sum() >= 5  # else the attack ended too far from the border to test anything
    levels = to_levels(
        trained, images, result.adversarial, result.goal, norm=Norm(norm), epsilon=epsilon
    )
    kept = judge_goal(trained, images, to_float(levels), result.goal, **question)
    assert levels.dtype == np.uint8
    assert kept.success[result.success].all()
    # a repair, not another attack: no image gets longer than rounding itself may make it
    assert (kept.norms[norm] <= result.verdict.norms[norm] + 2 / 255)[result.success].all()


def test_at_the_very_border_of_the_budget(trained: SoftmaxRegression, test_set: Any) -> None:
    # the smallest budgets at which these attacks just succeed: nothing is left to spare
    images, targets = test_set.images[:8], (test_set.labels[:8] + 1) % 10
    for norm, order in (("linf", np.inf), ("l2", 2)):
        fine = attack(
            trained,
            images,
            targets=targets,
            norm=norm,
            step_size={"linf": 0.001, "l2": 0.01}[norm],
            num_steps=400,
        )
        for index in np.flatnonzero(fine.success):
            epsilon = float(fine.verdict.norms[norm][index]) * 1.002
            goal = Goal(targets[index : index + 1], targeted=True)
            pair = (images[index : index + 1], fine.adversarial[index : index + 1])
            levels = to_levels(trained, *pair, goal, norm=Norm(norm), epsilon=epsilon)
            verdict = judge_goal(
                trained, pair[0], to_float(levels), goal, norm=norm, epsilon=epsilon
            )
            assert verdict.in_budget.all(), (norm, index)


@functools.cache
def one_model() -> SoftmaxRegression:
    """Attacks are compiled once per model, not once per example."""
    return SoftmaxRegression()


@given(
    norm=st.sampled_from([Norm.LINF, Norm.L2, Norm.L1]),
    epsilon=st.floats(0, 1.5),
    on_grid=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(derandomize=True, deadline=None, max_examples=25, phases=[Phase.generate])
def test_the_budget_holds_whatever_the_images(
    norm: Norm, epsilon: float, on_grid: bool, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    model = one_model()
    model.W.assign(generator.normal(0, 1, (784, 10)).astype(np.float32))
    clean = generator.integers(0, 256, (1, 28, 28, 1)).astype(np.uint8)
    images = to_float(clean)
    if not on_grid and norm is not Norm.L1:  # 784 roundings would outweigh any l1 budget
        images = np.clip(images + generator.uniform(-0.001, 0.001, images.shape), 0, 1)
        images = images.astype(np.float32)
        # images between the levels cannot be kept closer than their own rounding
        epsilon += 0.5 / 255 * {Norm.LINF: 1, Norm.L2: 28}[norm]
    target = int(generator.integers(0, 10))
    result = attack(model, images, targets=target, norm=norm, epsilon=epsilon)
    levels = to_levels(
        model, images, result.adversarial, result.goal, norm=norm, epsilon=epsilon, max_rounds=5
    )
    verdict = judge(
        model, images, to_float(levels), targets=target, norm=norm.value, epsilon=epsilon
    )
    assert verdict.in_budget.all() and verdict.in_range.all()


def test_epsilon_zero_keeps_every_level(trained: SoftmaxRegression, seven: np.ndarray) -> None:
    goal = Goal(np.array([2]), targeted=True)
    for norm in Norm:
        images = seven[np.newaxis]
        levels = to_levels(trained, images, images, goal, norm=norm, epsilon=0.0)
        np.testing.assert_array_equal(to_float(levels), images)
