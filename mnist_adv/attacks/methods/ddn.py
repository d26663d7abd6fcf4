"""DDN: direction and norm decoupled (Rony et al., 2019)."""

from __future__ import annotations

import dataclasses

from typing_extensions import override

from mnist_adv.attacks.base import Attack
from mnist_adv.attacks.methods.schedules import cosine
from mnist_adv.attacks.task import Inputs, State, Task
from mnist_adv.geometry.norms import GEOMETRY, Norm, per_image
from mnist_adv.gradients.losses import Loss
from mnist_adv.gradients.sources import GradientSource
from mnist_adv.tensors.lazy import tf


@dataclasses.dataclass(frozen=True)
class DDN(Attack):
    """Follow the gradient on a sphere that shrinks after a success and grows after a miss.

    Attributes:
        loss: what is descended.
        source: where gradients come from.
        radius: of the first sphere.
        change: how much the radius shrinks or grows, as a share.
        first_step: length of the first step; it falls to a hundredth of that along a cosine.
    """

    num_steps: int = 100
    loss: Loss = Loss.CROSS_ENTROPY
    source: GradientSource = GradientSource()
    radius: float = 1.0
    change: float = 0.05
    first_step: float = 1.0

    minimal = True
    norms = (Norm.L2,)

    @override
    def start(self, task: Task, inputs: Inputs) -> State:
        radius = tf.fill([inputs["clean"].shape[0]], tf.constant(self.radius))
        return {"image": inputs["clean"], "radius": radius}

    @override
    def evaluate(self, task: Task, inputs: Inputs, state: State) -> State:
        return task.differentiate(self.loss, inputs, state["image"], self.source, state["number"])

    @override
    def take_step(self, task: Task, inputs: Inputs, state: State) -> State:
        size = self.first_step * cosine(inputs, state, last=0.01)
        unit = GEOMETRY[Norm.L2].steepest(state["gradient"])
        moved = state["image"] - inputs["clean"] - per_image(size) * unit
        adversarial = task.is_adversarial(inputs, state["logits"])
        radius = state["radius"] * tf.where(adversarial, 1 - self.change, 1 + self.change)
        sphere = per_image(radius) * GEOMETRY[Norm.L2].steepest(moved)
        return {"image": task.clip(inputs["clean"] + sphere), "radius": radius}

    @override
    def cost(self, task: Task) -> tuple[int, int]:
        return self.source.cost(task.num_pixels)
