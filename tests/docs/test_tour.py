"""The tour tells the truth: every block is run, every number compared, in every language."""

from __future__ import annotations

import code
import contextlib
import io
import itertools
import json
import pathlib
import re
import time
from collections.abc import Iterator
from typing import Any

import matplotlib
import nbformat
import numpy as np
import pytest
from PIL import Image

from docs import make_tour, picture_parts, tour_pictures

pytestmark = pytest.mark.slow

Page = tuple[pathlib.Path, ...]

PAGES = [pytest.param(page, id=page[0].stem) for page in make_tour.PAGES]
FILES = [pytest.param(path, id=path.stem) for page in make_tour.PAGES for path in page]
TOUR = make_tour.PAGES[0]
# English words and Chinese characters that a reader is given a minute for.
PACE = (150, 250)
_HAN = re.compile("[\u4e00-\u9fff]")
_NUMBER = re.compile(r"(?<![\w.\]])\d[\d,]*(?:\.\d+)?")


def read(path: pathlib.Path) -> str:
    return path.read_text(encoding="utf-8")


@pytest.fixture
def in_workshop(workshop: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workshop)


@pytest.fixture
def no_window() -> Iterator[None]:
    before = matplotlib.get_backend()
    matplotlib.use("template")
    yield
    matplotlib.use(before)


@pytest.mark.usefixtures("in_workshop", "no_window")
@pytest.mark.parametrize("page", PAGES)
def test_the_chinese_page_pasted_at_the_prompt_prints_what_it_shows(page: Page) -> None:
    console = code.InteractiveConsole()
    for number, block in enumerate(make_tour.blocks(read(page[1])), 1):
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


@pytest.mark.usefixtures("in_workshop", "no_window")
@pytest.mark.parametrize("page", PAGES)
def test_the_english_notebook_prints_and_draws_what_the_page_shows_within_a_minute(
    page: Page,
) -> None:
    notebook = nbformat.read(page[0].with_suffix(".ipynb"), as_version=4)
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    told = make_tour.blocks(read(page[0]))
    assert [cell.strip() for cell in cells[1:]] == [block.code.strip() for block in told]
    variables: dict[str, Any] = {}
    began = time.process_time()
    printed = make_tour.run(cells, variables)[1:]
    assert time.process_time() - began < 120  # of two cores: a minute
    for number, (block, output) in enumerate(zip(told, printed, strict=True), 1):
        difference = make_tour.disagreement(block.output, output)
        assert difference is None, f"block {number}: {difference}"
    for name, content in tour_pictures.draw(make_tour.pictures(read(page[0])), variables).items():
        shown = (make_tour.FOLDER / "img" / name).read_bytes()
        assert picture_parts.alike(shown, content), name
        numbers = picture_parts.titles(shown), picture_parts.titles(content)
        assert make_tour.disagreement(*numbers) is None, name


@pytest.mark.parametrize("path", FILES)
def test_the_notebook_is_generated_from_the_tour(path: pathlib.Path) -> None:
    assert read(path.with_suffix(".ipynb")) == make_tour.notebook(read(path))
    nbformat.validate(nbformat.read(path.with_suffix(".ipynb"), as_version=4))


@pytest.mark.parametrize("page", PAGES)
def test_the_languages_share_blocks_pictures_and_chapters(page: Page) -> None:
    english, chinese = map(read, page)
    assert make_tour.blocks(chinese) == make_tour.blocks(english)
    assert all(block.output for block in make_tour.blocks(english))
    assert make_tour.pictures(chinese) == make_tour.pictures(english)
    assert _outline(chinese) == _outline(english)


