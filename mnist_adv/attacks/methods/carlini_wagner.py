"""Carlini and Wagner's L2 attack: Adam in a space whose every point is an image."""

from __future__ import annotations

import dataclasses
from typing import Any

from typing_extensions import override

from mnist_adv.attacks.methods import adam
from mnist_adv.attacks.methods.constant_search import ConstantSearch
from mnist_adv.attacks.task import Inputs, State, Task
from mnist_adv.geometry.norms import Norm, per_image
from mnist_adv.gradients.losses import Loss
from mnist_adv.gradients.sources import GradientSource
from mnist_adv.tensors.lazy import tf

_NEARLY_ONE = 0.999999  # of tanh, as black and white pixels lie at infinity
_CHECKS = 10


@dataclasses.dataclass(frozen=True)
class CarliniWagner(ConstantSearch):
    """Minimise `|x - x0|^2 + constant * max(margin, 0)` over w, `x = (tanh w + 1) / 2` (2017).

    Attributes:
        abort_early: whether a run ends for an image whose objective has not fallen by a ten
            thousandth in a tenth of the steps. The authors' code asks this of a whole batch at
            once, which hardly ever ends; asked of each image it saves steps, and costs 0.2 % of
            distance.
    """

    abort_early: bool = False

    norms = (Norm.L2,)
    images_kept = 10

    @override
    def start(self, task: Task, inputs: Inputs) -> State:
        space = tf.atanh((2 * inputs["clean"] - 1) * _NEARLY_ONE)
        infinite = tf.fill([inputs["clean"].shape[0]], float("inf"))
        return {
            "image": _image(space),
            "space": space,
            **adam.start(space),
            "checked": infinite,
        }

    @override
    def evaluate(self, task: Task, inputs: Inputs, state: State) -> State:
        seen = task.differentiate(Loss.MARGIN, inputs, state["image"], GradientSource())
        away = state["image"] - inputs["clean"]
        cost = tf.reduce_sum(away * away, axis=(1, 2, 3))
        cost += inputs["constant"] * tf.maximum(seen["objective"], 0)
        every = tf.maximum(inputs["num_steps"] // _CHECKS, 1)
        due = (state["number"] % every == 0) & (state["number"] > 0)
        stop = due & (cost > 0.9999 * state["checked"]) & self.abort_early
        return {**seen, "checked": tf.where(due, cost, state["checked"]), "stop": stop}

    @override
    def take_step(self, task: Task, inputs: Inputs, state: State) -> State:
        image = state["image"]
        away = image - inputs["clean"]
        pull = per_image(inputs["constant"] * tf.cast(state["objective"] > 0, tf.float32))
        slope = (2 * away + pull * state["gradient"]) * 2 * image * (1 - image)  # dx/dw
        step, carried = adam.step(state, slope, self.learning_rate)
        space = state["space"] - step
        return {"image": _image(space), "space": space, **carried}


def _image(space: Any) -> Any:
    return 0.5 * (tf.tanh(space) + 1)
