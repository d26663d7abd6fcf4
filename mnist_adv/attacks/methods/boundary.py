"""Boundary attack: a random walk along the border of a class (Brendel et al., 2018)."""

from __future__ import annotations

import dataclasses
from typing import Any

from typing_extensions import override

from mnist_adv.attacks.methods.decisions import DecisionAttack
from mnist_adv.attacks.task import Inputs, State, Task
from mnist_adv.geometry.norms import GEOMETRY, Norm, per_image
from mnist_adv.tensors.lazy import tf
from mnist_adv.tensors.randomness import normal

_HALVINGS = 10  # of the line from the clean image to the donor, before the walk
_CHECK_EVERY = 10  # steps of the walk: then the step along the sphere is tried alone
# How many tries of each kind settle its length, and the shares of success that it is kept between.
_SPHERE_TRIES, _SPHERE_SHARES = 30, (0.2, 0.5)
_SOURCE_TRIES, _SOURCE_SHARES = 30, (0.1, 0.25)
_FACTOR = 1.5


@dataclasses.dataclass(frozen=True)
class Boundary(DecisionAttack):
    """Step at random along the sphere around the clean image, then towards it; keep what succeeds.

    The lengths of both steps follow the shares of tries that succeed. The walk begins where a
    bisection of the line to the donor ends. One query a step.

    Attributes:
        sphere_step: along the sphere at first, over the distance.
        source_step: towards the clean image at first, over the distance.
    """

    num_steps: int = 5000
    sphere_step: float = 0.1
    source_step: float = 0.1

    norms = (Norm.L2,)
    images_kept = 4

    @override
    def start(self, task: Task, inputs: Inputs) -> State:
        count = [inputs["clean"].shape[0]]
        zeros = tf.zeros(count)
        return {
            "image": inputs["donor"],
            "border": inputs["donor"],
            "low": zeros,
            "high": tf.ones(count),
            "sphere_step": tf.fill(count, self.sphere_step),
            "source_step": tf.fill(count, self.source_step),
            **{
                f"{kind}_{what}": zeros
                for kind in ("sphere", "source")
                for what in ("tries", "met")
            },
        }

    @override
    def take_step(self, task: Task, inputs: Inputs, state: State) -> State:
        clean, number, image = inputs["clean"], state["number"], state["image"]
        met = task.is_adversarial(inputs, state["logits"])
        # What was asked in the step before: the donor, a point of the line, or a step of the walk.
        asked_line = number <= _HALVINGS
        asked_sphere = ~asked_line & (number % _CHECK_EVERY == 0)
        nearer = task.length(image - clean) < task.length(state["border"] - clean)
        kept = met & ~asked_sphere & (nearer | asked_line)
        border = tf.where(per_image(kept), image, state["border"])
        middle = (state["low"] + state["high"]) / 2
        first = number == 0
        low = tf.where(asked_line & ~met & ~first, middle, state["low"])
        high = tf.where(asked_line & met & ~first, middle, state["high"])
        lengths = {
            **self._adapt(state, "sphere", asked_sphere, met, _SPHERE_TRIES, _SPHERE_SHARES),
            **self._adapt(
                state, "source", ~asked_line & ~asked_sphere, met, _SOURCE_TRIES, _SOURCE_SHARES
            ),
        }
        ask_line = number + 1 <= _HALVINGS
        ask_sphere = (number + 1) % _CHECK_EVERY == 0
        line = clean + per_image((low + high) / 2) * (inputs["donor"] - clean)
        walk = self._walk(task, inputs, border, lengths, ask_sphere, number)
        following = tf.where(per_image(ask_line), line, walk)
        return {**lengths, "image": following, "border": border, "low": low, "high": high}

    def _walk(
        self, task: Task, inputs: Inputs, border: Any, lengths: State, alone: Any, number: Any
    ) -> Any:
        clean, unit = inputs["clean"], GEOMETRY[Norm.L2].steepest
        away = border - clean
        radius, outward = per_image(GEOMETRY[Norm.L2].length(away)), unit(away)
        noise = normal(inputs["keys"], number, task.flat)
        along = unit(
            noise - outward * tf.reduce_sum(noise * outward, axis=(1, 2, 3), keepdims=True)
        )
        moved = away + per_image(lengths["sphere_step"]) * radius * along
        on_sphere = radius * unit(moved)
        shrunk = on_sphere * (1 - per_image(lengths["source_step"]))
        return task.clip(clean + tf.where(per_image(alone), on_sphere, shrunk))

    def _adapt(
        self, state: State, kind: str, asked: Any, met: Any, most: int, shares: tuple[float, float]
    ) -> State:
        """Count a try; after enough of them make the step longer or shorter, and count anew."""
        tries = state[f"{kind}_tries"] + tf.cast(asked, tf.float32)
        successes = state[f"{kind}_met"] + tf.cast(asked & met, tf.float32)
        full = tries >= most
        share = successes / most
        step = state[f"{kind}_step"]
        step = tf.where(full & (share > shares[1]), step * _FACTOR, step)
        step = tf.where(full & (share < shares[0]), step / _FACTOR, step)
        return {
            f"{kind}_step": tf.minimum(step, 0.9),
            f"{kind}_tries": tf.where(full, 0.0, tries),
            f"{kind}_met": tf.where(full, 0.0, successes),
        }
