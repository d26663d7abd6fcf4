"""What the tests of evaluations share: small plans, and a process that can be killed."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from mnist_adv.evaluation.analyse.table import Table
from mnist_adv.evaluation.measure import run
from mnist_adv.evaluation.measure.chunk import FORMS, MARKS, NORMS, Places
from mnist_adv.evaluation.measure.store import TIMING, Store
from mnist_adv.evaluation.plan import Plan, Targets
from mnist_adv.geometry.norms import Norm
from mnist_adv.models import checkpoints
from mnist_adv.models.model_source import ModelSource

# Around the only section that quotes times, and so differs from run to run.
COSTS = "<!-- costs -->"

SMALL: dict[str, Any] = {
    "checkpoint": "c" * 64,
    "reading": "",
    "num_classes": 10,
    "dataset": "mnist",
    "split": "test",
    "num_images": 45,
    "attacks": ("pgd",),
    "norm": Norm.LINF,
    "epsilons": (0.0, 0.05, 0.2),
    "targets": Targets.RANDOM,
    "num_steps": 5,
    "step_size": 0.05,
    "seed": 3,
    "chunk_size": 4,
    "versions": {"mnist_adv": "1"},
}


def small_plan(workshop: pathlib.Path, **changes: Any) -> Plan:
    """A plan of the trained model that takes a second or two."""
    digest = checkpoints.load(workshop / "checkpoints").digest
    return Plan(**{**SMALL, "checkpoint": digest, **changes})


def places(workshop: pathlib.Path) -> Places:
    """Where its model is."""
    return Places(ModelSource(str(workshop / "checkpoints")))


def child(plan: Plan, where: Places, folder: str) -> None:
    """Compute what is missing, until done or killed."""
    run.execute(Store(folder, plan), where, quiet=True)


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    """All files below a folder that are the same in every run, the page without its times."""
    files = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != TIMING
    }
    if "report.html" in files:
        parts = files["report.html"].split(COSTS.encode())
        assert len(parts) == 3
        files["report.html"] = parts[0] + parts[2]
    return files


def hand_made(
    label: list[int], clean: list[int], distance: list[list[float]], **changes: Any
) -> Table:
    """A table of which only labels, clean predictions and distances matter.

    An infinite distance is a missed goal. Without other changes every goal met is an escape.
    """
    found = np.array(distance, np.float64)
    count, rows = len(found), len(label)
    targeted = "target" in changes
    plan = Plan(**{
        **SMALL,
        "attacks": ("pgd", "fgsm")[:count],
        "epsilons": (0.0, 0.1, 0.2),
        "targets": Targets.RANDOM if targeted else Targets.UNTARGETED,
    })
    columns: dict[str, Any] = {
        "index": np.arange(rows),
        "label": np.array(label),
        "target": np.full(rows, -1),
        "clean_prediction": np.array(clean),
        "num_steps": np.ones((count, rows), np.int64),
        "num_queries": np.full((count, rows), 3),
        "num_gradients": np.full((count, rows), 2),
        "budget": np.full((count, rows), 0.2),
        "moved_at_zero": np.zeros((count, rows)),
        **{f"distance_at_{mark}": found for mark in MARKS},
    }
    for form in FORMS:
        columns[f"{form}_success"] = np.isfinite(found)
        columns[f"{form}_prediction"] = np.tile(columns["clean_prediction"], (count, 1))
        columns |= {f"{form}_{norm}": np.where(np.isfinite(found), found, 0.2) for norm in NORMS}
        columns[f"{form}_escape"] = found
    columns |= {name: np.array(values) for name, values in changes.items()}
    return Table(plan, columns)
