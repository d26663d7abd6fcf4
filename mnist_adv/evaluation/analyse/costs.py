"""What attacks cost: evaluations of the model, and time where it was recorded.

Queries and gradients are counts and the same in every run. Time is not: it is in a file of its own,
`timing.json`, and only the table below quotes it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from mnist_adv.evaluation.analyse import statistics
from mnist_adv.evaluation.analyse.beside_optimum import BesideOptimum
from mnist_adv.evaluation.analyse.parts import PartOfEnsemble, find_parts
from mnist_adv.evaluation.analyse.table import Table
from mnist_adv.evaluation.measure.store import Store

_HEAD = (
    "attack",
    "optimality",
    "over optimum",
    "found of feasible",
    "queries",
    "gradients",
    "image/s",
)


@dataclasses.dataclass(frozen=True)
class Cost:
    """One line of the table.

    Attributes:
        name: of the attack.
        optimality: from `statistics.optimality`, against the certified optimum where it is known,
            else against the best of all attacks that ran; None: not known.
        over_optimum: median of distance over optimum, of the cases whose goal was met; None: not
            known.
        share_found: at the largest budget, of the cases whose goal is feasible; None: not known.
        queries: images that the model evaluated, per case, over all budgets; None: not known.
        gradients: how many of these evaluations were differentiated; None: not known.
        rate: images attacked per second, at one budget; None: not known.
    """

    name: str
    optimality: float | None = None
    over_optimum: float | None = None
    share_found: float | None = None
    queries: float | None = None
    gradients: float | None = None
    rate: float | None = None

    def cells(self) -> tuple[str, ...]:
        """Format the line, with a dash for what is not known.

        Returns:
            One cell per column.
        """
        return (
            self.name,
            _format(self.optimality, ".2%"),
            _format(self.over_optimum, ".4f"),
            _format(self.share_found, ".2%"),
            _format(self.queries, ".1f"),
            _format(self.gradients, ".1f"),
            _format(self.rate, ".0f"),
        )


@dataclasses.dataclass(frozen=True)
class Costs:
    """The table: one line per attack, and one per part of an ensemble.

    Attributes:
        attacks: in the order of the plan.
        parts: of all ensembles, in the order in which they ran.
    """

    attacks: tuple[Cost, ...]
    parts: tuple[PartOfEnsemble, ...] = ()

    def rows(self) -> list[tuple[str, ...]]:
        """Format the table's cells.

        Returns:
            One tuple per attack, as long as `head`.
        """
        return [cost.cells() for cost in self.attacks]

    @property
    def head(self) -> tuple[str, ...]:
        """The columns' names."""
        return _HEAD

    def lines(self) -> list[str]:
        """Lay the table out for a terminal.

        Returns:
            The lines, head first.
        """
        return [_line(row) for row in (_HEAD, *self.rows())]

    def record(self) -> list[dict[str, Any]]:
        """Turn into JSON, without what differs from run to run.

        Returns:
            One object per attack.
        """
        return [
            {
                "attack": cost.name,
                "optimality": cost.optimality,
                "queries": cost.queries,
                "gradients": cost.gradients,
            }
            for cost in self.attacks
        ]


def find(store: Store, table: Table, beside: BesideOptimum | None) -> Costs:
    """Make the table of costs.

    Args:
        store: the result files, with the recorded times.
        table: all cases.
        beside: the attacks beside the certified optimum, where it is known.

    Returns:
        The table.
    """
    timing, lines = store.timing(), []
    near = statistics.optimality(table, None if beside is None else beside.lower_bound)
    for number, name in enumerate(table.plan.attacks):
        found = None if beside is None else beside.found[number]
        # A process compiles an attack in its first chunk: the middle chunk is free of that.
        rates = [kept[name]["images"] / kept[name]["attack"] for kept in timing if name in kept]
        lines.append(
            Cost(
                name=name,
                optimality=near[number],
                over_optimum=None if found is None else found.over_optimum,
                share_found=None if found is None else found.share_found[-1],
                queries=float(table["num_queries"][number].mean()),
                gradients=float(table["num_gradients"][number].mean()),
                rate=float(np.median(rates)) if rates else None,
            )
        )
    return Costs(tuple(lines), find_parts(store, table))


def _format(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _line(cells: Sequence[str]) -> str:
    widths = (12, 14, 22, 11, 11, 9)
    return f"  {cells[0]:<18}" + "".join(
        f"{cell:>{width}}" for cell, width in zip(cells[1:], widths)
    )
