"""HopSkipJump: the border's direction from decisions beside it (Chen et al., 2020)."""

from __future__ import annotations

import dataclasses
from typing import Any

from typing_extensions import override

from mnist_adv.arguments import whole
from mnist_adv.attacks.methods.decisions import DecisionAttack
from mnist_adv.attacks.task import Inputs, State, Task
from mnist_adv.geometry.norms import GEOMETRY, Norm, per_image
from mnist_adv.tensors.lazy import tf
from mnist_adv.tensors.randomness import normal, uniform

# What is asked for next: a point of the line, a point beside the border, a jump off it.
_SEARCH, _ESTIMATE, _JUMP = 0, 1, 2
_MOST_HALVINGS = 20  # of a jump that finds no adversarial image
_FIRST_RADIUS = 0.1  # around the first point of the border
_TINY = 1e-7  # below which float32 images no longer differ


@dataclasses.dataclass(frozen=True)
class HopSkipJump(DecisionAttack):
    """Estimate the border's normal from decisions around it, jump along it, search back; again.

    Each image is in a phase of its own: a bisection of the line to the clean image, then
    `first_samples * sqrt(round)` points around the border, then jumps, halved until one is
    adversarial. One query a step.

    Attributes:
        first_samples: points around the border in the first round.
    """

    num_steps: int = 5000
    first_samples: int = 100

    norms = (Norm.LINF, Norm.L2)
    images_kept = 7

    def __post_init__(self) -> None:
        """Refuse settings without meaning."""
        super().__post_init__()
        whole(self.first_samples, "first_samples")

    @override
    def start(self, task: Task, inputs: Inputs) -> State:
        clean, donor = inputs["clean"], inputs["donor"]
        zeros, nothing = tf.zeros([clean.shape[0]]), tf.zeros_like(clean)
        return {
            "image": donor,
            "phase": tf.zeros_like(zeros, tf.int32),
            "far": donor,  # the end of the line that is searched
            "border": donor,
            "low": zeros,
            "high": self._whole_line(task, donor - clean),
            "radius": zeros,
            "samples": zeros,
            "points": nothing,  # sums over the samples: of the points, and of those that succeed
            "successes": nothing,
            "met": zeros,
            "round": zeros,
            "normal": nothing,
            "jump": zeros,
        }

    @override
    def take_step(self, task: Task, inputs: Inputs, state: State) -> State:
        met = task.is_adversarial(inputs, state["logits"])
        searched = self._after_search(task, inputs, state, met)
        estimated = self._after_estimate(task, inputs, state, met)
        jumped = self._after_jump(task, inputs, state, met)
        phase = state["phase"]
        following = {
            name: _choose(phase, searched[name], estimated[name], jumped[name]) for name in searched
        }
        proposals = (
            self._on_line(task, inputs["clean"], following),
            self._beside(task, inputs, following, state["number"]),
            task.clip(following["border"] + per_image(following["jump"]) * following["normal"]),
        )
        return {**following, "image": _choose(following["phase"], *proposals)}

    def _after_search(self, task: Task, inputs: Inputs, state: State, met: Any) -> State:
        # The first query is the donor itself, which only confirms the start.
        middle = (state["low"] + state["high"]) / 2
        first = state["number"] == 0
        high = tf.where(met & ~first, middle, state["high"])
        low = tf.where(met | first, state["low"], middle)
        found = {**state, "low": low, "high": high}
        end = {**found, "low": high}
        border = self._on_line(task, inputs["clean"], end)
        done = high - low <= self._precision(task, high)
        return self._begin_estimate(task, inputs, found, border, done)

    def _begin_estimate(
        self, task: Task, inputs: Inputs, state: State, border: Any, done: Any
    ) -> State:
        distance = task.length(border - inputs["clean"])
        count = state["round"] + 1
        radius = tf.where(count <= 1, _FIRST_RADIUS, self._share(task) * distance)
        nothing = tf.zeros_like(border)
        zeros = tf.zeros_like(distance)
        begun = {
            "phase": tf.fill(tf.shape(distance), _ESTIMATE),
            "border": border,
            "radius": radius,
            "round": count,
            "samples": zeros,
            "met": zeros,
            "points": nothing,
            "successes": nothing,
        }
        return {**_kept(state), **{name: _where(done, begun[name], state[name]) for name in begun}}

    def _after_estimate(self, task: Task, inputs: Inputs, state: State, met: Any) -> State:
        radius = per_image(state["radius"])
        point = tf.math.divide_no_nan(state["image"] - state["border"], radius)
        samples = state["samples"] + 1
        points = state["points"] + point
        successes = state["successes"] + per_image(tf.cast(met, tf.float32)) * point
        total = state["met"] + tf.cast(met, tf.float32)
        share = total / samples
        # The mean of (decision - mean decision) times point; where all agree, of the points alone.
        mixed = 2 * (successes - per_image(share) * points)
        agreed = tf.where(per_image(share > 0.5), points, -points)
        same = (share == 0) | (share == 1)
        slope = tf.where(per_image(same), agreed, mixed)
        steepest = GEOMETRY[task.norm].steepest(slope)
        wanted = tf.round(self.first_samples * tf.sqrt(tf.maximum(state["round"], 1)))
        done = samples >= wanted
        distance = task.length(state["border"] - inputs["clean"])
        jump = distance / tf.sqrt(tf.maximum(state["round"], 1))
        return {
            **_kept(state),
            "samples": samples,
            "points": points,
            "successes": successes,
            "met": total,
            "phase": tf.where(done, _JUMP, _ESTIMATE),
            "normal": _where(done, steepest, state["normal"]),
            "jump": tf.where(done, jump, state["jump"]),
        }

    def _after_jump(self, task: Task, inputs: Inputs, state: State, met: Any) -> State:
        distance = task.length(state["border"] - inputs["clean"])
        least = distance * 2.0**-_MOST_HALVINGS
        given_up = ~met & (state["jump"] / 2 < least)
        away = state["image"] - inputs["clean"]
        found = {
            **_kept(state),
            "jump": tf.where(met, state["jump"], state["jump"] / 2),
            "phase": tf.where(met, _SEARCH, _JUMP),
            "far": _where(met, state["image"], state["far"]),
            "low": tf.where(met, tf.zeros_like(distance), state["low"]),
            "high": tf.where(met, self._whole_line(task, away), state["high"]),
        }
        return self._begin_estimate(task, inputs, found, state["border"], given_up)

    def _whole_line(self, task: Task, away: Any) -> Any:
        """Measure the line to a point: for linf by its distance, for l2 as a share."""
        length = task.length(away)
        return length if task.norm is Norm.LINF else tf.ones_like(length)

    def _on_line(self, task: Task, clean: Any, state: State) -> Any:
        place = per_image((state["low"] + state["high"]) / 2)
        away = state["far"] - clean
        if task.norm is Norm.LINF:
            return clean + tf.clip_by_value(away, -place, place)
        return clean + place * away

    # The L2 radius around the border over the distance. The paper's is smaller, 1 / pixels, and
    # needs a search that is as much finer.
    def _share(self, task: Task) -> float:
        return 1.0 if task.norm is Norm.LINF else task.num_pixels**-0.5

    # A point beside the border moves a linear logit by about radius / sqrt(pixels) gradients, and
    # the search by its precision in L2 (in L-inf, sqrt(pixels) times more): it is ten times finer.
    def _precision(self, task: Task, high: Any) -> Any:
        pixels = float(task.num_pixels)
        if task.norm is Norm.LINF:
            return 0.1 * self._share(task) / pixels * high + _TINY
        return tf.fill(tf.shape(high), 0.1 * self._share(task) / pixels**0.5 + _TINY)

    def _beside(self, task: Task, inputs: Inputs, state: State, number: Any) -> Any:
        if task.norm is Norm.LINF:
            noise = 2 * uniform(inputs["keys"], number, task.flat) - 1
        else:
            noise = normal(inputs["keys"], number, task.flat)
        point = GEOMETRY[Norm.L2].steepest(noise)
        return task.clip(state["border"] + per_image(state["radius"]) * point)


_OF_THE_LOOP = (
    *("image", "number", "done", "logits", "objective", "gradient"),
    *("best_image", "best_status", "best_value", "best_number"),
)


def _kept(state: State) -> State:
    return {name: value for name, value in state.items() if name not in _OF_THE_LOOP}


def _where(condition: Any, one: Any, other: Any) -> Any:
    if one.shape.rank > 1:
        condition = per_image(condition)
    return tf.where(condition, one, other)


def _choose(phase: Any, searched: Any, estimated: Any, jumped: Any) -> Any:
    return _where(phase == _SEARCH, searched, _where(phase == _ESTIMATE, estimated, jumped))
