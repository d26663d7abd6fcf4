"""The results of an evaluation, from which every report is made."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

import numpy as np

from mnist_adv.evaluation.analyse.band import Band
from mnist_adv.evaluation.analyse.beside_optimum import BesideOptimum
from mnist_adv.evaluation.analyse.check import Check
from mnist_adv.evaluation.analyse.costs import Costs
from mnist_adv.evaluation.analyse.statistics import Curve, clean_accuracy
from mnist_adv.evaluation.analyse.table import Table, case_columns
from mnist_adv.records import write_record

if TYPE_CHECKING:
    import pandas as pd

    from mnist_adv.drawing.pairs import Picture

_MOST = 4  # budgets in the line of a result, beside the first


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
        band: what is proved beside what is broken, if that was asked for.
    """

    table: Table
    curves: list[Curve]
    checks: list[Check]
    pictures: dict[str, np.ndarray]
    beside: BesideOptimum | None
    costs: Costs
    warnings: list[str]
    band: Band | None = None

    @property
    def sound(self) -> bool:
        """Whether every decisive check holds; the others say that attacks may be weak."""
        return all(check.holds for check in self.checks if check.decisive)

    @property
    def drawn(self) -> list[Curve]:
        """The curves of the attacks and, where it is known, of the certified optimum."""
        return self.curves if self.beside is None else [*self.curves, self.beside.curve]

    def plot(self) -> Picture:
        """Draw robust accuracy and success against epsilon.

        Returns:
            A figure of matplotlib, which notebooks show, and its `show()` everywhere else.
        """
        from mnist_adv.evaluation.report.figures import security_curve

        return security_curve(self.table, self.drawn, self.band)

    def to_dataframe(self, *, cases: bool = False) -> pd.DataFrame:
        """Tabulate the results: one row per attack, form of the images and epsilon.

        Args:
            cases: one row per image, target and attack instead, as in `images.csv`.

        Returns:
            Shares of success and robust accuracy, with the ends of their 95 % intervals; or what
            was measured of each case. What is certified is a column of either.

        Raises:
            ImportError: pandas is not installed.
        """
        from mnist_adv.drawing.notebook import data_frame

        if cases:
            of_cases = None if self.band is None else self.band.of_cases(self.table)
            return data_frame(case_columns(self.table, of_cases))
        band = self.band
        rows = [
            {
                "attack": curve.name,
                "image": curve.form,
                "epsilon": epsilon,
                "success": curve.success[number].value,
                "success_low": curve.success[number].interval[0],
                "success_high": curve.success[number].interval[1],
                "robust_accuracy": curve.robust[number].value,
                "robust_low": curve.robust[number].interval[0],
                "robust_high": curve.robust[number].interval[1],
                **({} if band is None else {"certified_accuracy": band.certified[number].value}),
            }
            for curve in self.drawn
            for number, epsilon in enumerate(self.table.plan.epsilons)
        ]
        return data_frame({name: [row[name] for row in rows] for name in rows[0]})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save everything in one file, which `load_result` reads.

        Args:
            path: of the file, such as "evaluation.npz"; replaced if it is there.

        Raises:
            OSError: the file cannot be written.
        """
        write_record(path, self)

    def __repr__(self) -> str:
        plan = self.table.plan
        worst = [curve for curve in self.curves if curve.form == "float"][-1]
        last = len(plan.epsilons) - 1
        shown = sorted({round(last * number / _MOST) for number in range(_MOST + 1)})
        robust = ", ".join(f"{worst.robust[i].value:.2%} at {plan.epsilons[i]:g}" for i in shown)
        band, certified = self.band, ""
        if band is not None:
            shares = ", ".join(
                f"{band.certified[i].value:.2%} at {plan.epsilons[i]:g}" for i in shown
            )
            certified = f"certified accuracy ({band.method}) {shares}"
        failed = sum(not check.holds for check in self.checks if check.decisive)
        weak = [check for check in self.checks if not check.holds and not check.decisive]
        parts = [
            f"{plan.dataset} {plan.split}, {plan.num_images} images, {', '.join(plan.attacks)}",
            f"clean accuracy {clean_accuracy(self.table).value:.2%}",
            f"robust accuracy ({plan.norm.value}) {robust}",
            certified,
            f"{failed} of {len(self.checks)} checks FAIL" if failed else "",
            f"attacks may be weak: {weak[0].detail}" if weak else "",
            f"look at the model first: {self.warnings[0]}" if self.warnings else "",
        ]
        return f"Evaluation({'; '.join(part for part in parts if part)})"

    def _repr_html_(self) -> str:
        from mnist_adv.drawing.notebook import as_html

        return as_html(repr(self), self.plot())
