"""Choosing pixels without sorting, against NumPy's sort and a linear program."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import optimize

from mnist_adv.geometry import selection
from mnist_adv.geometry.norms import GEOMETRY, Norm
from mnist_adv.geometry.steps import Step, apply_step

SHAPE = (2, 3, 3, 1)
sizes = hnp.arrays(np.float32, SHAPE, elements=st.floats(0, 2, width=32, allow_subnormal=False))


@pytest.mark.slow
@given(values=sizes, count=st.integers(0, 9))
@settings(derandomize=True, deadline=None, max_examples=60)
def test_largest_are_the_first_of_a_stable_sort(values: np.ndarray, count: int) -> None:
    chosen = selection.largest(values, np.full(2, count, np.int32)).numpy()
    for image, marked in zip(values, chosen):
        order = np.argsort(-image.ravel(), kind="stable")[:count]
        expected = np.zeros(9, bool)
        expected[order] = image.ravel()[order] > 0
        np.testing.assert_array_equal(marked.ravel(), expected)


@given(values=sizes, total=st.floats(0.01, 3))
@settings(derandomize=True, deadline=None, max_examples=60)
def test_soft_threshold_leaves_the_total(values: np.ndarray, total: float) -> None:
    threshold = selection.soft_threshold(values, np.full(2, total, np.float32)).numpy()
    for image, at in zip(values, threshold):
        left = np.maximum(image - at, 0).sum()
        assert left == pytest.approx(min(total, image.sum()), abs=1e-5)
        assert at == 0 or image.sum() >= total


@pytest.mark.parametrize("total", [0.0, 0.3, 1.7, 100.0])
def test_fill_solves_the_linear_program(total: float) -> None:
    generator = np.random.default_rng(4)
    priority = generator.uniform(0, 1, SHAPE).astype(np.float32)
    priority[0, 0, 0] = priority[0, 1, 1] = 0.9  # a tie
    slack = generator.uniform(0, 1, SHAPE).astype(np.float32)
    amounts = selection.fill(priority, slack, np.full(2, total, np.float32)).numpy()
    assert (amounts >= 0).all() and (amounts <= slack).all()
    assert (amounts.sum(axis=(1, 2, 3)) <= total + 1e-6).all()
    for gain, limit, found in zip(*(part.reshape(2, -1) for part in (priority, slack, amounts))):
        best = optimize.linprog(
            -gain, A_ub=np.ones((1, 9)), b_ub=[total], bounds=list(zip(np.zeros(9), limit))
        )
        assert gain @ found == pytest.approx(-best.fun, abs=1e-5)


def test_projection_onto_few_pixels_keeps_the_largest() -> None:
    values = np.random.default_rng(6).normal(size=SHAPE).astype(np.float32)
    projected = GEOMETRY[Norm.L0].project(values, np.array([2.0, 9.0], np.float32)).numpy()
    assert np.count_nonzero(projected[0]) == 2
    kept = np.abs(values[0][projected[0] != 0]).min()
    assert kept >= np.abs(values[0][projected[0] == 0]).max()
    np.testing.assert_array_equal(projected[1], values[1])


def test_an_l1_step_spends_its_length_inside_the_box() -> None:
    generator = np.random.default_rng(8)
    images = generator.uniform(0, 1, SHAPE).astype(np.float32)
    gradient = generator.normal(size=SHAPE).astype(np.float32)
    moved = apply_step(
        Step.STEEPEST, Norm.L1, images, gradient, np.full(2, 2.0, np.float32)
    ).numpy()
    assert moved.min() >= 0 and moved.max() <= 1
    spent = np.abs(moved - images).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(spent, 2, rtol=1e-5)
