"""Attacks that lead each image towards one class after another, and what they count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mnist_adv import attack
from mnist_adv.models.softmax_regression import SoftmaxRegression

pytestmark = pytest.mark.slow

COUNT = 12
LEADERS: list[tuple[str, dict[str, Any]]] = [
    ("pgd", {"loss": "margin", "norm": "l2", "epsilon": 0.4}),
    ("apgd_dlr", {"norm": "linf", "epsilon": 0.015}),
    ("apgd_ce", {"norm": "l1", "epsilon": 3.0}),
    ("square", {"norm": "linf", "epsilon": 0.06}),
]


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(2).uniform(0.2, 0.8, (COUNT, 28, 28, 1)).astype(np.float32)


@pytest.mark.parametrize(("name", "options"), LEADERS)
def test_each_image_is_led_to_its_likeliest_classes_until_it_leaves_its_own(
    toy: SoftmaxRegression, images: np.ndarray, name: str, options: dict[str, Any]
) -> None:
    logits = toy(images).numpy()
    labels = logits.argmax(axis=1)
    options = {"method": name, "num_steps": 5, "stop_early": False, **options}
    led = attack(toy, images, labels=labels, num_targets=2, **options)
    order = np.argsort(-logits, axis=1)
    alone = [attack(toy, images, targets=order[:, rank], **options) for rank in (1, 2)]
    queries = np.zeros(COUNT, np.int64)
    broken = np.zeros(COUNT, bool)
    for run in alone:
        # One more query ranks the classes, in each run of the loop: four of them in L1.
        runs = 4 if options["norm"] == "l1" else 1
        queries[~broken] += run.num_queries[~broken] + runs
        first = ~broken & (run.verdict.predictions != labels)
        np.testing.assert_array_equal(led.adversarial[first], run.adversarial[first])
        broken |= run.verdict.predictions != labels
    np.testing.assert_array_equal(led.success, broken)
    assert 0 < broken.sum() < COUNT
    np.testing.assert_array_equal(led.num_queries, queries)


def test_goals_with_a_target_have_no_other(toy: SoftmaxRegression, images: np.ndarray) -> None:
    targets = toy(images).numpy().argmin(axis=1)
    options: dict[str, Any] = {"targets": targets, "method": "apgd_dlr", "num_steps": 4}
    one, led = (attack(toy, images, num_targets=n, **options) for n in (0, 9))
    np.testing.assert_array_equal(one.adversarial, led.adversarial)
    np.testing.assert_array_equal(one.num_queries, led.num_queries)


@pytest.mark.parametrize(("num_classes", "targeted"), [(2, True), (2, False), (3, True)])
def test_too_few_classes_for_dlr_descend_the_margin(
    images: np.ndarray, num_classes: int, targeted: bool
) -> None:
    model = SoftmaxRegression(num_classes=num_classes)
    weights = np.random.default_rng(7).normal(0, 0.2, (784, num_classes))
    model.W.assign(weights.astype(np.float32))
    labels = model(images).numpy().argmax(axis=1)
    goal = {"targets": (labels + 1) % num_classes} if targeted else {"labels": labels}
    options: dict[str, Any] = {"epsilon": 0.02, "num_steps": 4, **goal}
    dlr, margin = (
        attack(model, images, method="apgd_ce", loss=loss, **options) for loss in ("dlr", "margin")
    )
    np.testing.assert_array_equal(dlr.adversarial, margin.adversarial)
    assert np.any(dlr.perturbation)
    led = attack(model, images, labels=labels, method="apgd_t", epsilon=0.2, num_steps=4)
    assert led.success.all()
