"""Count what attacks ask of a model, and hold them to a budget of it.

A wrapper around the model counts while an attack's start and one of its steps run on one image,
eagerly. Every step of an attack asks the model equally often, so that the steps which an image took
say what it cost; an image that is done takes no more of them.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from mnist_adv.attacks.base import Attack, Outcome, Path, Run, take
from mnist_adv.attacks.loop import advance, begin
from mnist_adv.attacks.task import Inputs, Status, Task
from mnist_adv.models.linear import LinearModel, is_linear
from mnist_adv.tensors.lazy import tf

_MAX_KNOWN = 256
_NO_LIMIT = 2**62
_INT32 = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Passes:
    """How often a model is asked about one image.

    Attributes:
        forward: passes from the image to logits.
        backward: passes from logits to a gradient of the image.
    """

    forward: int
    backward: int

    @property
    def total(self) -> int:
        """Both, which is what a budget of queries counts."""
        return self.forward + self.backward


@dataclasses.dataclass(frozen=True)
class Cost:
    """What an attack asks of a model for one image.

    Attributes:
        start: before the first step.
        step: in each step.
    """

    start: Passes
    step: Passes

    def of(self, num_steps: np.ndarray) -> dict[str, np.ndarray]:
        """Count what one run cost.

        Args:
            num_steps: `[n]`, taken by each image.

        Returns:
            "queries" and "gradients" of an `Outcome`, `[n]` int64.
        """
        steps = num_steps.astype(np.int64)
        return {
            "queries": self.start.forward + steps * self.step.forward,
            "gradients": self.start.backward + steps * self.step.backward,
        }


class CountedModel:
    """A model that counts the images that pass through it, forwards and backwards."""

    def __init__(self, model: Any) -> None:
        """Wrap a model.

        Args:
            model: images `[n, h, w, c]` -> logits `[n, k]`, run eagerly.
        """
        self.model = model
        self.forward = self.backward = 0

    def __call__(self, images: Any) -> Any:
        """Compute logits.

        Args:
            images: `[n, h, w, c]`.

        Returns:
            `[n, k]`.
        """

        def counted(images: Any) -> tuple[Any, Any]:
            count = int(images.shape[0])
            self.forward += count
            with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
                tape.watch(images)
                logits = tf.convert_to_tensor(self.model(images))

            def back(upstream: Any, variables: Any = ()) -> Any:
                self.backward += count
                gradient = tape.gradient(logits, images, upstream)
                if gradient is None:
                    raise LookupError("no gradient flows through the model")
                return (gradient, [None] * len(variables)) if variables else gradient

            return logits, back

        return tf.custom_gradient(counted)(tf.convert_to_tensor(images))

    def passes(self) -> Passes:
        """Say what was counted since the last call, and start again.

        Returns:
            The passes.
        """
        found = Passes(self.forward, self.backward)
        self.forward = self.backward = 0
        return found

    def __repr__(self) -> str:
        return repr(self.model)


class _CountedLinear(LinearModel):
    """A linear model whose closed form, which multiplies by W, counts as the backward pass."""

    def __init__(self, counted: CountedModel) -> None:
        """Wrap the wrapper of a linear model.

        Args:
            counted: where passes are counted.
        """
        self._counted, self._last = counted, 0

    def __call__(self, images: Any) -> Any:
        """Compute logits.

        Args:
            images: `[n, h, w, c]`.

        Returns:
            `[n, k]`.
        """
        self._last = int(images.shape[0])
        return self._counted(images)

    @property
    def W(self) -> Any:  # type: ignore[override]
        self._counted.backward += self._last
        return self._counted.model.W


def measure(task: Task, attack: Attack, inputs: Inputs) -> Cost:
    """Measure what an attack asks of a model for one image.

    Args:
        task: what all images share.
        attack: its settings.
        inputs: NumPy arrays `[n, ...]` of a run, n at least 1; the first image is tried.

    Returns:
        The cost, remembered for this model and attack.
    """
    known = _known(task, attack)
    if not known:
        counted = CountedModel(task.model)
        model: Any = _CountedLinear(counted) if is_linear(task.model) else counted
        alone = dataclasses.replace(task, model=model, blocked=False)
        first = {name: tf.constant(values[:1]) for name, values in inputs.items()}
        state = begin(alone, attack, first)
        start = counted.passes()
        advance(alone, attack, first, state)
        known.append(Cost(start, counted.passes()))
    return known[0]


@functools.lru_cache(maxsize=_MAX_KNOWN)
def _known(task: Task, attack: Attack) -> list[Cost]:
    return []


class Budget:
    """What each image of a block may still ask of the model, in all runs together.

    Attributes:
        left: `[n]` int64, passes.
        distances_at: `[n, p]` float32, the smallest distance found with as many passes as each
            mark says, in the unit box; infinite where nothing was found.
        draws: of a randomized model for each pass that is counted here.
    """

    def __init__(self, most: np.ndarray | None, marks: np.ndarray, draws: int = 1) -> None:
        """Start with nothing spent.

        Args:
            most: `[n]`, forward and backward passes of each image; None: no limit.
            marks: `[n, p]`, numbers of passes at which distances are recorded; p may be 0.
            draws: of a randomized model for each pass that is counted here.
        """
        limit = np.full(len(marks), _NO_LIMIT) if most is None else most
        self._most, self.draws = limit.astype(np.int64), draws
        self.left = self._most.copy()
        self._began = np.zeros(len(marks), bool)
        self._marks = marks.astype(np.int64)
        self.distances_at = np.full(marks.shape, np.inf, np.float32)

    def shared(
        self, task: Task, attack: Attack, inputs: Inputs, num_runs: int, starts: int
    ) -> Inputs:
        """Choose numbers of steps with which as many runs as planned fit.

        Args:
            task: what all images share.
            attack: that is run.
            inputs: NumPy arrays, "index" among them.
            num_runs: planned, each with these steps.
            starts: of one run, which may be cut into several.

        Returns:
            The inputs, with fewer steps where they would not fit; at least one.
        """
        cost = measure(task, attack, _known_to_runs(inputs))
        each = self.left[inputs["index"]] // (num_runs * self.draws) - starts * cost.start.total
        steps = np.maximum(each // max(1, cost.step.total), 1)
        fewer = np.minimum(inputs["num_steps"], steps).astype(np.int32)
        return {**inputs, "num_steps": fewer}

    def hold(self, run: Run, task: Task, attack: Attack, inputs: Inputs) -> Outcome:
        """Run the loop for the images that can still pay its start, with the steps they can pay.

        Args:
            run: runs the loop.
            task: what all images share.
            attack: its settings.
            inputs: NumPy arrays, "index" among them.

        Returns:
            The best of each image; clean and unseen where nothing was run.

        Raises:
            ValueError: the whole budget of an image does not pay the first start.
        """
        index, inputs = inputs["index"], _known_to_runs(inputs)
        cost = measure(task, attack, inputs)
        first = cost.start.total * self.draws
        left = self.left[index] - first
        short = (left < 0) & ~self._began[index]
        if short.any():
            raise ValueError(
                f"max_queries must be at least {first} here: that is what the starting "
                f"image alone asks of the model. Received: {self.left[index][short].min()}"
            )
        self._began[index] = True
        able = np.flatnonzero(left >= 0)
        affordable = np.maximum(left, 0) // max(1, cost.step.total * self.draws)
        inputs["num_steps"] = np.minimum(inputs["num_steps"], affordable).astype(np.int32)
        if attack.minimal and self._marks.size:
            unspent = self._marks[index] - (self._most[index] - left)[:, np.newaxis]
            steps = unspent // max(1, cost.step.total * self.draws)
            inputs["record_at"] = np.clip(steps, -1, _INT32).astype(np.int32)
        if len(able) == len(index):
            found = run(task, attack, inputs)
        else:
            found = _nothing(task, inputs)
            if len(able):
                chosen = run(task, attack, take(inputs, able))
                if chosen.paths is not None:
                    found.paths = [_not_run(task, image) for image in inputs["clean"]]
                found.improve(able, chosen)
                found.distances_at = _spread(chosen.distances_at, able, len(index))
        self.left[index] -= (found.queries + found.gradients) * self.draws
        self._record(task, index, inputs["clean"], found)
        return found

    def _record(self, task: Task, index: np.ndarray, clean: np.ndarray, found: Outcome) -> None:
        at = found.distances_at
        if at is None:  # a run in a budget ends when its goal is met
            away = np.asarray(task.length(tf.constant(found.image - clean)))
            distance = np.where(found.status == Status.ADVERSARIAL, away, np.inf)
            spent = (self._most - self.left)[index]
            later = self._marks[index] >= spent[:, np.newaxis]
            at = np.where(later, distance[:, np.newaxis], np.inf)
        self.distances_at[index] = np.minimum(self.distances_at[index], at)


def _known_to_runs(inputs: Inputs) -> Inputs:
    return {name: values for name, values in inputs.items() if name != "index"}


def _spread(values: np.ndarray | None, index: np.ndarray, count: int) -> np.ndarray | None:
    if values is None:
        return None
    spread = np.full((count, *values.shape[1:]), np.inf, values.dtype)
    spread[index] = values
    return spread


def _nothing(task: Task, inputs: Inputs) -> Outcome:
    count = len(inputs["clean"])
    return Outcome(
        image=np.array(inputs["clean"], np.float32),
        status=np.full(count, Status.UNSEEN, np.int32),
        value=np.full(count, np.inf, np.float32),
        number=np.zeros(count, np.int32),
        queries=np.zeros(count, np.int64),
        gradients=np.zeros(count, np.int64),
    )


def _not_run(task: Task, image: np.ndarray) -> Path:
    # What was not evaluated is not a number.
    return Path(
        images=image[np.newaxis],
        logits=np.full((1, task.num_classes), np.nan, np.float32),
        objective=np.full(1, np.nan, np.float32),
        gradients=np.zeros_like(image[np.newaxis]),
    )
