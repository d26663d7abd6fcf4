"""What the parts of ensembles did: how many images each attacked, and at which budget it met goals.

Counts of goals follow from the cases and are the same in every run. How many images a part attacked
and how long it took is in `timing.json`, with the times of all else.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from mnist_adv.evaluation.analyse.table import Table
from mnist_adv.evaluation.measure.store import Store
from mnist_adv.verdict.judge import TOLERANCE


@dataclasses.dataclass(frozen=True)
class PartOfEnsemble:
    """One line of the table.

    Attributes:
        ensemble: its name.
        part: the attack's name.
        reached: per epsilon, the cases whose smallest distance that this ensemble found is within
            it and was found by this part; in floats.
        attacked: images that it attacked, over all budgets; None: not known.
        seconds: that it took for them; None: not known.
    """

    ensemble: str
    part: str
    reached: tuple[int, ...]
    attacked: int | None = None
    seconds: float | None = None

    def cells(self) -> tuple[str, ...]:
        """Format the line, with a dash for what is not known.

        Returns:
            One cell per column: the two names, images, seconds, and one for each epsilon.
        """
        attacked = "-" if self.attacked is None else f"{self.attacked}"
        seconds = "-" if self.seconds is None else f"{self.seconds:.1f}"
        return self.ensemble, self.part, attacked, seconds, *map(str, self.reached)

    def record(self) -> dict[str, Any]:
        """Turn into JSON, without what differs from run to run.

        Returns:
            The names, and one count per epsilon.
        """
        return {"ensemble": self.ensemble, "part": self.part, "reached": list(self.reached)}


def find_parts(store: Store, table: Table) -> tuple[PartOfEnsemble, ...]:
    """Make the table of the parts.

    Args:
        store: the result files, with the recorded times.
        table: all cases.

    Returns:
        One line per ensemble and part, in the order in which they ran; none without an ensemble.
    """
    timing, lines = store.timing(), []
    distances = table.distance("float")
    for number, (ensemble, parts) in enumerate(zip(table.plan.attacks, table.parts)):
        for place, part in enumerate(parts):
            own = distances[number][table["made_by"][number] == place]
            kept = [each[f"{ensemble}/{part}"] for each in timing if f"{ensemble}/{part}" in each]
            lines.append(
                PartOfEnsemble(
                    ensemble,
                    part,
                    tuple(int(np.sum(own <= e + TOLERANCE)) for e in table.plan.epsilons),
                    int(sum(each["images"] for each in kept)) if kept else None,
                    sum(each["attack"] for each in kept) if kept else None,
                )
            )
    return tuple(lines)


def head(epsilons: tuple[float, ...]) -> tuple[str, ...]:
    """Name the columns.

    Args:
        epsilons: of the plan.

    Returns:
        As many names as `PartOfEnsemble.cells` has cells.
    """
    return "ensemble", "part", "attacked", "seconds", *(f"at {epsilon:g}" for epsilon in epsilons)


def lay_out(parts: tuple[PartOfEnsemble, ...], epsilons: tuple[float, ...]) -> list[str]:
    """Lay the table out for a terminal, with the smallest, the middle and the largest budget.

    Args:
        parts: the lines.
        epsilons: of the plan.

    Returns:
        The lines, head first.
    """
    first = 4  # column of an epsilon
    shown = {first, first + len(epsilons) // 2, first + len(epsilons) - 1}
    columns = [2, 3, *sorted(shown)]
    lines: list[str] = []
    for cells in (head(epsilons), *(part.cells() for part in parts)):
        name = "part" if not lines else f"{cells[0]}: {cells[1]}"
        lines.append(f"  {name:<28}" + "".join(f"{cells[column]:>12}" for column in columns))
    return lines
