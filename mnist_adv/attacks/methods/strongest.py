"""Every attack that applies, and of each image the smallest change that any of them finds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from typing_extensions import override

from mnist_adv.attacks.base import Attack, Outcome, Run
from mnist_adv.attacks.methods.apgd import APGD
from mnist_adv.attacks.methods.bisection import lengths
from mnist_adv.attacks.methods.ensemble import Ensemble, Part
from mnist_adv.attacks.methods.fab import FAB
from mnist_adv.attacks.methods.multi_epsilon import MultiEpsilonPGD
from mnist_adv.attacks.methods.optimum import OptimumAttack, applies
from mnist_adv.attacks.task import Inputs, Status, Task
from mnist_adv.geometry.norms import Norm
from mnist_adv.verdict.judge import TOLERANCE

# How much smaller than the best so far the distance must be that an attack with a budget looks for.
_SHORTER = 0.999
_RESTARTS = 5  # of `MultiEpsilonPGD`: what it alone finds, some of its starts find


@dataclasses.dataclass(frozen=True)
class Strongest(Ensemble):
    """Run every row of the registry that has the norm and needs no other images.

    Attacks that seek the smallest change come first. Those with a budget then look for a smaller
    one still, inside 0.999 of the best so far, or inside epsilon if that is less. An image leaves
    when its distance is within epsilon; without epsilon every part attacks every image. A model
    that is linear in the pixels needs the certified optimum alone, which nothing can undercut.
    """

    minimal = True
    norms = tuple(Norm)

    @override
    def parts(self, task: Task) -> list[Part]:
        if applies(task):
            return [Part("optimum", OptimumAttack())]
        found = list(_applicable(task))
        return sorted(found, key=lambda part: not part.attack.minimal)

    @override
    def unfinished(self, inputs: Inputs, best: Outcome) -> np.ndarray:
        missed = best.status < Status.ADVERSARIAL
        epsilon = inputs["epsilon"]
        # As the verdict: a perturbation of the whole budget may be rounded beyond it.
        return missed | (best.value > epsilon + TOLERANCE) | np.isinf(epsilon)

    @override
    def run_part(
        self, part: Part, task: Task, inputs: Inputs, found: np.ndarray, run: Run
    ) -> Outcome:
        if part.attack.minimal:
            return super().run_part(part, task, inputs, found, run)
        clean = inputs["clean"]
        shorter = found - 1 if task.norm is Norm.L0 else _SHORTER * found
        farthest = lengths(np.maximum(clean, 1 - clean), task.norm)
        budget = np.minimum(np.minimum(inputs["epsilon"], shorter), farthest)
        own = {**inputs, "epsilon": budget.astype(np.float32)}
        outcome = super().run_part(part, task, own, found, run)
        success = outcome.status == Status.ADVERSARIAL
        distance = lengths(outcome.image - clean, task.norm)
        outcome.value = np.where(success, distance, outcome.value)
        return outcome

    @override
    def solve(self, task: Task, inputs: Inputs, run: Run) -> Outcome:
        best = super().solve(task, inputs, run)
        best.certificate = None  # of one block of images only
        return best


def _applicable(task: Task) -> Iterator[Part]:
    from mnist_adv.attacks.registry import ATTACKS  # whose rows this is one of

    for name, row in ATTACKS.items():
        attack: Attack = row.attack
        skipped = attack.needs_donors or isinstance(attack, Ensemble | OptimumAttack)
        if task.norm not in attack.norms or skipped:
            continue
        if isinstance(attack, FAB):
            attack = dataclasses.replace(attack, stop_early=True)
        if isinstance(attack, APGD):
            # As in AutoAttack, so that no image is left that it would break.
            attack = dataclasses.replace(attack, random_start=True)
        if isinstance(attack, MultiEpsilonPGD):
            attack = dataclasses.replace(attack, restarts=_RESTARTS)
        yield Part(name, attack)
