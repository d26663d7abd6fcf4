"""Shares, intervals, curves, matrices: against hand-made cases and SciPy."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from mnist_adv.attacks.registry import ATTACKS
from mnist_adv.evaluation.analyse import checks, statistics
from mnist_adv.evaluation.analyse.check import Check
from mnist_adv.evaluation.analyse.table import to_csv
from mnist_adv.evaluation.report import figures
from tests.evaluation.support import hand_made

INF = math.inf


@given(total=st.integers(1, 5000), part=st.floats(0, 1), confidence=st.floats(0.5, 0.999))
@settings(derandomize=True, deadline=None)
def test_wilson_is_scipys(total: int, part: float, confidence: float) -> None:
    count = round(part * total)
    theirs = binomtest(count, total).proportion_ci(confidence, method="wilson")
    ours = statistics.wilson(count, total, confidence)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_wilson_at_the_ends() -> None:
    assert statistics.wilson(0, 0) == (0, 1)
    assert statistics.wilson(0, 10)[0] == 0 and statistics.wilson(10, 10)[1] == 1
    # z^2 / (n + z^2), from the quadratic whose roots the interval is
    assert statistics.wilson(0, 10)[1] == pytest.approx(1.959964**2 / (10 + 1.959964**2))


def test_both_denominators() -> None:
    # image 0 is wrong from the start, 1 is misclassified at 0.1, 2 at 0.15, 3 never
    table = hand_made([1, 2, 3, 4], [9, 2, 3, 4], [[0.0, 0.1, 0.15, INF]])
    curve = statistics.curves(table)[0]
    assert [share.count for share in curve.success] == [1, 2, 3]
    assert {share.total for share in curve.success} == {4}
    assert [share.count for share in curve.success_of_correct] == [0, 1, 2]
    assert {share.total for share in curve.success_of_correct} == {3}
    assert [share.count for share in curve.robust] == [3, 2, 1]
    assert {share.total for share in curve.robust} == {4}
    assert [share.value for share in curve.robust_of_correct] == [1, 2 / 3, 1 / 3]
    assert curve.median == pytest.approx(0.125)


def test_a_targeted_miss_that_leaves_the_label_is_no_success_and_not_robust() -> None:
    table = hand_made([1, 2], [1, 2], [[INF, 0.1]], target=[5, 6], float_escape=[[0.05, 0.02]])
    curve = statistics.curves(table)[0]
    assert [share.count for share in curve.success] == [0, 1, 1]
    assert [share.count for share in curve.robust] == [2, 0, 0]
    assert curve.median is None


def test_the_worst_case_is_per_image() -> None:
    # each attack fools half of the images; together they fool all
    table = hand_made([1, 2], [1, 2], [[0.1, INF], [INF, 0.2]])
    by_name = {curve.name: curve for curve in statistics.curves(table) if curve.form == "float"}
    assert by_name["pgd"].robust[-1].count == by_name["fgsm"].robust[-1].count == 1
    assert [share.count for share in by_name[statistics.WORST].robust] == [2, 1, 0]
    assert [share.count for share in by_name[statistics.WORST].success] == [0, 1, 2]


def test_an_image_is_robust_only_against_all_its_targets() -> None:
    table = hand_made([1, 1, 2], [1, 1, 2], [[INF, 0.1, INF]], target=[3, 4, 5], index=[0, 0, 1])
    curve = statistics.curves(table)[0]
    assert [share.count for share in curve.robust] == [2, 1, 1]
    assert {share.total for share in curve.robust} == {2}
    assert {share.total for share in curve.success} == {3}


def test_matrices_of_targets() -> None:
    table = hand_made([1, 1, 1, 2], [1, 1, 1, 2], [[0.1, 0.3, INF, INF]], target=[5, 5, 5, 6])
    found = statistics.matrices(table, 0, "float")
    assert found.counts[1, 5] == 3 and found.counts.sum() == 4
    assert found.success[1, 5] == pytest.approx(2 / 3) and found.success[2, 6] == 0
    assert found.distance[1, 5] == 0.3 and found.distance[2, 6] == INF
    assert np.isnan(found.success[0, 0]) and np.isnan(found.distance[5, 1])


def test_matrices_of_what_images_became() -> None:
    table = hand_made(
        [1, 1, 1, 2],
        [1, 1, 1, 2],
        [[0.1, 0.2, INF, 0.1]],
        float_prediction=[[7, 7, 1, 3]],
    )
    found = statistics.matrices(table, 0, "float")
    assert found.success[1, 7] == pytest.approx(2 / 3) and found.counts[1, 7] == 2
    assert found.success[1, 1] == 0 and found.success[2, 3] == 1
    assert found.distance[1, 7] == pytest.approx(0.15)


def test_the_easiest_and_the_hardest() -> None:
    table = hand_made([1, 2, 3, 4, 5], [9, 2, 3, 4, 5], [[0, 0.2, INF, 0.1, 0.3]])
    easiest, hardest = statistics.ranked(table, "float", 2)
    assert easiest.tolist() == [3, 1] and hardest.tolist() == [2, 4]


@pytest.mark.parametrize(
    ("values", "middle"), [([1, 2, 4], 2), ([1, 2], 1.5), ([1, INF], INF), ([1, 2, INF, INF], INF)]
)
def test_the_median_counts_infinity(values: list[float], middle: float) -> None:
    assert statistics.median(np.array(values)) == middle


def test_verdicts_and_the_csv() -> None:
    table = hand_made(
        [1, 2, 3, 4],
        [9, 2, 3, 4],
        [[0.0, 0.1, 0.2, INF]],
        saved_success=[[True, True, False, False]],
    )
    assert table.verdicts().tolist() == [["already", "reached", "lost in rounding", "missed"]]
    lines = to_csv(table).decode().splitlines()
    assert len(lines) == 5 and lines[0].startswith("id,label,target,clean_prediction,attack,")
    assert lines[2].startswith("1,2,,2,pgd,reached,1,0.2,1,2,0.1,")
    assert lines[4].startswith("3,4,,4,pgd,missed,1,0.2,0,4,0.2,")


@pytest.mark.parametrize("shape", [(28, 28, 1), (8, 10, 1), (32, 32, 3)])
def test_the_mosaic_takes_any_shape(shape: tuple[int, int, int]) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (2, *shape)).astype(np.uint8)
    drawn = figures.mosaic([figures.Pair(levels[0], levels[1], "1 to 2", met=True)] * 3, columns=2)
    colours = np.ptp(drawn.astype(int), axis=-1).max()
    assert drawn.std() > 30 and (colours > 50) == (shape[2] == 3)


def test_success_that_falls_is_noticed() -> None:
    table = hand_made([1, 2], [1, 2], [[0.1, 0.2]])
    curve = statistics.curves(table)[0]
    broken = statistics.Curve(**{**vars(curve), "success": curve.success[::-1]})
    assert checks._never_falls([curve]).holds
    assert not checks._never_falls([broken]).holds


def test_an_attack_that_moves_at_epsilon_zero_is_noticed() -> None:
    sound = hand_made([1, 2], [1, 9], [[0.1, 0.0]])
    moved = hand_made([1, 2], [1, 9], [[0.1, 0.0]], moved_at_zero=[[0.0, 0.01]])
    missed = hand_made([1, 2], [1, 9], [[0.1, 0.1]])
    assert [checks._zero_budget(table)[0].holds for table in (sound, moved, missed)] == [
        True,
        False,
        False,
    ]


def test_attacks_that_do_not_beat_the_noise_are_noticed() -> None:
    def found(pgd: float) -> list[Check]:
        table = hand_made([1, 2, 3], [1, 2, 3], [[0.1, pgd, INF], [0.1, 0.1, INF]])
        plan = dataclasses.replace(table.plan, attacks=("pgd", "uniform_noise"))
        return checks._baselines(dataclasses.replace(table, plan=plan))

    assert [check.holds for check in found(0.1)] == [True]
    weaker = found(INF)
    assert [check.holds for check in weaker] == [False]
    assert weaker[0].told.endswith("look at --doctor")
    assert checks._baselines(hand_made([1], [1], [[0.1], [0.1]])) == []  # no noise among them


def test_no_attack_has_the_name_of_a_curve_that_is_none() -> None:
    assert not {statistics.WORST, statistics.OPTIMUM} & set(ATTACKS)


def test_optimality_is_one_for_the_best_and_nothing_for_none() -> None:
    infinite = float("inf")
    # The third case is misclassified when clean, the fourth is beyond the largest budget, 0.2.
    first = [0.1, 0.15, 0.0, 0.3]
    second = [0.05, infinite, 0.0, infinite]
    table = hand_made([0, 1, 2, 3], [0, 1, 9, 3], [first, second])
    best = (0.05 + 0.15 + 0 + 0.2) / 4
    start = 0.75 * 0.2
    areas = [(0.1 + 0.15 + 0 + 0.2) / 4, (0.05 + 0.2 + 0 + 0.2) / 4]
    expected = [1 - (area - best) / (start - best) for area in areas]
    assert statistics.optimality(table) == pytest.approx(expected)
    known = statistics.optimality(table, np.array(first))
    assert known == pytest.approx([1, 1 - (areas[1] - areas[0]) / (start - areas[0])])
    nothing = hand_made([0, 1], [0, 1], [[infinite, infinite]])
    assert statistics.optimality(nothing) == [None]
    one = statistics.optimality(hand_made([0, 1], [0, 1], [[0.1, infinite]]))
    assert one == pytest.approx([1])
