"""Ensembles against their parts run by hand."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
import pytest

from mnist_adv import attack
from mnist_adv.attacks import compiled_run, lanes
from mnist_adv.attacks.base import Outcome
from mnist_adv.attacks.methods.apgd import APGD
from mnist_adv.attacks.methods.autoattack import AutoAttack, Version
from mnist_adv.attacks.methods.ensemble import Part
from mnist_adv.attacks.methods.fab import FAB
from mnist_adv.attacks.methods.square import Square
from mnist_adv.attacks.methods.strongest import Strongest
from mnist_adv.attacks.progress import told
from mnist_adv.attacks.registry import ATTACKS
from mnist_adv.attacks.task import Status, Task
from mnist_adv.geometry.norms import Norm
from mnist_adv.gradients.losses import Loss
from mnist_adv.models.softmax_regression import SoftmaxRegression

pytestmark = pytest.mark.slow

COUNT = 16


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(2).uniform(0.2, 0.8, (COUNT, 28, 28, 1)).astype(np.float32)


@pytest.mark.parametrize("targeted", [True, False])
def test_autoattack_is_its_parts_each_on_what_is_left(
    network: Any, images: np.ndarray, targeted: bool
) -> None:
    logits = network(images).numpy()
    labels = logits.argmax(axis=1)
    classes = np.argsort(logits, axis=1)[:, -2] if targeted else labels
    goal: dict[str, Any] = {"targets" if targeted else "labels": classes}
    options: dict[str, Any] = {"epsilon": np.linspace(0.0, 0.1, COUNT), "num_steps": 6}
    begun: list[str] = []

    class Listener:
        def __call__(self, count: int) -> None:
            pass

        def begin(self, name: str, total: int) -> None:
            begun.append(name)

    result = attack(network, images, method="autoattack", progress=Listener(), **goal, **options)
    by_hand = {
        "apgd_ce": APGD(random_start=True),
        "apgd_t": APGD(random_start=True, loss=Loss.DLR, num_targets=9),
        "fab_t": FAB(num_targets=9, stop_early=True),
        "square": Square(num_steps=4999, area=0.8),
    }
    left, queries = np.ones(COUNT, bool), np.zeros(COUNT, np.int64)
    for number, (name, part) in enumerate(by_hand.items()):
        report = result.parts[number]
        assert (report.name, report.num_images) == (name, left.sum())
        found = attack(network, images, method=part, **goal, **options)
        queries[left] += found.num_queries[left]
        broken = left & found.success
        assert (result.made_by[broken] == number).all()
        np.testing.assert_array_equal(result.adversarial[broken], found.adversarial[broken])
        if number == 0:
            first = found
        left &= ~found.success
    assert 0 < left.sum() < COUNT and begun == list(by_hand)
    np.testing.assert_array_equal(result.success, ~left)
    np.testing.assert_array_equal(result.adversarial[left], first.adversarial[left])
    np.testing.assert_array_equal(result.num_queries, queries)
    table = result.part_lines()
    assert len(table) == 5 and int(table[-1].split()[3]) == left.sum()


def test_versions_and_norms_have_the_authors_parts() -> None:
    def parts(version: Version, norm: Norm) -> dict[str, Any]:
        task = Task(len, False, norm, 10, (28, 28, 1))
        return {part.name: part.attack for part in AutoAttack(version=version).parts(task)}

    assert list(parts(Version.STANDARD, Norm.LINF)) == ["apgd_ce", "apgd_t", "fab_t", "square"]
    assert list(parts(Version.PLUS, Norm.L2)) == [
        "apgd_ce",
        "apgd_dlr",
        "fab",
        "square",
        "apgd_t",
        "fab_t",
    ]
    sparse = parts(Version.STANDARD, Norm.L1)
    assert list(sparse) == ["apgd_ce", "apgd_t", "fab_t", "square"]
    assert sparse["apgd_ce"].restarts == 5 and sparse["apgd_t"].num_targets == 5
    plus = parts(Version.PLUS, Norm.LINF)
    assert [plus[name].restarts for name in ("apgd_ce", "apgd_dlr", "fab")] == [5, 5, 5]


def test_two_classes_and_a_confidence_take_the_parts_that_there_are(images: np.ndarray) -> None:
    model = SoftmaxRegression(num_classes=2)
    model.W.assign(np.random.default_rng(7).normal(0, 0.2, (784, 2)).astype(np.float32))
    labels = model(images).numpy().argmax(axis=1)
    options: dict[str, Any] = {"method": "autoattack", "num_steps": 5}
    assert attack(model, images, labels=labels, epsilon=0.2, **options).success.all()
    sure = attack(model, images, targets=1 - labels, epsilon=0.2, confidence=0.99, **options)
    assert sure.verdict.confident.all() and sure.success.all()
    none = attack(model, images, labels=labels, epsilon=0.0, confidence=0.9, **options)
    assert [part.name for part in none.parts] == ["apgd_ce", "apgd_t", "square"]
    with pytest.raises(ValueError, match="step_size is no setting of this attack"):
        attack(model, images, labels=labels, step_size=0.1, **options)


def test_strongest_has_the_gradient_parts_of_autoattack(network: Any) -> None:
    task = Task(network, False, Norm.LINF, 10, (28, 28, 1))
    known = {part.name: part.attack for part in Strongest().parts(task)}
    for part in AutoAttack().parts(task):
        if part.name != "square":
            assert known[part.name] == part.attack, part.name


@pytest.mark.parametrize("norm", ["linf", "l0"])
def test_strongest_is_no_further_than_any_attack_that_applies(
    network: Any, images: np.ndarray, norm: str
) -> None:
    some = images[:6]
    labels = network(some).numpy().argmax(axis=1)
    options: dict[str, Any] = {"labels": labels, "norm": norm, "num_steps": 3}
    result = attack(network, some, method="strongest", **options)
    names = [part.name for part in result.parts]
    expected = [
        name
        for name, row in ATTACKS.items()
        if result.norm in row.attack.norms
        and not row.attack.needs_donors
        and not name.startswith("autoattack")
        and name not in ("strongest", "optimum")
    ]
    assert sorted(names) == sorted(expected)
    assert all(part.num_images == len(some) for part in result.parts)
    for name in ("deepfool", "fmn", "jsma", "fab"):
        if name in names:
            alone = attack(network, some, method=name, **options)
            assert (result.distances <= alone.distances).all(), name
    assert result.success.sum() >= 5
    if norm == "linf":
        return
    # Inside a budget that some of them meet, the others alone go on to the last part.
    epsilon = float(np.sort(result.distances)[2])
    near = attack(network, some, method="strongest", epsilon=epsilon, **options)
    assert near.success[result.distances <= epsilon].all() and near.success.sum() < 6
    assert near.parts[-1].num_images == 6 - near.success.sum()
    assert near.parts[-1].name == names[-1]


def test_an_image_whose_whole_budget_is_rounded_beyond_it_leaves() -> None:
    clean = np.full((4, 1, 1, 3), 0.7, np.float32)
    value = np.array([0.1, 0.1 + 2e-8, 0.1 + 1e-5, 0.1], np.float32)
    met = [Status.ADVERSARIAL] * 3
    status = np.array([*met, Status.MISSED], np.int32)
    nothing = np.zeros(4, np.int64)
    best = Outcome(clean, status, value, np.zeros(4, np.int32), nothing, nothing)
    inputs = {"epsilon": np.full(4, 0.1, np.float32)}
    left = Strongest().unfinished(inputs, best)
    np.testing.assert_array_equal(left, [False, False, True, True])


def test_budgets_shrink_below_the_best_so_far(network: Any, images: np.ndarray) -> None:
    """A part with a budget improves on the smallest change of the parts before it."""
    labels = network(images).numpy().argmax(axis=1)
    options: dict[str, Any] = {"labels": labels, "norm": "linf"}

    @dataclasses.dataclass(frozen=True)
    class Two(Strongest):
        def parts(self, task: Task) -> list[Part]:
            weak = FAB(num_steps=2, overshoot=0.5)
            return [Part("weak", weak), Part("apgd", APGD(num_steps=30, loss=Loss.DLR))]

    alone = attack(network, images, method=FAB(num_steps=2, overshoot=0.5), **options)
    both = attack(network, images, method=Two(), **options)
    smaller = both.made_by == 1
    assert smaller.sum() > COUNT / 2
    assert (both.distances[smaller] < 0.9995 * alone.distances[smaller]).all()
    np.testing.assert_array_equal(both.adversarial[~smaller], alone.adversarial[~smaller])


def test_strongest_of_a_linear_model_is_the_optimum(
    toy: SoftmaxRegression, images: np.ndarray
) -> None:
    targets = toy(images).numpy().argmin(axis=1)
    options: dict[str, Any] = {"targets": targets, "norm": "l1"}
    optimum, strongest = (
        attack(toy, images, method=m, **options) for m in ("optimum", "strongest")
    )
    np.testing.assert_array_equal(strongest.adversarial, optimum.adversarial)
    assert [part.name for part in strongest.parts] == ["optimum"]


def test_the_time_that_is_told_is_that_of_all_steps_or_of_the_budget(
    network: Any, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock that runs 0.5 s at a start and 0.1 s at a step; each is two passes."""
    clock, ran = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def run(task: Task, attack: Any, inputs: Any, progress: Any) -> Outcome:
        count, steps = len(inputs["clean"]), int(inputs["num_steps"].max())
        clock[0] += 0.5 + 0.1 * steps
        ran.append(count)
        none = np.zeros(count, np.int32)
        far = np.full(count, np.inf, np.float32)
        spent = np.full(count, 1 + steps)
        return Outcome(inputs["clean"], none, far, none, spent, spent.copy())

    expected: list[tuple[int, float]] = []

    class Listener:
        def __call__(self, count: int) -> None:
            pass

        def expect(self, count: int, seconds: float) -> None:
            expected.append((count, seconds))

    monkeypatch.setattr(compiled_run, "run", run)
    monkeypatch.setattr(lanes, "_MOST", 8)  # two batches of the images
    labels = network(images).numpy().argmax(axis=1)
    attack(network, images, labels=labels, method="autoattack", progress=Listener())
    runs = {100: 1 + 9 + 9, 4999: 1}
    total = 2 * sum(number * (0.5 + 0.1 * steps) for steps, number in runs.items())
    assert [count for count, _ in expected] == [COUNT]
    assert expected[0][1] == pytest.approx(total)
    assert set(ran[:60]) == {8}
    options: dict[str, Any] = {"labels": labels, "method": "autoattack"}
    attack(network, images, max_queries=250, progress=Listener(), **options)
    # 202 of them are those of the first part; the second would take nine times as many.
    assert expected[1][1] == pytest.approx(2 * (10.5 + 48 / (9 * 202) * 9 * 10.5))


def test_words_for_a_time() -> None:
    assert told(10_000, 245) == "10000 images: at most about 4 minutes, less as images leave"
    assert told(1, 60) == "1 image: at most about 60 seconds, less as images leave"
    assert told(2, 8000).startswith("2 images: at most about 2 hours")
