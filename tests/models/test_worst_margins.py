"""The margins that defended training works on, against SciPy's programs and differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf

from mnist_adv.geometry.norms import Norm
from mnist_adv.models.worst_margins import WORST_MARGINS, worst_margins
from mnist_adv.optimum.in_ball.support import support_function

EPSILONS = {Norm.LINF: (0.0, 0.15, 2.0), Norm.L2: (0.0, 0.4, 1.5), Norm.L1: (0.0, 0.7, 2.5)}
CASES = [(norm, epsilon) for norm in WORST_MARGINS for epsilon in EPSILONS[norm]]


def problem(pixels: int, classes: int, count: int) -> dict[str, Any]:
    """Draw float64 weights and images, of which a third of the pixels lie at each end of [0, 1]."""
    generator = np.random.default_rng(3)
    images = np.clip(generator.uniform(-1, 2, (count, pixels)), 0, 1)
    return {
        "weights": generator.normal(size=(pixels, classes)),
        "bias": generator.normal(size=classes),
        "pixels": images,
        "labels": generator.integers(0, classes, count).astype(np.int32),
    }


def compute(norm: Norm, given: dict[str, Any], epsilon: float) -> np.ndarray:
    tensors = {name: tf.constant(value) for name, value in given.items()}
    radius = tf.constant(epsilon, tf.float64)
    return np.asarray(worst_margins(norm, **tensors, epsilon=radius, largest=epsilon))


def by_scipy(norm: Norm, u: np.ndarray, image: np.ndarray, epsilon: float) -> float:
    """Minimise u . d inside ball and box with a solver that knows no closed form."""
    box = list(zip(-image, 1 - image))
    if norm is Norm.L2:
        ball = {"type": "ineq", "fun": lambda d: epsilon**2 - d @ d, "jac": lambda d: -2 * d}
        start = np.clip(-1e-3 * epsilon * u, *np.array(box).T)
        found = scipy.optimize.minimize(
            lambda d: u @ d, start, jac=lambda d: u, bounds=box, constraints=ball, method="SLSQP"
        )
        return float(found.fun)
    if norm is Norm.LINF:
        box = [(max(low, -epsilon), min(high, epsilon)) for low, high in box]
        return float(scipy.optimize.linprog(u, bounds=box).fun)
    # d = up - down, both at least 0.
    both = [(0, high) for _, high in box] + [(0, -low) for low, _ in box]
    ones = np.ones((1, 2 * len(u)))
    return float(scipy.optimize.linprog(np.r_[u, -u], ones, [epsilon], bounds=both).fun)


@pytest.mark.parametrize(("norm", "epsilon"), CASES)
def test_no_image_inside_ball_and_box_has_a_smaller_margin(norm: Norm, epsilon: float) -> None:
    given = problem(pixels=7, classes=4, count=5)
    bound = compute(norm, given, epsilon)
    logits = given["pixels"] @ given["weights"] + given["bias"]
    for number, label in enumerate(given["labels"]):
        assert bound[number, label] == 0
        for rival in set(range(4)) - {int(label)}:
            u = given["weights"][:, label] - given["weights"][:, rival]
            clean = logits[number, label] - logits[number, rival]
            lost = -by_scipy(norm, u, given["pixels"][number], epsilon) if epsilon else 0.0
            claimed = clean - bound[number, rival]
            assert claimed >= lost - 1e-5
            # Of so few pixels each has a share of its own, and the bound for L2 is coarse.
            most = 1.5 * lost if norm is Norm.L2 else lost
            assert claimed <= most + 1e-5


@pytest.mark.parametrize("norm", WORST_MARGINS)
def test_the_bound_is_tight_for_images_of_mnist(norm: Norm, trained: Any, test_set: Any) -> None:
    images = test_set.images[:200].reshape(200, -1).astype(np.float64)
    labels = test_set.labels[:200].astype(np.int32)
    weights, bias = trained.W.numpy().astype(float), trained.b.numpy().astype(float)
    epsilon = {Norm.LINF: 0.1, Norm.L2: 1.0, Norm.L1: 5.0}[norm]
    given = {"weights": weights, "bias": bias, "pixels": images, "labels": labels}
    bound, logits = compute(norm, given, epsilon), images @ weights + bias
    for rival in range(10):
        u = (weights[:, labels] - weights[:, [rival]]).T
        ranges = np.where(u > 0, images, 1 - images)
        lost, _ = support_function(norm.value, np.abs(u), ranges, epsilon)
        claimed = logits[np.arange(200), labels] - logits[:, rival] - bound[:, rival]
        others = labels != rival
        assert (claimed >= lost - 1e-6)[others].all()
        slack = 1.01 if norm is Norm.L2 else 1 + 1e-9
        assert claimed[others].mean() <= slack * lost[others].mean()


def test_what_the_strongest_pixels_leave_of_an_l1_ball_is_counted(test_set: Any) -> None:
    # All pixels that could move by 1 are at the wrong end, so 36 of them spend next to nothing.
    weights = np.zeros((100, 2))
    weights[:, 0] = np.linspace(2, 1, 100)
    pixels = np.zeros((1, 100))
    pixels[0, 60:] = 1
    given = {
        "weights": weights,
        "bias": np.zeros(2),
        "pixels": pixels,
        "labels": np.zeros(1, np.int32),
    }
    clean, exact = weights[60:, 0].sum(), weights[60, 0]
    claimed = clean - compute(Norm.L1, given, 1.0)[0, 1]
    assert exact <= claimed <= weights[35, 0] + 1e-12


@pytest.mark.parametrize("norm", WORST_MARGINS)
def test_gradients_are_those_of_differences(norm: Norm) -> None:
    given = problem(pixels=6, classes=3, count=4)
    epsilon = EPSILONS[norm][1]
    generator = np.random.default_rng(0)
    upstream = generator.normal(size=(4, 3))
    tensors = {name: tf.constant(value) for name, value in given.items()}
    with tf.GradientTape() as tape:
        tape.watch([tensors["weights"], tensors["bias"]])
        margins = worst_margins(
            norm, **tensors, epsilon=tf.constant(epsilon, tf.float64), largest=epsilon
        )
        total = tf.reduce_sum(margins * upstream)
    for name, gradient in zip(
        ("weights", "bias"), tape.gradient(total, [tensors["weights"], tensors["bias"]])
    ):
        direction = generator.normal(size=given[name].shape)
        ends = []
        for size in (1e-6, -1e-6):
            moved = {**given, name: given[name] + size * direction}
            ends.append((compute(norm, moved, epsilon) * upstream).sum())
        slope = (ends[0] - ends[1]) / 2e-6
        assert float(tf.reduce_sum(gradient * direction)) == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("norm", WORST_MARGINS)
def test_equal_weights_have_a_finite_gradient(norm: Norm) -> None:
    given = problem(pixels=5, classes=3, count=4)
    weights = tf.zeros([5, 3], tf.float64)
    tensors = {name: tf.constant(given[name]) for name in ("bias", "pixels", "labels")}
    with tf.GradientTape() as tape:
        tape.watch(weights)
        margins = worst_margins(
            norm, weights, **tensors, epsilon=tf.constant(0.5, tf.float64), largest=0.5
        )
    assert np.isfinite(tape.gradient(margins, weights)).all()
