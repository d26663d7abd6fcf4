"""Evaluations beside the certified optimum."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np
import pytest

from mnist_adv.evaluation.analyse import beside_optimum, statistics
from mnist_adv.evaluation.analyse.table import Table, read_table
from mnist_adv.evaluation.measure import run
from mnist_adv.evaluation.measure.store import Store
from mnist_adv.evaluation.plan import Targets
from mnist_adv.models import checkpoints
from mnist_adv.verdict import BelowOptimumError
from tests.evaluation.support import places, small_plan

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def table(workshop: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Table:
    """PGD and DeepFool on a few images, untargeted."""
    plan = small_plan(
        workshop,
        attacks=("pgd", "deepfool"),
        targets=Targets.UNTARGETED,
        num_steps=None,
        step_size=None,
        chunk_size=45,
    )
    store = Store(tmp_path_factory.mktemp("truth"), plan)
    run.execute(store, places(workshop), quiet=True)
    return read_table(store)


def test_no_attack_passes_the_line(table: Table, workshop: pathlib.Path) -> None:
    known = beside_optimum.find(
        table, checkpoints.restore(workshop / "checkpoints"), places(workshop)
    )
    assert known is not None
    for curve in statistics.curves(table):
        for made, possible in zip(curve.success, known.curve.success):
            assert made.count <= possible.count
        for made, possible in zip(curve.robust, known.curve.robust):
            assert made.count >= possible.count
    pgd, deepfool = known.found
    assert pgd.over_optimum is not None and 1.005 < pgd.over_optimum < 1.5
    assert deepfool.over_optimum == pytest.approx(1, abs=0.01)  # exact on linear models
    assert deepfool.share_found[-1] == 1


def test_a_claim_below_the_bound_stops_the_run(table: Table, workshop: pathlib.Path) -> None:
    columns = {name: values.copy() for name, values in table.columns.items()}
    model = checkpoints.restore(workshop / "checkpoints")
    known = beside_optimum.find(table, model, places(workshop))
    assert known is not None
    row = int(np.argmax(known.lower_bound))
    columns["float_linf"][1, row] = known.lower_bound[row] - 5e-5  # about 1/5000 of it
    with pytest.raises(BelowOptimumError, match=f"deepfool on image {row} claims a linf distance"):
        beside_optimum.find(dataclasses.replace(table, columns=columns), model, places(workshop))


def test_a_targeted_claim_below_its_bound_stops_the_run(
    workshop: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    plan = small_plan(
        workshop,
        attacks=("deepfool",),
        targets=Targets.NEXT,
        num_images=4,
        num_steps=None,
        step_size=None,
    )
    store = Store(tmp_path / "targeted", plan)
    run.execute(store, places(workshop), quiet=True)
    table = read_table(store)
    model = checkpoints.restore(workshop / "checkpoints")
    known = beside_optimum.find(table, model, places(workshop))
    assert known is not None
    row = int(np.argmax(table["float_success"][0]))
    assert table["float_success"][0, row]
    columns = {name: values.copy() for name, values in table.columns.items()}
    columns["float_linf"][0, row] = 0.999 * known.lower_bound[row]
    with pytest.raises(BelowOptimumError, match=f"deepfool on image {row} claims a linf distance"):
        beside_optimum.find(dataclasses.replace(table, columns=columns), model, places(workshop))


def test_models_that_are_not_linear_have_no_line(table: Table, workshop: pathlib.Path) -> None:
    assert beside_optimum.find(table, lambda images: images, places(workshop)) is None
