"""Each norm against NumPy, SciPy and the definition."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import optimize

from mnist_adv.geometry.norms import GEOMETRY, Norm, l1_project_in_box
from mnist_adv.geometry.steps import Step, default_step_size, direction

ORDERS = {Norm.LINF: np.inf, Norm.L2: 2, Norm.L1: 1, Norm.L0: 0}
SHAPE = (3, 2, 2, 1)
perturbations = hnp.arrays(np.float64, SHAPE, elements=st.floats(-2, 2, allow_subnormal=False))
radii = hnp.arrays(np.float64, (3,), elements=st.floats(0, 2, allow_subnormal=False))


def lengths(norm: Norm, values: np.ndarray) -> np.ndarray:
    return np.linalg.norm(values.reshape(len(values), -1), ORDERS[norm], axis=1)


def test_every_norm_is_tested() -> None:
    assert set(ORDERS) == set(Norm) == set(GEOMETRY)


@pytest.mark.parametrize("norm", Norm)
@given(values=perturbations)
@settings(derandomize=True, deadline=None, max_examples=40)
def test_length_is_numpys(norm: Norm, values: np.ndarray) -> None:
    np.testing.assert_allclose(GEOMETRY[norm].length(values), lengths(norm, values), atol=1e-12)


@pytest.mark.parametrize("norm", Norm)
@given(values=perturbations, epsilon=radii)
@settings(derandomize=True, deadline=None, max_examples=40)
def test_projection_is_inside_and_leaves_what_is_inside(
    norm: Norm, values: np.ndarray, epsilon: np.ndarray
) -> None:
    projected = GEOMETRY[norm].project(values, epsilon).numpy()
    assert (lengths(norm, projected) <= epsilon * (1 + 1e-12)).all()
    inside = lengths(norm, values) <= epsilon
    # NumPy's own length of numbers whose squares underflow is 0.
    np.testing.assert_allclose(projected[inside], values[inside], rtol=0, atol=1e-150)


@pytest.mark.parametrize("norm", [Norm.LINF, Norm.L2, Norm.L1])  # convex balls
def test_projection_is_the_nearest_point(norm: Norm) -> None:
    generator = np.random.default_rng(0)
    values, epsilon = generator.normal(size=SHAPE), np.array([0.3, 0.7, 5.0])
    projected = GEOMETRY[norm].project(values, epsilon).numpy().reshape(3, -1)
    for point, found, radius in zip(values.reshape(3, -1), projected, epsilon):
        nearest = optimize.minimize(
            lambda d: ((d - point) ** 2).sum(),
            np.zeros_like(point),
            constraints={
                "type": "ineq",
                "fun": lambda d: radius - np.linalg.norm(d, ORDERS[norm]),
            },
            options={"ftol": 1e-14, "maxiter": 500},
        )
        best = ((found - point) ** 2).sum()
        assert best <= nearest.fun + 1e-6


boxed = hnp.arrays(np.float64, SHAPE, elements=st.floats(0, 1, allow_subnormal=False))


@pytest.mark.slow
@given(clean=boxed, values=perturbations, epsilon=radii)
@settings(derandomize=True, deadline=None, max_examples=100)
def test_projection_onto_ball_and_box_is_the_bisected_one(
    clean: np.ndarray, values: np.ndarray, epsilon: np.ndarray
) -> None:
    projected = l1_project_in_box(clean, values, epsilon).numpy()
    assert (lengths(Norm.L1, projected) <= epsilon * (1 + 1e-12)).all()
    assert (clean + projected).min() >= 0 and (clean + projected).max() <= 1 + 1e-15
    for image, point, found, radius in zip(clean, values, projected, epsilon):
        slack = np.where(point > 0, 1 - image, image)
        low, high = 0.0, 2.0
        for _ in range(60):
            middle = (low + high) / 2
            if np.clip(np.abs(point) - middle, 0, slack).sum() > radius:
                low = middle
            else:
                high = middle
        expected = np.sign(point) * np.clip(np.abs(point) - high, 0, slack)
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_projection_onto_ball_and_box_is_the_nearest_point() -> None:
    generator = np.random.default_rng(2)
    clean, values = generator.uniform(size=SHAPE), generator.normal(size=SHAPE)
    epsilon = np.array([0.2, 0.6, 1.2])
    projected = l1_project_in_box(clean, values, epsilon).numpy().reshape(3, -1)
    clipped = np.clip(clean + GEOMETRY[Norm.L1].project(values, epsilon), 0, 1) - clean
    one_after_the_other = clipped.reshape(3, -1)
    for number, point in enumerate(values.reshape(3, -1)):
        image = clean[number].ravel()
        # d = up - down, both at least 0: a quadratic programme
        nearest = optimize.minimize(
            lambda halves: ((halves[:4] - halves[4:] - point) ** 2).sum(),
            np.zeros(8),
            bounds=[(0, 1 - pixel) for pixel in image] + [(0, pixel) for pixel in image],
            constraints={"type": "ineq", "fun": lambda halves: epsilon[number] - halves.sum()},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        expected = nearest.x[:4] - nearest.x[4:]
        np.testing.assert_allclose(projected[number], expected, atol=1e-6)
    assert np.abs(one_after_the_other - projected).max() > 0.01  # and is not as near


@pytest.mark.slow
def test_projection_onto_ball_and_box_of_whole_images() -> None:
    # float32, 784 pixels, most of them at a border, as in an attack
    generator = np.random.default_rng(3)
    clean = np.clip(generator.normal(0, 1, (50, 28, 28, 1)), 0, 1).astype(np.float32)
    values = generator.normal(0, 0.3, clean.shape).astype(np.float32)
    epsilon = np.geomspace(1e-4, 100, 50).astype(np.float32)
    projected = l1_project_in_box(clean, values, epsilon).numpy()
    alone = np.concatenate([
        l1_project_in_box(clean[[i]], values[[i]], epsilon[[i]]) for i in range(50)
    ])
    np.testing.assert_allclose(projected, alone, atol=1e-6)
    slack = np.where(values > 0, 1 - clean, clean)
    most = np.minimum(np.abs(values), slack).sum(axis=(1, 2, 3))
    sums = np.abs(projected).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(sums, np.minimum(epsilon, most), rtol=1e-5, atol=1e-7)
    assert (sums <= epsilon * (1 + 1e-6)).all()


@pytest.mark.parametrize("norm", Norm)
def test_steepest_attains_the_dual_norm(norm: Norm) -> None:
    dual = {Norm.LINF: 1, Norm.L2: 2, Norm.L1: np.inf, Norm.L0: np.inf}[norm]
    gradient = np.random.default_rng(1).normal(size=SHAPE)
    steepest = GEOMETRY[norm].steepest(gradient).numpy()
    np.testing.assert_allclose(lengths(norm, steepest), 1)
    gain = (gradient * steepest).reshape(3, -1).sum(axis=1)
    np.testing.assert_allclose(gain, np.linalg.norm(gradient.reshape(3, -1), dual, axis=1))


@pytest.mark.parametrize("norm", Norm)
def test_zero_and_tiny_gradients_are_handled(norm: Norm) -> None:
    zero = GEOMETRY[norm].steepest(np.zeros(SHAPE, np.float32)).numpy()
    np.testing.assert_array_equal(zero, 0)
    tiny = np.full(SHAPE, 1e-30, np.float32)  # its square underflows
    np.testing.assert_allclose(lengths(norm, GEOMETRY[norm].steepest(tiny).numpy()), 1, rtol=1e-6)


def test_a_step_in_l0_goes_all_the_way_where_it_lowers_most() -> None:
    generator = np.random.default_rng(8)
    images = generator.uniform(0, 1, (5, 2, 2, 2)).astype(np.float32)
    gradient = generator.normal(0, 1, images.shape).astype(np.float32)
    sizes = np.array([0, 1, 2, 3, 8], np.float32)
    step = GEOMETRY[Norm.L0].step
    assert step is not None
    moved = step(tf.constant(images), tf.constant(gradient), tf.constant(sizes)).numpy() - images
    gain = -(moved * gradient).reshape(5, -1).sum(axis=1)
    most = np.maximum(gradient * images, -gradient * (1 - images)).reshape(5, -1)
    for found, each, size in zip(gain, most, sizes):
        assert found == pytest.approx(np.sort(each)[::-1][: int(size)].sum(), abs=1e-6)


def test_step_rules() -> None:
    gradient = tf.reshape(tf.constant([3.0, 0.0, -4.0, 0.0], tf.float64), [1, 2, 2, 1])
    expected: dict[Step, list[float]] = {
        Step.STEEPEST: [1, 0, -1, 0],
        Step.SIGN: [1, 0, -1, 0],
        Step.UNIT: [0.6, 0, -0.8, 0],
        Step.RAW: [3, 0, -4, 0],
    }
    assert set(expected) == set(Step)
    for step, values in expected.items():
        found = direction(step, Norm.LINF, gradient).numpy().ravel()
        np.testing.assert_allclose(found, values, rtol=1e-12)
    steepest_l2 = direction(Step.STEEPEST, Norm.L2, gradient).numpy().ravel()
    np.testing.assert_allclose(steepest_l2, expected[Step.UNIT], rtol=1e-12)


def test_default_step_size_is_a_thirtieth_of_the_budget() -> None:
    assert default_step_size(Step.STEEPEST, Norm.LINF, 0.3) == pytest.approx(0.01)
    assert default_step_size(Step.UNIT, Norm.L2, 3.0) == pytest.approx(0.1)
    for step, norm, size in (
        (Step.SIGN, Norm.L2, 0.01),
        (Step.UNIT, Norm.LINF, 0.1),
        (Step.RAW, Norm.L2, 0.1),
    ):
        assert default_step_size(step, norm, np.array([0.5, 2.0])).tolist() == [size, size]
