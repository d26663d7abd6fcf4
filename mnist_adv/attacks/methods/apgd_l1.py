"""APGD in L1: few pixels per step, how many found on the way (Croce and Hein, 2021)."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from mnist_adv.attacks.base import Attack, Outcome, Run, take
from mnist_adv.attacks.progress import share_budget
from mnist_adv.attacks.task import Inputs, State, Status, Task
from mnist_adv.geometry.norms import l1_project_in_box, per_image
from mnist_adv.geometry.selection import largest
from mnist_adv.tensors.lazy import tf

# Share of the pixels that the first steps change, and what the pixels of the best point are divided
# by to give the number that the next steps change.
_FIRST_SHARE = 0.2
_THINNING = 1.5
_STABLE = 0.95  # sparser than this share of before: the step starts over
_SHORTEST = 0.1  # step over epsilon
_CHECKS = 0.04  # share of the steps between two checks
# (radius over epsilon, share of the steps): from a larger ball into the budget
_STAGES = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))


def first_stage(inputs: Inputs) -> Inputs:
    """Add what the first stage is told.

    Args:
        inputs: NumPy arrays.

    Returns:
        The inputs with "begin", "stage" and "ends".
    """
    count = len(inputs["clean"])
    stage = {"stage": np.zeros(count, np.int32), "ends": np.zeros(count, bool)}
    return {**inputs, "begin": inputs["clean"], **stage}


def start(task: Task, inputs: Inputs, state: State) -> State:
    """Make the state of the first step.

    Args:
        task: what all images share.
        inputs: "stage" and "begin" among them, as `in_stages` makes them.
        state: "image" `[n, *task.flat]` among it, where the first stage starts.

    Returns:
        The state, with what `take_step` carries.
    """
    clean, first = inputs["clean"], inputs["stage"] == 0
    away = l1_project_in_box(clean, inputs["begin"] - clean, inputs["epsilon"])
    resumed = task.clip(clean + away)
    image = tf.where(per_image(first), state["image"], resumed)
    pixels = tf.where(first, float(task.num_pixels), _moved(inputs, image))
    return {
        **state,
        "image": image,
        "step": inputs["epsilon"],
        "share": tf.where(first, _FIRST_SHARE, pixels / (task.num_pixels * _THINNING)),
        "pixels": pixels,
        "peak": image,
        "peak_gradient": tf.zeros_like(image),
        "peak_value": tf.zeros_like(pixels) + float("inf"),
    }


def take_step(task: Task, inputs: Inputs, state: State) -> State:
    """Adapt the number of pixels and the step, and take it.

    Args:
        task: what all images share.
        inputs: as the loop's.
        state: with what was seen at the current images.

    Returns:
        The entries that change.
    """
    value = state["objective"]
    better = value < state["peak_value"]
    peak = tf.where(per_image(better), state["image"], state["peak"])
    peak_gradient = tf.where(per_image(better), state["gradient"], state["peak_gradient"])

    longest = inputs["epsilon"]
    due = _due(inputs, state)
    pixels = tf.where(due, _moved(inputs, peak), state["pixels"])
    sparser = due & (pixels < _STABLE * state["pixels"])
    share = tf.where(due, pixels / (task.num_pixels * _THINNING), state["share"])
    shorter = tf.maximum(state["step"] / _THINNING, _SHORTEST * longest)
    step = tf.where(sparser, longest, tf.where(due, shorter, state["step"]))
    image = tf.where(per_image(sparser), peak, state["image"])
    gradient = tf.where(per_image(sparser), peak_gradient, state["gradient"])

    count = tf.maximum(tf.cast(tf.math.ceil(share * task.num_pixels), tf.int32), 1)
    sizes = tf.abs(gradient)
    chosen = tf.cast(largest(sizes, count), tf.float32)
    each = tf.math.divide_no_nan(step, tf.reduce_sum(chosen, axis=(1, 2, 3)))
    moved = image - per_image(each) * tf.sign(gradient) * chosen
    away = l1_project_in_box(inputs["clean"], moved - inputs["clean"], inputs["epsilon"])
    return {
        "image": task.clip(inputs["clean"] + away),
        "step": step,
        "share": share,
        "pixels": pixels,
        "peak": peak,
        "peak_gradient": peak_gradient,
        "peak_value": tf.where(better, value, state["peak_value"]),
    }


def ended(task: Task, inputs: Inputs, logits: Any) -> Any:
    """Say which images are done: those at their goal inside the budget, if they stop early.

    Args:
        task: what all images share.
        inputs: "ends" among them, as `in_stages` makes it.
        logits: `[n, k]`.

    Returns:
        `[n]` bool.
    """
    return inputs["ends"] & task.goal.satisfied(logits, inputs["classes"])


def in_stages(run: Run, stop_early: bool) -> Run:
    """Make a run of three: in the balls of three times, of twice and of once epsilon.

    Each stage begins where the one before found its best point, projected. Only the last is inside
    the budget and counts.

    Args:
        run: runs the loop.
        stop_early: whether an image is done as soon as its goal is met inside the budget.

    Returns:
        A run.
    """

    def stage(
        number: int, inputs: Inputs, steps: np.ndarray, task: Task, attack: Attack
    ) -> Outcome:
        count = len(steps)
        own = {
            "num_steps": steps.astype(np.int32),
            "epsilon": np.float32(_STAGES[number][0]) * inputs["epsilon"],
            "stage": np.full(count, number, np.int32),
            "ends": np.full(count, stop_early and number == len(_STAGES) - 1),
        }
        # One program for all stages: which images stop early is in the inputs.
        settings: dict[str, Any] = {"stop_early": False}
        return run(task, dataclasses.replace(attack, **settings), {**inputs, **own})

    def staged(task: Task, attack: Attack, inputs: Inputs) -> Outcome:
        # The start inside the budget, and that of each stage.
        inputs = share_budget(run, task, attack, inputs, starts=1 + len(_STAGES))
        inputs, total = {**inputs, "begin": inputs["clean"]}, inputs["num_steps"]
        # The start itself, evaluated inside the budget: what is adversarial already takes no step.
        small = {**inputs, "epsilon": inputs["epsilon"] / np.float32(_STAGES[0][0])}
        best = stage(0, small, np.zeros_like(total), task, attack)
        left = np.flatnonzero((best.status < Status.ADVERSARIAL) | (not stop_early))
        if not len(left):
            return best
        inputs, total = take(inputs, left), total[left]
        taken = np.zeros_like(total)
        paths = None
        for number, (_, share) in enumerate(_STAGES):
            last = number == len(_STAGES) - 1
            steps = np.minimum(np.ceil(share * total), total - taken) if not last else total - taken
            outcome = stage(number, inputs, steps, task, attack)
            inputs, taken = {**inputs, "begin": outcome.image}, taken + steps
            if not last:
                best.spend(left, outcome)
            if outcome.paths is not None:
                pairs = zip(paths or outcome.paths, outcome.paths)
                paths = [early.then(late) for early, late in pairs] if paths else outcome.paths
        outcome.number += (taken - steps).astype(np.int32)
        outcome.paths = paths
        best.improve(left, outcome)
        return best

    return staged


def _due(inputs: Inputs, state: State) -> Any:
    total = tf.cast(inputs["num_steps"], tf.float32)
    every = tf.maximum(tf.cast(_CHECKS * total, tf.int32), 1)
    return (state["number"] > 0) & (state["number"] % every == 0)


def _moved(inputs: Inputs, images: Any) -> Any:
    moved = tf.math.count_nonzero(images - inputs["clean"], axis=(1, 2, 3), dtype=tf.int32)
    return tf.cast(moved, tf.float32)
