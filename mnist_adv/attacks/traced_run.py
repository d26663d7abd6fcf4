"""Run an attack eagerly and keep every iterate: no compilation, so one image is done at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv.tensors.lazy import tf
from mnist_adv.attacks.result import Trace
from mnist_adv.attacks.base import Method, Outcome, Rows, Task, advance, begin, square
from mnist_adv.gradients.goals import Goal
from mnist_adv.gradients.sources import GradientSource
from mnist_adv.gradients.losses import Loss, Objective

if TYPE_CHECKING:
    from mnist_adv.models.model import Model


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
        kept = [state]
        while not bool(tf.reduce_all(state["done"])):
            state = advance(task, method, tensors, state)
            kept.append(state)
        gradients = [at.get("gradient", tf.zeros_like(at["image"])) for at in kept]
        self.trace = Trace(
            images=_stack([at["image"] for at in kept]),
            logits=np.stack([at["logits"].numpy() for at in kept]),
            objective=np.stack([at["objective"].numpy() for at in kept]),
            gradients=_stack(gradients)[:-1],
        )
        return Outcome(
            image=state["best_image"].numpy(),
            rank=state["best_rank"].numpy(),
            value=state["best_value"].numpy(),
            number=state["best_number"].numpy(),
            steps=state["number"].numpy().astype(np.int64) + 1,
        )


def from_start_to_end(
    model: Model, goal: Goal, images: np.ndarray, adversarial: np.ndarray
) -> Trace:
    """Make the trace of a method that jumps: its start and its end.

    Args:
        model: images -> logits.
        goal: the classes to be reached or left.
        images: clean, `[n, 28, 28, 1]` float32.
        adversarial: the same shape.

    Returns:
        Two iterates, with the cross-entropy and its gradient at the first.
    """
    objective = Objective.to_descend(Loss.CROSS_ENTROPY, targeted=goal.targeted)
    classes = tf.constant(goal.classes)
    ends = [
        GradientSource()(model, objective, tf.constant(at), classes) for at in (images, adversarial)
    ]
    return Trace(
        images=np.stack([images, adversarial]),
        logits=np.stack([logits.numpy() for logits, _ in ends]),
        objective=np.stack([objective(logits, classes).numpy() for logits, _ in ends]),
        gradients=ends[0][1].numpy()[np.newaxis],
    )


def _stack(images: list[Any]) -> np.ndarray:
    return np.stack([square(image).numpy() for image in images])
