"""What the repair of rounding believes is beyond reach, against all there is on a small grid."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mnist_adv.geometry.norms import Norm
from mnist_adv.quantize.ball import TOP, GridBudget, round_inside
from mnist_adv.quantize.moves import move, out_of_reach
from mnist_adv.verdict.judge import TOLERANCE

EPSILON = {Norm.LINF: 3 / TOP, Norm.L2: 4 / TOP, Norm.L1: 5 / TOP, Norm.L0: 2.0}


def problem(norm: Norm, seed: int) -> tuple[np.ndarray, GridBudget]:
    """Three pixels near the ends of the range, a slope, and a ball."""
    generator = np.random.default_rng(seed)
    origin = generator.choice([0.0, 2.0, 5.0, 250.0, 255.0], (1, 3))
    budget = GridBudget(origin, norm, np.array([EPSILON[norm]]))
    slope = generator.normal(0, 1, (1, 3)) * generator.choice([0, 1], (1, 3), p=[0.2, 0.8])
    return slope, budget


def fits(points: np.ndarray, budget: GridBudget) -> np.ndarray:
    """Which points `[n, 3]` lie on the grid, in the box and in the ball."""
    away = points - budget.origin
    lengths = {
        Norm.LINF: np.abs(away).max(axis=1) / TOP,
        Norm.L2: np.linalg.norm(away, axis=1) / TOP,
        Norm.L1: np.abs(away).sum(axis=1) / TOP,
        Norm.L0: np.count_nonzero(away, axis=1),
    }[budget.norm]
    on_grid = (points == np.rint(points)) & (points >= 0) & (points <= TOP)
    fitting: np.ndarray = on_grid.all(axis=1) & (lengths <= budget.epsilon[0] + 1e-12)
    return fitting


def inside(budget: GridBudget) -> np.ndarray:
    """Every point of the ball, by trying all; for L0 those at the ends of each pixel's range."""
    ways = (
        [(0.0, at, TOP) for at in budget.origin[0]]
        if budget.norm is Norm.L0
        else budget.origin[0][:, np.newaxis] + np.arange(-6, 7)
    )
    points = np.array(list(itertools.product(*ways)))
    return points[fits(points, budget)]


@pytest.mark.parametrize("norm", Norm)
@pytest.mark.parametrize("seed", range(12))
def test_what_is_out_of_reach_is_in_no_point_of_the_ball(norm: Norm, seed: int) -> None:
    slope, budget = problem(norm, seed)
    points = inside(budget)
    now = points[[seed % len(points)]]
    fall = -((points - now) * slope).sum(axis=1).min() / TOP  # what the best point gains
    assert not out_of_reach(now, slope, np.array([fall]), budget)[0]
    if norm in (Norm.LINF, Norm.L0):  # the bound is exact
        assert out_of_reach(now, slope, np.array([fall + 1e-5]), budget)[0]
    # In L2 and L1 the bound is that of the ball without its box, or of the box: never far away.
    assert out_of_reach(now, slope, np.array([fall + np.abs(slope).sum() * 5 / TOP + 1e-5]), budget)


@pytest.mark.parametrize("norm", Norm)
@pytest.mark.parametrize("seed", range(12))
def test_a_move_stays_inside_and_lowers_the_sum(norm: Norm, seed: int) -> None:
    slope, budget = problem(norm, seed)
    points = inside(budget)
    now, wanted = points[[(5 * seed) % len(points)]], np.array([0.3 / TOP])
    after, stuck = move(now.copy(), slope, wanted, budget)
    assert fits(after, budget).all()
    fall = -((after - now) * slope).sum() / TOP
    assert stuck[0] or fall > 0


def exchange(
    norm: Norm, levels: list[float], slope: list[float], wanted: float
) -> tuple[list[float], bool]:
    """Move four grey pixels, of which the first two have spent the whole budget."""
    now = np.array([levels])
    spent = {Norm.L1: np.abs(now - 100).sum(), Norm.L2: np.linalg.norm(now - 100)}[norm]
    budget = GridBudget(np.full((1, 4), 100.0), norm, np.array([spent / TOP]))
    after, stuck = move(now, np.array([slope]), np.array([wanted / TOP]), budget)
    assert fits(after, budget).all()
    return after[0].tolist(), bool(stuck[0])


