"""What an attack carries from step to step, and the one judge of every iterate.

All of it is per image (first dimension n), and no image looks at another: so an image's path is
the same whatever else is in its batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mnist_adv.tensors.lazy import tf
from mnist_adv.data.datasets import IMAGE_SHAPE
from mnist_adv.gradients.goals import Goal
from mnist_adv.gradients.sources import GradientSource
from mnist_adv.gradients.losses import Loss, Objective
from mnist_adv.geometry.norms import GEOMETRY, Norm, per_image

if TYPE_CHECKING:
    from mnist_adv.models.model import Model

# Inside the loop an image is one long row: XLA's loops run along the last dimension, and 28 pixels
# would be too short for them.
ROW = (1, 1, int(np.prod(IMAGE_SHAPE)))

# Names of what the loop itself carries; an attack adds names of its own.
Rows = dict[str, Any]
State = dict[str, Any]

# An attack that stops on the very border must not lose its success to another rounding of the
# logits: it counts a success from this share of the largest logit on.
_BORDER = 1e-5


@dataclasses.dataclass(frozen=True)
class Task:
    """What is the same for every image of a run.

    Attributes:
        model: images -> logits; compared by identity.
        targeted: whether the classes are to be reached (True) or left (False).
        norm: of the budget or the distance.
        num_classes: how many logits the model has.
        confidence: as in `Goal`.
    """

    model: Model = dataclasses.field(compare=False)
    targeted: bool
    norm: Norm
    num_classes: int
    confidence: float | None = None
    _identity: int = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Make tasks of the same model equal, also if the model cannot be hashed."""
        object.__setattr__(self, "_identity", id(self.model))

    @property
    def goal(self) -> Goal:
        """The goal without its classes, which are rows."""
        return Goal(np.empty(0, np.int64), self.targeted, self.confidence)

    def length(self, perturbation: Any) -> Any:
        """Measure `[n, *ROW]` in the task's norm, `[n]`."""
        return GEOMETRY[self.norm].length(perturbation)

    def objective(self, loss: Loss) -> Objective:
        """Sign a loss so that descending it serves the goal."""
        return Objective.to_descend(loss, targeted=self.targeted)

    def inside(self, rows: Rows, images: Any) -> Any:
        """Bring images `[n, *ROW]` into the budget around the clean ones, and into [0, 1]."""
        clean = rows["clean"]
        near = clean + GEOMETRY[self.norm].project(images - clean, rows["epsilon"])
        return tf.clip_by_value(near, 0, 1)

    def logits(self, images: Any) -> Any:
        """Ask the model about images `[n, *ROW]`: logits `[n, num_classes]`."""
        # A Keras function forgets how many images came, which a compiled loop must know.
        return tf.reshape(self.model(square(images)), [images.shape[0], self.num_classes])

    def look(
        self, loss: Loss, rows: Rows, images: Any, source: GradientSource, stream: Any = None
    ) -> State:
        """Ask the model about images, with a gradient.

        Args:
            loss: what is descended.
            rows: "classes" and "keys" among them.
            images: `[n, *ROW]`.
            source: where the gradient comes from.
            stream: `[n]` int32, which draw of random directions.

        Returns:
            "logits" `[n, k]`, "objective" `[n]`, "gradient" `[n, *ROW]`.
        """
        objective = self.objective(loss)
        logits, gradient = source(
            self.model,
            objective,
            square(images),
            rows["classes"],
            keys=rows["keys"],
            stream=stream,
        )
        logits = tf.reshape(logits, [images.shape[0], self.num_classes])
        return {
            "logits": logits,
            "objective": objective(logits, rows["classes"]),
            "gradient": tf.reshape(gradient, images.shape),
        }

    def glance(self, loss: Loss, rows: Rows, images: Any) -> State:
        """Ask the model about images, without a gradient.

        Args:
            loss: what is descended.
            rows: "classes" among them.
            images: `[n, *ROW]`.

        Returns:
            "logits" `[n, k]`, "objective" `[n]`.
        """
        logits, objective = self.logits(images), self.objective(loss)
        return {"logits": logits, "objective": objective(logits, rows["classes"])}


