"""Images of any shape, in any box, with any number of classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mnist_adv import (
    LinearModel,
    attack,
    check_gradient,
    compute_gradient,
    judge,
    smallest_perturbation,
    to_levels,
)
from mnist_adv.attacks.registry import ATTACKS
from mnist_adv.data.datasets import to_float
from mnist_adv.geometry.norms import Norm

pytestmark = pytest.mark.slow

SHAPES = {"digits": (8, 8, 1, 10), "colour": (32, 32, 3, 10), "letters": (28, 28, 1, 26)}
COUNT = 6


def problem(shape: tuple[int, int, int, int]) -> tuple[LinearModel, np.ndarray, np.ndarray]:
    """A linear model and images whose classes it is not too sure of."""
    *size, num_classes = shape
    generator = np.random.default_rng(sum(shape))
    pixels = int(np.prod(size))
    weights = generator.normal(0, 1 / np.sqrt(pixels), (pixels, num_classes))
    images = to_float(generator.integers(50, 200, (COUNT, *size), np.uint8))
    model = LinearModel(weights, np.zeros(num_classes))
    return model, images, model(images).numpy().argmax(axis=1)


def network(model: LinearModel) -> Any:
    """The same as TensorFlow code that nobody knows to be linear."""
    weights = tf.constant(model.W)

    def call(images: Any) -> Any:
        images = tf.convert_to_tensor(images)
        flat = tf.reshape(images, [-1, weights.shape[0]])
        return flat @ tf.cast(weights, flat.dtype)

    return call


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_takes_a_shape_that_mnist_has_not(name: str) -> None:
    shape = (12, 10, 3, 26)
    model, images, labels = problem(shape)
    targets = (labels + 1) % shape[-1]
    row = ATTACKS[name]
    options: dict[str, Any] = {"num_steps": 3} if row.attack.takes_steps else {}
    if name in ("carlini_wagner", "ead", "bisection"):
        options["num_searches"] = 2
    if name == "ead":
        options["first_constant"] = 100.0
    if row.attack.needs_donors:
        # An image of each class, whatever a model of random weights takes for one.
        ends = np.clip(0.5 + 5 * model.W.T, 0, 1).reshape(-1, *images.shape[1:])
        options["donors"] = (ends.astype(np.float32), np.arange(len(ends)))
    for norm in row.attack.norms:
        if name in ("optimum", "strongest") and norm is Norm.L0:
            continue  # branch and bound; see the tests of optimum
        result = attack(
            model, images, targets=targets, method=name, norm=norm, trace=True, **options
        )
        assert result.adversarial.shape == images.shape and result.trace is not None
        assert result.trace.images.shape[1:] == images.shape
        assert result.verdict.in_range.all() and result.verdict.in_budget.all()
        assert np.any(result.perturbation), norm


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_gradients_levels_and_optima_take_every_shape(shape: tuple[int, int, int, int]) -> None:
    model, images, labels = problem(shape)
    targets = (labels + 1) % shape[-1]
    gradient = compute_gradient(model, images, targets)
    assert gradient.shape == images.shape
    errors = check_gradient(model, images[0], int(targets[0])) if shape[0] == 8 else {}
    assert all(error < 1e-5 for error in errors.get("float64", {}).values())
    for norm in ("linf", "l2", "l1"):
        found = attack(model, images, targets=targets, norm=norm, method="optimum")
        best = smallest_perturbation(model.W, model.b, images, targets, norm=norm)
        assert found.success.all()
        np.testing.assert_allclose(found.distances, best.upper_bound, rtol=1e-3)
        pgd = attack(model, images, targets=targets, norm=norm, num_steps=60, step_size=None)
        assert (pgd.distances >= best.lower_bound * (1 - 1e-4)).all()
        levels = to_levels(
            model, images, pgd.adversarial, pgd.goal, norm=Norm(norm), epsilon=pgd.epsilon
        )
        assert levels.shape == images.shape and levels.dtype == np.uint8
        saved = to_float(levels)
        verdict = judge(model, images, saved, targets=targets, norm=norm, epsilon=pgd.epsilon)
        np.testing.assert_array_equal(verdict.success, pgd.success)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_another_box_is_another_unit(norm: str) -> None:
    model, images, labels = problem((8, 8, 1, 10))
    low, high = -1.0, 3.0
    weights = model.W / (high - low)
    wide = LinearModel(weights, -low * weights.sum(axis=0))
    scaled = (low + (high - low) * images).astype(np.float32)
    unit = 1.0 if norm == "l0" else high - low
    method, epsilon = ("jsma", None) if norm == "l0" else ("pgd", 0.5 if norm == "l2" else 0.1)
    epsilon = 3.0 if norm == "l1" else epsilon
    options: dict[str, Any] = {"labels": labels, "norm": norm, "method": method}
    plain = attack(model, images, epsilon=epsilon, **options)
    there = None if epsilon is None else unit * epsilon
    for behind in (wide, network(wide)):
        if behind is not wide:
            bias = tf.constant(wide.b)
            inner = behind
            behind = lambda x: inner(x) + bias  # noqa: E731
        result = attack(behind, scaled, epsilon=there, bounds=(low, high), **options)
        assert result.verdict.in_range.all() and result.adversarial.min() < -0.2
        np.testing.assert_array_equal(result.success, plain.success)
        lengths = result.verdict.norms[norm] / unit
        np.testing.assert_allclose(lengths, plain.verdict.norms[norm], rtol=1e-3, atol=1e-4)
        levels = to_levels(
            behind,
            scaled,
            result.adversarial,
            result.goal,
            norm=Norm(norm),
            epsilon=result.epsilon,
            bounds=(low, high),
        )
        saved = (low + (high - low) * levels.astype(np.float32) / 255).astype(np.float32)
        assert (np.abs(saved - result.adversarial) <= 0.02 * (high - low)).all()
    with pytest.raises(ValueError, match=r"images must lie in \[0, 1\]; divide"):
        attack(model, scaled, labels=labels)
    with pytest.raises(ValueError, match="bounds must be two finite numbers, rising"):
        attack(model, images, labels=labels, bounds=(1.0, 0.0))


def test_donors_lie_in_the_box_of_the_images() -> None:
    model, images, labels = problem((8, 8, 1, 10))
    targets, low, high = (labels + 1) % 10, -1.0, 3.0
    weights = model.W / (high - low)
    wide = LinearModel(weights, -low * weights.sum(axis=0))
    options: dict[str, Any] = {"method": "blend", "targets": targets, "trace": True}

    def scaled(pixels: np.ndarray) -> np.ndarray:
        return (low + (high - low) * pixels).astype(np.float32)

    plain = attack(model, images, epsilon=0.3, donors=(1 - images, targets), **options)
    donors = (scaled(1 - images), targets)
    there = attack(wide, scaled(images), epsilon=1.2, donors=donors, bounds=(low, high), **options)
    np.testing.assert_allclose(there.adversarial, scaled(plain.adversarial), atol=1e-5)


def test_the_optimum_shows_no_bar_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    model, images, labels = problem((8, 8, 1, 10))
    many, classes = np.tile(images, (100, 1, 1, 1)), np.tile(labels, 100)
    attack(model, many, labels=classes, method="optimum")
    assert capfd.readouterr().err == ""
