"""The benchmark that settles images: it counts what each attack breaks, and stops at a lie."""

from __future__ import annotations

import pathlib
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import mnist_adv
from benchmarks import settled
from mnist_adv.models.activation import Activation
from mnist_adv.models.logits import predict
from mnist_adv.models.perceptron import make_model

COUNT, EPSILON = 6, 0.2


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    layers = [
        (generator.normal(0, 1, (16, 5)), generator.normal(0, 0.3, 5)),
        (generator.normal(0, 1, (5, 3)), np.zeros(3)),
    ]
    model = make_model(
        [(w.astype(np.float32), b.astype(np.float32)) for w, b in layers], Activation.RELU
    )
    images = generator.uniform(0, 1, (COUNT, 4, 4, 1)).astype(np.float32)
    labels = predict(model, images).argmax(axis=1)

    def networks(*_: Any) -> Iterator[Any]:
        yield "small", model, images, labels, EPSILON

    monkeypatch.setattr(settled, "networks", networks)
    monkeypatch.setattr(settled, "_ATTACKS", ("fgsm",))
    monkeypatch.setattr(settled, "_ALL", "pgd")


@pytest.mark.slow
def test_counts_add_up(tmp_path: pathlib.Path) -> None:
    assert settled.main(["--output_dir", str(tmp_path), "--seconds", "5"]) == 0
    row = (tmp_path / "settled.md").read_text().splitlines()[-1]
    name, _, *counts = [cell.strip() for cell in row.strip("|").split("|")]
    proved, unsettled, breakable, fgsm, pgd = map(int, counts)
    assert name == "small"
    assert proved + unsettled + breakable == COUNT
    assert min(fgsm, pgd) > 0 and max(fgsm, pgd) <= breakable < COUNT


def test_a_proof_that_an_attack_refutes_ends_with_status_1(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrongly(*_: Any, **__: Any) -> Any:
        return types.SimpleNamespace(proved=np.full(COUNT, True), broken=np.full(COUNT, False))

    monkeypatch.setattr(mnist_adv, "certify", wrongly)
    assert settled.main(["--output_dir", str(tmp_path), "--seconds", "1"]) == 1
    assert "broke what is proved of small" in capsys.readouterr().err
    assert not (tmp_path / "settled.md").exists()
