"""The benchmark of strength: its table, its budgets, and the page that publishes it."""

from __future__ import annotations

import pathlib
import re
import sys

import numpy as np
import pytest

from benchmarks import strength
from mnist_adv.attacks.registry import ATTACKS
from mnist_adv.data import datasets
from mnist_adv.geometry.norms import Norm

ROOT = pathlib.Path(__file__).parents[1]


def test_the_table_ranks_by_the_last_budget_and_tells_what_was_missed() -> None:
    far = np.array([2.0, np.inf, 4.0])
    near = np.array([1.0, 3.0, 2.0])
    found: strength.Rows = {
        ("l2", "one"): strength.Row({10: (far, 0.3), 20: (far, 0.6)}, first_call=1.25),
        ("l2", "raises (tool)"): strength.Row({}, failure="failed: TypeError: a | b\nc" + 99 * "d"),
        ("l2", "two"): strength.Row({10: (np.full(3, np.inf), 3.0), 20: (near, 6.0)}),
    }
    lines = strength.table(found, {"l2": np.array([1.0, 0.0, 1.0])}, [10, 20], certified=False)
    assert lines[2:] == [
        "| l2 | best known | **1** | **1** | 1 | | | |",
        "| l2 | two | most missed | 2.0000 | 1.000 | 100% | 2000.00 |  |",
        "| l2 | one | 4.0000 | 4.0000 | 2.000 | 67% | 200.00 | 1.2 |",
        f"| l2 | raises (tool) | failed: TypeError: a \\| b c{73 * 'd'}... | | | | | |",
    ]
    for line in lines:
        assert line.replace("\\|", "").count("|") == 9


def test_a_library_that_raises_is_a_row_and_ours_ends_the_run() -> None:
    def raises(*_: object) -> tuple[np.ndarray, float]:
        raise TypeError("unexpected keyword")

    calls = []

    def works(*given: object) -> tuple[np.ndarray, float]:
        calls.append(given)
        return np.array([1.0, 2.0]), 0.5

    images, labels = np.zeros([2, 1, 1, 1], np.float32), np.zeros(2, np.int64)
    plan: dict[tuple[str, str], strength.Measure] = {
        ("l2", "ddn (tool)"): raises,
        ("l2", "fmn (tool)"): works,
        ("l2", "fmn"): works,
    }
    found = strength.measure(plan, None, images, labels, [10, 20])
    assert found["l2", "ddn (tool)"].failure == "failed: TypeError: unexpected keyword"
    assert list(found["l2", "fmn (tool)"].found) == [10, 20]
    assert found["l2", "fmn (tool)"].first_call is None and found["l2", "fmn"].first_call == 0.5
    assert [len(given[1]) for given in calls] == [2, 2, 1, 2, 2]  # type: ignore[arg-type]
    smallest = strength.smallest_known(lambda images: images, images, labels, found)
    assert smallest["l2"].tolist() == [1.0, 2.0]
    with pytest.raises(TypeError, match="unexpected keyword"):
        strength.measure({("l2", "ddn"): raises}, None, images, labels, [10])


def test_the_best_known_is_the_smallest_of_every_attack_and_budget() -> None:
    found: strength.Rows = {
        ("l1", "one"): strength.Row({
            10: (np.array([3.0, np.inf]), 0.1),
            20: (np.array([4.0, 2.0]), 0.1),
        }),
        ("l1", "two (adv-lib)"): strength.Row({10: (np.array([5.0, 1.0]), 0.1)}),
    }
    images, labels = np.zeros([2, 1, 1, 1], np.float32), np.zeros(2, np.int64)
    smallest = strength.smallest_known(lambda images: images, images, labels, found)
    assert list(smallest) == ["l1"] and smallest["l1"].tolist() == [3.0, 1.0]


