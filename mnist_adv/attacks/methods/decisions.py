"""What attacks share that see decisions alone: a start on the other side, and one query a step."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from typing_extensions import override

from mnist_adv.attacks.base import Attack
from mnist_adv.attacks.methods.baselines import checked_donors, nearest_donors
from mnist_adv.attacks.task import Inputs, State, Task
from mnist_adv.gradients.losses import Loss
from mnist_adv.models.logits import predict
from mnist_adv.tensors.lazy import tf


@dataclasses.dataclass(frozen=True)
class DecisionAttack(Attack):
    """Ask the model for one class at a time, and for nothing else.

    Attributes:
        donors: images `[m, h, w, c]` of the data set, inside the bounds of the images under
            attack, and their labels `[m]`. Each image starts from the nearest one that the model
            takes for the wanted class.
    """

    donors: Any = dataclasses.field(default=None, compare=False)

    minimal = True
    needs_donors = True

    @override
    def prepare(self, task: Task, inputs: Inputs, step_size: Any) -> Inputs:
        inputs = super().prepare(task, inputs, step_size)
        images, _ = checked_donors(self.donors, task)
        # Not the labels: an image that the model mistakes is on neither side for sure.
        seen = predict(task.model, images).argmax(axis=1)
        chosen = nearest_donors(inputs["clean"], inputs["classes"], images, seen, task.targeted)
        return {**inputs, "donor": images[chosen].reshape(-1, *task.flat).astype(np.float32)}

    @override
    def evaluate(self, task: Task, inputs: Inputs, state: State) -> State:
        found = task.evaluate(Loss.MARGIN, inputs, state["image"])
        # Among images that miss the goal all are alike: how far they miss it is not to be known.
        return {**found, "objective": tf.zeros_like(found["objective"])}

    @override
    def cost(self, task: Task) -> tuple[int, int]:
        return 1, 0
