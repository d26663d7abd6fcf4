"""DeepFool: go straight to the nearest border of the linearised model, again and again."""

from __future__ import annotations

import dataclasses
from typing import Any

from typing_extensions import override

from mnist_adv.attacks.base import Attack
from mnist_adv.attacks.methods import first_layer
from mnist_adv.attacks.methods.borders import dual_length, nearest_border
from mnist_adv.attacks.task import Inputs, State, Task
from mnist_adv.geometry.norms import GEOMETRY, Norm, per_image
from mnist_adv.gradients.losses import Loss
from mnist_adv.gradients.sources import GradientSource
from mnist_adv.tensors.lazy import tf


@dataclasses.dataclass(frozen=True)
class DeepFool(Attack):
    """The smallest step over the nearest border, for L2 or L-inf (Moosavi-Dezfooli et al., 2016).

    Untargeted, the border nearest among all other classes; targeted (our extension), the border
    to the target of the class with the largest logit.

    The paper knows no box, and cuts off what leaves [0, 1] after a step that had counted on it:
    on digits, whose pixels are mostly black, it takes a dozen steps for what is here, with pixels
    that cannot move left out of the step, done in two. `boxed=False, overshoot=0.02` is the
    paper's.

    Attributes:
        overshoot: share by which the way is lengthened.
        boxed: whether pixels that a step could only push out of [0, 1] are left out of it.
    """

    num_steps: int = 50
    overshoot: float = 0.004
    boxed: bool = True

    minimal = True
    norms = (Norm.LINF, Norm.L2)

    @override
    def start(self, task: Task, inputs: Inputs) -> State:
        return {"image": inputs["clean"], "way": tf.zeros_like(inputs["clean"])}

    @override
    def evaluate(self, task: Task, inputs: Inputs, state: State) -> State:
        images = state["image"]
        if task.targeted:
            seen = task.differentiate(Loss.MARGIN, inputs, images, GradientSource())
            seen["gap"] = seen["objective"]
            seen["gradient"] = self._movable(images, seen["gradient"])
        else:
            values = first_layer.first_values(task, images)
            seen = nearest_border(task, inputs, images, values, self._movable)
            seen["objective"] = task.objective(Loss.MARGIN)(seen["logits"], inputs["classes"])
        return {**seen, "stop": task.is_adversarial(inputs, seen["logits"])}

    @override
    def take_step(self, task: Task, inputs: Inputs, state: State) -> State:
        normal = state["gradient"]
        beyond = tf.maximum(state["gap"], 0) + 2 * task.least_margin(state["logits"])
        distance = tf.math.divide_no_nan(beyond, dual_length(task.norm, normal))
        way = state["way"] - per_image(distance) * GEOMETRY[task.norm].steepest(normal)
        far = inputs["clean"] + (1 + self.overshoot) * way
        return {"image": task.clip(far), "way": way}

    @override
    def cost(self, task: Task) -> tuple[int, int]:
        return (1, 1) if task.targeted else (1, task.num_classes - 1)

    def _movable(self, images: Any, normal: Any) -> Any:
        """Leave out of a border's normal the pixels that a step against it could not move."""
        if not self.boxed:
            return normal
        stuck = tf.where(normal > 0, images <= 0, images >= 1)
        return tf.where(stuck, 0.0, normal)
