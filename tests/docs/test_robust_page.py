"""The page of robust models says what was measured, and its pictures can be made again."""

from __future__ import annotations

import csv
import io
import pathlib

import numpy as np
import pytest
from PIL import Image

from docs import robust_figures

ROOT = pathlib.Path(__file__).parents[2]


def test_the_table_is_that_of_the_measured_curves() -> None:
    page = (ROOT / "docs" / "robust.md").read_text(encoding="utf-8")
    lines = robust_figures.table(ROOT / "benchmarks" / "results" / "robust_curves.csv")
    assert len(lines) == 12
    assert "\n".join(lines) in page
    accuracies = dict(line.strip("| ").split(" | ", 1) for line in lines[2:])
    assert accuracies["L-inf 0.1"].startswith("86.74 | 79.17 | 68.58")


def test_the_row_of_interval_bounds_is_the_measured_one() -> None:
    page = (ROOT / "docs" / "robust.md").read_text(encoding="utf-8")
    results = ROOT / "benchmarks" / "results" / "interval_training.md"
    assert "\n".join(results.read_text(encoding="utf-8").splitlines()[-3:]) in page


@pytest.mark.slow
def test_the_figures_are_drawn(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robust_figures, "DEFENCES", {"linf": (0.1,), "l2": (2.0,)})
    folders = [f"--output_dir={tmp_path}", f"--csv_dir={tmp_path}"]
    assert robust_figures.main([*folders, "--num_images=1000"]) == 0
    for name in ("robust_curves.png", "robust_templates.png"):
        with Image.open(io.BytesIO((tmp_path / name).read_bytes())) as picture:
            assert picture.width == 800 and len(picture.convert("RGB").getcolors(256) or ()) > 50
    with open(tmp_path / "robust_curves.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["model"] for row in rows} == {"plain", "L-inf 0.1", "L2 2"}
    shares = {
        model: [float(row["robust_accuracy"]) for row in rows if row["model"] == model]
        for model in ("plain", "L2 2")
    }
    assert np.mean(shares["L2 2"]) > np.mean(shares["plain"])
