"""Gradient descent inside a budget: FGSM, BIM, PGD, MI-FGSM are settings of this one loop."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from mnist_adv._lazy import tf
from mnist_adv.randomness import exponential, normal, signs, uniform
from mnist_adv.attacks.state import ROW, Method, Outcome, Rows, Run, State, Task
from mnist_adv.gradients import GradientSource
from mnist_adv.losses import Loss
from mnist_adv.norms import GEOMETRY, Norm, per_image
from mnist_adv.steps import Step, default_step_size, move


@dataclasses.dataclass(frozen=True)
class Descent(Method):
    """Gradient, step, projection onto the ball, clip to [0, 1], again.

    Attributes:
        step: how a gradient becomes a step.
        step_fraction: length of a step over epsilon, where no step size is given; None: by
            `default_step_size`.
        loss: what is descended.
        source: where gradients come from.
        momentum: share of the earlier direction that is kept; 0: none (Dong et al., 2018).
        random_start: whether the first run, too, starts at a random point of the ball.
        restarts: how many runs; those after the first start at random points, for the images that
            have not reached their goal.
        stop_early: whether an image is done as soon as its goal is met.
    """

    step: Step = Step.STEEPEST
    step_fraction: float | None = None
    loss: Loss = Loss.CROSS_ENTROPY
    source: GradientSource = GradientSource()
    momentum: float = 0.0
    random_start: bool = False
    restarts: int = 1
    stop_early: bool = True

    norms = (Norm.LINF, Norm.L2, Norm.L1)

    def __post_init__(self) -> None:
        """Refuse settings without meaning."""
        if self.restarts < 1:
            raise ValueError(f"restarts must be at least 1. Received: {self.restarts}")
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"momentum must lie in [0, 1]. Received: {self.momentum}")

    @property
    def ends_at_goal(self) -> bool:
        """Whether an image is done as soon as its goal is met."""
        return self.stop_early

    def prepare(self, task: Task, rows: Rows, step_size: Any) -> Rows:
        """Add "step_size" and "restart"; see `Method.prepare`."""
        if step_size is None and self.step_fraction is not None:
            step_size = self.step_fraction * rows["epsilon"]
        if step_size is None:
            step_size = default_step_size(self.step, task.norm, rows["epsilon"])
        count = len(rows["clean"])
        sizes = np.broadcast_to(np.asarray(step_size, np.float32), (count,))
        restart = np.full(count, int(self.random_start), np.int32)
        return {**rows, "step_size": sizes, "restart": restart}

    def start(self, task: Task, rows: Rows) -> State:
        """Start at the clean image, or at a random point; see `Method.start`."""
        image = rows["clean"]
        if self.random_start or self.restarts > 1:
            away = per_image(rows["epsilon"]) * _random_point(task.norm, rows)
            wanted = per_image(rows["restart"] > 0)
            image = tf.where(wanted, tf.clip_by_value(image + away, 0, 1), image)
        return {"image": image, **({"velocity": tf.zeros_like(image)} if self.momentum else {})}

    def look(self, task: Task, rows: Rows, state: State) -> State:
        """Take the gradient; see `Method.look`."""
        return task.look(self.loss, rows, state["image"], self.source, state["number"])

    def move(self, task: Task, rows: Rows, state: State) -> State:
        """Take a step and come back into the ball; see `Method.move`."""
        drive = state["gradient"]
        following: State = {}
        if self.momentum:
            size = per_image(GEOMETRY[Norm.L1].length(drive))
            drive = self.momentum * state["velocity"] + tf.math.divide_no_nan(drive, size)
            following["velocity"] = drive
        moved = move(self.step, task.norm, state["image"], drive, rows["step_size"])
        clean = rows["clean"]
        inside = clean + GEOMETRY[task.norm].project(moved - clean, rows["epsilon"])
        return {**following, "image": tf.clip_by_value(inside, 0, 1)}

    def cost(self, task: Task) -> tuple[int, int]:
        """Count the source's; see `Method.cost`."""
        return self.source.cost

    def solve(self, task: Task, rows: Rows, run: Run) -> Outcome:
        """Run, and run again what failed; see `Method.solve`."""
        outcome = run(task, self, rows)
        for restart in range(1, self.restarts):
            again = np.flatnonzero(outcome.rank < 2)
            if not len(again):
                break
            subset = {name: values[again] for name, values in rows.items()}
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
        far = normal(keys, stream, ROW)
        return inner ** (1 / ROW[-1]) * GEOMETRY[norm].steepest(far)
    far = signs(keys, stream - 2, ROW) * exponential(keys, stream, ROW)
    outside = per_image(exponential(keys, stream - 1, (1,))[:, 0])
    return far / (per_image(GEOMETRY[norm].length(far)) + outside)
