"""Targeted smallest perturbations against HiGHS, least squares and brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.optimum_oracles import highs, quadratic
from mnist_adv.data.datasets import Dataset
from mnist_adv.models.softmax_regression import SoftmaxRegression
from mnist_adv.optimum import Optimum, Status, check, smallest_perturbation

CONVEX = ("linf", "l2", "l1")


def random_problem(
    seed: int, pixels: int, classes: int, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draw W, b, images with many pixels at 0 and 1 (as digits have), and targets."""
    generator = np.random.default_rng(seed)
    W = generator.normal(0, 1, (pixels, classes))
    b = generator.normal(0, 1, classes)
    images = np.clip(generator.uniform(-0.7, 1.7, (count, pixels)), 0, 1)
    return W, b, images, generator.integers(0, classes, count)


def oracle(
    norm: str, W: np.ndarray, b: np.ndarray, image: np.ndarray, target: int, margin: float = 0.0
) -> float:
    """Ask the independent solver of the norm for one optimum in the unit box."""
    others = [k for k in range(W.shape[1]) if k != target]
    constraints = (W[:, [target]] - W[:, others]).T
    logits = image @ W + b
    rhs = logits[others] - logits[target] + margin
    if (rhs <= 0).all():
        return 0.0
    if norm == "l2":
        return quadratic(constraints, rhs, 1 - image, image)
    return highs(norm, constraints, rhs, 1 - image, image)


def accepted(W: np.ndarray, b: np.ndarray, optimum: Optimum) -> np.ndarray:
    """Let the checker judge a targeted result."""
    certificate = check(
        W,
        b,
        optimum.images,
        optimum.adversarial,
        norm=optimum.norm,
        targets=optimum.classes,
        dual_variables=optimum.dual_variables,
        claimed_lower=optimum.lower_bound,
        claimed_upper=optimum.upper_bound,
        margin=optimum.margin,
    )
    return certificate.accepted


@pytest.mark.parametrize("norm", CONVEX)
def test_digits_agree_with_the_oracle(
    norm: str, trained: SoftmaxRegression, test_set: Dataset
) -> None:
    W, b = trained.W.numpy().astype(np.float64), trained.b.numpy().astype(np.float64)
    count = 4 if norm == "l2" else 12
    images = test_set.images[:count].reshape(count, -1)
    targets = (test_set.labels[:count] + 1 + np.arange(count) % 9) % 10
    optimum = smallest_perturbation(W, b, images, targets, norm=norm)
    assert accepted(W, b, optimum).all()
    for i in range(count):
        expected = oracle(norm, W, b, images[i].astype(np.float64), targets[i])
        assert optimum.upper_bound[i] == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("norm", CONVEX)
@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_random_problems_agree_with_the_oracle(norm: str, margin: float) -> None:
    W, b, images, targets = random_problem(3, 30, 5, 40)
    optimum = smallest_perturbation(W, b, images, targets, norm=norm, margin=margin)
    assert accepted(W, b, optimum).all()
    for i in range(len(images)):
        expected = oracle(norm, W, b, images[i], targets[i], margin)
        assert optimum.upper_bound[i] == pytest.approx(expected, rel=1e-6, abs=1e-9)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    pixels=st.integers(1, 40),
    classes=st.integers(2, 12),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    width=st.sampled_from([1.0, 255.0]),
    norm=st.sampled_from(CONVEX),
)
def test_every_answer_is_proved_in_any_size_and_unit(
    seed: int, pixels: int, classes: int, scale: float, width: float, norm: str
) -> None:
    W, b, images, targets = random_problem(seed, pixels, classes, 7)
    optimum = smallest_perturbation(
        W * scale / width, b * scale, images * width, targets, norm=norm, upper=width
    )
    certificate = check(
        W * scale / width,
        b * scale,
        images * width,
        optimum.adversarial,
        norm=norm,
        targets=targets,
        dual_variables=optimum.dual_variables,
        claimed_lower=optimum.lower_bound,
        claimed_upper=optimum.upper_bound,
        upper=width,
    )
    assert certificate.accepted.all(), certificate.reasons
    same = smallest_perturbation(W, b, images, targets, norm=norm)
    np.testing.assert_allclose(optimum.upper_bound, same.upper_bound * width, rtol=1e-6)
    assert (optimum.status == same.status).all()


