"""The shortcuts of targeted L-inf: each is taken, each is refused where it is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from mnist_adv.optimum import smallest_perturbation
from mnist_adv.optimum.certificate import bounds
from mnist_adv.optimum.problem import Block, make_block, make_classifier
from mnist_adv.optimum.solvers import interior_point, l1_columns, linf
from mnist_adv.optimum.solvers.linf_form import make_linf_form
from mnist_adv.optimum.solvers.relaxation import solve_single
from tests.optimum.test_targeted import accepted, oracle, random_problem

E_LOWER, E_UPPER = 0.9, 1.2


@pytest.fixture(scope="module")
def problem() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Problems none of which is solved already."""
    W, b, images, targets = random_problem(51, 90, 6, 40)
    away = (images @ W + b).argmax(axis=1) != targets
    return W, b, images[away], targets[away]


@pytest.fixture(scope="module")
def expected(problem: tuple[np.ndarray, ...]) -> np.ndarray:
    """What HiGHS says."""
    W, b, images, targets = problem
    return np.array([oracle("linf", W, b, x, int(t)) for x, t in zip(images, targets)])


def agree(problem: tuple[np.ndarray, ...], expected: np.ndarray) -> None:
    """Solve; every answer is the oracle's, and proved."""
    W, b, images, targets = problem
    optimum = smallest_perturbation(W, b, images, targets, norm="linf")
    np.testing.assert_allclose(optimum.upper_bound, expected, rtol=1e-6)
    assert accepted(W, b, optimum).all()


@pytest.mark.parametrize("multiple", [1.0, 1.05, 100.0])
def test_an_e_above_the_assumed_bound_is_found(
    multiple: float,
    problem: tuple[np.ndarray, ...],
    expected: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(linf, "_E_UPPER", multiple)
    agree(problem, expected)


def test_constraints_met_by_too_much_are_tightened(problem: tuple[np.ndarray, ...]) -> None:
    block = _block(problem)
    solution = linf.solve(block)
    best = np.abs(solution.points).max(axis=1)
    assert (linf._complementarity(block, solution.points, solution.dual_variables) <= 1e-8).all()
    # As an iteration leaves them that has stalled: feasible, and farther than need be.
    more = np.clip(solution.points * (1 + 2e-6), -block.ranges[1], block.ranges[0])
    solution.points[:] = more
    assert (np.abs(more).max(axis=1) > best * (1 + 1e-6)).all()
    again = np.abs(linf._tighten(block, solution).points).max(axis=1)
    assert (again <= best * (1 + 4e-7)).mean() > 0.8
    assert (again <= np.abs(more).max(axis=1)).all()


@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_a_single_constraint_settles_what_it_should(
    norm: str, problem: tuple[np.ndarray, ...]
) -> None:
    solution, low, settled = solve_single(norm, _block(problem))
    solve = {"linf": linf.solve, "l1": l1_columns.solve}[norm]
    active = (solve(_block(problem)).dual_variables > 1e-6).sum(axis=1)
    assert 0 < settled.sum() < len(settled)
    np.testing.assert_array_equal(settled, active == 1)
    np.testing.assert_allclose(low[settled], bounds.measure(norm, solution.points[settled]))


def test_the_start_is_strictly_feasible(problem: tuple[np.ndarray, ...]) -> None:
    block = _block(problem)
    single, low, _ = solve_single("linf", block)
    form = make_linf_form(
        block.constraints, block.ranges, single.dual_variables, E_LOWER * low, E_UPPER * low
    )
    _interior_and_dual_feasible(interior_point.initial_state(form, block.rhs))


def _interior_and_dual_feasible(state: interior_point.State) -> None:
    form = state.form
    assert (form.slacks(state.point) > 0).all() and (state.duals > 0).all()
    assert (state.lam > 0).all() and (state.surplus > 0).all()
    # The Lagrangian's derivative is zero along any direction of v.
    generator = np.random.default_rng(0)
    for _ in range(5):
        direction = generator.normal(size=state.point.shape)
        zero = np.zeros_like(direction)
        constraints = form.constraint_values(direction) - form.constraint_values(zero)
        bounds = np.einsum("bnd,bnd->n", state.duals, form.change(direction))
        pull = (state.lam * constraints).sum(axis=1) + bounds
        np.testing.assert_allclose(form.cost(direction), pull, rtol=1e-9, atol=1e-9)


def _block(problem: tuple[np.ndarray, ...]) -> Block:
    W, b, images, targets = problem
    return make_block(make_classifier(W, b, 0.0, 1.0), images, targets, 0.0)
