"""What an attack is: settings, and the functions that the loop calls on whole batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from mnist_adv.arguments import real, shown, whole, yes_or_no
from mnist_adv.attacks.task import Inputs, State, Task
from mnist_adv.geometry.norms import Norm

_OF_OURS = ("GradientSource", "Loss", "Step")


@dataclasses.dataclass(frozen=True)
class Attack:
    """An attack: settings, and the functions that the loop calls.

    Attributes:
        num_steps: most steps taken, for images that were given no number of their own.
    """

    num_steps: int = 40

    def __post_init__(self) -> None:
        """Refuse what a field does not hold; numbers are at least 0, and in int32 or float32."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            kind = getattr(field.type, "__name__", str(field.type))
            if kind == "bool":
                yes_or_no(value, field.name)
            elif kind == "int":
                whole(value, field.name, 0)
            elif kind == "float" or (kind == "float | None" and value is not None):
                real(value, field.name, 0)
            elif kind in _OF_OURS and type(value).__name__ != kind:
                raise ValueError(f"{field.name} must be a {kind}. Received: {shown(value)}")

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

    @property
    def draws(self) -> bool:
        """Whether it may draw at random: only then are there "keys" among its inputs."""
        return True

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
            bool, images that have nothing left to do, and "inside" `[n]` bool, images that lie in
            the budget: the others do not count.
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
        """Say how many forward and backward passes a step takes for one image.

        By it lanes are chosen and errors name attacks; what is reported is measured (`queries`).

        Args:
            task: what all images share.

        Returns:
            Forward and backward passes.
        """
        return 1, 1

    def num_runs(self, task: Task) -> int:
        """Count the runs of the loop.

        Args:
            task: what all images share.

        Returns:
            The most for one image.
        """
        return 1

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


@dataclasses.dataclass(frozen=True)
class PartReport:
    """What an ensemble says of one of its attacks.

    Attributes:
        name: of the attack.
        num_images: how many images it attacked.
        seconds: how long it took.
    """

    name: str
    num_images: int
    seconds: float


@dataclasses.dataclass
class Outcome:
    """The best of each image, NumPy arrays `[n, ...]`.

    Attributes:
        image: `[n, *flat]`.
        status: `Status` as int32.
        value: the distance of a success of a minimal attack, else the objective.
        number: the step that made it, counted in the run that made it.
        queries: forward passes of the model, in all runs together.
        gradients: backward passes, in all runs together.
        paths: per image, the run that made it; None if iterates are not kept.
        certificate: a proof that no smaller change exists, of attacks that have one.
        distances_at: `[n, p]`, the smallest distance after as many steps as "record_at" said.
        made_by: of ensembles, the number of the part that made the image.
        parts: of ensembles, what each part did, as far as it was needed.
    """

    image: np.ndarray
    status: np.ndarray
    value: np.ndarray
    number: np.ndarray
    queries: np.ndarray
    gradients: np.ndarray
    paths: list[Path] | None = None
    certificate: Any = None
    distances_at: np.ndarray | None = None
    made_by: np.ndarray | None = None
    parts: list[PartReport] = dataclasses.field(default_factory=list)

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
        self.spend(index, other)
        return better

    def spend(self, index: np.ndarray, other: Outcome) -> None:
        """Count what a later run cost.

        Args:
            index: `[m]`, which images the later run was about.
            other: its outcome, `[m, ...]`.
        """
        self.queries[index] += other.queries
        self.gradients[index] += other.gradients


# run(task, attack, inputs) -> the best iterate of each image; that of a whole attack is a `Runner`
Run = Callable[[Task, Attack, Inputs], Outcome]


def joined(reports: Sequence[Sequence[PartReport]]) -> tuple[PartReport, ...]:
    """Add up what an ensemble's parts did in several blocks of images.

    Args:
        reports: of each block, in the order of the parts.

    Returns:
        One report per part.
    """
    longest = max(reports, key=len, default=())
    return tuple(
        PartReport(
            part.name,
            sum(block[number].num_images for block in reports if number < len(block)),
            sum(block[number].seconds for block in reports if number < len(block)),
        )
        for number, part in enumerate(longest)
    )


def take(inputs: Inputs, index: np.ndarray) -> Inputs:
    """Take some images' inputs.

    Args:
        inputs: NumPy arrays `[n, ...]`.
        index: `[m]`.

    Returns:
        NumPy arrays `[m, ...]`.
    """
    return {name: values[index] for name, values in inputs.items()}
