"""AutoAttack: the ensemble by which robust accuracy is compared."""

from __future__ import annotations

import dataclasses

import numpy as np
from typing_extensions import override

from mnist_adv.arguments import NamedChoice
from mnist_adv.attacks.base import Outcome, Run
from mnist_adv.attacks.methods.apgd import APGD
from mnist_adv.attacks.methods.ensemble import Ensemble, Part
from mnist_adv.attacks.methods.fab import FAB
from mnist_adv.attacks.methods.square import Square
from mnist_adv.attacks.task import Inputs, Status, Task
from mnist_adv.geometry.norms import Norm
from mnist_adv.gradients.losses import Loss


class Version(NamedChoice):
    """Which parts there are."""

    STANDARD = "standard"
    PLUS = "plus"
    RAND = "rand"


@dataclasses.dataclass(frozen=True)
class AutoAttack(Ensemble):
    """AutoPGD, FAB and Square one after the other, in the budget (Croce, Hein, 2020).

    Standard: AutoPGD on the cross-entropy, on the targeted DLR loss towards each of nine classes,
    FAB towards each of nine classes, Square. Plus: AutoPGD on the cross-entropy and on the DLR
    loss and FAB, five restarts each, Square, and the two targeted parts. Rand: AutoPGD on the
    cross-entropy and on the DLR loss, for models that draw at random; the row's queries are means
    of 20 draws. In L1 the standard version has, as its authors' code, five restarts of the first
    part and five targets of the second ("Mind the Box", 2021). With fewer other classes there are
    as many targets; a goal with a target has that one, and each part seeks it. With a confidence,
    which FAB does not seek, FAB is left out.

    Attributes:
        version: which parts there are.
        num_targets: most classes that the targeted parts lead each image towards.
        num_queries: most queries of Square.
    """

    version: Version = Version.STANDARD
    num_targets: int = 9
    num_queries: int = 5000

    @override
    def parts(self, task: Task) -> list[Part]:
        plus = self.version is Version.PLUS
        sparse = task.norm is Norm.L1
        towards = min(5, self.num_targets) if sparse and not plus else self.num_targets
        restarts = 5 if sparse or plus else 1
        first = APGD(random_start=True, restarts=restarts)
        dlr = APGD(random_start=True, loss=Loss.DLR)
        parts = {
            "apgd_ce": first,
            "apgd_t": dataclasses.replace(dlr, num_targets=towards),
            "fab_t": FAB(num_targets=self.num_targets, stop_early=True),
            "square": Square(num_steps=max(1, self.num_queries - 1), area=0.8),
        }
        if plus:
            parts = {
                "apgd_ce": first,
                "apgd_dlr": dataclasses.replace(dlr, restarts=restarts),
                "fab": FAB(restarts=restarts, stop_early=True),
                "square": parts["square"],
                "apgd_t": parts["apgd_t"],
                "fab_t": parts["fab_t"],
            }
        if self.version is Version.RAND:
            parts = {"apgd_ce": APGD(random_start=True), "apgd_dlr": dlr}
        return [
            Part(name, part)
            for name, part in parts.items()
            if task.norm in part.norms and not (part.minimal and task.confidence is not None)
        ]

    @override
    def run_part(
        self, part: Part, task: Task, inputs: Inputs, found: np.ndarray, run: Run
    ) -> Outcome:
        outcome = super().run_part(part, task, inputs, found, run)
        if part.attack.minimal:
            inside = outcome.value <= inputs["epsilon"]
            success = inside & (outcome.status == Status.ADVERSARIAL)
            outcome.status = np.where(success, Status.ADVERSARIAL, Status.MISSED).astype(np.int32)
        return outcome
