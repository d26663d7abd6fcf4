"""Primal-dual gradient descent, with and without a proximal step (Matyasko, Chau, 2021)."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

from typing_extensions import override

from mnist_adv.attacks.base import Attack
from mnist_adv.attacks.methods import adam
from mnist_adv.attacks.methods.schedules import progress
from mnist_adv.attacks.task import Inputs, State, Task
from mnist_adv.geometry.norms import GEOMETRY, Norm, per_image
from mnist_adv.gradients.losses import Loss
from mnist_adv.gradients.sources import GradientSource
from mnist_adv.tensors.lazy import tf

_FIRST_RATIO, _LEAST_RATIO = 0.01, 1e-6  # of the distance's weight over the margin's
_MEMORY = 0.9  # share of the earlier weights that is kept
_LAST_SHARE = 0.1  # of the dual rate
_ROUNDS, _CLOSE = 5, 0.01  # of the proximal step in Adam's metric, and when it has settled


@dataclasses.dataclass(frozen=True)
class PDGD(Attack):
    """Descend the Lagrangian of "smallest distance, so that the margin is at most 0".

    The dual variable, the weight of the margin, rises where the goal is missed and falls where it
    is met; Adam lowers `weight_0 * |x - x0| + weight_1 * softplus(max(margin, 0))`.

    Attributes:
        source: where gradients come from.
        first_step: of Adam; it falls to a hundredth, by the same factor at every step.
        dual_step: of the logarithm of the weight; it falls to a tenth along a line.
    """

    num_steps: int = 500
    source: GradientSource = GradientSource()
    first_step: float = 0.1
    dual_step: float = 0.1

    minimal = True
    norms: ClassVar[tuple[Norm, ...]] = (Norm.L2,)
    images_kept = 6

    @override
    def start(self, task: Task, inputs: Inputs) -> State:
        count = [inputs["clean"].shape[0]]
        return {
            "image": inputs["clean"],
            "log_weight": tf.fill(count, -math.log(_FIRST_RATIO)),
            "weight": tf.fill(count, 1 / (1 + _FIRST_RATIO)),
            "distance_weight": tf.fill(count, _FIRST_RATIO / (1 + _FIRST_RATIO)),
            **adam.start(inputs["clean"]),
        }

    @override
    def evaluate(self, task: Task, inputs: Inputs, state: State) -> State:
        return task.differentiate(Loss.MARGIN, inputs, state["image"], self.source, state["number"])

    @override
    def take_step(self, task: Task, inputs: Inputs, state: State) -> State:
        clean = inputs["clean"]
        size = self.first_step * 0.01 ** progress(inputs, state)
        step, carried = adam.step(state, self._slope(state, clean), size)
        image = task.clip(state["image"] - step)
        image = self._draw_back(task, {**state, **carried}, clean, image, size)
        return {**carried, **self._weigh(inputs, state), "image": image}

    @override
    def cost(self, task: Task) -> tuple[int, int]:
        return self.source.cost(task.num_pixels)

    def _slope(self, state: State, clean: Any) -> Any:
        away = GEOMETRY[Norm.L2].steepest(state["image"] - clean)
        pull = per_image(state["weight"]) * _margin_slope(state)
        return per_image(state["distance_weight"]) * away + pull

    def _draw_back(self, task: Task, state: State, clean: Any, image: Any, size: Any) -> Any:
        return image

    def _weigh(self, inputs: Inputs, state: State) -> State:
        """Raise the margin's weight where the goal is missed, lower it where it is met."""
        last = tf.maximum(tf.cast(inputs["num_steps"], tf.float32) - 1, 1)
        left = tf.maximum(1 - tf.cast(state["number"], tf.float32) / last, 0)
        step = self.dual_step * (_LAST_SHARE + (1 - _LAST_SHARE) * left)
        largest = -math.log(_LEAST_RATIO)
        moved = state["log_weight"] + step * tf.sign(state["objective"])
        log_weight = tf.clip_by_value(moved, -largest, largest)
        weight = _MEMORY * state["weight"] + (1 - _MEMORY) * tf.sigmoid(log_weight)
        rest = _MEMORY * state["distance_weight"] + (1 - _MEMORY) * tf.sigmoid(-log_weight)
        return {"log_weight": log_weight, "weight": weight, "distance_weight": rest}


@dataclasses.dataclass(frozen=True)
class PDPGD(PDGD):
    """PDGD whose distance acts through its proximal operator, so in norms that have corners.

    After Adam's step on the margin alone, the change is drawn back by the operator in Adam's own
    metric (Melchior et al., 2019).
    """

    norms = (Norm.LINF, Norm.L2, Norm.L1)
    images_kept = 8

    @override
    def _slope(self, state: State, clean: Any) -> Any:
        return _margin_slope(state)

    @override
    def _draw_back(self, task: Task, state: State, clean: Any, image: Any, size: Any) -> Any:
        shrink = GEOMETRY[task.norm].shrink
        if shrink is None:
            raise ValueError(f"{task.norm.value} has no proximal operator")
        away, scale = image - clean, adam.scale(state)
        largest = GEOMETRY[Norm.LINF].length(scale)
        metric = tf.math.divide_no_nan(scale, per_image(largest))
        ratio = tf.math.divide_no_nan(state["distance_weight"], state["weight"])
        amount = ratio * tf.math.divide_no_nan(size, largest)
        drawn, open_ = away, tf.ones_like(size, tf.bool)
        for _ in range(_ROUNDS):
            towards = drawn + metric * (away - drawn)
            shrunk = task.clip(clean + shrink(towards, amount)) - clean
            following = tf.where(per_image(open_), shrunk, drawn)
            length = GEOMETRY[Norm.L2].length
            moved = tf.math.divide_no_nan(length(following - drawn), length(following))
            open_ &= moved > _CLOSE
            drawn = following
        return task.clip(clean + drawn)


def _margin_slope(state: State) -> Any:
    """Differentiate `softplus(max(margin, 0))`."""
    margin = state["objective"]
    rise = tf.where(margin > 0, tf.sigmoid(margin), tf.zeros_like(margin))
    return per_image(rise) * state["gradient"]
