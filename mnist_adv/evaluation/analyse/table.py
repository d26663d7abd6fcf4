"""The table of results, one case per image and target: read from chunks, written as CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mnist_adv.evaluation.measure.chunk import FORMS, MARKS, NORMS
from mnist_adv.evaluation.measure.store import Store
from mnist_adv.evaluation.plan import Plan
from mnist_adv.verdict.judge import TOLERANCE

_CASE = ("index", "label", "target", "clean_prediction")
_FOUND = ("success", "prediction", *NORMS, "escape")
_COSTS = ("num_steps", "num_queries", "num_gradients")
_NAMES = (
    *_CASE,
    *(f"{form}_{name}" for form in FORMS for name in _FOUND),
    *_COSTS,
    "budget",
    "made_by",
    "moved_at_zero",
    *(f"distance_at_{mark}" for mark in MARKS),
)


@dataclasses.dataclass(frozen=True)
class Table:
    """All cases, without the images.

    Attributes:
        plan: what was measured.
        columns: name -> `[r]` or `[attacks, r]`; the names of `chunk.compute`.
        parts: per attack the names of an ensemble's parts that ran, by number; none of others.
    """

    plan: Plan
    columns: dict[str, np.ndarray]
    parts: tuple[tuple[str, ...], ...] = ()

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.columns["index"])

    @property
    def clean_correct(self) -> np.ndarray:
        """Whether each case's clean image is classified correctly, `[r]` bool."""
        return self["clean_prediction"] == self["label"]

    def distance(self, form: str) -> np.ndarray:
        """Compute the distance at which each goal was met, in the budgets' norm.

        Args:
            form: "float" or "saved".

        Returns:
            `[attacks, r]`, infinite where it was not met.
        """
        lengths = self[f"{form}_{self.plan.norm.value}"]
        return np.where(self[f"{form}_success"], lengths, np.inf)

    def medians_over_queries(self) -> dict[str, list[float | None]]:
        """Compute each attack's median distance with as many passes of the model as `MARKS` say.

        Returns:
            Attack -> one number per mark, over all cases; None where most goals were not met yet.
        """
        medians = {
            name: [float(np.median(self[f"distance_at_{mark}"][number])) for mark in MARKS]
            for number, name in enumerate(self.plan.attacks)
        }
        return {
            name: [value if np.isfinite(value) else None for value in values]
            for name, values in medians.items()
        }

    def per_image(self, values: np.ndarray) -> np.ndarray:
        """Take the smallest value over the cases of each image.

        Args:
            values: `[..., r]`.

        Returns:
            `[..., num_images]`.
        """
        starts = np.flatnonzero(np.diff(self["index"], prepend=-1))
        return np.minimum.reduceat(values, starts, axis=-1)

    def makers(self) -> np.ndarray:
        """Name who met each goal in floats: of ensembles the part, of other attacks themselves.

        Returns:
            `[attacks, r]` of names, empty where the goal was missed.
        """
        made = []
        for name, parts, number in zip(self.plan.attacks, self.parts, self["made_by"]):
            names = np.array([*(parts or (name,)), ""])  # -1 is the last
            made.append(names[number])
        return np.array(made)

    def verdicts(self) -> np.ndarray:
        """Summarise each case in a word.

        Returns:
            `[attacks, r]`: "already", "reached", "lost in rounding" or "missed".
        """
        met, saved = self["float_success"], self["saved_success"]
        at_once = self.distance("saved") <= TOLERANCE
        return np.select(
            [saved & at_once, saved, met], ["already", "reached", "lost in rounding"], "missed"
        )


def read_table(store: Store) -> Table:
    """Read the cases of all chunks.

    Args:
        store: with no chunk missing.

    Returns:
        The table, in the order of images and targets.
    """
    names = _NAMES if store.plan.certify_method is None else (*_NAMES, "proved_radius")
    named = [f"parts_{number}" for number in range(len(store.plan.attacks))]
    parts = list(store.read((*names, *named)))
    columns = {name: np.concatenate([part[name] for part in parts], axis=-1) for name in names}
    # A part runs in the chunks in which the parts before it have left something.
    found = [
        max((tuple(map(str, part.get(name, ()))) for part in parts), key=len) for name in named
    ]
    return Table(store.plan, columns, tuple(found))


def case_columns(
    table: Table, of_cases: Mapping[str, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """Arrange the table by cases: one entry per image, target and attack.

    Args:
        table: all cases.
        of_cases: name -> `[r]`, what else is known of each case.

    Returns:
        Name -> `[r * attacks]`, attacks of one case in a row; the names of the CSV's columns.
    """
    count = len(table.plan.attacks)
    found = [f"{form}_{name}" for form in FORMS for name in _FOUND]
    return {
        "id": np.repeat(table["index"], count),
        **{name: np.repeat(table[name], count) for name in _CASE[1:]},
        "attack": np.tile(np.array(table.plan.attacks), len(table)),
        "verdict": table.verdicts().T.ravel(),
        **{name: table[name].T.ravel() for name in ("num_steps", "budget", *found, *_COSTS[1:])},
        **({"made_by": table.makers().T.ravel()} if any(table.parts) else {}),
        **{name: np.repeat(values, count) for name, values in (of_cases or {}).items()},
    }


def to_csv(table: Table, of_cases: Mapping[str, np.ndarray] | None = None) -> bytes:
    """Write the table for spreadsheets: one line per image, target and attack.

    Args:
        table: all cases.
        of_cases: name -> `[r]`, what else is known of each case.

    Returns:
        CSV with a header; empty cells where there is no number.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = case_columns(table, of_cases)
    writer.writerow(columns)
    writer.writerows(zip(*map(_cells, columns.values())))
    return text.getvalue().encode()


def _cells(column: np.ndarray) -> list[Any]:
    # As Python's own numbers, which format in a third of the time of NumPy's.
    if column.dtype.kind == "U":
        return column.tolist()
    if column.dtype.kind == "b":
        return column.astype(int).tolist()
    if column.dtype.kind == "f":
        return [f"{value:.9g}" if math.isfinite(value) else "" for value in column.tolist()]
    return [value if value >= 0 else "" for value in column.tolist()]