@pytest.mark.parametrize("norm", [*CONVEX, "l0"])
def test_an_image_of_the_target_class_stays(norm: str) -> None:
    W, b, images, _ = random_problem(5, 20, 4, 6)
    optimum = smallest_perturbation(W, b, images, (images @ W + b).argmax(axis=1), norm=norm)
    assert (optimum.status == Status.ALREADY).all()
    assert (optimum.upper_bound == 0).all() and (optimum.lower_bound == 0).all()
    np.testing.assert_array_equal(optimum.adversarial, images)
    assert accepted(W, b, optimum).all()


@pytest.mark.parametrize("norm", CONVEX)
def test_equal_columns(norm: str) -> None:
    W, b, images, targets = random_problem(6, 25, 5, 12)
    W[:, 3], b[3] = W[:, 1], b[1]
    W[:, 4], b[4] = W[:, 0], b[0] - 0.25
    optimum = smallest_perturbation(W, b, images, targets, norm=norm)
    assert accepted(W, b, optimum).all()
    for i in range(len(images)):
        expected = oracle(norm, W, b, images[i], targets[i])
        assert optimum.upper_bound[i] == pytest.approx(expected, rel=1e-6, abs=1e-9)
    # Class 4 is class 0 with a smaller bias: no image is of class 4.
    hopeless = smallest_perturbation(W, b, images, 4, norm=norm)
    assert (hopeless.status == Status.INFEASIBLE).all()
    assert accepted(W, b, hopeless).all()


@pytest.mark.parametrize("norm", CONVEX)
def test_zero_columns_and_zero_weights(norm: str) -> None:
    W, b, images, targets = random_problem(7, 25, 5, 12)
    W[:, 2] = 0
    W[5:9] = 0
    optimum = smallest_perturbation(W, b, images, targets, norm=norm)
    assert accepted(W, b, optimum).all()
    assert (optimum.perturbation[:, 5:9] == 0).all()
    for i in range(len(images)):
        expected = oracle(norm, W, b, images[i], targets[i])
        assert optimum.upper_bound[i] == pytest.approx(expected, rel=1e-6, abs=1e-9)
    nothing = smallest_perturbation(np.zeros_like(W), np.arange(5.0), images, 0, norm=norm)
    assert (nothing.status == Status.INFEASIBLE).all()
    assert accepted(np.zeros_like(W), np.arange(5.0), nothing).all()


@pytest.mark.parametrize("norm", CONVEX)
def test_pixels_at_the_ends_of_the_box_everywhere(norm: str) -> None:
    W, b, images, targets = random_problem(8, 40, 6, 20)
    images = (images > 0.5).astype(np.float32)
    optimum = smallest_perturbation(W, b, images, targets, norm=norm)
    assert accepted(W, b, optimum).all()
    for i in range(len(images)):
        expected = oracle(norm, W, b, images[i].astype(np.float64), targets[i])
        assert optimum.upper_bound[i] == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("norm", [*CONVEX, "l0"])
def test_no_feasible_point_is_proved_to_be_none(norm: str) -> None:
    W, b, images, targets = random_problem(9, 6, 6, 60)
    optimum = smallest_perturbation(W, b, images, targets, norm=norm)
    expected = [oracle("linf", W, b, image, t) for image, t in zip(images, targets)]
    assert 5 < np.isinf(expected).sum() < 55
    np.testing.assert_array_equal(optimum.status == Status.INFEASIBLE, np.isinf(expected))
    if norm != "l0":
        assert accepted(W, b, optimum).all()
    np.testing.assert_array_equal(
        optimum.adversarial[np.isinf(expected)], images[np.isinf(expected)]
    )


