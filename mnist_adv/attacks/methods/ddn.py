"""DDN: direction and norm decoupled (Rony et al., 2019)."""

from __future__ import annotations

import dataclasses

from mnist_adv.tensors.lazy import tf
from mnist_adv.attacks.methods.schedules import cosine
from mnist_adv.attacks.base import ROW, Method, Rows, State, Task, beyond_border
from mnist_adv.gradients.sources import GradientSource
from mnist_adv.gradients.losses import Loss
from mnist_adv.geometry.norms import GEOMETRY, Norm, per_image


@dataclasses.dataclass(frozen=True)
class DDN(Method):
    """Follow the gradient on a sphere that shrinks after a success and grows after a miss.

    Attributes:
        loss: what is descended.
        source: where gradients come from.
        radius: of the first sphere.
        change: how much the radius shrinks or grows, as a share.
        first_step: length of the first step; it falls to a hundredth of that along a cosine.
    """

    num_steps: int = 100
    loss: Loss = Loss.CROSS_ENTROPY
    source: GradientSource = GradientSource()
    radius: float = 1.0
    change: float = 0.05
    first_step: float = 1.0

    minimal = True
    norms = (Norm.L2,)

    def start(self, task: Task, rows: Rows) -> State:
        """Start at the clean image; see `Method.start`."""
        radius = tf.fill([rows["clean"].shape[0]], tf.constant(self.radius))
        return {"image": rows["clean"], "radius": radius}

    def look(self, task: Task, rows: Rows, state: State) -> State:
        """Take the gradient; see `Method.look`."""
        return task.look(self.loss, rows, state["image"], self.source, state["number"])

    def move(self, task: Task, rows: Rows, state: State) -> State:
        """Step along the gradient, then onto the sphere; see `Method.move`."""
        size = self.first_step * cosine(rows, state, last=0.01)
        unit = GEOMETRY[Norm.L2].steepest(state["gradient"])
        moved = state["image"] - rows["clean"] - per_image(size) * unit
        hit = beyond_border(task, rows, state["logits"])
        radius = state["radius"] * tf.where(hit, 1 - self.change, 1 + self.change)
        sphere = per_image(radius) * GEOMETRY[Norm.L2].steepest(moved)
        return {"image": tf.clip_by_value(rows["clean"] + sphere, 0, 1), "radius": radius}

    def cost(self, task: Task) -> tuple[int, int]:
        """Count the source's; see `Method.cost`."""
        return self.source.cost(ROW[-1])
