"""JSMA: change the pixel that the saliency map names, one at a time (Papernot et al., 2016)."""

from __future__ import annotations

import dataclasses

from typing_extensions import override

from mnist_adv.attacks.base import Attack
from mnist_adv.attacks.task import Inputs, State, Task
from mnist_adv.geometry.norms import GEOMETRY, Norm
from mnist_adv.gradients.losses import Loss
from mnist_adv.tensors.lazy import tf


@dataclasses.dataclass(frozen=True)
class JSMA(Attack):
    """Push the most salient pixel to black or white, until the goal is met.

    A pixel is salient if moving it raises the target's logit and lowers the sum of the others, by
    the product of the two (untargeted: the label's falls, the others' sum rises). One pixel is
    changed per step, in either direction; the paper changes pairs, upwards.
    """

    num_steps: int = 150

    minimal = True
    norms = (Norm.L0,)

    @override
    def evaluate(self, task: Task, inputs: Inputs, state: State) -> State:
        images, classes = state["image"], inputs["classes"]
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(images)
            logits = task.logits(images)
            own = tf.reduce_sum(tf.gather(logits, classes, axis=1, batch_dims=1))
            everything = tf.reduce_sum(logits)
        sign = 1 if task.targeted else -1
        rise = sign * tape.gradient(own, images)
        fall = sign * tape.gradient(everything, images) - rise
        up = tf.where((rise > 0) & (fall < 0), -rise * fall, 0) * tf.cast(images < 1, tf.float32)
        down = tf.where((rise < 0) & (fall > 0), -rise * fall, 0) * tf.cast(images > 0, tf.float32)
        saliency = up - down
        stop = task.is_adversarial(inputs, logits) | tf.reduce_all(saliency == 0, axis=(1, 2, 3))
        objective = task.objective(Loss.MARGIN)(logits, classes)
        return {"logits": logits, "objective": objective, "gradient": -saliency, "stop": stop}

    @override
    def take_step(self, task: Task, inputs: Inputs, state: State) -> State:
        best = GEOMETRY[Norm.L0].steepest(-state["gradient"])
        return {"image": task.clip(state["image"] + best)}

    @override
    def cost(self, task: Task) -> tuple[int, int]:
        return 1, 2
