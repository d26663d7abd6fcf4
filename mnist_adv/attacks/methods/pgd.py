"""Gradient descent inside a budget: FGSM, BIM, PGD, MI-FGSM are settings of this one loop."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from mnist_adv.tensors.lazy import tf
from mnist_adv.attacks.methods.restarts import Restarted
from mnist_adv.attacks.base import Method, Outcome, Rows, Run, State, Task
from mnist_adv.geometry.norms import GEOMETRY, Norm, per_image
from mnist_adv.geometry.steps import Step, default_step_size, move


@dataclasses.dataclass(frozen=True)
class Descent(Restarted):
    """Gradient, step, projection onto the ball, clip to [0, 1], again.

    Attributes:
        step: how a gradient becomes a step.
        step_fraction: length of a step over epsilon, where no step size is given; None: by
            `default_step_size`.
        momentum: share of the earlier direction that is kept; 0: none (Dong et al., 2018).
    """

    step: Step = Step.STEEPEST
    step_fraction: float | None = None
    momentum: float = 0.0

    def __post_init__(self) -> None:
        """Refuse settings without meaning."""
        super().__post_init__()
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"momentum must lie in [0, 1]. Received: {self.momentum}")

    def prepare(self, task: Task, rows: Rows, step_size: Any) -> Rows:
        """Add "step_size"; see `Method.prepare`."""
        if step_size is None and self.step_fraction is not None:
            step_size = self.step_fraction * rows["epsilon"]
        if step_size is None:
            step_size = default_step_size(self.step, task.norm, rows["epsilon"])
        sizes = np.broadcast_to(np.asarray(step_size, np.float32), (len(rows["clean"]),))
        return {**super().prepare(task, rows, None), "step_size": sizes}

    def solve(self, task: Task, rows: Rows, run: Run) -> Outcome:
        """Run as one program for FGSM, BIM and PGD; see `Method.solve`."""

        # what has become rows must not make programs differ
        settled: dict[str, Any] = {"num_steps": 0, "step_fraction": None}

        def shared(task: Task, method: Method, rows: Rows) -> Outcome:
            return run(task, dataclasses.replace(method, **settled), rows)

        return super().solve(task, rows, shared)

    def start(self, task: Task, rows: Rows) -> State:
        """Start without velocity; see `Method.start`."""
        state = super().start(task, rows)
        return {**state, "velocity": tf.zeros_like(state["image"])} if self.momentum else state

    def move(self, task: Task, rows: Rows, state: State) -> State:
        """Take a step and come back into the ball; see `Method.move`."""
        drive = state["gradient"]
        following: State = {}
        if self.momentum:
            size = per_image(GEOMETRY[Norm.L1].length(drive))
            drive = self.momentum * state["velocity"] + tf.math.divide_no_nan(drive, size)
            following["velocity"] = drive
        moved = move(self.step, task.norm, state["image"], drive, rows["step_size"])
        return {**following, "image": task.inside(rows, moved)}
