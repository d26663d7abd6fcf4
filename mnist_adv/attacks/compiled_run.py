"""Run an attack compiled, on any number of images, in one padded batch shape.

Active-set batching: the batch has a fixed number of lanes. One compiled program loops over steps
until enough lanes are done; then their images leave and waiting ones take the lanes. One shape
means one compilation, and arithmetic that does not depend on how many images came: eight images
give, bit for bit, what eight single runs give.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from mnist_adv.attacks.base import Attack, Outcome
from mnist_adv.attacks.lanes import goes_in_blocks, num_lanes
from mnist_adv.attacks.loop import Evaluate, advance, begin, enter
from mnist_adv.attacks.progress import Progress
from mnist_adv.attacks.queries import measure
from mnist_adv.attacks.task import Inputs, State, Task
from mnist_adv.tensors.compilation import compiled
from mnist_adv.tensors.lazy import tf

_MAX_PROGRAMS = 64


def run(task: Task, attack: Attack, inputs: Inputs, progress: Progress | None = None) -> Outcome:
    """Attack all images.

    Args:
        task: what all images share.
        attack: the attack.
        inputs: NumPy arrays `[n, ...]`: "clean", "classes", "epsilon", "num_steps", "keys", ...
        progress: called with the number of images that have just left.

    Returns:
        The best iterate of each image.
    """
    count = len(inputs["clean"])
    # Blocks are evaluated side by side, and would draw in any order.
    task = dataclasses.replace(task, blocked=not task.randomized and goes_in_blocks(task))
    lanes = num_lanes(task, attack)
    cost = measure(task, attack, inputs)
    recorded = inputs.get("record_at")
    program = _program(task, attack, lanes, recorded is not None)
    out = Outcome(
        image=np.array(inputs["clean"], np.float32),
        status=np.full(count, -1, np.int32),
        value=np.full(count, np.inf, np.float32),
        number=np.zeros(count, np.int32),
        queries=np.zeros(count, np.int64),
        gradients=np.zeros(count, np.int64),
        distances_at=None if recorded is None else np.full(recorded.shape, np.inf, np.float32),
    )
    occupant = np.full(lanes, -1)  # which image is in each lane; -1: none
    here = {name: _padded(values, lanes) for name, values in inputs.items()}
    state: State | None = None
    entered = 0
    while entered < count or (occupant >= 0).any():
        free = np.flatnonzero(occupant < 0)
        state = None if len(free) == lanes else state
        free = free[: count - entered]
        fresh = np.zeros(lanes, bool)
        if len(free):
            occupant[free] = np.arange(entered, entered + len(free))
            fresh[free] = True
            for name, values in inputs.items():
                here[name][free] = values[entered : entered + len(free)]
            entered += len(free)
        taken = occupant >= 0
        # While images wait, go on until a quarter of the lanes is free; at the end, until all are.
        patience = lanes // 4 if entered < count else lanes
        state = program(here, state, fresh, taken, patience)
        left = np.flatnonzero(state["done"].numpy() & taken)
        _collect(out, occupant[left], left, state)
        for name, spent in cost.of(state["number"].numpy()[left]).items():
            getattr(out, name)[occupant[left]] = spent
        occupant[left] = -1
        if progress is not None:
            progress(len(left))
    return out


def _padded(values: np.ndarray, lanes: int) -> np.ndarray:
    return np.broadcast_to(values[:1], (lanes, *values.shape[1:])).copy()


def _collect(out: Outcome, images: np.ndarray, lanes: np.ndarray, state: State) -> None:
    out.image[images] = np.asarray(state["best_image"])[lanes]  # without a copy of all
    out.status[images] = state["best_status"].numpy()[lanes]
    out.value[images] = state["best_value"].numpy()[lanes]
    out.number[images] = state["best_number"].numpy()[lanes]
    if out.distances_at is not None:
        out.distances_at[images] = state["distances_at"].numpy()[lanes]


@functools.lru_cache(maxsize=_MAX_PROGRAMS)
def _program(task: Task, attack: Attack, lanes: int, recording: bool) -> Callable[..., State]:
    # Whether distances are recorded changes what the state holds.
    del recording
    evaluate = _traced_once(task, attack) if task.blocked else None

    def go_on(inputs: Inputs, state: State, fresh: Any, taken: Any, patience: Any) -> State:
        state = enter(task, attack, inputs, state, fresh)
        state["done"] |= ~taken
        enough = tf.math.count_nonzero(~taken, dtype=tf.int32) + patience

        def going(state: State) -> Any:
            done = tf.math.count_nonzero(state["done"], dtype=tf.int32)
            return (done < enough) & (done < lanes)

        def body(state: State) -> tuple[State]:
            return (advance(task, attack, inputs, state, evaluate),)

        (state,) = tf.while_loop(going, body, (state,))
        del state["fresh"]
        return state

    program = compiled(go_on, xla=not (task.blocked or task.randomized))
    layout: dict[str, tuple[Any, Any]] = {}

    def call(
        inputs: Inputs, state: State | None, fresh: np.ndarray, taken: np.ndarray, patience: int
    ) -> State:
        tensors = {name: tf.constant(values) for name, values in inputs.items()}
        if state is None:
            # A program of its own for the first images would take as long to compile once more.
            if not layout:
                layout.update(_layout(task, attack, tensors, evaluate))
            state = {name: tf.zeros(*form) for name, form in layout.items()}
        return program(
            tensors, state, tf.constant(fresh), tf.constant(taken), tf.constant(patience, tf.int32)
        )

    return call


def _traced_once(task: Task, attack: Attack) -> Evaluate:
    """Make one function of what the beginning and the loop both call: tracing takes long."""
    traced = tf.function(functools.partial(attack.evaluate, task), autograph=False)
    known: list[str] = []

    def evaluate(inputs: Inputs, state: State) -> State:
        known[:] = known or state  # of the beginning, when nothing is found yet
        return traced(inputs, {name: state[name] for name in known})

    return evaluate


def _layout(
    task: Task, attack: Attack, inputs: Inputs, evaluate: Evaluate | None
) -> dict[str, tuple[Any, Any]]:
    """Find the shape and dtype of each part of the state."""
    if evaluate is None:
        start = begin(task, attack, inputs)
    else:
        whole = tf.function(lambda inputs: begin(task, attack, inputs, evaluate), autograph=False)
        start = whole.get_concrete_function(inputs).structured_outputs
    return {name: (at.shape, at.dtype) for name, at in start.items()}
