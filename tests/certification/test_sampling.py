"""The search for images that violate bounds finds what a wrong bound claims."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

from benchmarks import bound_sampling
from mnist_adv.certification.bounds import Bounder
from tests.certification.support import random_layers


@pytest.mark.parametrize("lift, status", [(0.0, 0), (50.0, 1)])
def test_a_bound_that_is_too_high_is_found(
    lift: float, status: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((weights, bias),) = random_layers(784, 10)
    np.savez(tmp_path / "model.npz", W=weights, b=bias)
    right = Bounder.margins
    monkeypatch.setattr(Bounder, "margins", lambda *given: right(*given) + lift)
    given = ["--num_images", "2", "--num_samples", "200", "--methods", "ibp", "crown"]
    given += ["--models", str(tmp_path / "model.npz"), "--output_dir", str(tmp_path)]
    assert bound_sampling.main(given) == status
    rows = (tmp_path / "bound_sampling.md").read_text().splitlines()[-2:]
    assert [int(row.split("|")[3]) > 0 for row in rows] == [bool(status)] * 2
