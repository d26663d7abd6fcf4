"""What needs no attack: noise, and blending in another image, at the same budget."""

from __future__ import annotations

import dataclasses
import reprlib
from typing import Any, ClassVar

import numpy as np
from typing_extensions import override

from mnist_adv.attacks.base import Attack
from mnist_adv.attacks.methods.schedules import progress
from mnist_adv.attacks.task import Inputs, State, Task
from mnist_adv.data.images import as_batch, to_unit
from mnist_adv.geometry.norms import GEOMETRY, Norm, per_image
from mnist_adv.gradients.losses import Loss
from mnist_adv.tensors.lazy import tf
from mnist_adv.tensors.randomness import normal, uniform


@dataclasses.dataclass(frozen=True)
class Baseline(Attack):
    """Try perturbations that know nothing of the model, each inside the budget."""

    num_steps: int = 20

    norms: ClassVar[tuple[Norm, ...]] = (Norm.LINF, Norm.L2, Norm.L1)

    @override
    def evaluate(self, task: Task, inputs: Inputs, state: State) -> State:
        return task.evaluate(Loss.MARGIN, inputs, state["image"])

    @override
    def cost(self, task: Task) -> tuple[int, int]:
        return 1, 0


@dataclasses.dataclass(frozen=True)
class UniformNoise(Baseline):
    """Noise drawn evenly from [-1, 1], as long as the budget allows."""

    @override
    def take_step(self, task: Task, inputs: Inputs, state: State) -> State:
        noise = 2 * uniform(inputs["keys"], state["number"], task.flat) - 1
        return {"image": _spend(task, inputs, noise)}


@dataclasses.dataclass(frozen=True)
class GaussianNoise(Baseline):
    """Noise drawn from the normal distribution, as long as the budget allows."""

    @override
    def take_step(self, task: Task, inputs: Inputs, state: State) -> State:
        return {"image": _spend(task, inputs, normal(inputs["keys"], state["number"], task.flat))}


@dataclasses.dataclass(frozen=True)
class SaltAndPepper(Baseline):
    """Random pixels turned black or white, more of them at every try, projected onto the ball."""

    norms = tuple(Norm)

    @override
    def take_step(self, task: Task, inputs: Inputs, state: State) -> State:
        draws = uniform(inputs["keys"], state["number"], (2, task.num_pixels))
        share = per_image(progress(inputs, state) + 1 / (1.0 + self.num_steps))
        chosen = tf.reshape(draws[:, 0], [-1, *task.flat]) < share
        colour = tf.cast(tf.reshape(draws[:, 1], [-1, *task.flat]) < 0.5, tf.float32)
        return {"image": task.project(inputs, tf.where(chosen, colour, inputs["clean"]))}


@dataclasses.dataclass(frozen=True)
class Blend(Baseline):
    """The nearest image of the target class (or of any other) mixed in, more at every try.

    Attributes:
        donors: images `[m, h, w, c]` of the data set, inside the bounds of the images under
            attack, and their labels `[m]`.
    """

    donors: Any = dataclasses.field(default=None, compare=False)

    needs_donors = True

    @override
    def prepare(self, task: Task, inputs: Inputs, step_size: Any) -> Inputs:
        inputs = super().prepare(task, inputs, step_size)
        images, labels = checked_donors(self.donors, task)
        chosen = nearest_donors(inputs["clean"], inputs["classes"], images, labels, task.targeted)
        return {**inputs, "donor": images[chosen].reshape(-1, *task.flat)}

    @override
    def take_step(self, task: Task, inputs: Inputs, state: State) -> State:
        total = tf.cast(inputs["num_steps"], tf.float32)
        share = (tf.cast(state["number"], tf.float32) + 1) / total
        mixed = inputs["clean"] + per_image(share) * (inputs["donor"] - inputs["clean"])
        return {"image": task.project(inputs, mixed)}


def _spend(task: Task, inputs: Inputs, noise: Any) -> Any:
    # Scaled to the budget's length, then clipped by the box: never longer.
    size = per_image(tf.math.divide_no_nan(inputs["epsilon"], GEOMETRY[task.norm].length(noise)))
    return task.project(inputs, inputs["clean"] + size * noise)


def checked_donors(donors: Any, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Check images of the data set, and map them to [0, 1] as those under attack are.

    Args:
        donors: images `[m, h, w, c]` and labels `[m]`.
        task: what all images share.

    Returns:
        The images in [0, 1] and the labels.

    Raises:
        ValueError: not such a pair.
    """
    try:
        images, labels = donors
    except (TypeError, ValueError):
        raise ValueError(
            "the attack begins with other images: give it some of the data set, with their labels, "
            f"as donors=(images, labels). Received: {reprlib.repr(donors)}"
        ) from None
    try:
        images = as_batch(images, task.bounds).astype(np.float32, copy=False)
    except ValueError as error:
        raise ValueError(f"donors: {error}") from error
    labels = np.asarray(labels)
    integers = np.issubdtype(labels.dtype, np.integer)
    if images.shape[1:] != task.shape or labels.shape != (len(images),) or not integers:
        raise ValueError(
            f"donors must be images of shape {list(task.shape)} and one integer label for each. "
            f"Received: images of shape {list(images.shape)}, labels of shape "
            f"{list(labels.shape)} and dtype {labels.dtype}"
        )
    return to_unit(images, task.bounds), labels


def nearest_donors(
    clean: np.ndarray, classes: np.ndarray, images: np.ndarray, labels: np.ndarray, targeted: bool
) -> np.ndarray:
    """Choose for each image the nearest one of the wanted class, or of any other than its own.

    Args:
        clean: `[n, ...]`.
        classes: `[n]`, to be reached or left.
        images: `[m, h, w, c]`.
        labels: `[m]`, their classes.
        targeted: whether the classes are to be reached.

    Returns:
        `[n]`, numbers of images.

    Raises:
        ValueError: there is none for a class.
    """
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
