"""PGD that begins in a larger ball, which shrinks to the budget."""

from __future__ import annotations

import dataclasses
from typing import Any

from typing_extensions import override

from mnist_adv.arguments import real
from mnist_adv.attacks.methods.restarts import Restarted
from mnist_adv.attacks.task import Inputs, State, Task
from mnist_adv.geometry.steps import Step, apply_step, keep_momentum
from mnist_adv.gradients.losses import Loss
from mnist_adv.tensors.lazy import tf

_LARGEST = 1000.0
_SHRINKING = 0.5  # share of the steps in which the ball shrinks
_FIRST_STEP, _LAST_STEP = 2.0, 0.02  # over the radius


@dataclasses.dataclass(frozen=True)
class MultiEpsilonPGD(Restarted):
    """PGD with momentum in a ball that shrinks from several times epsilon to epsilon.

    Networks of few neurons have adversarial images that descent inside the budget hardly ever
    finds: the way there leads outside. Over the first half of the steps the radius falls to
    epsilon; what is adversarial before does not count. Steps shrink from twice the radius to a
    fiftieth of it. After Croce and Hein (2021), whose AutoPGD in L1 searches balls of three, two
    and one times epsilon.

    Attributes:
        momentum: share of the earlier direction that is kept; 0: none.
        first_radius: of the ball at the start, over epsilon, at least 1.
    """

    num_steps: int = 100
    random_start: bool = True
    num_targets: int = 9
    loss: Loss = Loss.MARGIN
    momentum: float = 0.9
    first_radius: float = 4.0

    def __post_init__(self) -> None:
        """Refuse settings without meaning."""
        super().__post_init__()
        real(self.momentum, "momentum", 0, 1)
        real(self.first_radius, "first_radius", 1, _LARGEST)

    @override
    def start(self, task: Task, inputs: Inputs) -> State:
        state = super().start(task, inputs)
        return {**state, "velocity": tf.zeros_like(state["image"])}

    @override
    def start_radius(self, task: Task, inputs: Inputs) -> Any:
        return self.first_radius * inputs["epsilon"]

    @override
    def evaluate(self, task: Task, inputs: Inputs, state: State) -> State:
        inside = _share(inputs, state["number"]) >= _SHRINKING
        return {**super().evaluate(task, inputs, state), "inside": inside}

    @override
    def take_step(self, task: Task, inputs: Inputs, state: State) -> State:
        share = _share(inputs, state["number"] + 1)
        longer = (self.first_radius - 1) * tf.maximum(1 - share / _SHRINKING, 0)
        radius = inputs["epsilon"] * (1 + longer)
        size = radius * _FIRST_STEP * (_LAST_STEP / _FIRST_STEP) ** share
        drive = keep_momentum(state["velocity"], state["gradient"], self.momentum)
        moved = apply_step(Step.STEEPEST, task.norm, state["image"], drive, size)
        return {"velocity": drive, "image": task.project({**inputs, "epsilon": radius}, moved)}


def _share(inputs: Inputs, number: Any) -> Any:
    """Say which share of the steps is taken, `[n]`."""
    total = tf.maximum(inputs["num_steps"], 1)
    return tf.cast(number, tf.float32) / tf.cast(total, tf.float32)
