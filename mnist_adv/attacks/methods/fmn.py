"""FMN: fast minimum-norm attacks in four norms (Pintor et al., 2021)."""

from __future__ import annotations

import dataclasses
from typing import Any

from typing_extensions import override

from mnist_adv.attacks.base import Attack
from mnist_adv.attacks.methods.borders import dual_length
from mnist_adv.attacks.methods.schedules import cosine
from mnist_adv.attacks.task import Inputs, State, Task
from mnist_adv.geometry.norms import GEOMETRY, Norm, per_image
from mnist_adv.gradients.losses import Loss
from mnist_adv.gradients.sources import GradientSource
from mnist_adv.tensors.lazy import tf


@dataclasses.dataclass(frozen=True)
class FMN(Attack):
    """Descend the margin in a ball whose radius is drawn to the border of the class.

    Attributes:
        source: where gradients come from.
        change: share by which the radius changes at first; it falls to a fiftieth along a cosine.
        first_step: L2 length of the first step; None: 3 for linf, else 1. It falls to a hundredth
            along a cosine.
    """

    num_steps: int = 100
    source: GradientSource = GradientSource()
    change: float = 0.05
    first_step: float | None = None

    minimal = True
    norms = (Norm.LINF, Norm.L2, Norm.L1, Norm.L0)

    @override
    def start(self, task: Task, inputs: Inputs) -> State:
        count = [inputs["clean"].shape[0]]
        return {
            "image": inputs["clean"],
            "radius": tf.fill(count, 1.0 if task.norm is Norm.L0 else float("inf")),
            "found": tf.fill(count, float("inf")),
        }

    @override
    def evaluate(self, task: Task, inputs: Inputs, state: State) -> State:
        return task.differentiate(Loss.MARGIN, inputs, state["image"], self.source, state["number"])

    @override
    def take_step(self, task: Task, inputs: Inputs, state: State) -> State:
        clean, gradient = inputs["clean"], state["gradient"]
        away = state["image"] - clean
        adversarial = task.is_adversarial(inputs, state["logits"])
        length = task.length(away)
        found = tf.where(adversarial, tf.minimum(state["found"], length), state["found"])
        change = self.change * cosine(inputs, state, last=0.02)
        radius = self._radius(task, state, adversarial, length, found, change)
        radius = tf.minimum(radius, task.length(tf.maximum(clean, 1 - clean)))
        longest = 3.0 if task.norm is Norm.LINF else 1.0
        first = longest if self.first_step is None else self.first_step
        size = first * cosine(inputs, state, last=0.01)
        moved = away - per_image(size) * GEOMETRY[Norm.L2].steepest(gradient)
        inside = clean + GEOMETRY[task.norm].project(moved, radius)
        return {"image": task.clip(inside), "radius": radius, "found": found}

    def _radius(
        self, task: Task, state: State, adversarial: Any, length: Any, found: Any, change: Any
    ) -> Any:
        before = state["radius"]
        if task.norm is Norm.L0:
            fewer = tf.minimum(tf.minimum(before - 1, tf.floor(before * (1 - change))), found)
            more = tf.maximum(before + 1, tf.floor(before * (1 + change)))
            return tf.maximum(tf.where(adversarial, fewer, more), 0)
        slope = dual_length(task.norm, state["gradient"])
        gap = tf.math.divide_no_nan(tf.abs(state["objective"]), slope)
        # Past the border as the model's slope has it: on it, a linear model's class never changes.
        border = (length + gap) * (1 + change)
        grown = tf.where(before < float("inf"), before * (1 + change), 0.0)
        outside = tf.where(found < float("inf"), grown, tf.maximum(border, grown))
        return tf.where(adversarial, tf.minimum(before * (1 - change), found), outside)

    @override
    def cost(self, task: Task) -> tuple[int, int]:
        return self.source.cost(task.num_pixels)
