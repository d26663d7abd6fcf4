"""What an attack is: settings, and the functions that the loop calls on whole batches.

Everything an attack carries is per image (first dimension n), and no image depends on another: an
image's iterates are the same whatever else is in its batch.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

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
    """

    model: Model = dataclasses.field(compare=False)
    targeted: bool
    norm: Norm
    num_classes: int
    shape: tuple[int, int, int]
    confidence: float | None = None
    bounds: Bounds = UNIT
    blocked: bool = False
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
            inputs: "classes", "keys" and "done" among them.
            images: `[n, *flat]`.
            source: where the gradient comes from.
            stream: `[n]` int32, the number of the draw of random directions.

        Returns:
            "logits" `[n, k]`, "objective" `[n]`, "gradient" `[n, *flat]`; anything where an image
            is done.
        """
        objective = self.objective(loss)
        if stream is None:
            stream = tf.zeros_like(inputs["classes"], tf.int32)

        def found(images: Any, classes: Any, keys: Any, stream: Any) -> tuple[Any, Any]:
            logits, gradient = source(
                self.model, objective, self.as_images(images), classes, keys=keys, stream=stream
            )
            # A Keras function forgets how many images came, which a compiled loop must know.
            logits = tf.reshape(logits, [images.shape[0], self.num_classes])
            return logits, tf.reshape(gradient, images.shape)

        arguments = (images, inputs["classes"], inputs["keys"], stream)
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
        return margin < -_BORDER * tf.reduce_max(tf.abs(logits), axis=1)


@dataclasses.dataclass(frozen=True)
class Attack:
    """An attack: settings, and the functions that the loop calls.

    Attributes:
        num_steps: most steps taken, for images that were given no number of their own.
    """

    num_steps: int = 40

    minimal: ClassVar[bool] = False  # seeks the smallest distance, not the best inside a budget
    norms: ClassVar[tuple[Norm, ...]] = tuple(Norm)
    takes_steps: ClassVar[bool] = True
    needs_donors: ClassVar[bool] = False  # wants labelled images of the data set, as `donors`
    # How many images' worth of numbers a step works on: clean, current and best image, gradient,
    # and what the attack carries besides. The number of lanes is chosen by it.
    images_kept: ClassVar[int] = 4

    @property
    def ends_at_goal(self) -> bool:
        """Whether an image is done as soon as its goal is met."""
        return not self.minimal

    def start(self, task: Task, inputs: Inputs) -> State:
        """Make the attack's entries of the state before the first step.

        Args:
            task: what all images share.
            inputs: as `loop.begin`.

        Returns:
            "image" `[n, *flat]` and whatever the attack carries, each `[n, ...]`.
        """
        return {"image": inputs["clean"]}

    def evaluate(self, task: Task, inputs: Inputs, state: State) -> State:
        """Evaluate the model at the current images.

        Args:
            task: what all images share.
            inputs: as `loop.begin`.
            state: as `loop.begin`.

        Returns:
            "logits", "objective" and, of attacks that take one, "gradient"; perhaps "stop" `[n]`
            bool, images that have nothing left to do.
        """
        raise NotImplementedError(f"{type(self).__name__} does not evaluate")

    def take_step(self, task: Task, inputs: Inputs, state: State) -> State:
        """Take one step.

        Args:
            task: what all images share.
            inputs: as `loop.begin`.
            state: with what `evaluate` found at the current images.

        Returns:
            The entries that change, "image" among them.
        """
        raise NotImplementedError(f"{type(self).__name__} does not take steps")

    def cost(self, task: Task) -> tuple[int, int]:
        """Count a step's model queries, and gradients among them, for one image.

        Args:
            task: what all images share.

        Returns:
            Queries and gradients.
        """
        return 1, 1

    def images_at_once(self, task: Task) -> int:
        """Count how many images a step evaluates at once, for one image of the batch.

        Args:
            task: what all images share.

        Returns:
            At least 1; the number of lanes is chosen by it.
        """
        return self.cost(task)[0]

    def prepare(self, task: Task, inputs: Inputs, step_size: Any) -> Inputs:
        """Add what the attack wants to know of each image.

        Args:
            task: what all images share.
            inputs: NumPy arrays.
            step_size: one number or `[n]`; None: the attack's default.

        Returns:
            The inputs, perhaps with more of them.

        Raises:
            ValueError: a step size for an attack that has none.
        """
        if step_size is not None:
            raise ValueError(f"step_size is no setting of this attack. Received: {step_size}")
        return inputs

    def solve(self, task: Task, inputs: Inputs, run: Run) -> Outcome:
        """Attack, in one run or in several.

        Args:
            task: what all images share.
            inputs: NumPy arrays.
            run: runs the loop.

        Returns:
            The best of each image.
        """
        return run(task, self, inputs)


@dataclasses.dataclass(frozen=True)
class Path:
    """Every iterate of one image in one run; index 0 is the start, the last is evaluated too.

    Attributes:
        images: `[steps + 1, *flat]` float32.
        logits: `[steps + 1, k]`.
        objective: `[steps + 1]`, what the attack descends.
        gradients: `[steps + 1, *flat]`, of the objective; zeros where an attack takes none.
    """

    images: np.ndarray
    logits: np.ndarray
    objective: np.ndarray
    gradients: np.ndarray

    def of(self, image: int, count: int) -> Path:
        """Take one image out of the stacked paths of several.

        Args:
            image: its number.
            count: how many iterates.

        Returns:
            Its path.
        """
        fields = (getattr(self, field.name) for field in dataclasses.fields(self))
        return Path(*(values[:count, image] for values in fields))

    def then(self, later: Path) -> Path:
        """Go on with a run that starts where this one ends.

        Args:
            later: whose first iterate takes the place of the last one here.

        Returns:
            Both, one after the other.
        """
        return Path(
            *(
                np.concatenate([getattr(self, field.name)[:-1], getattr(later, field.name)])
                for field in dataclasses.fields(self)
            )
        )


@dataclasses.dataclass
class Outcome:
    """The best of each image, NumPy arrays `[n, ...]`.

    Attributes:
        image: `[n, *flat]`.
        status: `Status` as int32.
        value: the distance of a success of a minimal attack, else the objective.
        number: the step that made it, counted in the run that made it.
        steps: how many iterates were evaluated, in all runs together.
        paths: per image, the run that made it; None if iterates are not kept.
        certificate: a proof that no smaller change exists, of attacks that have one.
    """

    image: np.ndarray
    status: np.ndarray
    value: np.ndarray
    number: np.ndarray
    steps: np.ndarray
    paths: list[Path] | None = None
    certificate: Any = None

    def improve(self, index: np.ndarray, other: Outcome) -> np.ndarray:
        """Take over what a later run found better, with the path that led there.

        Args:
            index: `[m]`, which images the later run was about.
            other: its outcome, `[m, ...]`.

        Returns:
            `[m]` bool, where it was better.
        """
        better = (other.status > self.status[index]) | (
            (other.status == self.status[index]) & (other.value < self.value[index])
        )
        for name in ("image", "status", "value", "number"):
            getattr(self, name)[index[better]] = getattr(other, name)[better]
        if self.paths is not None and other.paths is not None:
            for here, there in zip(index[better], np.flatnonzero(better)):
                self.paths[here] = other.paths[there]
        self.steps[index] += other.steps
        return better


# run(task, attack, inputs) -> the best iterate of each image
Run = Callable[[Task, Attack, Inputs], Outcome]


def take(inputs: Inputs, index: np.ndarray) -> Inputs:
    """Take some images' inputs.

    Args:
        inputs: NumPy arrays `[n, ...]`.
        index: `[m]`.

    Returns:
        NumPy arrays `[m, ...]`.
    """
    return {name: values[index] for name, values in inputs.items()}
