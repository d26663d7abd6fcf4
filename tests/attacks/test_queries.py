"""Queries against a count of our own, and budgets of them."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mnist_adv import LinearModel, attack
from mnist_adv.attacks.methods.carlini_wagner import CarliniWagner
from mnist_adv.attacks.methods.ensemble import Ensemble
from mnist_adv.attacks.registry import ATTACKS
from mnist_adv.geometry.norms import Norm
from mnist_adv.tensors import compilation

SHAPE, CLASSES, COUNT = (6, 5, 1), 5, 6
_generator = np.random.default_rng(7)
WEIGHTS = _generator.normal(0, 0.4, (30, CLASSES)).astype(np.float32)
IMAGES = _generator.uniform(0.2, 0.8, (COUNT, *SHAPE)).astype(np.float32)
# The image of each class that the model is surest of, less what it says of the others.
DONORS = (WEIGHTS.mean(axis=1) < WEIGHTS.T).astype(np.float32).reshape(CLASSES, *SHAPE)
LABELS = (IMAGES.reshape(COUNT, -1) @ WEIGHTS).argmax(axis=1)
UNCOUNTED = {"optimum"}  # solves from the weights, and asks nothing
SHORT: dict[str, Any] = {"num_searches": 2}
OPTIONS: dict[str, dict[str, Any]] = dict.fromkeys(("carlini_wagner", "ead", "bisection"), SHORT)
OPTIONS |= {
    name: {"donors": (DONORS, np.arange(CLASSES))}
    for name, row in ATTACKS.items()
    if row.attack.needs_donors
}


def counting(calls: collections.Counter[str]) -> Callable[[Any], Any]:
    """A model that counts, at each call and each derivative, the images it is given."""

    @tf.custom_gradient
    def model(images: Any) -> Any:
        calls["forward"] += images.shape[0]

        def back(upstream: Any) -> Any:
            calls["backward"] += images.shape[0]
            return tf.reshape(upstream @ WEIGHTS.T, images.shape)

        return tf.reshape(images, [-1, 30]) @ WEIGHTS, back

    return model


ALONE = [
    name
    for name, row in ATTACKS.items()
    if name not in UNCOUNTED and not isinstance(row.attack, Ensemble)  # whose parts are others
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "targeted"), [(name, number % 2 == 0) for number, name in enumerate(ALONE)]
)
def test_counts_are_those_of_a_model_that_counts(name: str, targeted: bool) -> None:
    norm = ATTACKS[name].attack.norms[-1 if targeted else 0]
    goal: dict[str, Any] = {"labels": LABELS[:1]}
    if targeted:
        goal = {"targets": (LABELS[:1] + 1) % CLASSES}
    told, seen = [], []
    for steps in (2, 5):
        calls: collections.Counter[str] = collections.Counter()
        result = attack(
            counting(calls),
            IMAGES[:1],
            method=name,
            norm=norm,
            num_steps=steps,
            epsilon=None if ATTACKS[name].attack.minimal else 1e-6,  # nothing ends early
            trace=True,  # eagerly: every call is one call
            **goal,
            **OPTIONS.get(name, {}),
        )
        told.append([result.num_queries[0], result.num_gradients[0]])
        seen.append([calls["forward"], calls["backward"]])
    # What checks the model and measures the cost is the same in both.
    assert (np.diff(told, axis=0) == np.diff(seen, axis=0)).all()
    assert told[1][0] > told[0][0] > 0 or name in ("deepfool", "jsma")


@pytest.mark.parametrize("source", ["closed_form", "tape", "forward_mode", "spsa"])
def test_every_source_is_counted(source: str) -> None:
    model = LinearModel(WEIGHTS, np.zeros(CLASSES))
    steps = 3
    options: dict[str, Any] = {"epsilon": 1e-6, "source": source, "num_steps": 3}
    result = attack(model, IMAGES[:1], labels=LABELS[:1], method="pgd", **options)
    each = {"closed_form": (1, 1), "tape": (1, 1), "forward_mode": (31, 30), "spsa": (65, 0)}
    expected = [(steps + 1) * passes for passes in each[source]]
    assert [result.num_queries[0], result.num_gradients[0]] == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in UNCOUNTED])
def test_no_attack_asks_more_than_its_budget(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "XLA", False)
    row = ATTACKS[name].attack
    model = counting(collections.Counter())
    for norm in (row.norms[0], row.norms[-1]) if len(row.norms) > 1 else row.norms:
        allowed = 150 + 40 * np.arange(COUNT)
        options = {"method": name, "norm": norm, **OPTIONS.get(name, {})}
        result = attack(
            model,
            IMAGES,
            targets=(LABELS + 1) % CLASSES,
            epsilon=None if row.minimal else 1e-3,
            max_queries=allowed,
            **options,
        )
        assert (result.num_queries + result.num_gradients <= allowed).all()
        if norm is Norm.LINF and row.minimal and name != "strongest":
            assert result.success.any()  # a budget is no excuse


def test_a_budget_of_each_image_is_its_own() -> None:
    model = LinearModel(WEIGHTS, np.zeros(CLASSES))
    allowed = np.array([2, 7, 12, 30, 200, 201])
    options: dict[str, Any] = {"method": "pgd", "norm": "l2", "epsilon": 1e-3, "restarts": 3}
    together = attack(model, IMAGES, labels=LABELS, max_queries=allowed, **options)
    assert list(together.num_queries + together.num_gradients) == [2, 6, 12, 30, 200, 200]
    for index in range(COUNT):
        alone = attack(
            model, IMAGES[index], labels=LABELS[index], max_queries=allowed[index], **options
        )
        np.testing.assert_array_equal(alone.adversarial[0], together.adversarial[index])
        assert alone.num_queries[0] == together.num_queries[index]


def test_searches_share_the_budget() -> None:
    model = LinearModel(WEIGHTS, np.zeros(CLASSES))
    result = attack(
        model,
        IMAGES,
        labels=LABELS,
        method=CarliniWagner(num_searches=8, first_constant=0.01),
        norm="l2",
        max_queries=800,
    )
    # Alone the first constant, which is too small, would use the whole of it.
    assert result.success.all()
    assert (result.num_queries + result.num_gradients <= 800).all()
    assert (result.num_queries + result.num_gradients > 700).all()


def test_every_draw_of_a_randomized_model_is_a_pass() -> None:
    calls: collections.Counter[str] = collections.Counter()
    options: dict[str, Any] = {"labels": LABELS, "epsilon": 1e-3, "num_eot_samples": 5}
    result = attack(counting(calls), IMAGES, max_queries=64, trace=True, **options)
    assert set(result.num_queries) == set(result.num_gradients) == {30}  # six iterates
    with pytest.raises(ValueError, match=r"max_queries must be at least 10 here.*Received: 9"):
        attack(counting(calls), IMAGES, max_queries=9, **options)


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        ("fmn", "l2"),
        ("hop_skip_jump", "l2"),
        ("carlini_wagner", "l2"),
        ("bisection", "l1"),
        ("pgd", "linf"),
    ],
)
def test_recorded_distances_are_what_smaller_budgets_of_the_same_steps_find(
    name: str, norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compilation, "XLA", False)
    model = LinearModel(WEIGHTS, np.zeros(CLASSES))
    marks = np.array([-3, 1, 8, 21, 60, 5000])
    options: dict[str, Any] = {"labels": LABELS, "method": name, "norm": norm, "num_steps": 30}
    options |= OPTIONS.get(name, {})
    if name == "carlini_wagner":
        options["first_constant"] = 1.0
    result = attack(model, IMAGES, record_at=marks, **options)
    plain = attack(model, IMAGES, **options)
    np.testing.assert_array_equal(result.adversarial, plain.adversarial)
    assert plain.distances_at.shape == (COUNT, 0)
    assert np.isinf(result.distances_at[:, :1]).all()  # a start takes a pass or two
    assert (result.distances_at[:, 2:] <= result.distances_at[:, 1:-1]).all()
    assert np.isfinite(result.distances_at[:, 4]).all()
    np.testing.assert_allclose(result.distances_at[:, -1], result.distances, rtol=1e-6)
    if name != "fmn":
        return
    # The iterates of the one run, one by one: a start and a step take two passes each.
    trace = attack(model, IMAGES, trace=True, **options).trace
    assert trace is not None
    lengths = np.linalg.norm((trace.images - IMAGES).reshape(31, COUNT, -1), axis=2)
    reached = trace.logits.argmax(axis=2) != LABELS
    for mark, found in zip(marks[2:-1], result.distances_at.T[2:-1]):
        so_far = np.where(reached, lengths, np.inf)[: mark // 2].min(axis=0)
        np.testing.assert_allclose(found, so_far, rtol=1e-3)


def test_distances_are_recorded_for_each_image_alone_and_in_its_unit() -> None:
    model = LinearModel(WEIGHTS / 4, np.zeros(CLASSES))
    marks = 4 + 10 * np.arange(COUNT)[:, np.newaxis] + np.array([[0, 30]])
    options: dict[str, Any] = {"method": "ddn", "norm": "l2", "num_steps": 25, "bounds": (0, 4)}
    together = attack(model, 4 * IMAGES, labels=LABELS, record_at=marks, **options)
    assert np.isfinite(together.distances_at).any()
    for index in range(COUNT):
        alone = attack(
            model, 4 * IMAGES[index], labels=LABELS[index], record_at=marks[index], **options
        )
        np.testing.assert_array_equal(alone.distances_at[0], together.distances_at[index])
    long = attack(model, 4 * IMAGES, labels=LABELS, record_at=[52], **options)
    np.testing.assert_allclose(long.distances_at[:, 0], long.distances, rtol=1e-6)
    for wrong in (7, 2.5, np.zeros((2, 3), int)):
        with pytest.raises(ValueError, match="record_at must be integers"):
            attack(model, IMAGES, labels=LABELS, record_at=wrong)


def test_the_optimum_takes_no_query() -> None:
    model = LinearModel(WEIGHTS, np.zeros(CLASSES))
    result = attack(
        model, IMAGES, labels=LABELS, method="optimum", norm="l2", record_at=[0], max_queries=1
    )
    np.testing.assert_array_equal(result.distances_at[:, 0], result.distances)


def test_a_budget_that_pays_no_start_is_refused() -> None:
    model = LinearModel(WEIGHTS, np.zeros(CLASSES))
    with pytest.raises(ValueError, match=r"max_queries must be at least 2 here.*Received: 1"):
        attack(model, IMAGES, labels=LABELS, max_queries=[5, 1, 5, 5, 5, 5])
    for wrong in (0, 2.5, [1, 2]):
        with pytest.raises(ValueError, match="max_queries must be"):
            attack(model, IMAGES, labels=LABELS, max_queries=wrong)
