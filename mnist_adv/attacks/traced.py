"""Run an attack eagerly and keep every iterate: no compilation, so one image is done at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from mnist_adv._lazy import tf
from mnist_adv.attacks.result import Trace
from mnist_adv.attacks.state import Method, Outcome, Rows, Task, advance, begin


class Recorder:
    """A run that remembers; call it as `engine.run`, then read `trace`."""

    def __init__(self) -> None:
        self.trace: Trace | None = None

    def __call__(self, task: Task, method: Method, rows: Rows) -> Outcome:
        """Attack all images at once.

        Args:
            task: what all images share.
            method: the attack.
            rows: NumPy arrays `[n, ...]`.

        Returns:
            The best iterate of each image.
        """
        tensors = {name: tf.constant(values) for name, values in rows.items()}
        state = begin(task, method, tensors)
        kept: list[tuple[Any, Any, Any, Any]] = []
        while not bool(tf.reduce_all(state["done"])):
            image = state["image"]
            state, seen = advance(task, method, tensors, state)
            gradient = tf.zeros_like(image) if seen.gradient is None else seen.gradient
            kept.append((image, seen.logits, seen.objective, gradient))
        images, logits, objective, gradients = (
            np.stack([part.numpy() for part in parts]) for parts in zip(*kept)
        )
        self.trace = Trace(images, logits, objective, gradients[:-1])
        return Outcome(
            image=state["best_image"].numpy(),
            rank=state["best_rank"].numpy(),
            value=state["best_value"].numpy(),
            number=state["best_number"].numpy(),
            steps=state["number"].numpy().astype(np.int64) + 1,
        )
