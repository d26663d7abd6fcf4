"""Run an attack compiled, on any number of images, in one padded batch shape.

The batch has a fixed number of slots. A burst is one compiled program: it loops over steps until
enough slots are done; then their images leave and waiting ones take the slots. One shape means one
compilation, and arithmetic that does not depend on how many images came: eight images give, bit
for bit, what eight single runs give.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from mnist_adv.tensors.lazy import tf
from mnist_adv.attacks.lanes import convolves, num_slots
from mnist_adv.attacks.base import Method, Outcome, Rows, State, Task, advance, begin
from mnist_adv.tensors.compilation import compiled

_MAX_PROGRAMS = 64

Progress = Callable[[int], None]


def run(task: Task, method: Method, rows: Rows, progress: Progress | None = None) -> Outcome:
    """Attack all images.

    Args:
        task: what all images share.
        method: the attack.
        rows: NumPy arrays `[n, ...]`: "clean", "classes", "epsilon", "num_steps", "keys", ...
        progress: called with the number of images that have just left.

    Returns:
        The best iterate of each image.
    """
    count = len(rows["clean"])
    slots = num_slots(task, method)
    program = _program(task, method, slots)
    out = Outcome(
        image=np.array(rows["clean"], np.float32),
        rank=np.full(count, -1, np.int32),
        value=np.full(count, np.inf, np.float32),
        number=np.zeros(count, np.int32),
        steps=np.zeros(count, np.int64),
    )
    inside = np.full(slots, -1)  # which image sits in each slot; -1: none
    here = {name: _padded(values, slots) for name, values in rows.items()}
    state: State | None = None
    entered = 0
    while entered < count or (inside >= 0).any():
        free = np.flatnonzero(inside < 0)
        state = None if len(free) == slots else state
        free = free[: count - entered]
        fresh = np.zeros(slots, bool)
        if len(free):
            inside[free] = np.arange(entered, entered + len(free))
            fresh[free] = True
            for name, values in rows.items():
                here[name][free] = values[entered : entered + len(free)]
            entered += len(free)
        taken = inside >= 0
        # While images wait, go on until a quarter of the slots is free; at the end, until all are.
        patience = slots // 4 if entered < count else slots
        state = program(here, state, fresh, taken, patience)
        left = np.flatnonzero(state["done"].numpy() & taken)
        _harvest(out, inside[left], left, state)
        inside[left] = -1
        if progress is not None:
            progress(len(left))
    return out


def _padded(values: np.ndarray, slots: int) -> np.ndarray:
    return np.broadcast_to(values[:1], (slots, *values.shape[1:])).copy()


def _harvest(out: Outcome, images: np.ndarray, slots: np.ndarray, state: State) -> None:
    out.image[images] = state["best_image"].numpy()[slots]
    out.rank[images] = state["best_rank"].numpy()[slots]
    out.value[images] = state["best_value"].numpy()[slots]
    out.number[images] = state["best_number"].numpy()[slots]
    out.steps[images] = state["number"].numpy()[slots] + 1


@functools.lru_cache(maxsize=_MAX_PROGRAMS)
def _program(task: Task, method: Method, slots: int) -> Callable[..., State]:
    def loop(rows: Rows, state: State, taken: Any, patience: Any) -> State:
        state["done"] |= ~taken
        enough = tf.math.count_nonzero(~taken, dtype=tf.int32) + patience

        def going(state: State) -> Any:
            done = tf.math.count_nonzero(state["done"], dtype=tf.int32)
            return (done < enough) & (done < slots)

        def body(state: State) -> tuple[State]:
            return (advance(task, method, rows, state),)

        (state,) = tf.while_loop(going, body, (state,))
        return state

    by_xla = not convolves(task)

    def first(rows: Rows, taken: Any, patience: Any) -> State:
        return loop(rows, begin(task, method, rows), taken, patience)

    def later(rows: Rows, state: State, fresh: Any, taken: Any, patience: Any) -> State:
        start = begin(task, method, rows)
        merged = {name: tf.where(_along(fresh, at), at, state[name]) for name, at in start.items()}
        return loop(rows, merged, taken, patience)

    start_program, go_on_program = compiled(first, xla=by_xla), compiled(later, xla=by_xla)

    def call(
        rows: Rows, state: State | None, fresh: np.ndarray, taken: np.ndarray, patience: int
    ) -> State:
        tensors = {name: tf.constant(values) for name, values in rows.items()}
        limits = tf.constant(taken), tf.constant(patience, tf.int32)
        if state is None:
            return start_program(tensors, *limits)
        return go_on_program(tensors, state, tf.constant(fresh), *limits)

    return call


def _along(chosen: Any, values: Any) -> Any:
    return tf.reshape(chosen, [-1] + [1] * (values.shape.rank - 1))