@dataclasses.dataclass(frozen=True)
class Method:
    """An attack: settings, and the functions that the loop calls.

    Attributes:
        num_steps: most steps taken, for images that were given no number of their own.
    """

    num_steps: int = 40

    minimal: ClassVar[bool] = False  # seeks the smallest distance, not the best inside a budget
    norms: ClassVar[tuple[Norm, ...]] = tuple(Norm)
    # How much of an image a step works on: clean, current and best image, gradient, and what the
    # method carries in and out besides. Batches are chosen by it.
    rows_kept: ClassVar[int] = 4

    @property
    def ends_at_goal(self) -> bool:
        """Whether an image is done as soon as its goal is met."""
        return not self.minimal

    def start(self, task: Task, rows: Rows) -> State:
        """Make the method's entries of the state before the first step.

        Args:
            task: what all images share.
            rows: as `begin`.

        Returns:
            "image" `[n, *ROW]` and whatever the method carries, each `[n, ...]`.
        """
        return {"image": rows["clean"]}

    def look(self, task: Task, rows: Rows, state: State) -> State:
        """Ask the model about the current images.

        Args:
            task: what all images share.
            rows: as `begin`.
            state: as `begin`.

        Returns:
            "logits", "objective" and, of methods that take one, "gradient"; perhaps "stop" `[n]`
            bool, images that have nothing left to do.
        """
        raise TypeError(f"{type(self).__name__} does not look")

    def move(self, task: Task, rows: Rows, state: State) -> State:
        """Take one step.

        Args:
            task: what all images share.
            rows: as `begin`.
            state: with what `look` saw at the current images.

        Returns:
            The entries that change, "image" among them.
        """
        raise TypeError(f"{type(self).__name__} does not move")

    def cost(self, task: Task) -> tuple[int, int]:
        """Count a step's model queries, and gradients among them, for one image.

        Args:
            task: what all images share.

        Returns:
            Queries and gradients.
        """
        return 1, 1

    def load(self, task: Task) -> int:
        """Count how many images a step really works on, for one image: batches are chosen by it.

        Args:
            task: what all images share.

        Returns:
            At least 1.
        """
        return self.cost(task)[0]

    def prepare(self, task: Task, rows: Rows, step_size: Any) -> Rows:
        """Add what the method wants to know of each image.

        Args:
            task: what all images share.
            rows: NumPy rows.
            step_size: one number or `[n]`; None: the method's default.

        Returns:
            The rows, perhaps with more of them.

        Raises:
            ValueError: a step size for a method that has none.
        """
        if step_size is not None:
            raise ValueError(f"step_size is no setting of this attack. Received: {step_size}")
        return rows

    def solve(self, task: Task, rows: Rows, run: Run) -> Outcome:
        """Attack, in one run or in several.

        Args:
            task: what all images share.
            rows: NumPy rows.
            run: runs the loop.

        Returns:
            The best of each image.
        """
        return run(task, self, rows)


@dataclasses.dataclass
class Outcome:
    """The best of each image, NumPy arrays `[n, ...]`.

    Attributes:
        image: `[n, *ROW]`.
        rank: -1 never judged, 0 missed, 1 reached, 2 reached with the wanted confidence.
        value: the distance of a success of a minimal attack, else the objective.
        number: the step that made it.
        steps: how many iterates were judged.
    """

    image: np.ndarray
    rank: np.ndarray
    value: np.ndarray
    number: np.ndarray
    steps: np.ndarray

    def improve(self, index: np.ndarray, other: Outcome) -> np.ndarray:
        """Take over what a later run found better.

        Args:
            index: `[m]`, which images the later run was about.
            other: its outcome, `[m, ...]`.

        Returns:
            `[m]` bool, where it was better.
        """
        better = (other.rank > self.rank[index]) | (
            (other.rank == self.rank[index]) & (other.value < self.value[index])
        )
        for name in ("image", "rank", "value", "number"):
            getattr(self, name)[index[better]] = getattr(other, name)[better]
        self.steps[index] += other.steps
        return better


