"""Attacks, targeted mode first, against closed forms and floors that no valid result can beat."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_adv import attack
from mnist_adv.attacks import AttackResult
from mnist_adv.geometry.norms import Norm
from mnist_adv.geometry.steps import Step
from mnist_adv.gradients.losses import Loss
from mnist_adv.gradients.sources import SOURCES, Source
from mnist_adv.models.softmax_regression import SoftmaxRegression


def probabilities(model: Any, images: np.ndarray) -> np.ndarray:
    return tf.nn.softmax(model(images)).numpy()


@pytest.mark.parametrize(
    ("norm", "loss"), [(Norm.LINF, Loss.CROSS_ENTROPY), (Norm.L2, Loss.PROBABILITY)]
)
@pytest.mark.parametrize("step", Step)
def test_targeted_reaches_the_target(
    trained: SoftmaxRegression, seven: np.ndarray, norm: Norm, loss: Loss, step: Step
) -> None:
    large = {Loss.PROBABILITY: 20.0, Loss.CROSS_ENTROPY: 0.1}[loss] if step is Step.RAW else None
    result = attack(
        trained, seven, targets=2, norm=norm, loss=loss, step=step, step_size=large, num_steps=200
    )
    assert probabilities(trained, result.adversarial).argmax() == 2
    assert result.success.all() and result.verdict.clean_predictions == 7


@pytest.mark.parametrize("norm", [Norm.LINF, Norm.L2])
@pytest.mark.parametrize("loss", [Loss.CROSS_ENTROPY, Loss.PROBABILITY])
def test_untargeted_leaves_the_label(
    trained: SoftmaxRegression, seven: np.ndarray, norm: Norm, loss: Loss
) -> None:
    result = attack(trained, seven, labels=7, norm=norm, loss=loss)
    assert probabilities(trained, result.adversarial).argmax() != 7
    assert result.success.all()


@pytest.mark.parametrize("target", [0, 1, 2, 3, 4, 5, 6, 8, 9])
def test_one_step_moves_towards_its_target_and_away_from_its_label(
    trained: SoftmaxRegression, seven: np.ndarray, target: int
) -> None:
    before = probabilities(trained, seven[np.newaxis])[0]
    towards = attack(trained, seven, targets=target, epsilon=0.01, step_size=0.01, num_steps=1)
    assert probabilities(trained, towards.adversarial)[0, target] > before[target]
    away = attack(trained, seven, labels=7, epsilon=0.01, step_size=0.01, num_steps=1)
    assert probabilities(trained, away.adversarial)[0, 7] < before[7]


def test_targets_are_per_image(trained: SoftmaxRegression, test_set: Any) -> None:
    targets = (test_set.labels[:20] + np.arange(1, 21) % 9 + 1) % 10
    targets = np.where(targets == test_set.labels[:20], (targets + 1) % 10, targets)
    result = attack(trained, test_set.images[:20], targets=targets, labels=test_set.labels[:20])
    predictions = probabilities(trained, result.adversarial).argmax(axis=1)
    np.testing.assert_array_equal(predictions == targets, result.success)
    assert result.success.mean() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("source", [source for source in SOURCES.values() if not source.estimates])
def test_every_gradient_source_drives_the_attack(
    trained: SoftmaxRegression, seven: np.ndarray, source: Source
) -> None:
    expected = attack(trained, seven, targets=2, source=Source.TAPE)
    result = attack(trained, seven, targets=2, source=source)
    assert result.success.all()
    assert result.num_steps == expected.num_steps


def floor(model: SoftmaxRegression, result: AttackResult) -> np.ndarray:
    """No success can be nearer: the distance to the nearest half-space, the box left out."""
    weights, dual = model.W.numpy().astype(float), {Norm.LINF: 1, Norm.L2: 2}[result.norm]
    logits = model(result.images.astype(np.float64)).numpy()
    floors = []
    for row, goal in zip(logits, result.goal.classes):
        others = [k for k in range(10) if k != goal]
        pairs = [(k, goal) if result.goal.targeted else (goal, k) for k in others]
        distances = [
            (row[a] - row[b]) / np.linalg.norm(weights[:, b] - weights[:, a], dual)
            for a, b in pairs
        ]
        floors.append(max(distances) if result.goal.targeted else min(distances))
    return np.array(floors)


@pytest.mark.parametrize("norm", [Norm.LINF, Norm.L2])
@pytest.mark.parametrize("targeted", [True, False])
def test_no_success_is_below_the_floor(
    trained: SoftmaxRegression, test_set: Any, norm: Norm, targeted: bool
) -> None:
    labels = test_set.labels[:200]
    goal = {"targets": (labels + 1) % 10} if targeted else {"labels": labels}
    result = attack(
        trained,
        test_set.images[:200],
        norm=norm,
        step_size={"linf": 0.002, "l2": 0.02}[norm.value],
        num_steps=150,
        **goal,
    )
    assert result.success.mean() > 0.8
    reached = result.verdict.norms[norm.value][result.success]
    lowest = floor(trained, result)[result.success]
    assert (reached >= lowest - 1e-6).all()
    # and the floor is near: an attack that moved at random would be far above it
    assert np.median(reached / np.maximum(lowest, 1e-3)) < 2


@pytest.mark.parametrize("norm", [Norm.LINF, Norm.L2])
@pytest.mark.parametrize("targeted", [True, False])
def test_short_raw_steps_never_raise_a_smooth_loss(
    trained: SoftmaxRegression, test_set: Any, norm: Norm, targeted: bool
) -> None:
    longest = 2 / np.linalg.norm(trained.W.numpy(), 2) ** 2
    labels = test_set.labels[:10]
    goal = {"targets": (labels + 3) % 10} if targeted else {"labels": labels}
    result = attack(
        trained,
        test_set.images[:10],
        norm=norm,
        step="raw",
        step_size=longest,
        confidence=0.999,
        trace=True,
        **goal,
    )
    assert result.trace is not None and len(result.trace.objective) == 41
    rises = np.diff(result.trace.objective, axis=0)
    assert rises.max() <= 1e-5
    assert rises.min() < -0.01


@pytest.mark.parametrize("norm", [Norm.LINF, Norm.L2])
def test_epsilon_zero_is_the_identity(
    trained: SoftmaxRegression, test_set: Any, norm: Norm
) -> None:
    images, labels = test_set.images[:50], test_set.labels[:50]
    result = attack(trained, images, labels=labels, norm=norm, epsilon=0, num_steps=5)
    np.testing.assert_array_equal(result.adversarial, images)
    clean = trained(images).numpy().argmax(axis=1)
    np.testing.assert_array_equal(result.success, clean != labels)


def test_eight_at_once_are_eight_alone(trained: SoftmaxRegression, test_set: Any) -> None:
    images, targets = test_set.images[:8], (test_set.labels[:8] + 1) % 10
    together = attack(trained, images, targets=targets, norm="l2")
    for index in range(8):
        alone = attack(trained, images[index], targets=targets[index], norm="l2")
        np.testing.assert_allclose(alone.adversarial[0], together.adversarial[index], atol=1e-5)
        assert alone.num_steps[0] == together.num_steps[index]


@given(
    norm=st.sampled_from([Norm.LINF, Norm.L2, Norm.L1]),
    step=st.sampled_from(list(Step)),
    epsilon=st.floats(0, 2),
    step_size=st.floats(1e-30, 3),
    count=st.integers(1, 3),
    seed=st.integers(0, 99),
    targeted=st.booleans(),
)
@settings(derandomize=True, deadline=None, max_examples=60)
def test_budget_and_box_are_never_left(
    norm: Norm, step: Step, epsilon: float, step_size: float, count: int, seed: int, targeted: bool
) -> None:
    generator = np.random.default_rng(seed)
    model = SoftmaxRegression()
    model.W.assign(generator.normal(0, 1, (784, 10)).astype(np.float32))
    images = generator.uniform(0, 1, (count, 28, 28, 1)).astype(np.float32)
    goal: dict[str, Any] = {"targets" if targeted else "labels": generator.integers(0, 10, count)}
    result = attack(
        model,
        images,
        norm=norm,
        step=step,
        epsilon=epsilon,
        step_size=step_size,
        num_steps=4,
        confidence=0.99,
        trace=True,
        **goal,
    )
    assert result.trace is not None
    for iterate in (*result.trace.images, result.adversarial):
        moved = (iterate.astype(np.float64) - images).reshape(count, -1)
        order = {Norm.LINF: np.inf, Norm.L2: 2, Norm.L1: 1}[norm]
        assert (np.linalg.norm(moved, order, axis=1) <= epsilon + 1e-6).all()
        assert iterate.min() >= 0 and iterate.max() <= 1


def test_confidence_asks_to_go_on(trained: SoftmaxRegression, seven: np.ndarray) -> None:
    first = attack(trained, seven, targets=2)
    sure = attack(trained, seven, targets=2, confidence=0.99)
    assert first.verdict.probabilities[0, 2] < 0.9 <= 0.99 <= sure.verdict.probabilities[0, 2]
    assert sure.num_steps[0] > first.num_steps[0] and sure.success.all()
    short = attack(trained, seven, targets=2, confidence=0.99, num_steps=12)
    assert short.verdict.reached.all() and not short.success.any()


def test_the_last_iterate_is_judged(trained: SoftmaxRegression, seven: np.ndarray) -> None:
    steps = int(attack(trained, seven, targets=2).num_steps[0])
    exactly = attack(trained, seven, targets=2, num_steps=steps)
    assert exactly.success.all()
    short = attack(trained, seven, targets=2, num_steps=steps - 1)
    assert not short.success.any()


def test_the_best_iterate_is_kept(seven: np.ndarray) -> None:
    # Steps twice as long as the valley overshoot: the loss rises again after the first.
    model = SoftmaxRegression()
    weights = np.zeros((784, 10), np.float32)
    weights[300, 2], weights[300, 3] = 100.0, 90.0
    weights[301, 3] = 1000.0
    model.W.assign(weights)
    image = np.full((28, 28, 1), 0.5, np.float32)
    result = attack(model, image, targets=2, step="sign", step_size=0.4, epsilon=0.5, trace=True)
    assert result.trace is not None
    objective = result.trace.objective[:, 0]
    assert result.num_steps[0] == objective.argmin()
    np.testing.assert_array_equal(result.adversarial[0], result.trace.images[objective.argmin(), 0])


def test_already_there_takes_no_step(trained: SoftmaxRegression, seven: np.ndarray) -> None:
    result = attack(trained, seven, targets=7)
    assert result.num_steps[0] == 0 and result.success.all()
    np.testing.assert_array_equal(result.perturbation, 0)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({}, "targets .* or labels .* must be given"),
        ({"targets": 7, "labels": 7}, "targets must differ from labels. Received: target 7"),
        ({"targets": 10}, "targets must lie in 0..9. Received: 10"),
        ({"targets": 2, "epsilon": -0.1}, "epsilon must be a finite number, at least 0"),
        ({"targets": 2, "epsilon": np.nan}, "epsilon must be a finite number, at least 0"),
        ({"targets": 2, "step_size": 0.0}, "step_size must be a finite number above 0"),
        ({"targets": 2, "step_size": 1e-50}, "above 0 in float32. Received: 1e-50"),
        (
            {"targets": 2, "num_steps": 0},
            "num_steps must be an integer in 1..214.* Received: 0",
        ),
        ({"targets": 2, "num_steps": 2**32}, r"in 1..2147483647. Received: 4294967296"),
        ({"targets": 2, "num_steps": [0]}, "num_steps must be an integer in .* Received: 0"),
        ({"targets": 2, "confidence": 1.0}, r"confidence must lie in \(0, 1\). Received: 1.0"),
        ({"targets": 2, "norm": "l7"}, "norm must be one of linf, .* Received: 'l7'"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    trained: SoftmaxRegression, seven: np.ndarray, settings_: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        attack(trained, seven, **settings_)


def test_any_callable_is_a_model(network: Any, test_set: Any) -> None:
    images = test_set.images[:10]
    labels = network(images).numpy().argmax(axis=1)
    result = attack(network, images, labels=labels)
    assert result.success.all()
    assert "10 of 10 images 28 x 28 x 1 succeed" in repr(result)


@pytest.mark.parametrize(("trace", "told"), [(False, "2/2"), (True, "4step")])
def test_progress_true_shows_a_bar(
    toy: SoftmaxRegression,
    test_set: Any,
    capsys: pytest.CaptureFixture[str],
    trace: bool,
    told: str,
) -> None:
    images, labels = test_set.images[:2], test_set.labels[:2]
    settings: dict[str, Any] = {"num_steps": 4, "stop_early": False, "trace": trace}
    attack(toy, images, labels=labels, progress=False, **settings)
    assert capsys.readouterr().err == ""
    attack(toy, images, labels=labels, progress=True, **settings)
    shown = capsys.readouterr().err
    assert "attacking" in shown and told in shown


def test_progress_is_no_number(toy: SoftmaxRegression, seven: np.ndarray) -> None:
    with pytest.raises(
        ValueError, match=r"progress must be True, False or a function.*Received: 3"
    ):
        attack(toy, seven, labels=7, progress=3)  # type: ignore[arg-type]
