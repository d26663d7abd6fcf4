"""EAD: the elastic net, an L1 twin of Carlini and Wagner's attack (Chen et al., 2018)."""

from __future__ import annotations

import dataclasses

from mnist_adv.tensors.lazy import tf
from mnist_adv.attacks.methods.constant_search import ConstantSearch
from mnist_adv.attacks.methods.schedules import progress
from mnist_adv.attacks.base import Rows, State, Task
from mnist_adv.gradients.sources import GradientSource
from mnist_adv.gradients.losses import Loss
from mnist_adv.geometry.norms import Norm, per_image


@dataclasses.dataclass(frozen=True)
class EAD(ConstantSearch):
    """Minimise `constant * max(margin, 0) + |x - x0|_2^2 + weight * |x - x0|_1` by FISTA.

    Attributes:
        weight: of the L1 length; changes smaller than it are undone at every step.
    """

    weight: float = 0.01

    norms = (Norm.L1,)
    rows_kept = 5

    def start(self, task: Task, rows: Rows) -> State:
        """Start at the clean image; see `Method.start`."""
        return {"image": rows["clean"], "ahead": rows["clean"]}

    def look(self, task: Task, rows: Rows, state: State) -> State:
        """Judge the image, take the gradient ahead of it; see `Method.look`."""
        seen = task.glance(Loss.MARGIN, rows, state["image"])
        ahead = task.look(Loss.MARGIN, rows, state["ahead"], GradientSource())
        return {**seen, "gradient": ahead["gradient"], "gap": ahead["objective"]}

    def move(self, task: Task, rows: Rows, state: State) -> State:
        """Step, shrink towards the clean image, look ahead; see `Method.move`."""
        clean, ahead = rows["clean"], state["ahead"]
        pull = per_image(rows["constant"] * tf.cast(state["gap"] > 0, tf.float32))
        rate = per_image(self.learning_rate * tf.sqrt(1 - progress(rows, state)))
        moved = ahead - rate * (2 * (ahead - clean) + pull * state["gradient"])
        away = moved - clean
        shrunk = clean + tf.sign(away) * tf.maximum(tf.abs(away) - self.weight, 0)
        image = tf.clip_by_value(shrunk, 0, 1)
        number = tf.cast(state["number"], tf.float32)
        inertia = per_image(number / (number + 3))
        return {"image": image, "ahead": image + inertia * (image - state["image"])}

    def cost(self, task: Task) -> tuple[int, int]:
        """Count the image and the point ahead; see `Method.cost`."""
        return 2, 1
