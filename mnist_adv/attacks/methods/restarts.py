"""Random points to start from, and starting again."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np

from mnist_adv.tensors.lazy import tf
from mnist_adv.attacks.base import ROW, Method, Outcome, Rows, Run, State, Task, only
from mnist_adv.gradients.sources import GradientSource
from mnist_adv.gradients.losses import Loss
from mnist_adv.geometry.norms import GEOMETRY, Norm, per_image
from mnist_adv.tensors.randomness import exponential, normal, signs, uniform


@dataclasses.dataclass(frozen=True)
class Restarted(Method):
    """A search inside a budget that can start at a random point, more than once.

    Attributes:
        loss: what is descended.
        source: where gradients come from.
        random_start: whether the first run, too, starts at a random point of the ball.
        restarts: how many runs; those after the first start at random points, for the images that
            have not reached their goal.
        stop_early: whether an image is done as soon as its goal is met.
    """

    loss: Loss = Loss.CROSS_ENTROPY
    source: GradientSource = GradientSource()
    random_start: bool = False
    restarts: int = 1
    stop_early: bool = True

    norms: ClassVar[tuple[Norm, ...]] = (Norm.LINF, Norm.L2, Norm.L1)

    def __post_init__(self) -> None:
        """Refuse settings without meaning."""
        if self.restarts < 1:
            raise ValueError(f"restarts must be at least 1. Received: {self.restarts}")

    @property
    def ends_at_goal(self) -> bool:
        """Whether an image is done as soon as its goal is met."""
        return self.stop_early

    def prepare(self, task: Task, rows: Rows, step_size: Any) -> Rows:
        """Add "restart", the number of the run; see `Method.prepare`."""
        rows = super().prepare(task, rows, step_size)
        return {**rows, "restart": np.full(len(rows["clean"]), int(self.random_start), np.int32)}

    def start(self, task: Task, rows: Rows) -> State:
        """Start at the clean image, or at a random point; see `Method.start`."""
        image = rows["clean"]
        if self.random_start or self.restarts > 1:
            away = per_image(rows["epsilon"]) * _random_point(task.norm, rows)
            wanted = per_image(rows["restart"] > 0)
            image = tf.where(wanted, tf.clip_by_value(image + away, 0, 1), image)
        return {"image": image}

    def look(self, task: Task, rows: Rows, state: State) -> State:
        """Take the gradient; see `Method.look`."""
        return task.look(self.loss, rows, state["image"], self.source, state["number"])

    def cost(self, task: Task) -> tuple[int, int]:
        """Count the source's; see `Method.cost`."""
        return self.source.cost(ROW[-1])

    def solve(self, task: Task, rows: Rows, run: Run) -> Outcome:
        """Run, and run again what failed; see `Method.solve`."""
        outcome = run(task, self, rows)
        for restart in range(1, self.restarts):
            again = np.flatnonzero(outcome.rank < 2)
            if not len(again):
                break
            subset = only(rows, again)
            subset["restart"] = subset["restart"] + np.int32(restart)
            outcome.improve(again, run(task, self, subset))
        return outcome


def _random_point(norm: Norm, rows: Rows) -> Any:
    # Uniform in the unit ball; streams below 0, as the steps use those from 0 on.
    keys, stream = rows["keys"], -8 * rows["restart"]
    if norm is Norm.LINF:
        return 2 * uniform(keys, stream, ROW) - 1
    inner = per_image(uniform(keys, stream - 1, (1,))[:, 0])
    if norm is Norm.L2:
        return inner ** (1 / ROW[-1]) * GEOMETRY[norm].steepest(normal(keys, stream, ROW))
    far = signs(keys, stream - 2, ROW) * exponential(keys, stream, ROW)
    outside = per_image(exponential(keys, stream - 1, (1,))[:, 0])
    return far / (per_image(GEOMETRY[norm].length(far)) + outside)
