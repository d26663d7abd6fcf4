"""Remake the tour and its sequel: run their blocks, write down what they print, draw the pictures.

The English pages are the source of all code. This script runs each in a folder where `train.py` has
been run with its defaults, puts code and output into every language, and writes the notebooks:

    python -m docs.make_tour
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib

FOLDER = pathlib.Path(__file__).resolve().parent
ENDINGS = (".md", ".zh-CN.md")
# Each page in every language; the first has the code.
PAGES = tuple(
    tuple(FOLDER / f"{name}{ending}" for ending in ENDINGS) for name in ("tour", "sequel")
)

_BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)
_PICTURE = re.compile(r"!\[[^\]]*\]\(img/([^)]+)\)")
_NUMBER = re.compile(r"-?\d+(?:\.\d*)?")
GUIDE = FOLDER / "guide.md"
_INSTALL = "    %pip install 'mnist_adv[notebook]'\n"
# Notebooks run in their own folder, the tour in the repository's.
_TO_ROOT = 'import os\n\nif not os.path.isdir("checkpoints"):\n    os.chdir("..")'


@dataclasses.dataclass(frozen=True)
class Block:
    """A code block and the output printed under it."""

    code: str
    output: str


def blocks(text: str) -> list[Block]:
    """Find the code blocks of a tour, in order.

    Args:
        text: Markdown.

    Returns:
        Each with its output; "" where none is printed.
    """
    return [Block(found["code"], found["output"] or "") for found in _BLOCK.finditer(text)]


def pictures(text: str) -> list[str]:
    """List the pictures that a tour shows.

    Args:
        text: Markdown.

    Returns:
        File names in `img/`.
    """
    return _PICTURE.findall(text)


def run(codes: Sequence[str], namespace: dict[str, Any]) -> list[str]:
    """Run code blocks one after the other, as a reader does, but open no window.

    Args:
        codes: Python.
        namespace: where their names go.

    Returns:
        What each printed.
    """
    matplotlib.use("template")
    outputs = []
    for number, code in enumerate(codes, 1):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, f"block {number}", "exec"), namespace)
        outputs.append(printed.getvalue())
    return outputs


def disagreement(expected: str, printed: str) -> str | None:
    """Compare two outputs: words and whole numbers exactly, decimals nearly.

    Training rounds differently on different processors. A decimal may be off by two units of its
    last printed digit, or by 0.2 %, whichever is more.

    Args:
        expected: what the tour shows.
        printed: what a run printed.

    Returns:
        None if they agree, else where they differ.
    """
    if _words(expected) != _words(printed):
        return f"expected the words {_words(expected)}. Received: {_words(printed)}"
    for told, made in zip(_NUMBER.findall(expected), _NUMBER.findall(printed), strict=True):
        decimals = len(told.partition(".")[2])
        allowed = max(2 * 10**-decimals, 0.002 * abs(float(told))) if decimals else 0
        if abs(float(told) - float(made)) > allowed * (1 + 1e-9):
            return f"expected {told} within {allowed:.2g}. Received: {made}"
    return None


def first_notebook(text: str) -> str:
    """Take from the guide its section on notebooks, and make the notebook of it.

    Args:
        text: the guide's Markdown, outputs filled in.

    Returns:
        The notebook's JSON; the first cell installs the package.
    """
    section = text[text.index("## In a notebook") : text.index("## The certified optimum")]
    before, after = section.split(_INSTALL)
    links = "[notebook.ipynb](notebook.ipynb) has them"
    return notebook(after, _INSTALL.strip(), before.replace(f"; {links}", ""))


def notebook(text: str, first: str = _TO_ROOT, above: str = "") -> str:
    """Turn a tour into a notebook.

    Args:
        text: Markdown, its outputs filled in.
        first: the code of the first cell.
        above: Markdown before it.

    Returns:
        The notebook's JSON, format 4.5.
    """
    cells = [_text_cell(above), _code_cell(first, "", 1)]
    end = 0
    for number, found in enumerate(_BLOCK.finditer(text), 2):
        cells.append(_text_cell(text[end : found.start()]))
        cells.append(_code_cell(found["code"].rstrip("\n"), found["output"] or "", number))
        end = found.end()
    cells.append(_text_cell(text[end:]))
    cells = [cell for cell in cells if cell["source"]]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def fill_in(text: str, filling: Sequence[Block]) -> str:
    """Replace a tour's blocks.

    Args:
        text: Markdown.
        filling: as many blocks as it has.

    Returns:
        The same text around the new blocks.

    Raises:
        ValueError: another number of blocks than the text has.
    """
    count = len(blocks(text))
    if count != len(filling):
        raise ValueError(f"the tour must have {len(filling)} code blocks. Received: {count}")
    parts = iter(filling)
    return _BLOCK.sub(lambda _: _fenced(next(parts)), text)


@contextlib.contextmanager
def workshop() -> Iterator[None]:
    """Work in a temporary folder where `train.py` has been run with its defaults."""
    from mnist_adv.commands import train

    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                status = train.main(["train.py"])
            if status:
                raise RuntimeError(f"train.py ended with status {status}")
            yield
        finally:
            os.chdir(before)


def main() -> None:
    """Remake outputs, pictures and notebooks in place."""
    with workshop():
        for page in PAGES:
            _remake(page)
        _remake_guide()


def _remake_guide() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    told = blocks(text)
    outputs = run([block.code for block in told], {})
    text = fill_in(
        text, [Block(block.code, output) for block, output in zip(told, outputs, strict=True)]
    )
    GUIDE.write_text(text, encoding="utf-8")
    GUIDE.with_name("notebook.ipynb").write_text(first_notebook(text), encoding="utf-8")


def _remake(page: tuple[pathlib.Path, ...]) -> None:
    from docs import tour_pictures

    source = page[0].read_text(encoding="utf-8")
    told = blocks(source)
    namespace: dict[str, Any] = {}
    began = time.perf_counter()
    outputs = run([block.code for block in told], namespace)
    seconds = time.perf_counter() - began
    made = [Block(block.code, output) for block, output in zip(told, outputs, strict=True)]
    for path in page:
        text = fill_in(path.read_text(encoding="utf-8"), made)
        path.write_text(text, encoding="utf-8")
        path.with_suffix(".ipynb").write_text(notebook(text), encoding="utf-8")
    drawn = tour_pictures.draw(pictures(source), namespace)
    for name, content in drawn.items():
        path = FOLDER / "img" / name
        if not (path.exists() and _same_picture(path.read_bytes(), content)):
            path.write_bytes(content)
    print(f"{page[0].name}: {len(made)} blocks in {seconds:.0f} s, {len(drawn)} pictures")


def _same_picture(kept: bytes, drawn: bytes) -> bool:
    from docs import picture_parts

    try:
        same_titles = picture_parts.titles(kept) == picture_parts.titles(drawn)
    except KeyError:  # a picture that this script has not drawn
        return False
    return same_titles and picture_parts.alike(kept, drawn)


def _words(output: str) -> list[str]:
    return _NUMBER.sub("#", output).replace("[", " [ ").split()


def _fenced(block: Block) -> str:
    output = f"\n```text\n{block.output}```\n" if block.output else ""
    return f"```python\n{block.code}```\n{output}"


def _text_cell(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": _lines(text.strip("\n"))}


def _code_cell(code: str, output: str, number: int) -> dict[str, Any]:
    stream = {"name": "stdout", "output_type": "stream", "text": _lines(output)}
    return {
        "cell_type": "code",
        "execution_count": number,
        "metadata": {},
        "outputs": [stream] if output else [],
        "source": _lines(code),
    }


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


if __name__ == "__main__":
    main()
