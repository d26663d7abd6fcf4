"""An evaluation says which part of an ensemble reached which goals."""

from __future__ import annotations

import csv
import pathlib
from typing import Any

import numpy as np
import pytest

from mnist_adv import attack, load_result
from mnist_adv.data import datasets
from mnist_adv.evaluation.analyse import costs
from mnist_adv.evaluation.analyse.parts import PartOfEnsemble, head, lay_out
from mnist_adv.evaluation.analyse.table import read_table
from mnist_adv.evaluation.measure import run
from mnist_adv.evaluation.measure.store import Store
from mnist_adv.evaluation.plan import Targets
from mnist_adv.evaluation.report import files
from mnist_adv.models.softmax_regression import SoftmaxRegression
from tests.evaluation.support import places, small_plan

_QUERIES = {"num_queries": 20}


@pytest.mark.slow
def test_parts_are_those_of_the_attack(
    workshop: pathlib.Path,
    trained: SoftmaxRegression,
    test_set: datasets.Dataset,
    tmp_path: pathlib.Path,
) -> None:
    plan = small_plan(
        workshop,
        attacks=("autoattack", "pgd"),
        attack_settings={"autoattack": _QUERIES},
        targets=Targets.UNTARGETED,
        num_images=30,
        epsilons=(0.02, 0.06),
        num_steps=2,
        step_size=None,
    )
    store = Store(tmp_path / "run", plan)
    run.execute(store, places(workshop), quiet=True)
    table = read_table(store)
    images, labels = test_set.images[:30], test_set.labels[:30]
    options: dict[str, Any] = {
        "labels": labels,
        "method": "autoattack",
        "num_steps": plan.num_steps,
        "seed": plan.seed,
        **_QUERIES,
    }
    near, far = (attack(trained, images, epsilon=epsilon, **options) for epsilon in plan.epsilons)
    saved = table["saved_success"][0] & (table["budget"][0] == 0.02)
    made_by = np.where(far.success, far.made_by, -1)
    made_by = np.where(
        near.distances <= np.where(saved, np.inf, far.distances), near.made_by, made_by
    )
    made_by[~near.success & ~far.success] = -1
    np.testing.assert_array_equal(table["made_by"][0], made_by)
    assert len(set(made_by)) > 2  # two parts at least, and misses
    assert table.parts == (tuple(part.name for part in far.parts), ())

    found = files.finish(store, places(workshop), trained, [str(digit) for digit in range(10)])
    assert found.costs.parts == costs.find(store, table, None).parts
    for number, part in enumerate(found.costs.parts):
        assert (part.ensemble, part.part) == ("autoattack", far.parts[number].name)
        assert part.reached[1] == (made_by == number).sum()
        assert part.seconds is not None and part.seconds > 0
    assert sum(part.reached[0] for part in found.costs.parts) == near.success.sum()
    assert found.costs.parts[0].attacked == 30 + (~saved).sum()
    folder = tmp_path / "run"
    assert "<h3>Parts of ensembles</h3>" in (folder / "report.html").read_text()
    with (folder / "images.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row, own in zip(rows[::2], table.makers()[0]):
        assert row["attack"] == "autoattack" and row["made_by"] == own
    assert {row["made_by"] for row in rows[1::2]} == {"pgd", ""}

    found.save(tmp_path / "saved.npz")
    assert load_result(tmp_path / "saved.npz").costs == found.costs
    (folder / "timing.json").unlink()
    untimed = costs.find(store, table, None).parts
    assert [part.reached for part in untimed] == [part.reached for part in found.costs.parts]
    assert {(part.attacked, part.seconds) for part in untimed} == {(None, None)}


def test_three_budgets_are_shown_at_a_terminal() -> None:
    epsilons = (0.1, 0.2, 0.3, 0.4, 0.5)
    part = PartOfEnsemble("strongest", "fab_t", (1, 2, 3, 4, 5), 7, 1.25)
    assert len(part.cells()) == len(head(epsilons))
    first, second = (line.split() for line in lay_out((part,), epsilons))
    assert first == ["part", "attacked", "seconds", "at", "0.1", "at", "0.3", "at", "0.5"]
    assert second == ["strongest:", "fab_t", "7", "1.2", "1", "3", "5"]
    assert lay_out((part,), (0.1,))[0].count("at 0.1") == 1
