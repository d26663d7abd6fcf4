"""The benchmark beside published figures stops where an attack leaves them."""

from __future__ import annotations

import pathlib
import sys

import numpy as np
import pytest

from benchmarks import published


def test_a_count_outside_the_bounds_is_told() -> None:
    assert published.leaves_bounds(9, 10) and published.leaves_bounds(published.UPPER + 1, 10)
    assert not published.leaves_bounds(10, 10) and not published.leaves_bounds(3081, 10)
    assert published.row("x", 1436, 10_000, "5") == "| x | 1436 | 14.36% | 5 |"


@pytest.mark.slow
def test_it_runs_on_a_network_of_that_form_and_stops_outside(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = np.random.default_rng(0)
    shapes = {"W1": (784, 20), "B1": (20,), "W2": (20, 10), "B2": (10,)}
    for name, shape in shapes.items():
        np.save(tmp_path / f"{name}.npy", generator.normal(0, 0.1, shape).astype(np.float32))
    flags = [f"--checkpoint={tmp_path}", "--num_images=40", "--attacks=pgd,uniform_noise"]
    monkeypatch.setattr(sys, "argv", ["published", *flags])
    assert published.main() == 0
    assert "| pgd | 40 | 100.00% |" in capsys.readouterr().out
    monkeypatch.setattr(published, "UPPER", 39)
    assert published.main() == 1
    assert "pgd breaks 40 images, outside " in capsys.readouterr().out
