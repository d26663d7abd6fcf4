"""Several attacks one after the other, each on the images that those before it left."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import ClassVar

import numpy as np
from typing_extensions import override

from mnist_adv.attacks.base import Attack, Outcome, PartReport, Run, take
from mnist_adv.attacks.lanes import goes_in_blocks, num_lanes
from mnist_adv.attacks.progress import Runner
from mnist_adv.attacks.task import Inputs, Status, Task
from mnist_adv.geometry.norms import Norm

_FEW = (1, 4)  # steps that are timed
_ALONE = 2  # images of what solves them one by one


@dataclasses.dataclass(frozen=True)
class Part:
    """An attack of an ensemble.

    Attributes:
        name: as reports show it.
        attack: its settings, its own number of steps among them.
    """

    name: str
    attack: Attack


@dataclasses.dataclass(frozen=True)
class Ensemble(Attack):
    """Attacks one after the other, each on the images that are unfinished.

    Attributes:
        num_steps: most steps of every run of every part; 0: each part's own number.
    """

    num_steps: int = 0

    norms: ClassVar[tuple[Norm, ...]] = (Norm.LINF, Norm.L2, Norm.L1)

    def parts(self, task: Task) -> list[Part]:
        """List the attacks in their order.

        Args:
            task: what all images share.

        Returns:
            At least one.
        """
        raise NotImplementedError(f"{type(self).__name__} has no parts")

    def unfinished(self, inputs: Inputs, best: Outcome) -> np.ndarray:
        """Say which images the next part attacks.

        Args:
            inputs: NumPy arrays.
            best: of the parts so far.

        Returns:
            `[n]` bool.
        """
        return best.status < Status.ADVERSARIAL

    def run_part(
        self, part: Part, task: Task, inputs: Inputs, found: np.ndarray, run: Run
    ) -> Outcome:
        """Run one part.

        Args:
            part: the attack.
            task: what all images share.
            inputs: NumPy arrays, of the images that it attacks.
            found: `[m]`, the value of the success of a part before; infinite where there is none.
            run: runs the loop.

        Returns:
            Its outcome; the values of successes compare with those of other parts.
        """
        given, own = inputs["num_steps"], max(1, part.attack.num_steps)
        steps = np.where(given > 0, given, own).astype(np.int32)
        prepared = part.attack.prepare(task, {**inputs, "num_steps": steps}, None)
        return part.attack.solve(task, prepared, run)

    def expected_seconds(
        self, task: Task, inputs: Inputs, run: Runner, left: float = math.inf
    ) -> float:
        """Measure a few steps of each part, to tell how long all of them take if no image leaves.

        Args:
            task: what all images share.
            inputs: NumPy arrays.
            run: runs the loop, and neither reports progress nor keeps a budget.
            left: most forward and backward passes of an image in all parts together.

        Returns:
            Seconds. What is compiled on the way serves the attack, too.
        """
        blocked = not task.randomized and goes_in_blocks(task)
        shaped, count = dataclasses.replace(task, blocked=blocked), len(inputs["clean"])
        total = 0.0
        for part in self.parts(task):
            lanes = num_lanes(shaped, part.attack) if part.attack.takes_steps else _ALONE
            some = take(inputs, np.arange(min(count, lanes)))
            size = len(some["clean"])
            known = np.full(size, np.inf, np.float32)
            seconds, passes = {}, {}
            for steps in (_FEW[0], *_FEW):  # the first run compiles
                own = {**some, "num_steps": np.full(size, steps, np.int32)}
                began = time.perf_counter()
                found = self.run_part(part, task, own, known, run)
                seconds[steps] = time.perf_counter() - began
                passes[steps] = float((found.queries + found.gradients).max())
            most = int(inputs["num_steps"].max()) or part.attack.num_steps
            spent = _at(most, passes)
            # The budget ends the part in which it is used up, and all after it.
            share = min(1.0, left / spent) if spent else 1.0
            left = max(0.0, left - spent)
            total += share * _at(most, seconds) * math.ceil(count / size)
        return total

    @override
    def cost(self, task: Task) -> tuple[int, int]:
        costs = [part.attack.cost(task) for part in self.parts(task)]
        # None in a norm that the ensemble does not have.
        queries, gradients = (max((cost[kind] for cost in costs), default=0) for kind in (0, 1))
        return queries, gradients

    @override
    def solve(self, task: Task, inputs: Inputs, run: Run) -> Outcome:
        expect = getattr(run.progress, "expect", None) if isinstance(run, Runner) else None
        if expect is not None and isinstance(run, Runner):
            count = len(inputs["clean"])
            limit, own = math.inf, inputs
            if run.budget is not None:
                limit = float(run.budget.left[inputs["index"]].max(initial=0)) / run.budget.draws
                own = {name: values for name, values in inputs.items() if name != "index"}
            expect(count, self.expected_seconds(task, own, Runner(run.run), limit))
        best: Outcome | None = None
        made_by = np.zeros(len(inputs["clean"]), np.int64)
        reports = []
        for number, part in enumerate(self.parts(task)):
            subset, known = inputs, np.full(len(made_by), np.inf, np.float32)
            if best is not None:
                left = np.flatnonzero(self.unfinished(inputs, best))
                if not len(left):
                    break
                subset = take(inputs, left)
                reached = best.status[left] == Status.ADVERSARIAL
                known = np.where(reached, best.value[left], np.float32(np.inf))
            count, began = len(subset["clean"]), time.perf_counter()
            if isinstance(run, Runner):
                run.begin(part.name, count * part.attack.num_runs(task))
            found = self.run_part(part, task, subset, known, run)
            reports.append(PartReport(part.name, count, time.perf_counter() - began))
            if best is None:
                best = found
                continue
            # Losses of different parts do not compare: a miss of the first part stands.
            missed = found.status < Status.ADVERSARIAL
            found.value = np.where(missed, np.float32(np.inf), found.value)
            better = best.improve(left, found)
            made_by[left[better]] = number
        if best is None:
            raise ValueError(f"{type(self).__name__} has no part for this model and norm")
        best.made_by, best.parts = made_by, reports
        return best


def _at(steps: int, measured: dict[int, float]) -> float:
    """Extend a line through what was measured of few steps."""
    few, more = _FEW
    each = max(measured[more] - measured[few], 0.0) / (more - few)
    return measured[few] + each * (steps - few)
