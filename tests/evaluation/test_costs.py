"""What is told of an evaluation beside its results: costs, times, a faulty model."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from mnist_adv import attack
from mnist_adv.data import datasets
from mnist_adv.evaluation.analyse import costs
from mnist_adv.evaluation.analyse.table import Table, read_table, to_csv
from mnist_adv.evaluation.measure import run
from mnist_adv.evaluation.measure.chunk import MARKS, Places
from mnist_adv.evaluation.measure.store import Store
from mnist_adv.evaluation.plan import Targets
from mnist_adv.evaluation.report import files, page
from mnist_adv.evaluation.result import Evaluation
from mnist_adv.models.model_source import ModelSource
from mnist_adv.models.softmax_regression import SoftmaxRegression
from tests.evaluation.support import SMALL, hand_made, places, small_plan

pytestmark = pytest.mark.slow


def test_queries_and_gradients_are_those_of_the_attacks(
    workshop: pathlib.Path,
    trained: SoftmaxRegression,
    test_set: datasets.Dataset,
    tmp_path: pathlib.Path,
) -> None:
    plan = small_plan(
        workshop,
        attacks=("pgd", "uniform_noise"),
        targets=Targets.NEXT,
        num_images=6,
        epsilons=(0.05, 0.3),
        step_size=None,
    )
    store = Store(tmp_path / "run", plan)
    run.execute(store, places(workshop), quiet=True)
    table = read_table(store)
    images, targets = test_set.images[:6], (test_set.labels[:6] + 1) % 10
    both = [
        attack(trained, images, targets=targets, epsilon=epsilon, num_steps=5)
        for epsilon in plan.epsilons
    ]
    done = table["saved_success"][0] & (table["budget"][0] == 0.05)
    expected = both[0].num_queries + np.where(done, 0, both[1].num_queries)
    np.testing.assert_array_equal(table["num_queries"][0], expected)
    assert (table["num_gradients"][0] == expected).all()
    assert (table["num_gradients"][1] == 0).all() and (table["num_queries"][1] > 0).all()
    lines = costs.find(store, table, None).attacks
    assert [line.queries for line in lines] == table["num_queries"].mean(axis=1).tolist()
    header, first = to_csv(table).decode().splitlines()[:2]
    cells = dict(zip(header.split(","), first.split(",")))
    assert int(cells["num_queries"]) == expected[0] == int(cells["num_gradients"])


def test_distances_over_queries_are_those_of_the_attacks(
    workshop: pathlib.Path,
    trained: SoftmaxRegression,
    test_set: datasets.Dataset,
    tmp_path: pathlib.Path,
) -> None:
    epsilons = (0.02, 0.06, 0.2)
    plan = small_plan(
        workshop,
        attacks=("pgd", "fmn"),
        targets=Targets.UNTARGETED,
        num_images=6,
        epsilons=epsilons,
        num_steps=30,
        step_size=None,
    )
    store = Store(tmp_path / "run", plan)
    run.execute(store, places(workshop), quiet=True)
    table = read_table(store)
    images, labels = test_set.images[:6], test_set.labels[:6]
    # Budgets one after the other, until an image is adversarial: what it has cost by then.
    spent, distance = np.zeros(6, int), np.full(6, np.inf)
    for epsilon in epsilons:
        left = np.flatnonzero(np.isinf(distance))
        result = attack(trained, images[left], labels=labels[left], epsilon=epsilon, num_steps=30)
        spent[left] += result.num_queries + result.num_gradients
        distance[left] = result.distances
    assert len(set(distance)) > 2
    by_passes = attack(
        trained, images, labels=labels, method="fmn", num_steps=30, record_at=MARKS
    ).distances_at
    for number, mark in enumerate(MARKS):
        column = table[f"distance_at_{mark}"]
        np.testing.assert_allclose(column[0], np.where(spent <= mark, distance, np.inf), rtol=1e-6)
        np.testing.assert_array_equal(column[1], by_passes[:, number])
    medians = table.medians_over_queries()
    numbers = [np.inf if each is None else each for each in medians["fmn"]]
    assert numbers == sorted(numbers, reverse=True)
    assert medians["fmn"][-1] == pytest.approx(np.median(table.distance("float")[1]), rel=1e-6)
    assert medians["pgd"][-1] == np.median(distance)


def test_the_rate_is_that_of_the_middle_chunk(tmp_path: pathlib.Path) -> None:
    from mnist_adv.evaluation.plan import Plan

    store = Store(tmp_path / "run", Plan(**SMALL))
    for chunk, seconds in zip(store.plan.chunks(), (40.0, 2.0, 1.0)):
        store.put(chunk, b"", {"pgd": {"images": 4, "attack": seconds, "all": 50.0}})
    store = Store(tmp_path / "run", store.plan)  # as a run that goes on finds it
    table = read_table_of_ones(store)
    assert costs.find(store, table, None).attacks[0].rate == 2.0
    (store.folder / "timing.json").write_text("{ torn")
    assert costs.find(store, table, None).attacks[0].rate is None
    assert costs.find(store, table, None).lines()[1].split()[-1] == "-"


def read_table_of_ones(store: Store) -> Table:
    one = np.ones((1, 2), np.int64)
    found = hand_made([0, 1], [0, 1], [[0.1, 0.2]])
    return Table(store.plan, {**found.columns, "num_queries": one, "num_gradients": one})


def _evaluated(folder: pathlib.Path, workshop: pathlib.Path, model: object) -> Evaluation:
    plan = small_plan(workshop, num_images=4, epsilons=(0.0, 0.1))
    store = Store(folder / "run", plan)
    run.execute(store, places(workshop), quiet=True)
    where = Places(ModelSource(str(workshop / "checkpoints")))
    return files.finish(store, where, model, "0123456789")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fault", "word"), [("no gradient", "gradient"), ("probabilities", "probabilities")]
)
def test_a_faulty_model_is_reported(
    fault: str,
    word: str,
    workshop: pathlib.Path,
    trained: SoftmaxRegression,
    tmp_path: pathlib.Path,
) -> None:
    def model(images: tf.Tensor) -> tf.Tensor:
        logits = trained(images)
        return tf.nn.softmax(logits) if fault == "probabilities" else tf.round(logits)

    found = _evaluated(tmp_path, workshop, model)
    assert any(word in warning for warning in found.warnings)
    said = (tmp_path / "run" / "report.html").read_text()
    assert "Look at the model first" in said and found.warnings[0][:40] in said
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["warnings"]


def test_a_sound_model_gets_no_warning(
    workshop: pathlib.Path, trained: SoftmaxRegression, tmp_path: pathlib.Path
) -> None:
    found = _evaluated(tmp_path, workshop, trained)
    assert found.warnings == []
    said = page.page(
        dataclasses.replace(found, warnings=["gradients <= 0"]), {}, tuple("0123456789")
    ).decode()
    assert "Look at the model first" in said and "gradients &lt;= 0" in said
    said = (tmp_path / "run" / "report.html").read_text()
    assert "Look at the model first" not in said and "<th>image/s</th>" in said
