"""Rounding to 256 levels: inside the budget, and still adversarial."""

from __future__ import annotations

import functools
import pathlib
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mnist_adv import attack, judge, to_levels
from mnist_adv.attacks.registry import ATTACKS
from mnist_adv.data.datasets import to_float
from mnist_adv.geometry.norms import Norm
from mnist_adv.gradients.goals import Goal
from mnist_adv.models.softmax_regression import SoftmaxRegression
from mnist_adv.quantize.ball import GridBudget
from mnist_adv.quantize.moves import out_of_reach
from mnist_adv.reporting.saved_attack import save
from mnist_adv.verdict.judge import judge_goal


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
    for norm in ("linf", "l2"):
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


@pytest.mark.slow
@given(
    norm=st.sampled_from(list(Norm)),
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
    if norm is Norm.L0:
        epsilon = float(round(20 * epsilon))
    if not on_grid and norm in (Norm.LINF, Norm.L2):  # else 784 roundings outweigh any budget
        images = np.clip(images + generator.uniform(-0.001, 0.001, images.shape), 0, 1)
        images = images.astype(np.float32)
        # images between the levels cannot be kept closer than their own rounding
        epsilon += 0.5 / 255 * {Norm.LINF: 1, Norm.L2: 28}[norm]
    target = int(generator.integers(0, 10))
    goal = Goal(np.array([target]), targeted=True)
    if norm is Norm.L0:
        adversarial = images.copy()
        changed = generator.choice(784, int(epsilon), replace=False)
        adversarial.reshape(-1)[changed] = generator.uniform(0, 1, len(changed))
    else:
        adversarial = attack(model, images, targets=target, norm=norm, epsilon=epsilon).adversarial
    levels = to_levels(model, images, adversarial, goal, norm=norm, epsilon=epsilon, max_rounds=5)
    verdict = judge(
        model, images, to_float(levels), targets=target, norm=norm.value, epsilon=epsilon
    )
    assert verdict.in_budget.all() and verdict.in_range.all()


def test_a_clean_pixel_between_the_levels_is_where_the_budget_starts(
    trained: SoftmaxRegression,
) -> None:
    levels = np.linspace(20, 220, 784).reshape(1, 28, 28, 1)  # most of them no whole numbers
    epsilon = 20 / 255
    images, adversarial = (levels / 255).astype(np.float32), (levels / 255 + epsilon)
    goal = Goal(np.array([3]), targeted=True)
    made = (trained, images, adversarial.astype(np.float32), goal)
    rounded = to_levels(*made, norm=Norm.LINF, epsilon=epsilon, max_rounds=0)
    np.testing.assert_array_equal(rounded, np.floor(levels + 20 + 1e-4))
    verdict = judge(trained, images, to_float(rounded), targets=3, norm="linf", epsilon=epsilon)
    assert verdict.in_budget.all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_every_success_of_a_small_budget_survives(
    trained: SoftmaxRegression, test_set: Any, norm: str
) -> None:
    images, labels = test_set.images[:100], test_set.labels[:100]
    method, epsilon = (
        ("jsma", 30.0) if norm == "l0" else ("pgd", {"linf": 25 / 255, "l2": 1.5}.get(norm, 12.0))
    )
    found = attack(trained, images, labels=labels, norm=norm, epsilon=epsilon, method=method)
    levels = to_levels(
        trained, images, found.adversarial, found.goal, norm=Norm(norm), epsilon=epsilon
    )
    kept = judge(trained, images, to_float(levels), labels=labels, norm=norm, epsilon=epsilon)
    assert found.success.sum() > 80
    assert kept.success[found.success].all()


def test_every_confident_success_survives(trained: SoftmaxRegression, test_set: Any) -> None:
    def model(images: Any) -> tf.Tensor:
        assert tuple(images.shape[1:]) == (28, 28, 1)
        return trained(images)

    images, labels = test_set.images[:100], test_set.labels[:100]
    question: dict[str, Any] = {"norm": "l2", "epsilon": 2.0, "confidence": 0.8}
    found = attack(trained, images, labels=labels, step_size=0.02, num_steps=150, **question)
    made = (model, images, found.adversarial, found.goal)
    levels = to_levels(*made, norm=Norm.L2, epsilon=2.0)
    plain = to_levels(*made, norm=Norm.L2, epsilon=2.0, max_rounds=0)
    repaired, rounded = (
        judge(trained, images, to_float(part), labels=labels, **question).success
        for part in (levels, plain)
    )
    assert found.success.sum() > 60 and not rounded[found.success].all()
    assert repaired[found.success].all()


def test_an_l0_budget_counts_pixels_in_any_box(trained: SoftmaxRegression, test_set: Any) -> None:
    images, count = test_set.images[:6], 5
    changed = images.reshape(6, -1).copy()
    for row, generator in zip(changed, np.random.default_rng(2).spawn(6)):
        chosen = generator.choice(784, count, replace=False)
        row[chosen] = np.where(row[chosen] > 0.5, 0.1234, 0.8765)
    changed = changed.reshape(images.shape)
    goal = Goal(test_set.labels[:6], targeted=False)
    options: dict[str, Any] = {"norm": Norm.L0, "max_rounds": 0}
    wanted = np.rint(255 * changed)
    whole = to_levels(trained, images, changed, goal, epsilon=float(count), **options)
    np.testing.assert_array_equal(whole, wanted)
    wide = (4 * np.stack([images, changed]) - 1).astype(np.float32)
    there = to_levels(
        trained, wide[0], wide[1], goal, epsilon=float(count), bounds=(-1.0, 3.0), **options
    )
    np.testing.assert_array_equal(there, wanted)


# Within these most goals can be met.
BUDGET = {Norm.LINF: 0.1, Norm.L2: 1.3, Norm.L1: 14.0, Norm.L0: 20.0}
# The other ensembles are settings of `autoattack`.
THREATS = [
    (name, norm)
    for name, row in ATTACKS.items()
    if not name.startswith("autoattack_")
    for norm in row.attack.norms
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "norm"), THREATS, ids=lambda value: getattr(value, "value", value)
)
def test_what_an_attack_missed_stays_missed(
    trained: SoftmaxRegression,
    test_set: Any,
    tmp_path: pathlib.Path,
    many_lanes: None,
    name: str,
    norm: Norm,
) -> None:
    images, targets = test_set.images[:40], (test_set.labels[:40] + 1) % 10
    chosen, missed_any = ATTACKS[name].attack, False
    more: dict[str, Any] = {}
    if chosen.needs_donors:
        more["donors"] = test_set.images[500:700], test_set.labels[500:700]
    for share, num_steps in ((0.2, 10), (0.5, 10), (1.0, 1)):
        question: dict[str, Any] = {"norm": norm, "epsilon": share * BUDGET[norm]}
        steps = num_steps if chosen.takes_steps else None
        found = attack(
            trained, images, targets=targets, method=name, num_steps=steps, **question, **more
        )
        made = (trained, images, found.adversarial, found.goal)
        levels, rounded = to_levels(*made, **question), to_levels(*made, **question, max_rounds=0)
        met, missed = found.success, ~found.success
        missed_any |= bool(missed.any())
        np.testing.assert_array_equal(levels[missed], rounded[missed])
        saved = judge_goal(trained, images, to_float(levels), found.goal, **question)
        assert saved.in_budget[met].all() and saved.in_range.all()
        for index in (
            np.flatnonzero(missed)[:3].tolist() + np.flatnonzero(saved.success & missed).tolist()
        ):
            one = attack(
                trained,
                images[index],
                targets=targets[index],
                method=name,
                num_steps=steps,
                **question,
                **more,
            )
            assert not save(tmp_path / "saved.png", trained, one).success
    assert missed_any


