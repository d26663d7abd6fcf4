"""Search the constant that weighs success against distance, for C&W and EAD."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from typing_extensions import override

from mnist_adv.arguments import whole
from mnist_adv.attacks.base import Attack, Outcome, Run
from mnist_adv.attacks.progress import share_budget
from mnist_adv.attacks.task import Inputs, Status, Task


@dataclasses.dataclass(frozen=True)
class ConstantSearch(Attack):
    """Run with a constant per image; raise it after a failure, lower it after a success.

    Attributes:
        num_searches: how many runs of `num_steps` steps each.
        first_constant: of the first run; tenfold while nothing is found, then halved between the
            largest that failed and the smallest that did not.
        learning_rate: of each step.
    """

    num_steps: int = 1000
    num_searches: int = 9
    first_constant: float = 1e-3
    learning_rate: float = 0.01

    minimal = True

    def __post_init__(self) -> None:
        """Refuse settings without meaning."""
        super().__post_init__()
        whole(self.num_searches, "num_searches")

    @override
    def prepare(self, task: Task, inputs: Inputs, step_size: Any) -> Inputs:
        constant = np.full(len(inputs["clean"]), self.first_constant, np.float32)
        return {**super().prepare(task, inputs, step_size), "constant": constant}

    @override
    def num_runs(self, task: Task) -> int:
        return self.num_searches

    @override
    def solve(self, task: Task, inputs: Inputs, run: Run) -> Outcome:
        inputs = share_budget(run, task, self, inputs, self.num_searches)
        constant = inputs["constant"]
        low, high = np.zeros_like(constant), np.full_like(constant, np.inf)
        everything = np.arange(len(constant))
        best = outcome = run(task, self, inputs)
        for _ in range(1, self.num_searches):
            adversarial = outcome.status == Status.ADVERSARIAL  # of the run, not of the best so far
            high = np.where(adversarial, constant, high)
            low = np.where(adversarial, low, constant)
            middle = (low + high) / 2
            constant = np.where(np.isfinite(high), middle, 10 * constant).astype(np.float32)
            outcome = run(task, self, {**inputs, "constant": constant})
            best.improve(everything, outcome)
        return best