@pytest.mark.parametrize("norm", CONVEX)
def test_ties_count_as_reached(norm: str) -> None:
    W = np.array([[1.0, -1.0], [1.0, -1.0]])
    images = np.array([[0.5, 0.5], [0.5, 0.75]])
    optimum = smallest_perturbation(W, np.array([-1.0, 1.0]), images, 0, norm=norm)
    assert optimum.status[0] == Status.ALREADY
    tied = smallest_perturbation(W, np.array([-1.0, 1.0]), images, 1, norm=norm)
    assert tied.upper_bound[1] == pytest.approx(
        {"linf": 0.125, "l2": 0.125 * np.sqrt(2), "l1": 0.25}[norm]
    )


@pytest.mark.slow
def test_the_fewest_pixels_agree_with_brute_force() -> None:
    W, b, images, targets = random_problem(10, 9, 4, 25)
    optimum = smallest_perturbation(W, b, images, targets, norm="l0")
    for i, (image, target) in enumerate(zip(images, targets)):
        assert optimum.upper_bound[i] == _fewest(W, b, image, target)
        assert optimum.lower_bound[i] <= optimum.upper_bound[i]
    settled = [Status.OPTIMAL, Status.ALREADY, Status.INFEASIBLE, Status.BRANCHED]
    assert set(optimum.status) <= set(settled)


def _fewest(W: np.ndarray, b: np.ndarray, image: np.ndarray, target: int) -> float:
    for size in range(len(image) + 1):
        for free in itertools.combinations(range(len(image)), size):
            ranges = np.isin(np.arange(len(image)), free)
            others = [k for k in range(W.shape[1]) if k != target]
            constraints = (W[:, [target]] - W[:, others]).T
            logits = image @ W + b
            rhs = logits[others] - logits[target]
            if np.isfinite(highs("l1", constraints, rhs, (1 - image) * ranges, image * ranges)):
                return size
    return np.inf


def test_dual_variables_are_the_derivative_by_margin() -> None:
    W, b, images, targets = random_problem(11, 30, 5, 10)
    for norm in CONVEX:
        one = smallest_perturbation(W, b, images, targets, norm=norm, margin=0.2)
        more = smallest_perturbation(W, b, images, targets, norm=norm, margin=0.2 + 1e-5)
        growth = (more.upper_bound - one.upper_bound) / 1e-5
        np.testing.assert_allclose(one.dual_variables.sum(axis=1), growth, rtol=2e-3, atol=1e-4)


def test_results_do_not_depend_on_the_batch() -> None:
    W, b, images, targets = random_problem(12, 50, 6, 150)
    for norm in CONVEX:
        together = smallest_perturbation(W, b, images, targets, norm=norm)
        alone = smallest_perturbation(W, b, images[70:71], targets[70:71], norm=norm)
        assert alone.upper_bound[0] == pytest.approx(together.upper_bound[70], rel=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm": "l3"}, "norm must be one of"),
        ({"margin": -1.0}, "margin must be"),
        ({"images": np.full((2, 4), 2.0)}, "lie in the box"),
        ({"images": np.full((2, 4), np.nan)}, "lie in the box"),
        ({"images": np.zeros((2, 5))}, "must have 4 pixels"),
        ({"images": np.zeros((2, 4), int)}, "must be floats"),
        ({"W": np.zeros((4, 1))}, "at least two classes"),
        ({"W": np.full((4, 3), np.inf)}, "must be finite"),
        ({"b": np.zeros(2)}, "b must have shape"),
        ({"targets": 3}, "targets must lie in 0..2"),
        ({"targets": None}, "must be given"),
        ({"labels": 1}, "must differ from labels"),
        ({"lower": 2.0}, "lower <= upper"),
        ({"lower": np.zeros(3)}, "one per pixel"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "W": np.ones((4, 3)),
        "b": np.zeros(3),
        "images": np.zeros((2, 4)),
        "targets": 1,
    }
    with pytest.raises(ValueError, match=message):
        smallest_perturbation(**{**arguments, **change})  # type: ignore[arg-type]
