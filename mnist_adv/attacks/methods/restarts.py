"""Searches that run more than once: from random points, and towards one class after another."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np
from typing_extensions import override

from mnist_adv.arguments import whole
from mnist_adv.attacks.base import Attack, Outcome, Run, take
from mnist_adv.attacks.task import Inputs, State, Status, Task
from mnist_adv.geometry.norms import Norm, per_image
from mnist_adv.geometry.random_point import random_point
from mnist_adv.gradients.losses import Loss
from mnist_adv.gradients.sources import GradientSource
from mnist_adv.tensors.lazy import tf


@dataclasses.dataclass(frozen=True)
class Repeated(Attack):
    """A search that can start at a random point, and be led towards a class, more than once.

    Attributes:
        random_start: whether the first run, too, starts at a random point of the ball.
        restarts: how many runs; those after the first start at random points, for the images that
            have not reached their goal.
        num_targets: of goals without a target: towards how many classes in turn each image is
            led, the likeliest of the clean image first, until it leaves its own; at most all
            others. 0: it is led away from its own, towards none.
        stop_early: whether an image is done as soon as its goal is met inside the budget.
    """

    random_start: bool = False
    restarts: int = 1
    num_targets: int = 0
    stop_early: bool = True

    norms: ClassVar[tuple[Norm, ...]] = (Norm.LINF, Norm.L2, Norm.L1)
    most_restarts: ClassVar[int] = 2**20  # that draw numbers of their own

    def __post_init__(self) -> None:
        """Refuse settings without meaning."""
        super().__post_init__()
        whole(self.restarts, "restarts", 1, self.most_restarts)

    @override
    def prepare(self, task: Task, inputs: Inputs, step_size: Any) -> Inputs:
        inputs = super().prepare(task, inputs, step_size)
        count = len(inputs["clean"])
        numbers: Inputs = {"restart": np.full(count, int(self.random_start), np.int32)}
        if self._is_led(task):
            numbers["rank"] = np.zeros(count, np.int32)
        return {**inputs, **numbers}

    @override
    def start(self, task: Task, inputs: Inputs) -> State:
        image = inputs["clean"]
        if self.random_start or self.restarts > 1:
            # Streams below 0, as the steps use those from 0 on.
            stream = -8 * inputs["restart"]
            point = random_point(task.norm, inputs["keys"], stream, task.flat)
            away = per_image(self.start_radius(task, inputs)) * point
            wanted = per_image(inputs["restart"] > 0)
            image = tf.where(wanted, task.clip(image + away), image)
        return {"image": image, **self.lead(task, inputs)}

    def start_radius(self, task: Task, inputs: Inputs) -> Any:
        """Choose the ball of the random starts.

        Args:
            task: what all images share.
            inputs: "epsilon" among them.

        Returns:
            Its radius, `[n]`.
        """
        return inputs["epsilon"]

    def lead(self, task: Task, inputs: Inputs) -> State:
        """Choose the class that each image is led towards.

        Args:
            task: what all images share.
            inputs: "clean", "classes" and "rank" among them.

        Returns:
            "towards" `[n]` int64; nothing if images are led towards none.
        """
        if not self._is_led(task):
            return {}
        logits = task.evaluate(Loss.MARGIN, inputs, inputs["clean"])["logits"]
        own = tf.one_hot(inputs["classes"], task.num_classes, on_value=True, off_value=False)
        others = tf.where(own, float("-inf"), logits)
        order = tf.argsort(others, axis=1, direction="DESCENDING", stable=True)
        return {"towards": tf.cast(tf.gather(order, inputs["rank"], batch_dims=1), tf.int64)}

    @override
    def solve(self, task: Task, inputs: Inputs, run: Run) -> Outcome:
        outcome = run(task, self, inputs)
        for number in range(1, self.num_runs(task)):
            rank, restart = divmod(number, self.restarts)
            again = np.flatnonzero(self.unfinished(inputs, outcome))
            if not len(again):
                break
            subset = take(inputs, again)
            subset["restart"] = subset["restart"] + np.int32(restart)
            if "rank" in subset:
                subset["rank"] = subset["rank"] + np.int32(rank)
            outcome.improve(again, run(task, self, subset))
        return outcome

    @override
    def num_runs(self, task: Task) -> int:
        towards = min(self.num_targets, task.num_classes - 1) if self._is_led(task) else 1
        return towards * self.restarts

    def unfinished(self, inputs: Inputs, outcome: Outcome) -> np.ndarray:
        """Say which images are attacked again.

        Args:
            inputs: NumPy arrays.
            outcome: of the runs so far.

        Returns:
            `[n]` bool.
        """
        return outcome.status < Status.ADVERSARIAL

    def _is_led(self, task: Task) -> bool:
        return self.num_targets > 0 and not task.targeted


@dataclasses.dataclass(frozen=True)
class Restarted(Repeated):
    """A search inside a budget that descends a loss.

    Attributes:
        loss: what is descended.
        source: where gradients come from.
    """

    loss: Loss = Loss.CROSS_ENTROPY
    source: GradientSource = GradientSource()

    @property
    def ends_at_goal(self) -> bool:
        """Whether an image is done as soon as its goal is met."""
        return self.stop_early

    @override
    def evaluate(self, task: Task, inputs: Inputs, state: State) -> State:
        task, inputs = aimed(task, inputs, state)
        return task.differentiate(self.loss, inputs, state["image"], self.source, state["number"])

    @override
    def cost(self, task: Task) -> tuple[int, int]:
        return self.source.cost(task.num_pixels)


def aimed(task: Task, inputs: Inputs, state: State) -> tuple[Task, Inputs]:
    """Say what a search descends: towards the class that it is led to, else after its goal.

    Args:
        task: what all images share.
        inputs: "classes" among them.
        state: "towards" among it, if `Repeated.lead` made it.

    Returns:
        The task and the inputs of what is descended; which images have met their goal is told by
        those given.
    """
    if "towards" not in state:
        return task, inputs
    return dataclasses.replace(task, targeted=True), {**inputs, "classes": state["towards"]}
