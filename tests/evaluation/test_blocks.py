"""The optimum of many cases, solved block by block."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest

from mnist_adv.evaluation.analyse import beside_optimum
from mnist_adv.evaluation.analyse.table import read_table
from mnist_adv.evaluation.measure import run
from mnist_adv.evaluation.measure.store import Store
from mnist_adv.evaluation.plan import Targets
from mnist_adv.models.softmax_regression import SoftmaxRegression
from mnist_adv.optimum import smallest_perturbation
from tests.evaluation.support import places, small_plan


@pytest.mark.slow
@pytest.mark.parametrize("targets", [Targets.UNTARGETED, Targets.ALL])
def test_blocks_give_the_same_bounds(
    trained: SoftmaxRegression,
    workshop: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    targets: Targets,
) -> None:
    plan = small_plan(workshop, num_images=7, targets=targets)
    store, where = Store(tmp_path / "run", plan), places(workshop)
    run.execute(store, where, quiet=True)
    table = read_table(store)
    whole = beside_optimum.find(table, trained, where)
    sizes: list[int] = []

    def solve(W: Any, b: Any, images: Any, **options: Any) -> Any:
        sizes.append(len(images))
        return smallest_perturbation(W, b, images, **options)

    monkeypatch.setattr(beside_optimum, "_MOST_CASES", 4)
    monkeypatch.setattr(beside_optimum, "smallest_perturbation", solve)
    parts = beside_optimum.find(table, trained, where)
    assert whole is not None and parts is not None
    assert max(sizes) < len(table)  # else there was one block
    np.testing.assert_allclose(parts.lower_bound, whole.lower_bound, rtol=1e-9)
    np.testing.assert_allclose(parts.distance, whole.distance, rtol=1e-9)
    assert parts.curve.success == whole.curve.success
    assert parts.curve.robust == whole.curve.robust
