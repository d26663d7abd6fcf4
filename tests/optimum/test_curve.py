"""The exact robust-accuracy curve, and the pictures and table made from the optimum."""

from __future__ import annotations

import csv
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from benchmarks import optimum as benchmark
from docs import optimum_figures
from mnist_adv.data.datasets import Dataset
from mnist_adv.models.softmax_regression import SoftmaxRegression
from mnist_adv.optimum import robust_accuracy, smallest_perturbation

pytestmark = pytest.mark.slow


def test_the_curve_counts_images_that_survive(tmp_path: pathlib.Path) -> None:
    W, b = np.array([[1.0, -1.0]]), np.array([-1.0, 1.0])  # class 0 where x >= 1
    images = np.array([[1.0], [1.5], [2.0], [0.5]])
    optimum = smallest_perturbation(W, b, images, labels=0, norm="linf", upper=2.0)
    np.testing.assert_allclose(optimum.upper_bound, [0, 0.5, 1, 0])
    shares = robust_accuracy(optimum, [0, 0.25, 0.75, 1.5])
    np.testing.assert_array_equal(shares, [0.5, 0.5, 0.25, 0])
    optimum_figures.write_csv(tmp_path / "curve.csv", {"linf": (np.array([0, 0.25]), shares[:2])})
    with open(tmp_path / "curve.csv", newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["norm", "epsilon", "robust_accuracy"]
    assert rows[1:] == [["linf", "0", "0.5000"], ["linf", "0.25", "0.5000"]]
    with pytest.raises(ValueError, match="untargeted"):
        robust_accuracy(smallest_perturbation(W, b, images, 1, upper=2.0), [0])


def test_the_published_curve_is_the_curve(trained: SoftmaxRegression, test_set: Dataset) -> None:
    with open(benchmark.RESULTS / "optimum_curve.csv", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["norm"] == "linf"]
    optimum = smallest_perturbation(
        trained.W.numpy(), trained.b.numpy(), test_set.images, labels=test_set.labels, norm="linf"
    )
    ours = robust_accuracy(optimum, [float(row["epsilon"]) for row in rows])
    # Other machines train the same weights up to rounding.
    np.testing.assert_allclose(ours, [float(row["robust_accuracy"]) for row in rows], atol=0.01)


def test_the_figures_are_drawn(workshop: pathlib.Path, tmp_path: pathlib.Path) -> None:
    argv = [f"--checkpoint_dir={workshop / 'checkpoints'}", f"--output_dir={tmp_path}"]
    assert optimum_figures.main([*argv, f"--csv_dir={tmp_path}", "--num_images=50"]) == 0
    for name in ("optimum_digits.png", "optimum_curve.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 1000 and len(picture.convert("L").getcolors() or ()) > 50
    with open(tmp_path / "optimum_curve.csv", newline="") as stream:
        assert {row["norm"] for row in csv.DictReader(stream)} == {"linf", "l2", "l1", "l0"}


def test_the_benchmark_writes_its_table(workshop: pathlib.Path, tmp_path: pathlib.Path) -> None:
    argv = ["--num_images=12", "--num_oracle=2", "--num_l0=3", f"--output_dir={tmp_path}"]
    argv.append(f"--checkpoint_dir={workshop / 'checkpoints'}")
    assert benchmark.main(argv) == 0
    content = json.loads((tmp_path / "optimum.json").read_text())
    assert [row["problems"] for row in content["targeted"]] == [108, 108, 108, 3]
    assert all(oracle["largest_difference"] < 1e-6 for oracle in content["oracles"])
    for answer in content["inverse"][:3]:
        assert answer["margin"][1] == answer["log_odds"][1] == 12
        assert (answer["largest_difference"] or 0) < 1e-6
    table = (tmp_path / "optimum.md").read_text()
    assert "| targeted linf | 108 |" in table and "| untargeted l0 | 12 |" in table
