"""The results of an evaluation, from which every report is made."""

from __future__ import annotations

import dataclasses

import numpy as np

from mnist_adv.evaluation.analyse.beside_optimum import BesideOptimum
from mnist_adv.evaluation.analyse.checks import Check
from mnist_adv.evaluation.analyse.costs import Costs
from mnist_adv.evaluation.analyse.statistics import Curve
from mnist_adv.evaluation.analyse.table import Table


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The results of an evaluation.

    Attributes:
        table: all cases.
        curves: security curves, float and saved.
        checks: what must be true, and whether it is.
        pictures: name -> `[height, width, 3]` uint8.
        beside: the attacks beside the certified optimum, where it is known.
        costs: how often each attack evaluated the model, and how fast it was.
        warnings: what is wrong with the model itself, one sentence each.
    """

    table: Table
    curves: list[Curve]
    checks: list[Check]
    pictures: dict[str, np.ndarray]
    beside: BesideOptimum | None
    costs: Costs
    warnings: list[str]

    @property
    def sound(self) -> bool:
        """Whether every check holds."""
        return all(check.holds for check in self.checks)
