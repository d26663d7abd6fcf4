"""The loop that every attack runs in: take a step, evaluate, keep the best."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mnist_adv.attacks.base import Attack
from mnist_adv.attacks.task import Inputs, State, Status, Task
from mnist_adv.geometry.norms import per_image
from mnist_adv.tensors.lazy import tf

Evaluate = Callable[[Inputs, State], State]

_OF_THE_LOOP = ("distances_at", "fresh")


def begin(
    task: Task,
    attack: Attack,
    inputs: Inputs,
    evaluate: Evaluate | None = None,
) -> State:
    """Make the whole state before the first step, the starting images evaluated.

    Args:
        task: what all images share.
        attack: its settings.
        inputs: "clean" `[n, *flat]`, "classes", "epsilon", "num_steps", "keys", ...; perhaps
            "record_at" `[n, p]` int32, after how many steps "distances_at" keeps the best distance.
        evaluate: in place of the attack's own.

    Returns:
        The state.
    """
    inputs = {**inputs, "done": tf.zeros([inputs["clean"].shape[0]], tf.bool)}
    state = _start(task, attack, inputs)
    found = attack.evaluate(task, inputs, state) if evaluate is None else evaluate(inputs, state)
    return _keep_best(task, attack, inputs, {**state, **found})


def enter(task: Task, attack: Attack, inputs: Inputs, state: State, fresh: Any) -> State:
    """Give some places of a batch to other images, which the next `advance` evaluates.

    The evaluation of a start is that of a step: images that enter need none of their own.

    Args:
        task: what all images share.
        attack: its settings.
        inputs: as `begin`, of the images that enter and of those that go on.
        state: as `begin` makes it.
        fresh: `[n]` bool, the places of the images that enter.

    Returns:
        The state, with "fresh" in it.
    """
    start = _start(task, attack, {**inputs, "done": ~fresh})
    return {**state, **_chosen(fresh, start, state), "fresh": fresh}


def _start(task: Task, attack: Attack, inputs: Inputs) -> State:
    """Make what the state holds before the starting images are evaluated."""
    count = [inputs["clean"].shape[0]]
    state = {
        **attack.start(task, inputs),
        "number": tf.zeros(count, tf.int32),
        "done": inputs["done"],
        "best_image": inputs["clean"],
        "best_status": tf.fill(count, int(Status.UNSEEN)),
        "best_value": tf.fill(count, np.float32(np.inf)),
        "best_number": tf.zeros(count, tf.int32),
    }
    if "record_at" in inputs:
        state["distances_at"] = tf.fill(inputs["record_at"].shape, np.float32(np.inf))
    return state


def _chosen(images: Any, these: State, others: State) -> State:
    return {
        name: tf.where(tf.reshape(images, [-1] + [1] * (at.shape.rank - 1)), at, others[name])
        for name, at in these.items()
    }


def advance(
    task: Task,
    attack: Attack,
    inputs: Inputs,
    state: State,
    evaluate: Evaluate | None = None,
) -> State:
    """Take one step, evaluate, keep the best: the only loop body there is.

    Args:
        task: what all images share.
        attack: its settings.
        inputs: as `begin`.
        state: as `begin` or `enter` makes it. Images that enter take no step.
        evaluate: in place of the attack's own.

    Returns:
        The state after the step. The image of what is done stays, and so does its best; its other
        entries no longer mean anything.
    """
    # Stepping first and evaluating afterwards lets the compiled loop change images in place.
    done, fresh = state["done"], state.get("fresh")
    held = done if fresh is None else done | fresh
    # What is recorded is no business of the attack, which may carry on all that it is given.
    given = {name: values for name, values in state.items() if name not in _OF_THE_LOOP}
    following = dict(attack.take_step(task, {**inputs, "done": held}, given))
    image = following.pop("image")
    if fresh is not None:
        following = _chosen(fresh, {name: state[name] for name in following}, following)
        following["fresh"] = tf.zeros_like(fresh)
    following["image"] = tf.where(per_image(held), state["image"], image)
    following["number"] = tf.where(held, state["number"], state["number"] + 1)
    state, inputs = {**state, **following}, {**inputs, "done": done}
    found = attack.evaluate(task, inputs, state) if evaluate is None else evaluate(inputs, state)
    return _keep_best(task, attack, inputs, {**state, **found})


def _keep_best(task: Task, attack: Attack, inputs: Inputs, state: State) -> State:
    status, value = _rate(task, attack, inputs, state)
    if "inside" in state:
        status = tf.where(state["inside"], status, int(Status.UNSEEN))
        value = tf.where(state["inside"], value, float("inf"))
    better = (status > state["best_status"]) | (
        (status == state["best_status"]) & (value < state["best_value"])
    )
    better &= ~state["done"]
    best_status = tf.where(better, status, state["best_status"])
    done = state["done"] | (state["number"] >= inputs["num_steps"])
    if "stop" in state:
        done |= state["stop"]
    if attack.ends_at_goal:
        done |= best_status == int(Status.ADVERSARIAL)
    best_value = tf.where(better, value, state["best_value"])
    if "record_at" in inputs:
        known = (best_status == int(Status.ADVERSARIAL))[:, tf.newaxis]
        known &= state["number"][:, tf.newaxis] <= inputs["record_at"]
        state["distances_at"] = tf.where(known, best_value[:, tf.newaxis], state["distances_at"])
    return {
        **state,
        "done": done,
        "best_image": tf.where(per_image(better), state["image"], state["best_image"]),
        "best_status": best_status,
        "best_value": best_value,
        "best_number": tf.where(better, state["number"], state["best_number"]),
    }


def _rate(task: Task, attack: Attack, inputs: Inputs, state: State) -> tuple[Any, Any]:
    """Rate the current images: their status, and what is compared among equals."""
    logits, classes = state["logits"], inputs["classes"]
    if attack.minimal:
        adversarial = task.is_adversarial(inputs, logits)
        distance = task.length(state["image"] - inputs["clean"])
        status = int(Status.ADVERSARIAL) * tf.cast(adversarial, tf.int32)
        return status, tf.where(adversarial, distance, state["objective"])
    # The largest of logits that are not finite is a class, not a prediction.
    finite = tf.reduce_all(tf.math.is_finite(logits), axis=1)
    if task.beyond_rounding:
        finite &= task.is_adversarial(inputs, logits)
    reached = tf.cast(task.goal.reached(logits, classes) & finite, tf.int32)
    if task.confidence is None:
        return int(Status.ADVERSARIAL) * reached, state["objective"]
    satisfied = tf.cast(task.goal.satisfied(logits, classes), tf.int32)
    return reached + satisfied, state["objective"]
