"""APGD: descent that halves its own step where it no longer gets ahead."""

from __future__ import annotations

import dataclasses
from typing import Any

from typing_extensions import override

from mnist_adv.attacks.base import Outcome, Run
from mnist_adv.attacks.methods import apgd_l1
from mnist_adv.attacks.methods.restarts import Restarted, aimed
from mnist_adv.attacks.task import Inputs, State, Task
from mnist_adv.geometry.norms import GEOMETRY, Norm, per_image
from mnist_adv.gradients.losses import Loss
from mnist_adv.tensors.lazy import tf

_INERTIA = 0.75
_SHARE = 0.75  # of the steps since the last check that must have helped


@dataclasses.dataclass(frozen=True)
class APGD(Restarted):
    """The parameter-free descent of Croce and Hein (2020).

    Steps start at twice epsilon and carry momentum. At fixed points of the schedule the step is
    halved, and the search goes back to its best point, if fewer than three quarters of the steps
    since the last check lowered the objective, or if neither step nor best point has changed.
    With the DLR loss, targeted goals take its targeted form; models of too few classes for it, 4
    or 3, take its numerator, the margin. In L1 the steps are those of
    `sparse_descent` (2021).
    """

    num_steps: int = 100
    loss: Loss = Loss.CROSS_ENTROPY

    images_kept = 7

    @override
    def prepare(self, task: Task, inputs: Inputs, step_size: Any) -> Inputs:
        inputs = super().prepare(task, inputs, step_size)
        return apgd_l1.first_stage(inputs) if task.norm is Norm.L1 else inputs

    @override
    def start(self, task: Task, inputs: Inputs) -> State:
        state = super().start(task, inputs)
        if task.norm is Norm.L1:
            return apgd_l1.start(task, inputs, state)
        zero = tf.zeros_like(inputs["epsilon"])
        infinite = zero + float("inf")
        return {
            **state,
            "step": 2 * inputs["epsilon"],
            "previous": state["image"],
            "peak": state["image"],
            "peak_gradient": tf.zeros_like(state["image"]),
            "peak_value": infinite,
            "last_value": infinite,
            "helped": zero,
            "checked": zero,
            "checked_value": infinite,
            "halved": tf.zeros_like(zero, tf.bool),
        }

    @override
    def evaluate(self, task: Task, inputs: Inputs, state: State) -> State:
        led, towards = aimed(task, inputs, state)
        seen = led.differentiate(
            self._descended(led), towards, state["image"], self.source, state["number"]
        )
        if task.norm is Norm.L1:
            seen["stop"] = apgd_l1.ended(task, inputs, seen["logits"])
        return seen

    @override
    def take_step(self, task: Task, inputs: Inputs, state: State) -> State:
        if task.norm is Norm.L1:
            return apgd_l1.take_step(task, inputs, state)
        value, number = state["objective"], tf.cast(state["number"], tf.float32)
        higher = value < state["peak_value"]
        peak = tf.where(per_image(higher), state["image"], state["peak"])
        peak_gradient = tf.where(per_image(higher), state["gradient"], state["peak_gradient"])
        peak_value = tf.where(higher, value, state["peak_value"])
        helped = state["helped"] + tf.cast(value < state["last_value"], tf.float32)

        due = _due(number, tf.cast(inputs["num_steps"], tf.float32))
        few = helped < _SHARE * (number - state["checked"])
        stuck = ~state["halved"] & (peak_value >= state["checked_value"])
        halve = due & (few | stuck)
        step = tf.where(halve, state["step"] / 2, state["step"])
        image = tf.where(per_image(halve), peak, state["image"])
        previous = tf.where(per_image(halve), peak, state["previous"])
        gradient = tf.where(per_image(halve), peak_gradient, state["gradient"])

        ahead = image - per_image(step) * GEOMETRY[task.norm].steepest(gradient)
        ahead = task.project(inputs, ahead)
        inertia = tf.where(per_image(state["number"] > 0), _INERTIA, 1.0)
        mixed = image + inertia * (ahead - image) + (1 - inertia) * (image - previous)
        return {
            "image": task.project(inputs, mixed),
            "step": step,
            "previous": image,
            "peak": peak,
            "peak_gradient": peak_gradient,
            "peak_value": peak_value,
            "last_value": value,
            "helped": tf.where(due, 0.0, helped),
            "checked": tf.where(due, number, state["checked"]),
            "checked_value": tf.where(due, peak_value, state["checked_value"]),
            "halved": tf.where(due, halve, state["halved"]),
        }

    def _descended(self, task: Task) -> Loss:
        return task.logits_ratio if self.loss is Loss.DLR else self.loss

    @override
    def solve(self, task: Task, inputs: Inputs, run: Run) -> Outcome:
        if task.norm is Norm.L1:
            run = apgd_l1.in_stages(run, self.stop_early)
        return super().solve(task, inputs, run)


def _due(number: Any, num_steps: Any) -> Any:
    # checks at shares 0.22, 0.41, 0.57, ... of the steps, ever closer, 0.06 apart at the end
    due = tf.zeros_like(number, tf.bool)
    before, at = 0.0, 0.22
    while at < 1:
        due |= number == tf.math.ceil(at * num_steps)
        before, at = at, at + max(at - before - 0.03, 0.06)
    return due & (number > 0)
