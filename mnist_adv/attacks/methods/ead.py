"""EAD: the elastic net, an L1 twin of Carlini and Wagner's attack (Chen et al., 2018)."""

from __future__ import annotations

import dataclasses

from typing_extensions import override

from mnist_adv.attacks.methods.constant_search import ConstantSearch
from mnist_adv.attacks.methods.schedules import progress
from mnist_adv.attacks.task import Inputs, State, Task
from mnist_adv.geometry.norms import Norm, per_image
from mnist_adv.gradients.losses import Loss
from mnist_adv.gradients.sources import GradientSource
from mnist_adv.tensors.lazy import tf


@dataclasses.dataclass(frozen=True)
class EAD(ConstantSearch):
    """Minimise `constant * max(margin, 0) + |x - x0|_2^2 + weight * |x - x0|_1` by FISTA.

    Attributes:
        weight: of the L1 length; changes smaller than it are undone at every step.
    """

    weight: float = 0.01

    norms = (Norm.L1,)
    images_kept = 5

    @override
    def start(self, task: Task, inputs: Inputs) -> State:
        return {"image": inputs["clean"], "ahead": inputs["clean"]}

    @override
    def evaluate(self, task: Task, inputs: Inputs, state: State) -> State:
        seen = task.evaluate(Loss.MARGIN, inputs, state["image"])
        ahead = task.differentiate(Loss.MARGIN, inputs, state["ahead"], GradientSource())
        return {**seen, "gradient": ahead["gradient"], "gap": ahead["objective"]}

    @override
    def take_step(self, task: Task, inputs: Inputs, state: State) -> State:
        clean, ahead = inputs["clean"], state["ahead"]
        pull = per_image(inputs["constant"] * tf.cast(state["gap"] > 0, tf.float32))
        rate = per_image(self.learning_rate * tf.sqrt(1 - progress(inputs, state)))
        moved = ahead - rate * (2 * (ahead - clean) + pull * state["gradient"])
        away = moved - clean
        shrunk = clean + tf.sign(away) * tf.maximum(tf.abs(away) - self.weight, 0)
        image = task.clip(shrunk)
        number = tf.cast(state["number"], tf.float32)
        inertia = per_image(number / (number + 3))
        return {"image": image, "ahead": image + inertia * (image - state["image"])}

    @override
    def cost(self, task: Task) -> tuple[int, int]:
        return 2, 1
