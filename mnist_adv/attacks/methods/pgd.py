"""Gradient descent inside a budget: FGSM, BIM, PGD, MI-FGSM are settings of this one loop."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from typing_extensions import override

from mnist_adv.arguments import real
from mnist_adv.attacks.base import Attack, Outcome, Run
from mnist_adv.attacks.methods.restarts import Restarted
from mnist_adv.attacks.task import Inputs, State, Task
from mnist_adv.geometry.steps import Step, apply_step, default_step_size, keep_momentum
from mnist_adv.tensors.lazy import tf


@dataclasses.dataclass(frozen=True)
class PGD(Restarted):
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
        real(self.momentum, "momentum", 0, 1)

    @property
    @override
    def draws(self) -> bool:
        return self.random_start or self.restarts > 1 or self.source.source.estimates

    @override
    def prepare(self, task: Task, inputs: Inputs, step_size: Any) -> Inputs:
        if step_size is None and self.step_fraction is not None:
            step_size = self.step_fraction * inputs["epsilon"]
        if step_size is None:
            step_size = default_step_size(self.step, task.norm, inputs["epsilon"])
        sizes = np.broadcast_to(np.asarray(step_size, np.float32), (len(inputs["clean"]),))
        return {**super().prepare(task, inputs, None), "step_size": sizes}

    @override
    def solve(self, task: Task, inputs: Inputs, run: Run) -> Outcome:
        # What the inputs say already must not make programs differ.
        settled: dict[str, Any] = {"num_steps": 0, "step_fraction": None}

        def shared(task: Task, method: Attack, inputs: Inputs) -> Outcome:
            return run(task, dataclasses.replace(method, **settled), inputs)

        return super().solve(task, inputs, shared)

    @override
    def start(self, task: Task, inputs: Inputs) -> State:
        state = super().start(task, inputs)
        return {**state, "velocity": tf.zeros_like(state["image"])} if self.momentum else state

    @override
    def take_step(self, task: Task, inputs: Inputs, state: State) -> State:
        drive = state["gradient"]
        following: State = {}
        if self.momentum:
            drive = keep_momentum(state["velocity"], drive, self.momentum)
            following["velocity"] = drive
        moved = apply_step(self.step, task.norm, state["image"], drive, inputs["step_size"])
        return {**following, "image": task.project(inputs, moved)}
