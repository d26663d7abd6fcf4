"""Run an attack and keep every iterate: eagerly at first, so that one image is done at once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from mnist_adv.attacks.base import Attack, Outcome, Path
from mnist_adv.attacks.loop import advance, begin
from mnist_adv.attacks.queries import measure
from mnist_adv.attacks.result import Trace
from mnist_adv.attacks.task import Inputs, State, Task
from mnist_adv.gradients.losses import Loss
from mnist_adv.gradients.sources import GradientSource
from mnist_adv.tensors.compilation import compiled
from mnist_adv.tensors.lazy import tf

# Steps after which a graph is worth it: building one takes up to fifty of them.
_MOST_EAGER = 100
_FOUND = ("logits", "objective", "gradient")


def run(
    task: Task, attack: Attack, inputs: Inputs, progress: Callable[[int], object] | None = None
) -> Outcome:
    """Attack all images at once.

    Args:
        task: what all images share.
        attack: its settings.
        inputs: NumPy arrays `[n, ...]`.
        progress: called with 1 after each step.

    Returns:
        The best iterate of each image, with the path that led there.
    """
    tensors = {name: tf.constant(values) for name, values in inputs.items()}
    state = begin(task, attack, tensors)
    kept = [state]
    step: Callable[..., State] = functools.partial(advance, task, attack)
    while not bool(tf.reduce_all(state["done"])):
        if len(kept) == _MOST_EAGER:
            step = compiled(step, xla=False)
        state = step(tensors, state)
        kept.append(state)
        if progress is not None:
            progress(1)
    steps = state["number"].numpy().astype(np.int64)
    spent = measure(task, attack, inputs).of(steps)
    every = Path(
        images=np.stack([at["image"].numpy() for at in kept]),
        logits=np.stack([at["logits"].numpy() for at in kept]),
        objective=np.stack([at["objective"].numpy() for at in kept]),
        gradients=np.stack([at.get("gradient", tf.zeros_like(at["image"])).numpy() for at in kept]),
    )
    return Outcome(
        image=state["best_image"].numpy(),
        status=state["best_status"].numpy(),
        value=state["best_value"].numpy(),
        number=state["best_number"].numpy(),
        queries=spent["queries"],
        gradients=spent["gradients"],
        distances_at=state["distances_at"].numpy() if "distances_at" in state else None,
        # An image that is done early stays in the batch: what comes after is no part of its path.
        paths=[every.of(image, last + 1) for image, last in enumerate(steps)],
    )


def start_and_end(task: Task, inputs: Inputs, images: np.ndarray) -> list[Path]:
    """Make the paths of an attack that takes no steps: the clean image and the result.

    Args:
        task: what all images share.
        inputs: NumPy arrays `[n, ...]`.
        images: `[n, *flat]`, the results.

    Returns:
        One path per image, of one iterate where nothing changed, else of two; with the
        cross-entropy and its gradient.
    """
    tensors = {name: tf.constant(values) for name, values in inputs.items()}
    ends = [
        task.differentiate(Loss.CROSS_ENTROPY, tensors, tf.constant(at), GradientSource())
        for at in (inputs["clean"], images)
    ]
    every = Path(
        np.stack([inputs["clean"], images]),
        *(np.stack([end[name].numpy() for end in ends]) for name in _FOUND),
    )
    moved = (images != inputs["clean"]).reshape(len(images), -1).any(axis=1)
    return [every.of(image, 1 + int(moves)) for image, moves in enumerate(moved)]


def as_trace(paths: Sequence[Path], shape: tuple[int, int, int]) -> Trace:
    """Join the paths of several images, the shorter ones lengthened by their last iterate.

    Args:
        paths: one per image.
        shape: of an image, `(h, w, c)`.

    Returns:
        The trace.
    """
    steps = np.array([len(path.images) - 1 for path in paths])
    longest = int(steps.max(initial=0)) + 1

    def joined(parts: list[np.ndarray]) -> np.ndarray:
        return np.stack(
            [part[np.minimum(np.arange(longest), len(part) - 1)] for part in parts], axis=1
        )

    def images(parts: list[np.ndarray]) -> np.ndarray:
        return joined(parts).reshape(longest, len(parts), *shape)

    return Trace(
        images=images([path.images for path in paths]),
        logits=joined([path.logits for path in paths]),
        objective=joined([path.objective for path in paths]),
        gradients=images([path.gradients for path in paths])[:-1],
        num_steps=steps,
    )
