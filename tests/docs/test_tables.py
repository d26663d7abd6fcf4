"""The tables of the documentation are those of the code."""

from __future__ import annotations

import pathlib
import re
from typing import Any

from mnist_adv.attacks.base import Attack
from mnist_adv.attacks.registry import ATTACKS
from mnist_adv.geometry.norms import GEOMETRY, Norm
from mnist_adv.gradients.losses import LOSSES
from mnist_adv.gradients.sources import SOURCES
from mnist_adv.models.formats.registry import FORMATS

ROOT = pathlib.Path(__file__).parents[2]


def test_the_table_of_attacks_is_the_registry() -> None:
    page = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    lines = [line for line in lines if not line[-1].startswith("at most")]
    tables = [
        {name: cells for name, *cells in lines if name in ATTACKS and len(cells) == count}
        for count in (3, 2)
    ]
    assert all(list(table) == list(ATTACKS) for table in tables)
    for name in ATTACKS:
        (norms, seeks, paper), (_, given) = (table[name] for table in tables)
        row = ATTACKS[name]
        settings = re.findall(r"(\w+)=([\w.]+)", given)
        assert settings, name
        for setting, value in settings:
            assert str(_setting(row.attack, setting)) == value, (name, setting)
        assert ("epsilon 1" in given) == (row.epsilon == 1), name
        assert row.baseline or name in ("optimum", "strongest") or "](https://" in paper, name
        assert set(norms.split()) == {norm.value for norm in row.attack.norms}, name
        assert seeks == ("the smallest change" if row.attack.minimal else "success inside epsilon")
        assert row.paper.split(",")[0].split(" et al.")[0] in paper, name


def _setting(attack: Attack, name: str) -> Any:
    """Look a setting up in the attack, or in the source of its gradients."""
    return getattr(attack, name) if hasattr(attack, name) else getattr(attack.source, name)  # type: ignore[attr-defined]


def test_the_default_budgets_are_those_of_the_norms() -> None:
    page = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^Where no epsilon is given it is (.*);", page, re.MULTILINE)
    written = re.findall(r"([\d.]+) in", line)
    budgets = [GEOMETRY[norm].default_epsilon for norm in (Norm.LINF, Norm.L2, Norm.L1, Norm.L0)]
    assert [float(budget) for budget in written] == budgets


def test_the_architecture_names_every_row() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for table, names in (("LOSSES", LOSSES), ("SOURCES", SOURCES), ("FORMATS", FORMATS)):
        (line,) = re.findall(rf"^\| `{table}` \| (.+) \|$", page, re.MULTILINE)
        assert re.findall(r"`(\w+)`", line) == list(names)


def test_both_readmes_say_the_same() -> None:
    english = (ROOT / "README.md").read_text(encoding="utf-8")
    chinese = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
    for pattern in (r"^    .+$", r"\]\(([^)]+)\)", r"^(#+) "):
        found = [re.findall(pattern, page, re.MULTILINE) for page in (english, chinese)]
        code = [[line.split("#")[0].rstrip() for line in lines] for lines in found]
        assert sorted(set(code[0])) == sorted(set(code[1])) or pattern.startswith(r"\]")
    links = [set(re.findall(r"\]\(([^)]+)\)", page)) for page in (english, chinese)]
    apart = {"README.md", "README.zh-CN.md", "docs/tour.ipynb", "docs/tour.zh-CN.ipynb"}
    apart |= {"docs/sequel.md", "docs/sequel.zh-CN.md"}
    assert links[0] - apart == links[1] - apart
    for link in links[0] | links[1]:
        assert (ROOT / link).exists(), link