# run(task, method, rows) -> the best iterate of each image
Run = Callable[[Task, Method, Rows], Outcome]


def only(rows: Rows, index: np.ndarray) -> Rows:
    """Take some images' rows, NumPy arrays both."""
    return {name: values[index] for name, values in rows.items()}


def square(images: Any) -> Any:
    """Give images `[n, *ROW]` the form that models know, `[n, 28, 28, 1]`."""
    return tf.reshape(images, [-1, *IMAGE_SHAPE])


def begin(task: Task, method: Method, rows: Rows) -> State:
    """Make the whole state before the first step, the starting images judged.

    Args:
        task: what all images share.
        method: the attack.
        rows: "clean" `[n, *ROW]`, "classes", "epsilon", "num_steps", "keys", ...

    Returns:
        The state.
    """
    count = [rows["clean"].shape[0]]
    state = {
        **method.start(task, rows),
        "number": tf.zeros(count, tf.int32),
        "done": tf.zeros(count, tf.bool),
        "best_image": rows["clean"],
        "best_rank": tf.fill(count, -1),
        "best_value": tf.fill(count, np.float32(np.inf)),
        "best_number": tf.zeros(count, tf.int32),
    }
    return _judge(task, method, rows, {**state, **method.look(task, rows, state)})


def advance(task: Task, method: Method, rows: Rows, state: State) -> State:
    """Take one step, look, judge, keep the best: the only loop body there is.

    Args:
        task: what all images share.
        method: the attack.
        rows: as `begin`.
        state: as `begin` makes it.

    Returns:
        The state after the step. The image of what is done stays, and so does its best; its other
        entries no longer mean anything.
    """
    # Moving first and judging afterwards lets the compiled loop move the images in place.
    following = dict(method.move(task, rows, state))
    done = state["done"]
    following["image"] = tf.where(per_image(done), state["image"], following["image"])
    following["number"] = tf.where(done, state["number"], state["number"] + 1)
    state = {**state, **following}
    return _judge(task, method, rows, {**state, **method.look(task, rows, state)})


def _judge(task: Task, method: Method, rows: Rows, state: State) -> State:
    rank, value = _rank(task, method, rows, state)
    better = (rank > state["best_rank"]) | (
        (rank == state["best_rank"]) & (value < state["best_value"])
    )
    better &= ~state["done"]
    best_rank = tf.where(better, rank, state["best_rank"])
    done = state["done"] | (state["number"] >= rows["num_steps"])
    if "stop" in state:
        done |= state["stop"]
    if method.ends_at_goal:
        done |= best_rank == 2
    return {
        **state,
        "done": done,
        "best_image": tf.where(per_image(better), state["image"], state["best_image"]),
        "best_rank": best_rank,
        "best_value": tf.where(better, value, state["best_value"]),
        "best_number": tf.where(better, state["number"], state["best_number"]),
    }


def _rank(task: Task, method: Method, rows: Rows, state: State) -> tuple[Any, Any]:
    logits, classes = state["logits"], rows["classes"]
    if method.minimal:
        hit = beyond_border(task, rows, logits)
        distance = task.length(state["image"] - rows["clean"])
        return 2 * tf.cast(hit, tf.int32), tf.where(hit, distance, state["objective"])
    rank = tf.cast(task.goal.reached(logits, classes), tf.int32)
    if task.confidence is None:
        return 2 * rank, state["objective"]
    return rank + tf.cast(task.goal.satisfied(logits, classes), tf.int32), state["objective"]


def beyond_border(task: Task, rows: Rows, logits: Any) -> Any:
    """Say which images meet the goal by more than rounding could undo.

    Args:
        task: what all images share.
        rows: "classes" among them.
        logits: `[n, k]`.

    Returns:
        `[n]` bool.
    """
    margin = task.objective(Loss.MARGIN)(logits, rows["classes"])
    return margin < -_BORDER * tf.reduce_max(tf.abs(logits), axis=1)
