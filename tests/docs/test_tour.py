"""The tour tells the truth: every block is run, every number compared, in every language."""

from __future__ import annotations

import code
import contextlib
import io
import itertools
import json
import pathlib
import re
from typing import Any

import nbformat
import numpy as np
import pytest

from docs import make_tour, tour_pictures

pytestmark = pytest.mark.slow

LANGUAGES = [pytest.param(path, id=path.stem) for path in make_tour.LANGUAGES]
ENGLISH, CHINESE = make_tour.LANGUAGES
_HAN = re.compile("[\u4e00-\u9fff]")


def read(path: pathlib.Path) -> str:
    return path.read_text(encoding="utf-8")


@pytest.fixture
def in_workshop(workshop: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workshop)


@pytest.mark.usefixtures("in_workshop")
def test_the_chinese_tour_pasted_at_the_prompt_prints_what_it_shows() -> None:
    console = code.InteractiveConsole()
    for number, block in enumerate(make_tour.blocks(read(CHINESE)), 1):
        difference = make_tour.disagreement(block.output, paste(block.code, console))
        assert difference is None, f"block {number}: {difference}"


def paste(block: str, console: code.InteractiveConsole) -> str:
    """Paste a block, line by line, into what a reader has before them: Python's own prompt."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        for line in [*block.splitlines(), ""]:
            console.push(line)
    assert "Error" not in err.getvalue(), err.getvalue()
    return out.getvalue()


@pytest.mark.usefixtures("in_workshop")
def test_the_english_notebook_prints_and_draws_what_the_tour_shows() -> None:
    notebook = nbformat.read(ENGLISH.with_suffix(".ipynb"), as_version=4)
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    told = make_tour.blocks(read(ENGLISH))
    assert [cell.strip() for cell in cells[1:]] == [block.code.strip() for block in told]
    variables: dict[str, Any] = {}
    printed = make_tour.run(cells, variables)[1:]
    for number, (block, output) in enumerate(zip(told, printed, strict=True), 1):
        difference = make_tour.disagreement(block.output, output)
        assert difference is None, f"block {number}: {difference}"
    drawn = tour_pictures.draw(variables)
    assert sorted(drawn) == sorted(make_tour.pictures(read(ENGLISH)))
    for name, content in drawn.items():
        shown = (make_tour.FOLDER / "img" / name).read_bytes()
        assert tour_pictures.alike(shown, content), name
        numbers = tour_pictures.titles(shown), tour_pictures.titles(content)
        assert make_tour.disagreement(*numbers) is None, name


@pytest.mark.parametrize("path", LANGUAGES)
def test_the_notebook_is_generated_from_the_tour(path: pathlib.Path) -> None:
    assert read(path.with_suffix(".ipynb")) == make_tour.notebook(read(path))
    nbformat.validate(nbformat.read(path.with_suffix(".ipynb"), as_version=4))


def test_the_languages_share_blocks_pictures_and_chapters() -> None:
    english, chinese = map(read, make_tour.LANGUAGES)
    assert make_tour.blocks(chinese) == make_tour.blocks(english)
    assert all(block.output for block in make_tour.blocks(english))
    assert make_tour.pictures(chinese) == make_tour.pictures(english)
    assert _outline(chinese) == _outline(english)


def _outline(text: str) -> list[tuple[int, str]]:
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^(#+) ([\d.]*)", outside, flags=re.MULTILINE)
    return [(len(marks), number) for marks, number in headings]


def test_every_paragraph_of_the_chinese_tour_is_chinese() -> None:
    prose = re.sub(r"```.*?```", "", read(CHINESE), flags=re.DOTALL)
    for paragraph in re.split(r"\n\s*\n", prose):
        words = re.sub(r"</?\w+>|^    .*$", "", paragraph, flags=re.MULTILINE).strip()
        assert not words or _HAN.search(words), paragraph


def test_pictures_are_small_and_differ_from_one_another() -> None:
    contents = [
        (make_tour.FOLDER / "img" / name).read_bytes() for name in make_tour.pictures(read(ENGLISH))
    ]
    assert max(map(len, contents)) < 60_000
    for first, second in itertools.combinations(contents, 2):
        assert not tour_pictures.alike(first, second)


def test_a_changed_picture_is_noticed() -> None:
    """Other templates are seen by the comparison, other numbers are read from the titles."""
    generator = np.random.default_rng(5)
    weights = generator.normal(size=(784, 10))
    images = [
        tour_pictures.draw_one("templates", {"W": values})
        for values in (weights, weights + generator.normal(0, 0.3, weights.shape), weights * 1.001)
    ]
    assert not tour_pictures.alike(images[0], images[1])
    assert tour_pictures.alike(images[0], images[2])
    one, other = (
        tour_pictures.titles(
            tour_pictures.draw_one(
                "logit", {"x": np.ones(784), "W": weights, "b": np.full(10, bias)}
            )
        )
        for bias in (0.1, 0.9)
    )
    assert make_tour.disagreement(one, one) is None
    assert make_tour.disagreement(one, other)


def test_links_of_the_tour_lead_somewhere() -> None:
    for path in make_tour.LANGUAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", read(path)):
            if not target.startswith("https://"):
                assert (make_tour.FOLDER / target).exists(), f"{path.name}: {target}"


@pytest.mark.parametrize(
    ("told", "printed", "agree"),
    [
        ("p = 0.409", "p = 0.410", True),
        ("p = 0.409", "p = 0.411", True),
        ("p = 0.409", "p = 0.418", False),
        ("40923.32", "40950.00", True),
        ("40923.32", "41500.00", False),
        ("sees 3", "sees 2", False),
        ("9 steps", "10 steps", False),
        ("same: True", "same: False", False),
        ("lead -2.35", "lead 2.35", False),
        ("[ 0.2 -11.9]", "[  0.2 -11.9]", True),
        ("1 2", "1", False),
        ("", "1", False),
    ],
)
def test_outputs_are_compared_word_by_word(told: str, printed: str, agree: bool) -> None:
    assert (make_tour.disagreement(told, printed) is None) is agree


def test_a_changed_number_is_noticed() -> None:
    """The comparison of the whole tour can fail: each output, altered, is refused."""
    for block in make_tour.blocks(read(ENGLISH)):
        altered = re.sub(r"\d+", lambda found: str(int(found[0]) + 7), block.output)
        altered = altered.replace("True", "False").replace("None", "some")
        assert make_tour.disagreement(block.output, altered), block.output


def test_another_number_of_blocks_is_refused() -> None:
    text = "```python\nprint(1)\n```\n\n```text\n1\n```\n"
    block = make_tour.Block("print(2)\n", "2\n")
    assert make_tour.fill_in(text, [block]) == text.replace("1", "2")
    with pytest.raises(ValueError, match=r"must have 2 code blocks\. Received: 1"):
        make_tour.fill_in(text, [block, block])


def test_notebooks_hold_text_code_and_output() -> None:
    made: dict[str, Any] = json.loads(
        make_tour.notebook("# One\n\n```python\nprint(1)\n```\n\n```text\n1\n```\n\nEnd.\n")
    )
    assert [cell["cell_type"] for cell in made["cells"]] == ["code", "markdown", "code", "markdown"]
    assert made["cells"][2]["source"] == ["print(1)"]
    assert made["cells"][2]["outputs"][0]["text"] == ["1\n"]
