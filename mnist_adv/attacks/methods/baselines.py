"""What needs no attack: noise, and blending in another image, at the same budget."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

import numpy as np

from mnist_adv.data import datasets
from mnist_adv.tensors.lazy import tf
from mnist_adv.attacks.methods.schedules import progress
from mnist_adv.attacks.base import ROW, Method, Rows, State, Task
from mnist_adv.gradients.losses import Loss
from mnist_adv.geometry.norms import GEOMETRY, Norm, per_image
from mnist_adv.tensors.randomness import normal, uniform

_NUM_DONORS = 2000


@dataclasses.dataclass(frozen=True)
class Baseline(Method):
    """Try perturbations that know nothing of the model, each inside the budget."""

    num_steps: int = 20

    norms: ClassVar[tuple[Norm, ...]] = (Norm.LINF, Norm.L2, Norm.L1)

    def look(self, task: Task, rows: Rows, state: State) -> State:
        """Ask about the current try; see `Method.look`."""
        return task.glance(Loss.MARGIN, rows, state["image"])

    def cost(self, task: Task) -> tuple[int, int]:
        """Count one look; see `Method.cost`."""
        return 1, 0


@dataclasses.dataclass(frozen=True)
class UniformNoise(Baseline):
    """Noise drawn evenly from [-1, 1], as long as the budget allows."""

    def move(self, task: Task, rows: Rows, state: State) -> State:
        """Draw again; see `Method.move`."""
        noise = 2 * uniform(rows["keys"], state["number"], ROW) - 1
        return {"image": _spend(task, rows, noise)}


@dataclasses.dataclass(frozen=True)
class GaussianNoise(Baseline):
    """Noise drawn from the normal distribution, as long as the budget allows."""

    def move(self, task: Task, rows: Rows, state: State) -> State:
        """Draw again; see `Method.move`."""
        return {"image": _spend(task, rows, normal(rows["keys"], state["number"], ROW))}


@dataclasses.dataclass(frozen=True)
class SaltAndPepper(Baseline):
    """Random pixels turned black or white, more of them at every try, cut to the budget."""

    norms = tuple(Norm)

    def move(self, task: Task, rows: Rows, state: State) -> State:
        """Draw again; see `Method.move`."""
        draws = uniform(rows["keys"], state["number"], (2, ROW[-1]))
        share = per_image(progress(rows, state) + 1 / (1.0 + self.num_steps))
        chosen = tf.reshape(draws[:, 0], [-1, *ROW]) < share
        colour = tf.cast(tf.reshape(draws[:, 1], [-1, *ROW]) < 0.5, tf.float32)
        return {"image": task.inside(rows, tf.where(chosen, colour, rows["clean"]))}


@dataclasses.dataclass(frozen=True)
class Blend(Baseline):
    """The nearest image of the target class (or of any other) mixed in, more at every try.

    Attributes:
        donors: the images and their labels; MNIST's first 2,000 training images if None.
    """

    donors: Any = dataclasses.field(default=None, compare=False)

    def prepare(self, task: Task, rows: Rows, step_size: Any) -> Rows:
        """Add "donor"; see `Method.prepare`."""
        rows = super().prepare(task, rows, step_size)
        if self.donors is None:
            images, labels = _first_training_images()
        else:
            images, labels = (np.asarray(part) for part in self.donors)
        chosen = _nearest(rows["clean"], rows["classes"], images, labels, task.targeted)
        return {**rows, "donor": images[chosen].reshape(-1, *ROW).astype(np.float32)}

    def move(self, task: Task, rows: Rows, state: State) -> State:
        """Mix in more; see `Method.move`."""
        total = tf.cast(rows["num_steps"], tf.float32)
        share = (tf.cast(state["number"], tf.float32) + 1) / total
        mixed = rows["clean"] + per_image(share) * (rows["donor"] - rows["clean"])
        return {"image": task.inside(rows, mixed)}


def _spend(task: Task, rows: Rows, noise: Any) -> Any:
    # Scaled to the budget's length, then cut by the box: never longer.
    size = per_image(tf.math.divide_no_nan(rows["epsilon"], GEOMETRY[task.norm].length(noise)))
    return task.inside(rows, rows["clean"] + size * noise)


@functools.lru_cache(maxsize=1)
def _first_training_images() -> tuple[np.ndarray, np.ndarray]:
    split = datasets.load("mnist", "train")
    return split.images[:_NUM_DONORS].copy(), split.labels[:_NUM_DONORS].copy()


def _nearest(
    clean: np.ndarray, classes: np.ndarray, images: np.ndarray, labels: np.ndarray, targeted: bool
) -> np.ndarray:
    flat = clean.reshape(len(clean), -1).astype(np.float64)
    donors = images.reshape(len(images), -1).astype(np.float64)
    nearest = np.zeros(len(clean), np.int64)
    for wanted in np.unique(classes):
        allowed = np.flatnonzero((labels == wanted) == targeted)
        if not len(allowed):
            raise ValueError(
                f"donors must hold an image of every class asked for. Received: none for {wanted}"
            )
        here = classes == wanted
        pool = donors[allowed]
        squares = (pool**2).sum(axis=1) - 2 * flat[here] @ pool.T
        # The product's last bits depend on how many images came: they must not break a tie.
        nearest[here] = allowed[squares.round(9).argmin(axis=1)]
    return nearest
