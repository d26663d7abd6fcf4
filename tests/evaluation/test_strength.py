"""Signs of weak attacks, each shown by a table that has it, and not by one that has not."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from mnist_adv.evaluation.analyse.check import Check
from mnist_adv.evaluation.analyse.strength import check_strength
from tests.evaluation.support import hand_made

INF = math.inf
COUNT = 8
ALL = [0.1] * COUNT


def found(attacks: dict[str, list[float]], **changes: Any) -> dict[str, Check]:
    """The checks of a table in which attacks met goals at these distances, by their first word."""
    labels = list(range(COUNT))
    table = hand_made(labels, labels, list(attacks.values()))
    plan = dataclasses.replace(table.plan, attacks=tuple(attacks), num_steps=None, **changes)
    gradients = np.array([[0 if name in ("square", "uniform_noise") else 2] for name in attacks])
    columns = {**table.columns, "num_gradients": np.tile(gradients, (1, COUNT))}
    checks = list(check_strength(dataclasses.replace(table, plan=plan, columns=columns)))
    assert not any(check.decisive for check in checks)
    names = {"no attack without": "black", "random noise": "noise", "descents": "steps"}
    return {
        next(
            (short for start, short in names.items() if check.statement.startswith(start)), "weak"
        ): check
        for check in checks
    }


def test_an_attack_without_gradients_that_alone_meets_a_goal_is_told_with_its_images() -> None:
    missed = [*ALL[:-2], INF, 0.3]  # the last beyond the largest budget, 0.2
    check = found({"pgd": missed, "square": ALL})["black"]
    assert not check.holds and check.detail == "2 goals (images 6, 7)"
    assert check.told.startswith("2 goals (images 6, 7): gradients may be masked")
    assert found({"pgd": ALL, "square": missed})["black"].holds
    assert "black" not in found({"pgd": ALL, "apgd_ce": ALL})
    assert "black" not in found({"uniform_noise": ALL, "pgd": missed})


def test_a_part_without_gradients_that_meets_what_others_missed_is_told() -> None:
    labels = list(range(COUNT))

    def found(maker: int, *parts: str, ensemble: str = "autoattack") -> list[Check]:
        made_by = [[0] * (COUNT - 2) + [maker, -1]]
        table = hand_made(labels, labels, [[*ALL[:-1], INF]], made_by=made_by)
        plan = dataclasses.replace(table.plan, attacks=(ensemble,), num_steps=None)
        return list(check_strength(dataclasses.replace(table, plan=plan, parts=(parts,))))

    (check,) = found(1, "apgd_ce", "square")
    assert not check.holds and not check.decisive
    message = "square of autoattack meets 1 goal that the parts before it missed (images 6)"
    assert check.told.startswith(f"{message}: gradients may be masked")
    assert [check.holds for check in found(0, "apgd_ce", "square")] == [True]
    assert found(1, "apgd_ce", "apgd_dlr") == []  # each of them asks for gradients
    assert found(1, "apgd_ce", "square", ensemble="strongest") == []


def test_noise_that_is_enough_is_told() -> None:
    noise = [0.1, *[INF] * (COUNT - 1)]
    check = found({"pgd": ALL, "uniform_noise": noise})["noise"]
    assert not check.holds and check.detail == "it meets 12.50% of them"
    assert found({"pgd": ALL, "uniform_noise": [INF] * COUNT})["noise"].holds
    assert "noise" not in found({"pgd": ALL})


def test_more_steps_that_find_less_are_told() -> None:
    less = [*ALL[:-1], INF]
    check = found({"fgsm": ALL, "pgd": less})["steps"]
    assert not check.holds and check.detail == "pgd in 40 steps meets 7 goals, fgsm in 1 meets 8"
    assert found({"fgsm": less, "pgd": ALL})["steps"].holds
    assert "steps" not in found({"bim": ALL, "mi_fgsm": less})  # of ten steps both


def test_an_attack_that_misses_what_another_meets_is_told() -> None:
    missed = [*ALL[:3], *[INF] * 5]
    check = found({"ddn": ALL, "fmn": missed})["weak"]
    assert not check.holds
    assert check.detail == "fmn misses 5 goals that ddn meets (images 3, 4, 5, 6, 7)"
    assert found({"ddn": ALL, "fmn": ALL})["weak"].holds
    assert "weak" not in found({"ddn": missed})


def test_a_weak_attack_makes_no_evaluation_unsound() -> None:
    bad = Check("attacks are strong", False, "one is not", remedy="try more", decisive=False)
    worse = Check("it is true", False, "it is not")
    assert (bad.verdict, bad.told) == ("look", "one is not: try more")
    assert (worse.verdict, worse.told) == ("FAILS", "it is not")
    assert dataclasses.replace(bad, holds=True).told == "one is not"
