"""Square Attack: random search with squares, no gradient (Andriushchenko et al., 2020)."""

from __future__ import annotations

import dataclasses
from typing import Any

from typing_extensions import override

from mnist_adv.attacks.methods import first_layer
from mnist_adv.attacks.methods.restarts import Restarted, aimed
from mnist_adv.attacks.methods.windows import Windows, repaint, spend_budget, tiles
from mnist_adv.attacks.task import Inputs, State, Task
from mnist_adv.geometry.norms import Norm, per_image
from mnist_adv.gradients.losses import Loss
from mnist_adv.tensors.lazy import tf
from mnist_adv.tensors.randomness import signs, uniform

# Shares of the steps after which the squares' area is halved.
_HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
_FIRST_GUESS = -1_000_000  # streams of the first guess


@dataclasses.dataclass(frozen=True)
class Square(Restarted):
    """Set a random square to the budget's largest change; keep it if the margin falls.

    In L2 and L1 a window takes budget away from another one; see `windows`.

    Attributes:
        area: share of the image that the first squares cover.
    """

    num_steps: int = 1000
    loss: Loss = Loss.MARGIN
    area: float = 0.3

    norms = (Norm.LINF, Norm.L2, Norm.L1)
    images_kept = 8  # measured: more lanes leave the cache
    most_restarts = 2**10  # of 2**20 steps, within int32

    @override
    def start(self, task: Task, inputs: Inputs) -> State:
        stream = _FIRST_GUESS - inputs["restart"]
        if task.norm is Norm.LINF:
            image = _stripes(task, inputs, stream)
        else:
            first = tiles(Windows(task.shape, task.norm), inputs["keys"], stream)
            image = spend_budget(task.norm, inputs, first)
        return {
            **self.lead(task, inputs),
            **(first_layer.begin(task, image) if self._follows(task) else {}),
            "image": image,
            "kept": inputs["clean"],
            "kept_value": tf.fill([inputs["clean"].shape[0]], float("inf")),
        }

    @override
    def evaluate(self, task: Task, inputs: Inputs, state: State) -> State:
        led, towards = aimed(task, inputs, state)
        if not self._follows(task):
            return led.evaluate(self.loss, towards, state["image"])
        values, logits = first_layer.follow(task, inputs, state, Windows(task.shape, task.norm))
        objective = led.objective(self.loss)(logits, towards["classes"])
        return {"logits": logits, "objective": objective, "values": values}

    @override
    def take_step(self, task: Task, inputs: Inputs, state: State) -> State:
        better = state["objective"] < state["kept_value"]
        kept = tf.where(per_image(better), state["image"], state["kept"])
        kept_value = tf.where(better, state["objective"], state["kept_value"])
        stream = state["number"] + inputs["restart"] * 2**20
        windows = Windows(task.shape, task.norm)
        side = self._side(windows, inputs, state)
        if task.norm is not Norm.LINF:
            image = repaint(windows, inputs, kept, side, stream)
            return {"image": image, "kept": kept, "kept_value": kept_value}
        draws = uniform(inputs["keys"], stream, (2 + windows.shape[2],))
        row, column = windows.place(draws, side)
        image = _repaint(windows, inputs, kept, (row, column, side), draws[:, 2:])
        following = {"image": image, "kept": kept, "kept_value": kept_value}
        if self._follows(task):
            values = tf.where(better[:, tf.newaxis], state["values"], state["kept_values"])
            following |= {"kept_values": values, "row": row, "column": column, "side": side}
        return following

    @override
    def cost(self, task: Task) -> tuple[int, int]:
        return 1, 0

    def _follows(self, task: Task) -> bool:
        # In the other norms every pixel may change.
        return task.norm is Norm.LINF and first_layer.is_followed(task)

    def _side(self, windows: Windows, inputs: Inputs, state: State) -> Any:
        total = tf.cast(inputs["num_steps"], tf.float32)
        number = tf.cast(state["number"], tf.float32)
        halvings = sum(tf.cast(number >= share * total, tf.float32) for share in _HALVINGS)
        height, width, _ = windows.shape
        side = tf.sqrt(self.area * 0.5**halvings * height * width)
        return tf.clip_by_value(tf.round(side), 1, windows.side - 1)


def _stripes(task: Task, inputs: Inputs, stream: Any) -> Any:
    """Change every column of each channel by the whole budget, up or down."""
    height, width, channels = task.shape
    stripes = signs(inputs["keys"], stream, (1, width * channels))
    change = tf.tile(stripes[:, tf.newaxis], [1, 1, 1, height])
    return task.clip(inputs["clean"] + per_image(inputs["epsilon"]) * change)


def _repaint(
    windows: Windows, inputs: Inputs, kept: Any, place: tuple[Any, Any, Any], draws: Any
) -> Any:
    sign = windows.per_channel(tf.where(draws < 0.5, -1.0, 1.0))
    changed = tf.clip_by_value(inputs["clean"] + sign * per_image(inputs["epsilon"]), 0, 1)
    return tf.where(windows.mark(*place), changed, kept)