def test_the_page_publishes_what_was_measured() -> None:
    page = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")
    text = page.partition(strength.BEGIN)[2].partition(strength.END)[0]
    stored = [strength.results_of(net).read_text(encoding="utf-8") for net in strength.NUM_IMAGES]
    assert text == "\n".join([*stored, ""])
    for net in stored:
        # A row added later asks for the benchmark to be run again.
        names = set(re.findall(r"^\| \w+ \| (\w+) \|", net, re.MULTILINE))
        assert {name for norm in Norm for name in strength.attacks_of(norm)} <= names
    assert all(f"({tool})" in net for tool in strength.PACKAGES for net in stored)


def test_medians_are_never_below_the_certified_optimum() -> None:
    text = strength.results_of("softmax_regression").read_text(encoding="utf-8")
    factors = re.findall(r"\| ([\d.]+) \| \d+% \|", text)
    assert len(factors) > 20 and all(float(factor) >= 1 for factor in factors)


def test_a_library_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(strength.PACKAGES, "foolbox", "no_such_package")
    monkeypatch.setattr(sys, "argv", ["strength", "--tools", "mnist_adv", "foolbox"])
    with pytest.raises(SystemExit, match=r"^foolbox must be installed: `make .venv-peers/inst"):
        strength.main()


@pytest.mark.slow
def test_it_runs_and_writes_nothing_of_a_few_images(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: str) -> None:
        pytest.fail("a trial was published")

    few = {"linf": ["deepfool"], "l2": ["ddn"], "l1": ["fmn"], "l0": ["sigma_zero"]}
    assert all(set(names) <= set(ATTACKS) for names in few.values())
    monkeypatch.setattr(strength, "attacks_of", lambda norm: few[norm.value])
    monkeypatch.setattr(strength, "publish", refuse)
    flags = ["--num_images=5", "--budgets", "120", "--nets", "softmax_regression"]
    monkeypatch.setattr(sys, "argv", ["strength", *flags, "--tools", "mnist_adv"])
    strength.main()
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| l")]
    factors = {row[1]: float(row[3]) for row in rows if row[1] != "optimum"}
    assert set(factors) == {name for names in few.values() for name in names}
    assert all(1 - 1e-3 <= factor < 3 for factor in factors.values())


@pytest.mark.slow
def test_passes_of_other_libraries_are_counted_and_what_they_find_is_judged() -> None:
    torch = pytest.importorskip("torch")
    from benchmarks import strength_peers

    counted = strength_peers.CountedModel(torch.nn.Flatten())
    images = torch.zeros([3, 1, 2, 2], requires_grad=True)
    logits = counted(images)
    assert counted.passes == 3
    for number in range(2):
        torch.autograd.grad(logits[:, number].sum(), images, retain_graph=True)
    assert counted.passes == 3 + 2 * 3

    taken = []

    def claims(model: object, images: object, labels: object, steps: int) -> object:
        for _ in range(steps):
            model(images)  # type: ignore[operator]
        taken.append(steps)
        return images  # the clean images, as if they were adversarial

    test = datasets.load("mnist", "test", rows=(0, 10))
    model = strength.make_net("softmax_regression")
    distances, _ = strength_peers.measure(claims, model, test.images, test.labels, "l2", 77)
    assert taken[-1] == 77
    missed = np.asarray(model(test.images)).argmax(1) == test.labels
    assert np.isinf(distances[missed]).all() and (distances[~missed] == 0).all()


def test_a_page_without_its_place_is_refused(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "attacks.md"
    page.write_text(f"before\n{strength.BEGIN}old\n{strength.END}\nafter\n")
    monkeypatch.setattr(strength, "PAGE", page)
    monkeypatch.setattr(strength, "RESULTS", tmp_path)
    strength.publish("keras_example", "new\n")
    strength.publish("softmax_regression", "other\n")
    told = page.read_text()
    assert told == f"before\n{strength.BEGIN}other\n\nnew\n\n{strength.END}\nafter\n"
    page.write_text("nothing\n")
    with pytest.raises(ValueError, match=r"attacks\.md must hold"):
        strength.publish("keras_example", "new\n")
    assert strength.results_of("keras_example").read_text() == "new\n"
