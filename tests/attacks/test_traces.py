"""The trace belongs to the run that made the result, for every image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mnist_adv import attack
from mnist_adv.attacks import traced_run
from mnist_adv.attacks.registry import ATTACKS
from mnist_adv.models.softmax_regression import SoftmaxRegression

pytestmark = pytest.mark.slow

COUNT = 3
# Attacks that run several times, with few and short runs of which the last is not the best.
SEVERAL: dict[str, dict[str, Any]] = {
    "bisection": {"norm": "linf", "num_searches": 3, "num_steps": 8},
    "carlini_wagner": {"norm": "l2", "num_searches": 3, "num_steps": 8, "first_constant": 10.0},
    "ead": {"norm": "l1", "num_searches": 3, "num_steps": 8, "first_constant": 10.0},
    "pgd": {"norm": "l2", "epsilon": 0.6, "restarts": 3, "num_steps": 6},
    "apgd_ce": {"norm": "l1", "epsilon": 6.0, "restarts": 2, "num_steps": 8},
    "apgd_minimal": {"norm": "l2", "num_searches": 3, "num_steps": 8},
    "fab_t": {"norm": "linf", "num_steps": 4},
    "square": {"norm": "linf", "epsilon": 0.08, "restarts": 2, "num_steps": 8},
}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("targeted", [True, False])
def test_the_result_is_an_iterate_of_its_trace(
    trained: SoftmaxRegression, test_set: Any, name: str, targeted: bool
) -> None:
    images, labels = test_set.images[:COUNT], test_set.labels[:COUNT]
    goal = {"targets": (labels + 1) % 10} if targeted else {"labels": labels}
    row = ATTACKS[name]
    options = SEVERAL.get(name, {"norm": row.attack.norms[0]})
    if row.attack.needs_donors:
        options = {**options, "donors": (test_set.images[500:700], test_set.labels[500:700])}
    if row.attack.takes_steps:
        options = {"num_steps": 5, **options}
    result = attack(trained, images, method=name, trace=True, **goal, **options)
    trace = result.trace
    assert trace is not None
    assert np.any(result.perturbation)
    index = np.arange(COUNT)
    np.testing.assert_array_equal(trace.images[result.num_steps, index], result.adversarial)
    assert (result.num_steps <= trace.num_steps).all()
    assert len(trace.images) == len(trace.gradients) + 1 == trace.num_steps.max() + 1
    seen = np.stack([trained(step).numpy() for step in trace.images])
    np.testing.assert_allclose(trace.logits, seen, atol=1e-4)
    after = np.arange(len(trace.images))[:, np.newaxis] > trace.num_steps
    repeated = (trace.images == trace.images[trace.num_steps, index]).all(axis=(2, 3, 4))
    assert repeated[after].all()


# AutoPGD's schedule turns the last bits of a batch's products into other steps.
@pytest.mark.parametrize("name", [name for name in SEVERAL if name != "apgd_ce"])
def test_every_image_has_the_trace_that_it_has_alone(
    trained: SoftmaxRegression, test_set: Any, name: str
) -> None:
    images, targets = test_set.images[:COUNT], (test_set.labels[:COUNT] + 1) % 10
    options: dict[str, Any] = {"method": name, "trace": True, **SEVERAL[name]}
    together = attack(trained, images, targets=targets, **options)
    alone = [attack(trained, images[i], targets=targets[i], **options) for i in range(COUNT)]
    assert together.trace is not None
    for i, result in enumerate(alone):
        assert result.trace is not None
        last = result.trace.num_steps[0]
        assert last == together.trace.num_steps[i]
        np.testing.assert_allclose(
            result.trace.images[:, 0], together.trace.images[: last + 1, i], atol=2e-4
        )


def test_a_run_that_comes_later_and_finds_less_leaves_no_trace(
    trained: SoftmaxRegression, seven: np.ndarray
) -> None:
    options: dict[str, Any] = {"method": "bisection", "trace": True, "num_searches": 1}
    once = attack(trained, seven, targets=2, norm="linf", **options)
    twice = attack(trained, seven, targets=2, norm="linf", **{**options, "num_searches": 6})
    assert once.trace is not None and twice.trace is not None
    # The budgets of a bisection end near the optimum: its last run need not be its best.
    start = twice.trace.images[0, 0]
    np.testing.assert_array_equal(start, seven)
    assert twice.distances[0] < once.distances[0]


def test_many_steps_are_taken_by_a_graph_and_lead_the_same_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights = tf.constant(np.random.default_rng(2).normal(size=(36, 3)), tf.float32)
    calls: list[bool] = []

    def model(images: Any) -> Any:
        calls.append(tf.executing_eagerly())
        return tf.reshape(images, [-1, 36]) @ weights

    images = np.random.default_rng(3).random((2, 6, 6, 1), np.float32)
    labels = np.asarray(model(images)).argmax(axis=1)
    options: dict[str, Any] = {"labels": labels, "epsilon": 1e-3, "num_steps": 20, "trace": True}
    eager = attack(model, images, **options)
    assert len(calls) > 20
    monkeypatch.setattr(traced_run, "_MOST_EAGER", 5)
    calls.clear()
    quick = attack(model, images, **options)
    assert len(calls) < 20 and not all(calls)
    assert eager.trace is not None and quick.trace is not None
    assert quick.trace.images.shape == (21, 2, 6, 6, 1)
    np.testing.assert_allclose(quick.trace.images, eager.trace.images, atol=1e-6)
    np.testing.assert_allclose(quick.trace.gradients, eager.trace.gradients, atol=1e-5)
