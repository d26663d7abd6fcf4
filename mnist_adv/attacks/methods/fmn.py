"""FMN: fast minimum-norm attacks in four norms (Pintor et al., 2021)."""

from __future__ import annotations

import dataclasses
from typing import Any

from mnist_adv.tensors.lazy import tf
from mnist_adv.attacks.methods.schedules import cosine
from mnist_adv.attacks.base import ROW, Method, Rows, State, Task, beyond_border
from mnist_adv.gradients.sources import GradientSource
from mnist_adv.gradients.losses import Loss
from mnist_adv.geometry.norms import GEOMETRY, Norm, per_image

# the norm by whose length of the gradient a gap in the loss becomes a distance
_DUAL = {Norm.LINF: Norm.L1, Norm.L2: Norm.L2, Norm.L1: Norm.LINF}


@dataclasses.dataclass(frozen=True)
class FMN(Method):
    """Descend the margin in a ball whose radius is drawn to the border of the class.

    Attributes:
        source: where gradients come from.
        change: share by which the radius changes at first; it falls to a fiftieth along a cosine.
        first_step: L2 length of the first step; None: 3 for linf, else 1. It falls to a hundredth
            along a cosine.
    """

    num_steps: int = 100
    source: GradientSource = GradientSource()
    change: float = 0.05
    first_step: float | None = None

    minimal = True
    norms = (Norm.LINF, Norm.L2, Norm.L1, Norm.L0)

    def start(self, task: Task, rows: Rows) -> State:
        """Start at the clean image; see `Method.start`."""
        count = [rows["clean"].shape[0]]
        return {
            "image": rows["clean"],
            "radius": tf.fill(count, 1.0 if task.norm is Norm.L0 else float("inf")),
            "found": tf.fill(count, float("inf")),
        }

    def look(self, task: Task, rows: Rows, state: State) -> State:
        """Take the margin's gradient; see `Method.look`."""
        return task.look(Loss.MARGIN, rows, state["image"], self.source, state["number"])

    def move(self, task: Task, rows: Rows, state: State) -> State:
        """Adapt the radius, step, project; see `Method.move`."""
        clean, gradient = rows["clean"], state["gradient"]
        away = state["image"] - clean
        hit = beyond_border(task, rows, state["logits"])
        length = task.length(away)
        found = tf.where(hit, tf.minimum(state["found"], length), state["found"])
        change = self.change * cosine(rows, state, last=0.02)
        radius = self._radius(task, state, hit, length, found, change)
        radius = tf.minimum(radius, task.length(tf.maximum(clean, 1 - clean)))
        longest = 3.0 if task.norm is Norm.LINF else 1.0
        first = longest if self.first_step is None else self.first_step
        size = first * cosine(rows, state, last=0.01)
        moved = away - per_image(size) * GEOMETRY[Norm.L2].steepest(gradient)
        inside = clean + GEOMETRY[task.norm].project(moved, radius)
        return {"image": tf.clip_by_value(inside, 0, 1), "radius": radius, "found": found}

    def _radius(
        self, task: Task, state: State, hit: Any, length: Any, found: Any, change: Any
    ) -> Any:
        before = state["radius"]
        if task.norm is Norm.L0:
            fewer = tf.minimum(tf.minimum(before - 1, tf.floor(before * (1 - change))), found)
            more = tf.maximum(before + 1, tf.floor(before * (1 + change)))
            return tf.maximum(tf.where(hit, fewer, more), 0)
        slope = GEOMETRY[_DUAL[task.norm]].length(state["gradient"])
        gap = tf.math.divide_no_nan(tf.abs(state["objective"]), slope)
        # Past the border as the model's slope has it: on it, a linear model never flips.
        border = (length + gap) * (1 + change)
        grown = tf.where(before < float("inf"), before * (1 + change), 0.0)
        outside = tf.where(found < float("inf"), grown, tf.maximum(border, grown))
        return tf.where(hit, tf.minimum(before * (1 - change), found), outside)

    def cost(self, task: Task) -> tuple[int, int]:
        """Count the source's; see `Method.cost`."""
        return self.source.cost(ROW[-1])
