"""Square Attack: random search with squares, no gradient (Andriushchenko et al., 2020)."""

from __future__ import annotations

import dataclasses
from typing import Any

from mnist_adv.tensors.lazy import tf
from mnist_adv.attacks.methods import square_l2
from mnist_adv.attacks.methods.restarts import Restarted
from mnist_adv.attacks.base import ROW, Rows, State, Task
from mnist_adv.data.datasets import IMAGE_SHAPE
from mnist_adv.gradients.losses import Loss
from mnist_adv.geometry.norms import Norm, per_image
from mnist_adv.tensors.randomness import signs, uniform

# shares of the steps after which the squares' area is halved
_HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
_FIRST_GUESS = -1_000_000  # streams of the first guess


@dataclasses.dataclass(frozen=True)
class Square(Restarted):
    """Repaint a random square with the budget's full colour; keep it if the margin falls.

    In L2 a square takes budget away from another one, and heaps what it got up in its middle; see
    `square_l2`.

    Attributes:
        area: share of the image that the first squares cover.
    """

    num_steps: int = 1000
    loss: Loss = Loss.MARGIN
    area: float = 0.3

    norms = (Norm.LINF, Norm.L2)

    def start(self, task: Task, rows: Rows) -> State:
        """Start with vertical stripes, or with tiles; see `Method.start`."""
        if task.norm is Norm.L2:
            stream = _FIRST_GUESS - rows["restart"]
            image = square_l2.inside(rows, square_l2.tiles(rows["keys"], stream))
        else:
            image = self._stripes(rows)
        return {
            "image": image,
            "kept": rows["clean"],
            "kept_value": tf.fill([rows["clean"].shape[0]], float("inf")),
        }

    def _stripes(self, rows: Rows) -> Any:
        stripes = signs(rows["keys"], _FIRST_GUESS - rows["restart"], (1, IMAGE_SHAPE[1]))
        colour = tf.tile(stripes[:, tf.newaxis], [1, 1, 1, IMAGE_SHAPE[0]])
        return tf.clip_by_value(rows["clean"] + per_image(rows["epsilon"]) * colour, 0, 1)

    def look(self, task: Task, rows: Rows, state: State) -> State:
        """Ask about the candidate; see `Method.look`."""
        return task.glance(self.loss, rows, state["image"])

    def move(self, task: Task, rows: Rows, state: State) -> State:
        """Keep the candidate if it is better, and paint the next; see `Method.move`."""
        better = state["objective"] < state["kept_value"]
        kept = tf.where(per_image(better), state["image"], state["kept"])
        kept_value = tf.where(better, state["objective"], state["kept_value"])
        stream = state["number"] + rows["restart"] * 2**20
        side = self._side(rows, state)
        if task.norm is Norm.L2:
            image = square_l2.repaint(rows, kept, side, stream)
        else:
            image = _repaint(rows, kept, side, stream)
        return {"image": image, "kept": kept, "kept_value": kept_value}

    def cost(self, task: Task) -> tuple[int, int]:
        """Count one look; see `Method.cost`."""
        return 1, 0

    def _side(self, rows: Rows, state: State) -> Any:
        total = tf.cast(rows["num_steps"], tf.float32)
        number = tf.cast(state["number"], tf.float32)
        halvings = sum(tf.cast(number >= share * total, tf.float32) for share in _HALVINGS)
        side = tf.sqrt(self.area * 0.5**halvings * ROW[-1])
        return tf.clip_by_value(tf.round(side), 1, IMAGE_SHAPE[0] - 1)


def _repaint(rows: Rows, kept: Any, side: Any, stream: Any) -> Any:
    draws = uniform(rows["keys"], stream, (3,))
    row, column = square_l2.place(draws, side)
    painted = square_l2.window(row, column, side)
    sign = tf.where(per_image(draws[:, 2] < 0.5), -1.0, 1.0)
    colour = tf.clip_by_value(rows["clean"] + sign * per_image(rows["epsilon"]), 0, 1)
    return tf.where(painted, colour, kept)