def test_an_image_outside_its_budget_or_box_is_not_repaired(
    trained: SoftmaxRegression, test_set: Any
) -> None:
    images, labels = test_set.images[:40], test_set.labels[:40]
    found = attack(trained, images, labels=labels, norm="l2", step_size=0.01, num_steps=300)
    assert found.success.all()
    lengths = found.verdict.norms["l2"]
    beyond = np.where(
        found.adversarial == found.adversarial.max(axis=(1, 2, 3), keepdims=True),
        np.float32(1.001),
        found.adversarial,
    )
    for adversarial, epsilon in (
        (found.adversarial, np.maximum(lengths - 2e-3, 0)),
        (beyond, lengths + 1),
    ):
        made = (trained, images, adversarial, found.goal)
        question: dict[str, Any] = {"norm": Norm.L2, "epsilon": epsilon}
        rounded = to_levels(*made, **question, max_rounds=0)
        kept = judge_goal(trained, images, to_float(rounded), found.goal, **question)
        assert not kept.success.all()  # else there would be nothing to repair
        np.testing.assert_array_equal(to_levels(*made, **question), rounded)


@given(norm=st.sampled_from(list(Norm)), seed=st.integers(0, 10**6), epsilon=st.floats(0.01, 1))
@settings(derandomize=True, deadline=None, max_examples=200)
def test_what_is_within_reach_is_never_given_up(norm: Norm, seed: int, epsilon: float) -> None:
    # the best images of the ball for a linear margin, by hand, and random ones
    generator = np.random.default_rng(seed)
    pixels = 6
    origin = generator.integers(0, 256, (1, pixels)) * generator.integers(0, 2, (1, pixels))
    slope = generator.normal(size=(1, pixels)) * generator.integers(0, 2, (1, pixels))
    radius = {Norm.LINF: epsilon, Norm.L2: 2 * epsilon, Norm.L1: 4 * epsilon, Norm.L0: 3.0}[norm]
    budget = GridBudget(origin.astype(np.float64), norm, np.array([radius]))
    far = generator.uniform(-1, 1, (500, pixels)) * 10 ** generator.uniform(-2, 1, (500, pixels))
    far[:250] = -slope * 10 ** generator.uniform(-1, 2, (250, 1))
    many = GridBudget(np.repeat(budget.origin, 500, axis=0), norm, np.repeat(radius, 500))
    inside = np.clip(many.origin + 255 * far, *many.ends())
    inside = inside[many.holds(inside)]
    now = budget.origin
    fall = (slope * (now - inside)).sum(axis=1) / 255
    if len(fall):
        assert not out_of_reach(now, slope, np.array([fall.max()]), budget)[0]
    if norm is Norm.LINF:  # where the corner is the best, to the last bit
        low, high = budget.ends()
        corner = np.where(slope > 0, low, high)
        most = (slope * (now - corner)).sum(axis=1) / 255
        assert not out_of_reach(now, slope, most, budget)[0]
        assert out_of_reach(now, slope, most + 1e-3, budget)[0]


def test_epsilon_zero_keeps_every_level(trained: SoftmaxRegression, seven: np.ndarray) -> None:
    goal = Goal(np.array([2]), targeted=True)
    for norm in Norm:
        images = seven[np.newaxis]
        levels = to_levels(trained, images, images, goal, norm=norm, epsilon=0.0)
        np.testing.assert_array_equal(to_float(levels), images)


def test_a_model_without_gradient_is_rounded_and_left_at_that(
    trained: SoftmaxRegression, test_set: Any
) -> None:
    def closed(images: Any) -> tf.Tensor:
        logits = tf.numpy_function(lambda values: trained(values).numpy(), [images], tf.float32)
        return tf.ensure_shape(logits, [None, 10])

    images, labels = test_set.images[:20], test_set.labels[:20]
    found = attack(trained, images, labels=labels, epsilon=0.1)
    levels = to_levels(closed, images, found.adversarial, found.goal, norm=Norm.LINF, epsilon=0.1)
    plain = to_levels(
        trained, images, found.adversarial, found.goal, norm=Norm.LINF, epsilon=0.1, max_rounds=0
    )
    np.testing.assert_array_equal(levels, plain)
