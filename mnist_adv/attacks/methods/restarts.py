"""Random points to start from, and starting again."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np
from typing_extensions import override

from mnist_adv.arguments import whole
from mnist_adv.attacks.base import Attack, Outcome, Run, take
from mnist_adv.attacks.task import Inputs, State, Status, Task
from mnist_adv.geometry.norms import GEOMETRY, Norm, per_image
from mnist_adv.gradients.losses import Loss
from mnist_adv.gradients.sources import GradientSource
from mnist_adv.tensors.lazy import tf
from mnist_adv.tensors.randomness import exponential, normal, signs, uniform


@dataclasses.dataclass(frozen=True)
class Restarted(Attack):
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
    most_restarts: ClassVar[int] = 2**20  # that draw numbers of their own

    def __post_init__(self) -> None:
        """Refuse settings without meaning."""
        super().__post_init__()
        whole(self.restarts, "restarts", 1, self.most_restarts)

    @property
    def ends_at_goal(self) -> bool:
        """Whether an image is done as soon as its goal is met."""
        return self.stop_early

    @override
    def prepare(self, task: Task, inputs: Inputs, step_size: Any) -> Inputs:
        inputs = super().prepare(task, inputs, step_size)
        return {
            **inputs,
            "restart": np.full(len(inputs["clean"]), int(self.random_start), np.int32),
        }

    @override
    def start(self, task: Task, inputs: Inputs) -> State:
        image = inputs["clean"]
        if self.random_start or self.restarts > 1:
            away = per_image(inputs["epsilon"]) * _random_point(task, inputs)
            wanted = per_image(inputs["restart"] > 0)
            image = tf.where(wanted, task.clip(image + away), image)
        return {"image": image}

    @override
    def evaluate(self, task: Task, inputs: Inputs, state: State) -> State:
        return task.differentiate(self.loss, inputs, state["image"], self.source, state["number"])

    @override
    def cost(self, task: Task) -> tuple[int, int]:
        return self.source.cost(task.num_pixels)

    @override
    def solve(self, task: Task, inputs: Inputs, run: Run) -> Outcome:
        outcome = run(task, self, inputs)
        for restart in range(1, self.restarts):
            again = np.flatnonzero(outcome.status < Status.ADVERSARIAL)
            if not len(again):
                break
            subset = take(inputs, again)
            subset["restart"] = subset["restart"] + np.int32(restart)
            outcome.improve(again, run(task, self, subset))
        return outcome


def _random_point(task: Task, inputs: Inputs) -> Any:
    # Uniform in the unit ball; streams below 0, as the steps use those from 0 on.
    norm, shape = task.norm, task.flat
    keys, stream = inputs["keys"], -8 * inputs["restart"]
    if norm is Norm.LINF:
        return 2 * uniform(keys, stream, shape) - 1
    inner = per_image(uniform(keys, stream - 1, (1,))[:, 0])
    if norm is Norm.L2:
        return inner ** (1 / task.num_pixels) * GEOMETRY[norm].steepest(normal(keys, stream, shape))
    far = signs(keys, stream - 2, shape) * exponential(keys, stream, shape)
    outside = per_image(exponential(keys, stream - 1, (1,))[:, 0])
    return far / (per_image(GEOMETRY[norm].length(far)) + outside)
