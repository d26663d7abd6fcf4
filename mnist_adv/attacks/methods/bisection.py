"""Turn any attack with a budget into one that seeks the smallest change."""

from __future__ import annotations

import dataclasses

import numpy as np
from typing_extensions import override

from mnist_adv.arguments import shown, whole
from mnist_adv.attacks.base import Attack, Outcome, Run, take
from mnist_adv.attacks.methods.pgd import PGD
from mnist_adv.attacks.progress import share_budget
from mnist_adv.attacks.task import Inputs, Status, Task
from mnist_adv.geometry.norms import Norm


@dataclasses.dataclass(frozen=True)
class Bisection(Attack):
    """Halve the range of epsilon between the largest failure and the smallest success.

    Attributes:
        inner: the attack with a budget.
        num_searches: how many halvings after the first run, whose budget is the whole cube.
    """

    inner: Attack = PGD()
    num_searches: int = 12

    minimal = True

    def __post_init__(self) -> None:
        """Refuse settings without meaning."""
        if not isinstance(self.inner, Attack) or self.inner.minimal:
            raise ValueError(
                f"inner must be an attack with a budget. Received: {shown(self.inner)}"
            )
        super().__post_init__()
        whole(self.num_searches, "num_searches")

    @property
    def norms(self) -> tuple[Norm, ...]:  # type: ignore[override]
        """The inner attack's."""
        return self.inner.norms

    @override
    def cost(self, task: Task) -> tuple[int, int]:
        return self.inner.cost(task)

    @override
    def num_runs(self, task: Task) -> int:
        return (1 + self.num_searches) * self.inner.num_runs(task)

    @override
    def solve(self, task: Task, inputs: Inputs, run: Run) -> Outcome:
        clean = inputs["clean"]
        # Budgets end at the border, where rounding would undo every second success.
        task = dataclasses.replace(task, beyond_rounding=True)
        low = np.zeros(len(clean), np.float32)
        high = lengths(np.maximum(clean, 1 - clean), task.norm)
        best = self._run(task, inputs, high, run, 1 + self.num_searches)
        for number in range(self.num_searches):
            found = np.flatnonzero(
                best.status == Status.ADVERSARIAL
            )  # what fails in the whole cube fails in less
            if not len(found):
                break
            high[found] = np.minimum(high[found], best.value[found])
            middle = (low[found] + high[found]) / 2
            left = self.num_searches - number
            outcome = self._run(task, take(inputs, found), middle, run, left)
            low[found[outcome.status < Status.ADVERSARIAL]] = middle[
                outcome.status < Status.ADVERSARIAL
            ]
            best.improve(found, outcome)
        return best

    def _run(
        self, task: Task, inputs: Inputs, epsilon: np.ndarray, run: Run, num_runs: int
    ) -> Outcome:
        inputs = self.inner.prepare(task, {**inputs, "epsilon": epsilon}, None)
        inputs = share_budget(run, task, self.inner, inputs, num_runs)
        outcome = self.inner.solve(task, inputs, run)
        away = lengths(outcome.image - inputs["clean"], task.norm)
        outcome.value = np.where(outcome.status == Status.ADVERSARIAL, away, outcome.value)
        return outcome


def lengths(perturbation: np.ndarray, norm: Norm) -> np.ndarray:
    """Measure perturbations outside the loop.

    Args:
        perturbation: `[n, *flat]`.
        norm: in which.

    Returns:
        `[n]` float32.
    """
    flat = np.abs(perturbation.reshape(len(perturbation), -1)).astype(np.float32)
    if norm is Norm.LINF:
        return np.asarray(flat.max(axis=1))
    order = {Norm.L2: 2, Norm.L1: 1, Norm.L0: 0}[norm]
    return np.linalg.norm(flat, order, axis=1).astype(np.float32)
