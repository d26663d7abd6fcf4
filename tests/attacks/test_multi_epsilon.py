"""PGD that begins in a larger ball: it comes where the way leads outside, and ends inside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mnist_adv import attack
from mnist_adv.attacks.methods.multi_epsilon import MultiEpsilonPGD

EPSILON = 0.1
# (mean of the pixels, margin): from 0.5 every slope inside the ball leads to 0.4, where the margin
# is above 0. It is below 0 from 0.59 on, which is downhill from beyond the ball alone.
BENDS = ((0.0, 9.0), (0.35, 1.0), (0.58, 4.0), (0.59, -1.0), (1.0, -2.0))


def landscape(images: tf.Tensor) -> tf.Tensor:
    """Two logits, whose difference is piecewise linear in the mean of the pixels."""
    mean = tf.reduce_mean(images, axis=(1, 2, 3))
    at, values = (np.array(each, np.float32) for each in zip(*BENDS))
    slopes = np.diff(values) / np.diff(at)
    margin = values[0] + slopes[0] * mean
    for bend, change in zip(at[1:-1], np.diff(slopes)):
        margin += change * tf.nn.relu(mean - bend)
    return tf.stack([margin, tf.zeros_like(margin)], axis=1)


@pytest.fixture(scope="module")
def grey() -> np.ndarray:
    noise = np.random.default_rng(2).uniform(-0.02, 0.02, (6, 12, 12, 1))
    return (0.5 + noise - noise.mean(axis=(1, 2, 3), keepdims=True)).astype(np.float32)


def options(goal: str) -> dict[str, Any]:
    return {goal: 0 if goal == "labels" else 1, "norm": "linf", "epsilon": EPSILON}


@pytest.mark.parametrize("goal", ["labels", "targets"])
def test_it_comes_where_the_way_leads_outside_the_ball(grey: np.ndarray, goal: str) -> None:
    for method in ("pgd", "apgd_ce", "apgd_dlr", "mi_fgsm"):
        inside = attack(landscape, grey, method=method, restarts=5, **options(goal))
        assert not inside.success.any(), method
    found = attack(landscape, grey, method="pgd_multi_epsilon", **options(goal))
    assert found.success.all()
    assert (np.abs(found.adversarial - grey) <= EPSILON * (1 + 1e-6)).all()
    assert (landscape(found.adversarial).numpy().argmax(axis=1) == 1).all()
    small = attack(landscape, grey, method=MultiEpsilonPGD(first_radius=1), **options(goal))
    assert not small.success.any()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_what_lies_outside_the_budget_never_counts(grey: np.ndarray, norm: str) -> None:
    epsilon = {"linf": 0.05, "l2": 0.6, "l1": 7.0}[norm]  # 0.59 is beyond it
    result = attack(
        landscape,
        grey,
        labels=0,
        method="pgd_multi_epsilon",
        norm=norm,
        epsilon=epsilon,
        trace=True,
    )
    assert not result.success.any()
    assert result.trace is not None
    length = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    away = (result.trace.images - grey).reshape(*result.trace.images.shape[:2], -1)
    lengths = np.linalg.norm(away, length, axis=2)
    outside = (result.trace.logits.argmax(axis=2) == 1) & (lengths > epsilon)
    assert outside.any(axis=0).all()
    final = np.linalg.norm((result.adversarial - grey).reshape(len(grey), -1), length, axis=1)
    assert (final <= epsilon * (1 + 1e-5)).all()


def test_a_start_that_no_step_follows_does_not_count(grey: np.ndarray) -> None:
    def always(images: tf.Tensor) -> tf.Tensor:
        return tf.stack(
            [-tf.reduce_max(tf.abs(images - 0.5), axis=(1, 2, 3)), -0.01 * one(images)], 1
        )

    def one(images: tf.Tensor) -> tf.Tensor:
        return tf.ones_like(images[:, 0, 0, 0])

    shrunk: dict[str, Any] = {
        "labels": 0,
        "method": "pgd_multi_epsilon",
        "norm": "linf",
        "epsilon": 0.02,
    }
    nothing = attack(always, 0.5 + (grey - 0.5) / 100, max_queries=3, **shrunk)
    assert (nothing.num_queries + nothing.num_gradients == 3).all()
    assert not nothing.success.any()
    assert attack(always, 0.5 + (grey - 0.5) / 100, **shrunk).success.all()


def test_the_radius_falls_to_epsilon_in_half_of_the_steps(grey: np.ndarray) -> None:
    result = attack(
        landscape,
        grey,
        labels=0,
        method=MultiEpsilonPGD(num_steps=20, first_radius=3),
        norm="linf",
        epsilon=0.05,
        trace=True,
    )
    assert result.trace is not None
    lengths = np.abs(result.trace.images - grey).max(axis=(2, 3, 4)).max(axis=1)
    radius = 0.05 * (1 + 2 * np.maximum(1 - np.arange(21) / 10, 0))
    assert (lengths <= radius * (1 + 1e-5)).all()
    np.testing.assert_allclose(lengths[:10], radius[:10], rtol=0.05)
