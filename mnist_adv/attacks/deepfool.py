"""DeepFool: go straight to the nearest border of the linearised model, again and again."""

from __future__ import annotations

import dataclasses
from typing import Any

from mnist_adv._lazy import tf
from mnist_adv.attacks.state import ROW, Method, Rows, State, Task, beyond_border, square
from mnist_adv.gradients import GradientSource
from mnist_adv.losses import Loss
from mnist_adv.norms import GEOMETRY, Norm, per_image


@dataclasses.dataclass(frozen=True)
class DeepFool(Method):
    """The smallest step over the nearest border, for L2 or L-inf (Moosavi-Dezfooli et al., 2016).

    Untargeted, the border nearest among all other classes; targeted (our extension), the border
    to the target of the class that leads.

    Attributes:
        overshoot: share by which the way is lengthened.
    """

    num_steps: int = 50
    overshoot: float = 0.02

    minimal = True
    norms = (Norm.LINF, Norm.L2)

    def start(self, task: Task, rows: Rows) -> State:
        """Start at the clean image; see `Method.start`."""
        return {"image": rows["clean"], "way": tf.zeros_like(rows["clean"])}

    def look(self, task: Task, rows: Rows, state: State) -> State:
        """Find the nearest border: "objective" is the gap to it; see `Method.look`."""
        images, classes = state["image"], rows["classes"]
        if task.targeted:
            seen = task.look(Loss.MARGIN, rows, images, GradientSource())
            gap, normal = seen["objective"], seen["gradient"]
        else:
            seen = task.glance(Loss.MARGIN, rows, images)
            gap, normal = self._nearest(task, seen["logits"], _jacobian(task, images), classes)
        hit = beyond_border(task, rows, seen["logits"])
        return {**seen, "gap": gap, "gradient": normal, "stop": hit}

    def move(self, task: Task, rows: Rows, state: State) -> State:
        """Step over the border; see `Method.move`."""
        normal = state["gradient"]
        distance = tf.math.divide_no_nan(
            tf.maximum(state["gap"], 0) + 1e-4, _dual_length(task.norm, normal)
        )
        way = state["way"] - per_image(distance) * GEOMETRY[task.norm].steepest(normal)
        far = rows["clean"] + (1 + self.overshoot) * way
        return {"image": tf.clip_by_value(far, 0, 1), "way": way}

    def cost(self, task: Task) -> tuple[int, int]:
        """Count one look at every class's gradient; see `Method.cost`."""
        return (1, 1) if task.targeted else (1, task.num_classes)

    def load(self, task: Task) -> int:
        """Count the copies that the Jacobian makes; see `Method.load`."""
        return 1 if task.targeted else 1 + task.num_classes

    def _nearest(
        self, task: Task, logits: Any, jacobian: Any, classes: Any
    ) -> tuple[Any, Any]:
        # jacobian [n, k, *ROW]
        count, num_classes = logits.shape
        own = tf.gather(jacobian, classes, batch_dims=1)[:, tf.newaxis]
        normals = own - jacobian
        gaps = tf.gather(logits, classes, batch_dims=1)[:, tf.newaxis] - logits
        flat = tf.reshape(normals, [-1, *ROW])
        lengths = tf.reshape(_dual_length(task.norm, flat), [count, num_classes])
        distances = tf.math.divide_no_nan(tf.abs(gaps), lengths)
        blocked = (tf.one_hot(classes, num_classes) > 0) | (lengths == 0)
        nearest = tf.argmin(tf.where(blocked, float("inf"), distances), axis=1)
        return (
            tf.gather(gaps, nearest, batch_dims=1),
            tf.gather(normals, nearest, batch_dims=1),
        )


def _dual_length(norm: Norm, normal: Any) -> Any:
    return GEOMETRY[Norm.L1 if norm is Norm.LINF else Norm.L2].length(normal)


def _jacobian(task: Task, images: Any) -> Any:
    # One copy of each image per class: one backward pass, and no image sees another.
    num_classes = task.num_classes
    copies = tf.repeat(square(images), num_classes, axis=0)
    upstream = tf.tile(tf.eye(num_classes), [images.shape[0], 1])
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(copies)
        logits = task.model(copies)
    gradients = tape.gradient(logits, copies, output_gradients=upstream)
    return tf.reshape(gradients, [-1, num_classes, *ROW])
