"""ALMA: the smallest change by an augmented Lagrangian (Rony et al., 2021)."""

from __future__ import annotations

import dataclasses
from typing import Any

from typing_extensions import override

from mnist_adv.attacks.base import Attack
from mnist_adv.attacks.task import Inputs, State, Task
from mnist_adv.geometry.norms import GEOMETRY, Norm, per_image
from mnist_adv.gradients.sources import GradientSource
from mnist_adv.tensors.lazy import tf

_FIRST_STEP = {Norm.L2: 0.1, Norm.L1: 0.5}
_LAST_SHARE = 0.01  # of the first step
# 1 less the memory is this over the root of the number of steps: 0.7 with 100 and 0.905 with 1,000
# steps, where the paper has 0.5 and 0.9.
_FORGETTING, _MOST_FORGETTING = 3.0, 0.5
_CHECK_EVERY, _ENOUGH = 10, 0.95  # steps, and to which share of it the ratio must fall in them
_LEAST, _MOST = 1e-6, 1e12  # of the multiplier
_BORDER = 1e-4  # of the ratio: on the very border the class does not change
_TINY = 1e-8


@dataclasses.dataclass(frozen=True)
class ALMA(Attack):
    """Descend `|x - x0| + penalty(r)`, `r` the difference of logits ratio, at most 0 at the goal.

    The penalty is the paper's P2: `u r + u p r^2 + p^2 r^3 / 6` above 0, `u r / (1 - p r)` below.
    The multiplier `u` of each image follows the slope of its penalty; the parameter `p` grows
    while the goal was never met and the ratio does not fall. Steps are those of RMSProp with
    momentum.

    Attributes:
        source: where gradients come from.
        first_step: length of the first step in the task's norm; None: 0.1 for l2, 0.5 for l1. From
            the first success on it falls to a hundredth, by the same factor at every step.
        growth: factor by which the penalty parameter grows.
        memory: share of what was before that multiplier, momentum and mean square keep at a step;
            None: more of it, the more steps there are.
    """

    num_steps: int = 1000
    source: GradientSource = GradientSource()
    first_step: float | None = None
    growth: float = 1.2
    memory: float | None = None

    minimal = True
    norms = (Norm.L2, Norm.L1)
    images_kept = 6

    @override
    def start(self, task: Task, inputs: Inputs) -> State:
        clean = inputs["clean"]
        ones = tf.ones(clean.shape[:1])
        return {
            "image": clean,
            "momentum": tf.zeros_like(clean),
            "square": tf.ones_like(clean),
            "rate": ones,
            "multiplier": ones,
            "parameter": ones,
            "earlier": ones,
            "found_at": tf.fill(clean.shape[:1], -1),
        }

    @override
    def evaluate(self, task: Task, inputs: Inputs, state: State) -> State:
        ratio, image = task.logits_ratio, state["image"]
        return task.differentiate(ratio, inputs, image, self.source, state["number"])

    @override
    def take_step(self, task: Task, inputs: Inputs, state: State) -> State:
        clean, number, memory = inputs["clean"], state["number"], self._memory(inputs)
        is_first = number == 0
        ratio = state["objective"] + _BORDER
        found_at = tf.where(
            (state["found_at"] < 0) & task.is_adversarial(inputs, state["logits"]),
            number,
            state["found_at"],
        )
        is_checked = (number + 1) % _CHECK_EVERY == 0
        has_stalled = is_checked & (found_at < 0) & (ratio >= _ENOUGH * state["earlier"])
        parameter = state["parameter"] * tf.where(has_stalled, self.growth, 1.0)
        slope = _penalty_slope(ratio, parameter, state["multiplier"])
        followed = memory * state["multiplier"] + (1 - memory) * slope
        followed = tf.clip_by_value(followed, _LEAST, _MOST)
        multiplier = tf.where(is_first, state["multiplier"], followed)
        pull = per_image(_penalty_slope(ratio, parameter, multiplier)) * state["gradient"]
        gradient = _length_slope(task, state["image"] - clean) + pull
        rate = tf.where(is_first, self._first_rate(task, clean, gradient), state["rate"])
        kept = per_image(memory)
        square = kept * state["square"] + (1 - kept) * gradient * gradient
        momentum = kept * state["momentum"] + gradient / (tf.sqrt(square) + _TINY)
        size = rate * _decay(inputs, number, found_at)
        return {
            "image": task.clip(state["image"] - per_image(size) * momentum),
            "momentum": momentum,
            "square": square,
            "rate": rate,
            "multiplier": multiplier,
            "parameter": parameter,
            "earlier": tf.where(is_first | is_checked, ratio, state["earlier"]),
            "found_at": found_at,
        }

    def _memory(self, inputs: Inputs) -> Any:
        """Say what share each image keeps, `[n]`."""
        steps = tf.cast(inputs["num_steps"], tf.float32)
        if self.memory is not None:
            return tf.fill(steps.shape, self.memory)
        return 1 - tf.minimum(_FORGETTING * tf.math.rsqrt(steps), _MOST_FORGETTING)

    def _first_rate(self, task: Task, clean: Any, gradient: Any) -> Any:
        """Choose the rate with which a bare gradient step has the first length inside [0, 1]."""
        movable = tf.where(gradient > 0, clean, 1 - clean) > 0
        length = task.length(tf.where(movable, gradient, 0.0))
        first = _FIRST_STEP[task.norm] if self.first_step is None else self.first_step
        return tf.math.divide_no_nan(first, length)

    @override
    def cost(self, task: Task) -> tuple[int, int]:
        return self.source.cost(task.num_pixels)


def _penalty_slope(ratio: Any, parameter: Any, multiplier: Any) -> Any:
    """Differentiate the penalty P2 with respect to the ratio."""
    product = parameter * ratio
    above = multiplier * (1 + 2 * product) + 0.5 * product * product
    below = multiplier / tf.square(1 - tf.minimum(product, 0))
    return tf.where(ratio >= 0, above, below)


def _length_slope(task: Task, away: Any) -> Any:
    """Differentiate the distance; 0 at the clean image."""
    return tf.sign(away) if task.norm is Norm.L1 else GEOMETRY[Norm.L2].steepest(away)


def _decay(inputs: Inputs, number: Any, found_at: Any) -> Any:
    """Fall from 1 at the first success to the last share at the last step."""
    since = tf.cast(tf.maximum(number - found_at, 0), tf.float32)
    left = tf.cast(tf.maximum(inputs["num_steps"] - found_at, 1), tf.float32)
    return tf.where(found_at < 0, 1.0, _LAST_SHARE ** (since / left))
