"""JSMA: change the pixel that the saliency map names, one at a time (Papernot et al., 2016)."""

from __future__ import annotations

import dataclasses

from mnist_adv.tensors.lazy import tf
from mnist_adv.attacks.base import Method, Rows, State, Task, beyond_border
from mnist_adv.gradients.losses import Loss
from mnist_adv.geometry.norms import GEOMETRY, Norm


@dataclasses.dataclass(frozen=True)
class JSMA(Method):
    """Push the most salient pixel to black or white, until the goal is met.

    A pixel is salient if moving it raises the target's logit and lowers the sum of the others, by
    the product of the two (untargeted: the label's falls, the others' sum rises). One pixel is
    changed per step, in either direction; the paper changes pairs, upwards.
    """

    num_steps: int = 150

    minimal = True
    norms = (Norm.L0,)

    def look(self, task: Task, rows: Rows, state: State) -> State:
        """Make the saliency map: "gradient" points away from it; see `Method.look`."""
        images, classes = state["image"], rows["classes"]
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(images)
            logits = task.logits(images)
            own = tf.reduce_sum(tf.gather(logits, classes, axis=1, batch_dims=1))
            everything = tf.reduce_sum(logits)
        sign = 1 if task.targeted else -1
        rise = sign * tape.gradient(own, images)
        fall = sign * tape.gradient(everything, images) - rise
        up = tf.where((rise > 0) & (fall < 0), -rise * fall, 0) * tf.cast(images < 1, tf.float32)
        down = tf.where((rise < 0) & (fall > 0), -rise * fall, 0) * tf.cast(images > 0, tf.float32)
        saliency = up - down
        stop = beyond_border(task, rows, logits) | tf.reduce_all(saliency == 0, axis=(1, 2, 3))
        objective = task.objective(Loss.MARGIN)(logits, classes)
        return {"logits": logits, "objective": objective, "gradient": -saliency, "stop": stop}

    def move(self, task: Task, rows: Rows, state: State) -> State:
        """Change one pixel as far as it goes; see `Method.move`."""
        best = GEOMETRY[Norm.L0].steepest(-state["gradient"])
        return {"image": tf.clip_by_value(state["image"] + best, 0, 1)}

    def cost(self, task: Task) -> tuple[int, int]:
        """Count one look, differentiated twice; see `Method.cost`."""
        return 1, 2