def _outline(text: str) -> list[tuple[int, str]]:
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^(#+) ([\d.]*)", outside, flags=re.MULTILINE)
    return [(len(marks), number) for marks, number in headings]


@pytest.mark.parametrize("page", PAGES)
def test_every_paragraph_of_the_chinese_page_is_chinese(page: Page) -> None:
    prose = re.sub(r"```.*?```", "", read(page[1]), flags=re.DOTALL)
    for paragraph in re.split(r"\n\s*\n", prose):
        words = re.sub(r"</?\w+>|^    .*$", "", paragraph, flags=re.MULTILINE).strip()
        assert not words or _HAN.search(words), paragraph


@pytest.mark.parametrize("path", FILES)
def test_every_picture_has_its_numbered_caption(path: pathlib.Path) -> None:
    text = read(path)
    found = re.findall(r"^!\[[^\]]+\]\(img/[^)]+\)\n\n\*\*(?:Figure|图) (\d+)", text, re.MULTILINE)
    count = len(make_tour.pictures(text))
    assert [int(number) for number in found] == list(range(1, count + 1))
    named = re.findall(r"(?:Figure|图) (\d+)", text)
    assert {int(number) for number in named} <= set(range(1, count + 1))


def _prose(text: str) -> str:
    """Leave out code, formulas, links' addresses, markup, and the names of figures and chapters."""
    text = re.sub(r"^```(?s:.*?)^```$|^    .*$|^#.*$|^\|.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\]\([^)]*\)|</?\w+>", "", text)
    return re.sub(r"(?:Figure|chapter|图|第) ?[\d.]+(?: 章)?|[\d.]+ 节|\*\*\d\.", "", text)


def test_what_counts_as_prose() -> None:
    text = "# 1. One\n\nGrows to 0.25, see [chapter 3](x.md#4).\n\n    y = 7\n\n```python\n8\n```\n"
    assert _NUMBER.findall(_prose(text)) == ["0.25"]


@pytest.mark.parametrize("path", FILES)
def test_every_number_in_the_text_is_typed_or_printed_by_the_code(path: pathlib.Path) -> None:
    """Durations have a test of their own."""
    text = read(path)
    code_and_output = " ".join(block.code + block.output for block in make_tour.blocks(text))
    known = {float(number.replace(",", "")) for number in _NUMBER.findall(code_and_output)}
    known |= {100 * number for number in known}  # per cent
    # Digits of float64, the last of 14 columns, grey levels of a PNG and half of one.
    known |= {0, 1, 2, 3, 4, 5, 16, 13, 256, 510}
    prose = re.sub(r"^.*(?:words|约 [\d,]+ 字)[^\n]*\n[^\n]*", "", _prose(text), flags=re.MULTILINE)
    prose = re.sub(r"1e-\d+|TensorFlow \d|Calculus 101|`[^`]*`", "", prose)
    for number in _NUMBER.findall(prose):
        value = float(number.replace(",", ""))
        assert any(abs(value - other) < 1e-9 for other in known), number


@pytest.mark.parametrize("path", FILES)
def test_durations_follow_from_the_length_of_the_text(path: pathlib.Path) -> None:
    text = read(path)
    chinese = path.name.endswith(".zh-CN.md")
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    length = len(_HAN.findall(prose)) if chinese else len(re.findall(r"[A-Za-z']+", prose))
    pattern = r"([\d,]+) 字：按每分钟 (\d+) 字，阅读需要 (\d+) 分钟"
    if not chinese:
        pattern = r"([\d,]+) words: (\d+) minutes of reading at (\d+) words a minute"
    (told,) = re.findall(pattern, re.sub(r"\s*\n", " ", text))
    words, *rest = (int(number.replace(",", "")) for number in told)
    pace, minutes = rest if chinese else reversed(rest)
    assert pace == PACE[chinese]
    assert abs(words - length) <= max(150, 0.05 * length), length
    assert 0 <= minutes - length / pace <= 5, length / pace


def test_pictures_are_small_and_differ_from_one_another() -> None:
    names = [name for page in make_tour.PAGES for name in make_tour.pictures(read(page[0]))]
    contents = [(make_tour.FOLDER / "img" / name).read_bytes() for name in names]
    assert max(map(len, contents)) < 60_000
    for first, second in itertools.combinations(contents, 2):
        assert not picture_parts.alike(first, second)


@pytest.mark.parametrize(("value", "brighter"), [(1.0, True), (-1.0, False)])
def test_red_is_above_zero_and_blue_below(value: float, brighter: bool) -> None:
    figure = picture_parts.new_figure(4)
    picture_parts.signed(figure.subplots(), np.full(784, value))
    drawn = Image.open(io.BytesIO(picture_parts.png(figure))).convert("RGB")
    red, _, blue = np.asarray(drawn).astype(int)[drawn.height // 2, drawn.width // 2]
    assert bool(red > blue) is brighter


def test_a_changed_picture_is_noticed() -> None:
    """Other templates are seen by the comparison, other numbers are read from the titles."""
    generator = np.random.default_rng(5)
    weights = generator.normal(size=(784, 10))
    images = [
        tour_pictures.draw_one("templates", {"W": values})
        for values in (weights, weights + generator.normal(0, 0.3, weights.shape), weights * 1.001)
    ]
    assert not picture_parts.alike(images[0], images[1])
    assert picture_parts.alike(images[0], images[2])
    one, other = (
        picture_parts.titles(
            tour_pictures.draw_one(
                "logit", {"x": np.ones(784), "W": weights, "b": np.full(10, bias)}
            )
        )
        for bias in (0.1, 0.9)
    )
    assert make_tour.disagreement(one, one) is None
    assert make_tour.disagreement(one, other)


def test_a_picture_can_be_had_at_the_prompt() -> None:
    variables = {"W": np.random.default_rng(5).normal(size=(784, 10))}
    made = tour_pictures.picture("templates", variables)
    content = io.BytesIO(tour_pictures.draw_one("templates", variables))
    assert np.array_equal(np.asarray(made), np.asarray(Image.open(content)))
    with pytest.raises(ValueError, match="templates shows W, which is not defined"):
        tour_pictures.picture("templates", {})
    with pytest.raises(ValueError, match=r"name must be one of .*templates.* Received: 'template'"):
        tour_pictures.picture("template", variables)


@pytest.mark.parametrize("path", FILES)
def test_links_lead_somewhere(path: pathlib.Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", read(path)):
        if not target.startswith("https://"):
            assert (make_tour.FOLDER / target).exists(), target


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
    for block in make_tour.blocks(read(TOUR[0])):
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
