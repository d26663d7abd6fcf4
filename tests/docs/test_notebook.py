"""The guide's notebook runs, and prints what the guide says."""

from __future__ import annotations

import pathlib
from typing import Any

import nbformat
import pytest

from docs import make_tour
from mnist_adv.drawing.pairs import Picture

pytestmark = pytest.mark.slow


def test_the_cells_of_the_guide_run(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pandas", reason="the test extra has it")
    monkeypatch.chdir(tmp_path)
    told = make_tour.blocks(make_tour.GUIDE.read_text(encoding="utf-8"))
    variables: dict[str, Any] = {}
    printed = make_tour.run([block.code for block in told], variables)
    for number, (block, output) in enumerate(zip(told, printed, strict=True), 1):
        difference = make_tour.disagreement(block.output, output)
        assert difference is None, f"block {number}: {difference}"
    assert isinstance(eval(told[-2].code, variables), Picture)
    assert variables["result"].success.any() and len(told) + 1 == 10


def test_the_notebook_is_that_of_the_guide() -> None:
    path = make_tour.GUIDE.with_name("notebook.ipynb")
    made = make_tour.first_notebook(make_tour.GUIDE.read_text(encoding="utf-8"))
    assert path.read_text(encoding="utf-8") == made
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) == 10 and code[0].startswith("%pip install")
