"""sigma-zero: few changed pixels, by descending a smooth count of them (Cinà et al., 2024)."""

from __future__ import annotations

import dataclasses

from typing_extensions import override

from mnist_adv.attacks.base import Attack
from mnist_adv.attacks.methods import adam
from mnist_adv.attacks.methods.schedules import cosine
from mnist_adv.attacks.task import Inputs, State, Task
from mnist_adv.geometry.norms import GEOMETRY, Norm, per_image
from mnist_adv.gradients.losses import Loss
from mnist_adv.gradients.sources import GradientSource
from mnist_adv.tensors.lazy import tf


@dataclasses.dataclass(frozen=True)
class SigmaZero(Attack):
    """Descend `max(margin, 0) + mean(d^2 / (d^2 + smoothing))` by Adam, small changes undone.

    Every step divides the gradient by its largest entry, and afterwards sets every change below a
    threshold to 0. The threshold rises where the goal is met and falls elsewhere.

    Attributes:
        source: where gradients come from.
        first_step: learning rate of the first step; it falls to a tenth along a cosine.
        smoothing: sigma of the paper: how sharply the sum counts the changed pixels.
        threshold: of the first step.
        change: by how much the threshold moves, as a share of the learning rate.
    """

    num_steps: int = 100
    source: GradientSource = GradientSource()
    first_step: float = 1.0
    smoothing: float = 1e-3
    threshold: float = 0.3
    change: float = 0.01

    minimal = True
    norms = (Norm.L0,)
    images_kept = 6

    @override
    def start(self, task: Task, inputs: Inputs) -> State:
        clean = inputs["clean"]
        threshold = tf.fill([clean.shape[0]], tf.constant(self.threshold))
        return {"image": clean, "threshold": threshold, **adam.start(clean)}

    @override
    def evaluate(self, task: Task, inputs: Inputs, state: State) -> State:
        return task.differentiate(Loss.MARGIN, inputs, state["image"], self.source, state["number"])

    @override
    def take_step(self, task: Task, inputs: Inputs, state: State) -> State:
        clean = inputs["clean"]
        away = state["image"] - clean
        slope = 2 * self.smoothing * away / (tf.square(away) + self.smoothing) ** 2
        missed = per_image(tf.cast(state["objective"] > 0, tf.float32))
        gradient = missed * state["gradient"] + slope / task.num_pixels
        largest = GEOMETRY[Norm.LINF].length(gradient)
        gradient = tf.math.divide_no_nan(gradient, per_image(largest))
        size = self.first_step * cosine(inputs, state, last=0.1)
        step, carried = adam.step(state, gradient, size)
        away = task.clip(state["image"] - step) - clean
        adversarial = task.is_adversarial(inputs, state["logits"])
        moved = self.change * size * tf.where(adversarial, 1.0, -1.0)
        threshold = tf.clip_by_value(state["threshold"] + moved, 0, 1)
        kept = tf.abs(away) >= per_image(threshold)
        # Not `clean + away`: what is undone must be the clean pixel to the bit.
        image = tf.where(kept, task.clip(state["image"] - step), clean)
        return {"image": image, "threshold": threshold, **carried}

    @override
    def cost(self, task: Task) -> tuple[int, int]:
        return self.source.cost(task.num_pixels)
