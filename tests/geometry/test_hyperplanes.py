"""Projection onto a hyperplane inside the box, against linear and quadratic programs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from mnist_adv.geometry.hyperplanes import project_on_hyperplane
from mnist_adv.geometry.norms import Norm

NORMS = (Norm.LINF, Norm.L2, Norm.L1)
ORDERS = {Norm.LINF: np.inf, Norm.L2: 2, Norm.L1: 1}
COUNT, PIXELS = 12, 9


def smallest(norm: Norm, image: np.ndarray, normal: np.ndarray, gap: float) -> float:
    """The length of the smallest change, by HiGHS or SLSQP; d = up - down, both at least 0."""
    if norm is Norm.L2:
        found = optimize.minimize(
            lambda d: d @ d,
            normal * gap / (normal @ normal),
            jac=lambda d: 2 * d,
            bounds=list(zip(-image, 1 - image)),
            constraints={"type": "eq", "fun": lambda d: normal @ d - gap, "jac": lambda d: normal},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        assert found.success
        return float(np.sqrt(found.fun))
    signed = np.concatenate([normal, -normal])
    limits = np.concatenate([1 - image, image])
    if norm is Norm.L1:
        program = optimize.linprog(
            np.ones(2 * PIXELS), A_eq=[signed], b_eq=[gap], bounds=list(zip(0 * limits, limits))
        )
    else:
        below = np.hstack([np.eye(PIXELS), np.eye(PIXELS), -np.ones((PIXELS, 1))])
        program = optimize.linprog(
            np.append(np.zeros(2 * PIXELS), 1),
            A_ub=below,
            b_ub=np.zeros(PIXELS),
            A_eq=[np.append(signed, 0)],
            b_eq=[gap],
            bounds=[*zip(0 * limits, limits), (0, 1)],
        )
    assert program.status == 0
    return float(program.fun)


@pytest.mark.parametrize("norm", NORMS)
def test_the_projection_is_as_short_as_scipys(norm: Norm) -> None:
    generator = np.random.default_rng(5)
    images = generator.choice([0, 0.25, 0.6, 1], (COUNT, 3, 3, 1)) * 1.0
    normals = generator.normal(size=images.shape)
    normals[3, 0] = 0
    normals[4] = np.sign(normals[4])  # ties
    normals[5] *= 1e-25  # whose squares underflow in float32
    corners = np.where(generator.uniform(size=images.shape) < 0.5, images, 1 - images)
    gaps = (normals * (corners - images)).sum(axis=(1, 2, 3)) * 0.8  # feasible
    found = project_on_hyperplane(norm, images, normals, gaps).numpy()
    moved = images + found
    assert moved.min() >= 0 and moved.max() <= 1
    np.testing.assert_allclose((normals * found).sum(axis=(1, 2, 3)), gaps, rtol=1e-9, atol=1e-12)
    assert (found[normals == 0] == 0).all()
    for image, normal, gap, change in zip(images, normals, gaps, found):
        scale = np.abs(normal).max()
        best = smallest(norm, image.ravel(), normal.ravel() / scale, gap / scale)
        assert np.linalg.norm(change.ravel(), ORDERS[norm]) == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_whole_images_in_float32(norm: Norm) -> None:
    generator = np.random.default_rng(6)
    images = np.clip(generator.normal(0, 1, (50, 28, 28, 1)), 0, 1).astype(np.float32)
    normals = (
        generator.normal(size=images.shape) * np.geomspace(1e-20, 1e3, 50)[:, None, None, None]
    ).astype(np.float32)
    slack = np.where(normals > 0, 1 - images, images)
    most = (np.abs(normals) * slack).sum(axis=(1, 2, 3))
    gaps = (most * np.linspace(0, 1.2, 50)).astype(np.float32)
    found = project_on_hyperplane(norm, images, normals, gaps).numpy()
    assert np.isfinite(found).all()
    reached = (normals.astype(float) * found).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(reached, np.minimum(gaps, most), rtol=2e-5)
    infeasible = gaps > most
    assert infeasible.any()
    ends = np.sign(normals) * slack
    np.testing.assert_array_equal(found[infeasible], ends[infeasible])
    for index in (0, 20, 49):
        alone = project_on_hyperplane(norm, *(part[[index]] for part in (images, normals, gaps)))
        np.testing.assert_allclose(alone[0], found[index], rtol=1e-5, atol=1e-7)


def test_no_gap_and_no_normal_move_nothing() -> None:
    images = np.full((2, 2, 2, 1), 0.5, np.float32)
    normals = np.stack([np.ones((2, 2, 1)), np.zeros((2, 2, 1))]).astype(np.float32)
    for norm in NORMS:
        found = project_on_hyperplane(norm, images, normals, np.array([0, 1], np.float32))
        np.testing.assert_array_equal(found, 0)
    with pytest.raises(ValueError, match=r"norm must be one of linf, l2, l1\. Received: 'l0'"):
        project_on_hyperplane(Norm.L0, images, normals, np.ones(2, np.float32))
