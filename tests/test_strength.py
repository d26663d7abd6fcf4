"""The benchmark of strength: its table, its budgets, and the page that publishes it."""

from __future__ import annotations

import pathlib
import re
import sys

import numpy as np
import pytest

from benchmarks import strength
from mnist_adv.attacks.registry import ATTACKS
from mnist_adv.geometry.norms import Norm

ROOT = pathlib.Path(__file__).parents[1]


def test_the_table_ranks_by_the_last_budget_and_tells_what_was_missed() -> None:
    far = np.array([2.0, np.inf, 4.0])
    near = np.array([1.0, 3.0, 2.0])
    found: strength.Rows = {
        ("l2", "one"): {10: far, 20: far},
        ("l2", "two"): {10: np.full(3, np.inf), 20: near},
    }
    lines = strength.table(found, {"l2": np.array([1.0, 0.0, 1.0])}, [10, 20], certified=False)
    assert lines[2:] == [
        "| l2 | best known | **1** | **1** | 1 | |",
        "| l2 | two | most missed | 2.0000 | 1.000 | 100% |",
        "| l2 | one | 4.0000 | 4.0000 | 2.000 | 67% |",
    ]
    for line in lines:
        assert line.count("|") == 7


def test_the_page_publishes_what_was_measured() -> None:
    page = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")
    measured = (strength.RESULTS / "strength.md").read_text(encoding="utf-8")
    text = page.partition(strength.BEGIN)[2].partition(strength.END)[0]
    assert text and measured.endswith(text)
    names = set(re.findall(r"^\| \w+ \| (\w+) \|", text, re.MULTILINE))
    # A row added later asks for the benchmark to be run again.
    assert {name for norm in Norm for name in strength.attacks_of(norm)} <= names


def test_medians_are_never_below_the_certified_optimum() -> None:
    text = (strength.RESULTS / "strength.md").read_text(encoding="utf-8")
    certified = text.partition("| norm |")[2].partition("keras example")[0]
    factors = re.findall(r"\| ([\d.]+) \| \d+% \|$", certified, re.MULTILINE)
    assert len(factors) > 20 and all(float(factor) >= 1 for factor in factors)


@pytest.mark.slow
def test_it_runs_and_writes_nothing_of_a_few_images(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: str) -> None:
        pytest.fail("a trial was published")

    few = {"linf": ["deepfool"], "l2": ["ddn"], "l1": ["fmn"], "l0": ["sigma_zero"]}
    assert all(set(names) <= set(ATTACKS) for names in few.values())
    monkeypatch.setattr(strength, "attacks_of", lambda norm: few[norm.value])
    monkeypatch.setattr(strength, "publish", refuse)
    flags = ["--num_images=5", "--budgets", "120", "--nets", "softmax_regression"]
    monkeypatch.setattr(sys, "argv", ["strength", *flags])
    strength.main()
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| l")]
    factors = {row[1]: float(row[3]) for row in rows if row[1] != "optimum" and len(row) > 4}
    assert set(factors) == {name for names in few.values() for name in names}
    assert all(1 - 1e-3 <= factor < 3 for factor in factors.values())


def test_a_page_without_its_place_is_refused(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "attacks.md"
    page.write_text(f"before\n{strength.BEGIN}old\n{strength.END}\nafter\n")
    monkeypatch.setattr(strength, "PAGE", page)
    monkeypatch.setattr(strength, "RESULTS", tmp_path)
    strength.publish("new\n")
    assert page.read_text() == f"before\n{strength.BEGIN}new\n{strength.END}\nafter\n"
    page.write_text("nothing\n")
    with pytest.raises(ValueError, match=r"attacks\.md must hold"):
        strength.publish("new\n")
