"""The tables of the documentation are those of the code."""

from __future__ import annotations

import pathlib
import re

from mnist_adv.attacks.registry import ATTACKS
from mnist_adv.gradients.losses import LOSSES
from mnist_adv.gradients.sources import SOURCES
from mnist_adv.models.formats.registry import FORMATS

ROOT = pathlib.Path(__file__).parents[2]


def test_the_table_of_attacks_is_the_registry() -> None:
    page = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w, ]+) \| ([\w ]+) \| ([\w ]+) \| (.+) \|$", page, re.MULTILINE)
    written = {
        name: (norms.split(), seeks, paper)
        for names, norms, seeks, paper in rows
        if names != "method"
        for name in names.split(", ")
    }
    assert set(written) == set(ATTACKS)
    for name, (norms, seeks, paper) in written.items():
        row = ATTACKS[name]
        assert set(norms) == {norm.value for norm in row.attack.norms}, name
        assert seeks == ("the smallest change" if row.attack.minimal else "success inside epsilon")
        assert row.paper.split(",")[0].split(" et al.")[0] in paper, name


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