@pytest.mark.parametrize("norm", [Norm.L1, Norm.L2])
def test_what_matters_little_gives_back_for_what_matters(norm: Norm) -> None:
    # Raising the first two lowers the sum by a tenth and a half per level, lowering the others by
    # two and by three.
    levels, slope = [106.0, 106.0, 100.0, 100.0], [-0.1, -0.5, 2.0, 3.0]
    assert exchange(norm, levels, slope, 2.5) == ([105.0, 106.0, 100.0, 99.0], False)
    if norm is Norm.L1:  # each level pays for one other, and a pixel moves by one level at most
        assert exchange(norm, levels, slope, 4.3) == ([105.0, 105.0, 99.0, 99.0], False)
    else:  # the first level back saves 11 in squares, each of the others costs 1
        assert exchange(norm, levels, slope, 4.5) == ([105.0, 106.0, 99.0, 99.0], False)
    # Out of reach of one round: all that helps is done.
    assert exchange(norm, levels, slope, 99.0)[0][2:] == [99.0, 99.0]
    # Giving back would cost more than the others gain.
    assert exchange(norm, levels, [-3.0, -3.0, 0.1, 0.1], 1.0) == (levels, True)


def test_linf_moves_the_steepest_and_whole_ways_where_single_levels_are_not_enough() -> None:
    budget = GridBudget(np.full((1, 4), 100.0), Norm.LINF, np.array([4 / TOP]))
    now, slope = np.full((1, 4), 100.0), np.array([[1.0, -3.0, 2.0, 0.0]])
    for wanted, expected in (
        (2.5, [100, 101, 100, 100]),
        (4.5, [100, 101, 99, 100]),
        (5.5, [99, 101, 99, 100]),
        (7.0, [100, 104, 100, 100]),
        (99.0, [96, 104, 96, 100]),
    ):
        after, stuck = move(now.copy(), slope, np.array([wanted / TOP]), budget)
        assert after[0].tolist() == expected and not stuck[0]


@pytest.mark.parametrize("norm", [Norm.L2, Norm.L1, Norm.L0])
@pytest.mark.parametrize("seed", range(20))
def test_rounding_gives_up_as_little_as_fits(norm: Norm, seed: int) -> None:
    generator = np.random.default_rng(seed)
    origin = generator.integers(50, 200, (1, 6)).astype(float)
    wanted = origin + generator.uniform(-4, 4, (1, 6))
    length = {
        Norm.L2: np.linalg.norm(wanted - origin) / TOP,
        Norm.L1: np.abs(wanted - origin).sum() / TOP,
        Norm.L0: 6.0,
    }[norm]
    budget = GridBudget(origin, norm, np.array([length]))
    rounded, nearest = round_inside(wanted, budget), np.rint(wanted)
    assert fits(rounded, budget).all()
    given_up = np.flatnonzero(rounded != nearest)
    assert len(given_up) == 0 or not fits(nearest, budget)[0]
    further = np.abs(rounded - wanted) - np.abs(nearest - wanted)
    for last in given_up[further[0, given_up] == further[0, given_up].max(initial=0)]:
        without = rounded.copy()
        without[0, last] = nearest[0, last]
        assert not fits(without, budget)[0]


@pytest.mark.parametrize("norm", [Norm.LINF, Norm.L2, Norm.L1])
@pytest.mark.parametrize(("short", "fitting"), [(0.25, True), (0.75, False), (1.5, False)])
def test_a_budget_is_kept_to_half_the_tolerance_of_the_verdict(
    norm: Norm, short: float, fitting: bool
) -> None:
    budget = GridBudget(np.array([[100.0]]), norm, np.array([3 / TOP - short * TOLERANCE]))
    rounded = round_inside(np.array([[102.9]]), budget)
    assert rounded.item() == (103 if fitting else 102)


@pytest.mark.parametrize("norm", Norm)
def test_a_ball_measures_as_numpy_does(norm: Norm) -> None:
    generator = np.random.default_rng(6)
    origin, levels = generator.integers(0, 256, (2, 5, 4)).astype(float)
    levels[:, 0] = origin[:, 0]
    order = {Norm.LINF: np.inf, Norm.L2: 2, Norm.L1: 1, Norm.L0: 0}[norm]
    unit = 1 if norm is Norm.L0 else TOP
    expected = np.linalg.norm(levels - origin, order, axis=1) / unit
    ball = GridBudget(origin, norm, expected)
    np.testing.assert_allclose(ball.lengths(levels), expected, rtol=1e-12)
    for short, fitting in ((0.0, True), (0.25, True), (0.75, False), (1.5, False)):
        smaller = GridBudget(origin, norm, expected - short * TOLERANCE)
        assert (smaller.holds(levels) == fitting).all()
        if norm is not Norm.LINF:  # whose pixels do not add up
            spent = smaller.spent(levels).sum(axis=1)
            assert ((spent <= smaller.allowed * (1 + 1e-12)) == fitting).all()
