"""What is the same for every image of a run, and how its model is evaluated.

Everything is per image (first dimension n), and no image depends on another: an image's iterates
are the same whatever else is in its batch.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv.attacks.blocks import in_blocks
from mnist_adv.data.images import UNIT, Bounds
from mnist_adv.geometry.norms import GEOMETRY, Norm
from mnist_adv.gradients.goals import Goal
from mnist_adv.gradients.losses import Loss, Objective
from mnist_adv.gradients.sources import GradientSource
from mnist_adv.models.preprocessing import identity
from mnist_adv.tensors.lazy import tf

if TYPE_CHECKING:
    from mnist_adv.models.model import Model

# What an attack is told of each image, and what it carries from step to step: name -> `[n, ...]`.
Inputs = dict[str, Any]
State = dict[str, Any]

# An attack that stops on the very border must not lose its success to another rounding of the
# logits: it counts a success from this share of the largest logit on.
_BORDER = 1e-5


class Status(enum.IntEnum):
    """How far an image has come; a higher status is better."""

    UNSEEN = -1  # no iterate was evaluated yet
    MISSED = 0
    REACHED = 1  # the goal is met, not with the wanted confidence
    ADVERSARIAL = 2


@dataclasses.dataclass(frozen=True)
class Task:
    """What is the same for every image of a run.

    Attributes:
        model: images `[n, h, w, c]` -> logits `[n, k]`; compared by identity.
        targeted: whether the classes are to be reached (True) or left (False).
        norm: of the budget or the distance.
        num_classes: how many logits the model has.
        shape: of one image, `(h, w, c)`.
        confidence: as in `Goal`.
        bounds: of the pixels as they came; in the loop they lie in [0, 1].
        blocked: whether the model is evaluated in blocks; see `blocks`.
        randomized: whether the model draws at random: XLA's draws would not repeat.
        beyond_rounding: whether attacks with a budget, too, count no success that rounding of the
            logits could undo, as those do that seek the smallest change.
    """

    model: Model = dataclasses.field(compare=False)
    targeted: bool
    norm: Norm
    num_classes: int
    shape: tuple[int, int, int]
    confidence: float | None = None
    bounds: Bounds = UNIT
    blocked: bool = False
    randomized: bool = False
    beyond_rounding: bool = False
    _identity: Any = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Make tasks of the same model equal, also if the model cannot be hashed."""
        object.__setattr__(self, "_identity", identity(self.model))

    @property
    def num_pixels(self) -> int:
        """Pixels of one image, all channels counted."""
        return math.prod(self.shape)

    @property
    def flat(self) -> tuple[int, int, int]:
        """The shape of an image inside the loop: one long row, along which XLA's loops run."""
        return (1, 1, self.num_pixels)

    @property
    def goal(self) -> Goal:
        """The goal without its classes, which are inputs."""
        return Goal(np.empty(0, np.int64), self.targeted, self.confidence)

    def as_images(self, flat: Any) -> Any:
        """Give images the shape that models know.

        Args:
            flat: `[n, *flat]`.

        Returns:
            `[n, h, w, c]`.
        """
        return tf.reshape(flat, [-1, *self.shape])

    def length(self, perturbation: Any) -> Any:
        """Measure perturbations in the task's norm.

        Args:
            perturbation: `[n, *flat]`.

        Returns:
            `[n]`.
        """
        return GEOMETRY[self.norm].length(perturbation)

    def clip(self, images: Any) -> Any:
        """Clip pixels to the unit box.

        Args:
            images: `[n, *flat]`.

        Returns:
            The same shape.
        """
        return tf.clip_by_value(images, 0, 1)

    def project(self, inputs: Inputs, images: Any) -> Any:
        """Project images onto the ball around the clean ones, then clip them to [0, 1].

        Args:
            inputs: "clean" and "epsilon" among them.
            images: `[n, *flat]`.

        Returns:
            The same shape.
        """
        clean = inputs["clean"]
        near = clean + GEOMETRY[self.norm].project(images - clean, inputs["epsilon"])
        return self.clip(near)

    def objective(self, loss: Loss) -> Objective:
        """Sign a loss so that descending it serves the goal.

        Args:
            loss: which.

        Returns:
            The objective; lower is nearer to the goal.
        """
        return Objective.to_descend(loss, targeted=self.targeted)

    @property
    def logits_ratio(self) -> Loss:
        """The difference of logits ratio of the goal; the margin where too few classes have one."""
        if self.num_classes < (4 if self.targeted else 3):
            return Loss.MARGIN
        return Loss.TARGETED_DLR if self.targeted else Loss.DLR

    def logits(self, images: Any) -> Any:
        """Evaluate the model.

        Args:
            images: `[n, *flat]`.

        Returns:
            `[n, num_classes]`.
        """
        # A Keras function forgets how many images came, which a compiled loop must know.
        logits = self.model(self.as_images(images))
        return tf.reshape(logits, [images.shape[0], self.num_classes])

    def evaluate(self, loss: Loss, inputs: Inputs, images: Any) -> State:
        """Evaluate the model and a loss, without a gradient.

        Args:
            loss: what is descended.
            inputs: "classes" and "done" among them.
            images: `[n, *flat]`.

        Returns:
            "logits" `[n, k]`, "objective" `[n]`; anything where an image is done.
        """
        if self.blocked:
            (logits,) = in_blocks(
                lambda images: (self.logits(images),),
                [images],
                inputs["done"],
                [tf.TensorSpec([self.num_classes], tf.float32)],
            )
        else:
            logits = self.logits(images)
        return {"logits": logits, "objective": self.objective(loss)(logits, inputs["classes"])}

    def differentiate(
        self, loss: Loss, inputs: Inputs, images: Any, source: GradientSource, stream: Any = None
    ) -> State:
        """Evaluate the model and a loss, with the loss's gradient.

        Args:
            loss: what is descended.
            inputs: "classes" and "done" among them, and "keys" for a source that draws.
            images: `[n, *flat]`.
            source: where the gradient comes from.
            stream: `[n]` int32, the number of the draw of random directions.

        Returns:
            "logits" `[n, k]`, "objective" `[n]`, "gradient" `[n, *flat]`; anything where an image
            is done.
        """
        objective = self.objective(loss)
        drawn: dict[str, Any] = {}
        if source.source.estimates:
            first = tf.zeros_like(inputs["classes"], tf.int32) if stream is None else stream
            drawn = {"keys": inputs["keys"], "stream": first}

        def found(images: Any, classes: Any, *draws: Any) -> tuple[Any, Any]:
            logits, gradient = source(
                self.model, objective, self.as_images(images), classes, **dict(zip(drawn, draws))
            )
            # A Keras function forgets how many images came, which a compiled loop must know.
            logits = tf.reshape(logits, [images.shape[0], self.num_classes])
            return logits, tf.reshape(gradient, images.shape)

        arguments = (images, inputs["classes"], *drawn.values())
        if self.blocked:
            results = [
                tf.TensorSpec(shape, tf.float32) for shape in ([self.num_classes], self.flat)
            ]
            logits, gradient = in_blocks(found, arguments, inputs["done"], results)
        else:
            logits, gradient = found(*arguments)
        return {
            "logits": logits,
            "objective": objective(logits, inputs["classes"]),
            "gradient": gradient,
        }

    def is_adversarial(self, inputs: Inputs, logits: Any) -> Any:
        """Tell which images meet the goal by more than rounding of the logits could undo.

        Args:
            inputs: "classes" among them.
            logits: `[n, k]`.

        Returns:
            `[n]` bool.
        """
        margin = self.objective(Loss.MARGIN)(logits, inputs["classes"])
        return margin < -self.least_margin(logits)

    def least_margin(self, logits: Any) -> Any:
        """Say by how much a logit must lead for an image to count as adversarial.

        An attack that steps onto a border must aim beyond it by more than this, or it may stay on
        the border for ever.

        Args:
            logits: `[n, k]`.

        Returns:
            `[n]`, above 0 unless all logits are 0.
        """
        return _BORDER * tf.reduce_max(tf.abs(logits), axis=1)
