"""The page of robust models says what was measured, and its pictures can be made again."""

from __future__ import annotations

import csv
import io
import pathlib

import numpy as np
import pytest
from PIL import Image

from benchmarks import defence_settings
from docs import band_figure, robust_figures
from mnist_adv.models import training
from mnist_adv.models.training_config import TrainingConfig

ROOT = pathlib.Path(__file__).parents[2]


def test_the_table_is_that_of_the_measured_curves() -> None:
    page = (ROOT / "docs" / "robust.md").read_text(encoding="utf-8")
    lines = robust_figures.table(ROOT / "benchmarks" / "results" / "robust_curves.csv")
    assert len(lines) == 12
    assert "\n".join(lines) in page
    accuracies = dict(line.strip("| ").split(" | ", 1) for line in lines[2:])
    assert accuracies["L-inf 0.1"].startswith("86.82 | 79.27 | 68.60")


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


def test_the_defaults_are_the_chosen_settings() -> None:
    results = ROOT / "benchmarks" / "results" / "defence_settings.md"
    text = results.read_text(encoding="utf-8")
    chosen = "Chosen: learning rate 0.5, epsilon rises over 0.5 of the steps."
    assert chosen in text
    assert TrainingConfig(defend="linf", epsilon=0.1).learning_rate == 0.5
    assert training._RAMP == 0.5
    # The settings that were tried, and the test images as the page's table has them.
    count = len(defence_settings.LEARNING_RATES) * len(defence_settings.RISES)
    rows = [line for line in text.splitlines() if line.startswith("| 0.")]
    assert len(rows) == count
    mean = {row: sum(map(float, row.strip("| ").split(" | ")[2:])) for row in rows}
    assert max(rows, key=mean.__getitem__).startswith("| 0.5 | 0.5 |")
    page = (ROOT / "docs" / "robust.md").read_text(encoding="utf-8")
    robust, clean, *_ = text.splitlines()[-1].removeprefix("| test images | | ").split(" | ")
    assert f"| L-inf 0.05 | {clean} | {robust} |" in page


@pytest.mark.slow
def test_settings_are_chosen_on_images_held_out(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(defence_settings, "LEARNING_RATES", (0.001, 0.5))
    monkeypatch.setattr(defence_settings, "RISES", (0.5,))
    assert defence_settings.main([f"--output_dir={tmp_path}", "--num_images=600"]) == 0
    text = (tmp_path / "defence_settings.md").read_text(encoding="utf-8")
    assert text.startswith("Trained on 500 images, measured on the 100 after them.")
    assert "Chosen: learning rate 0.5, epsilon rises over 0.5 of the steps." in text


@pytest.mark.slow
def test_the_band_is_drawn(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(band_figure, "NETWORKS", band_figure.NETWORKS[::2])
    small = ["--num_images=20", "--num_training_images=500", "--num_epochs=1"]
    assert band_figure.main([f"--output_dir={tmp_path}", *small]) == 0
    said = capsys.readouterr().out
    assert "plain: proved by crown up to 0.0" in said and "interval bounds: proved" in said
    with Image.open(tmp_path / "band.png") as picture:
        assert picture.width == 800 and len(picture.convert("RGB").getcolors(256) or ()) > 20
