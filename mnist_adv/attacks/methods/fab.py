"""FAB: step to the nearest border of the linearised model, and stay near the clean image."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from typing_extensions import override

from mnist_adv.arguments import real
from mnist_adv.attacks.base import Outcome
from mnist_adv.attacks.methods import first_layer
from mnist_adv.attacks.methods.borders import nearest_border
from mnist_adv.attacks.methods.restarts import Repeated, aimed
from mnist_adv.attacks.task import Inputs, State, Status, Task
from mnist_adv.geometry.hyperplanes import project_on_hyperplane
from mnist_adv.geometry.norms import GEOMETRY, per_image
from mnist_adv.gradients.losses import Loss
from mnist_adv.gradients.sources import GradientSource
from mnist_adv.tensors.lazy import tf


@dataclasses.dataclass(frozen=True)
class FAB(Repeated):
    """The fast adaptive boundary attack of Croce and Hein (2020).

    Each step projects the current and the clean image onto a border of the model linearised at
    the current one, inside [0, 1], and goes to a mean of the two. After a success the search goes
    back towards the clean image. Untargeted the border is the nearest of all; with a target, or
    led towards one (`num_targets`), it is that to the target. The paper's final search along a
    line is left out, as in the authors' own AutoAttack.

    Attributes:
        overshoot: share by which both projections are lengthened.
        clean_share: the largest weight of the clean image's projection in the mean, in [0, 1].
        backward: share of the perturbation that is kept after a success, in [0, 1].
        stop_early: whether an image is done as soon as its distance is within a finite epsilon.
    """

    num_steps: int = 100
    stop_early: bool = False
    overshoot: float = 0.05
    clean_share: float = 0.1
    backward: float = 0.9

    minimal = True
    images_kept = 6

    def __post_init__(self) -> None:
        """Refuse settings without meaning."""
        super().__post_init__()
        real(self.clean_share, "clean_share", 0, 1)
        real(self.backward, "backward", 0, 1)

    @override
    def start_radius(self, task: Task, inputs: Inputs) -> Any:
        epsilon = inputs["epsilon"]
        known = tf.where(tf.math.is_finite(epsilon), epsilon, GEOMETRY[task.norm].default_epsilon)
        return known / 2

    @override
    def start(self, task: Task, inputs: Inputs) -> State:
        state = super().start(task, inputs)
        if first_layer.is_followed(task):
            state["clean_values"] = first_layer.first_values(task, inputs["clean"])
        return state

    @override
    def evaluate(self, task: Task, inputs: Inputs, state: State) -> State:
        clean, image = inputs["clean"], state["image"]
        rest, values = first_layer.after_first(task), first_layer.first_values(task, image)
        seen = rest.evaluate(Loss.MARGIN, inputs, values)
        adversarial = task.is_adversarial(inputs, seen["logits"])
        epsilon = inputs["epsilon"]
        limited = tf.math.is_finite(epsilon) & self.stop_early
        near_enough = tf.where(limited, epsilon, 0.0)
        seen["stop"] = adversarial & (task.length(image - clean) <= near_enough)

        def go_back(origin: Any, at: Any) -> Any:
            return tf.where(per_image(adversarial), origin + self.backward * (at - origin), at)

        point = go_back(clean, image)
        # A first layer that is affine maps the point between two images to that between its values.
        values = go_back(state.get("clean_values", clean), values)
        led, towards = aimed(rest, inputs, state)
        if led.targeted:
            border = led.differentiate(Loss.MARGIN, towards, values, GradientSource())
            border["gap"] = border["objective"]
            border["gradient"] = first_layer.to_pixels(task, border["gradient"])
        else:
            border = nearest_border(task, inputs, point, values)
        return {**seen, "point": point, "gap": border["gap"], "gradient": border["gradient"]}

    @override
    def take_step(self, task: Task, inputs: Inputs, state: State) -> State:
        clean, point = inputs["clean"], state["point"]
        normal = state["gradient"]
        gap = state["gap"] + 2 * task.least_margin(state["logits"])
        # The linearised margin at the clean image.
        at_clean = gap + tf.reduce_sum(normal * (clean - point), axis=(1, 2, 3))
        from_point = project_on_hyperplane(task.norm, point, normal, -gap)
        from_clean = project_on_hyperplane(task.norm, clean, normal, -at_clean)
        far, near = task.length(from_point), task.length(from_clean)
        share = tf.minimum(tf.math.divide_no_nan(far, far + near), self.clean_share)
        longer = 1 + self.overshoot
        biased = per_image(share) * (clean + longer * from_clean)
        return {"image": task.clip(per_image(1 - share) * (point + longer * from_point) + biased)}

    @override
    def unfinished(self, inputs: Inputs, outcome: Outcome) -> np.ndarray:
        missed = outcome.status < Status.ADVERSARIAL
        far = outcome.value > inputs["epsilon"]
        # Without a budget every run may find a smaller distance.
        return missed | far | ~np.isfinite(inputs["epsilon"])

    @override
    def cost(self, task: Task) -> tuple[int, int]:
        led = task.targeted or self.num_targets > 0
        return (2, 1 if led else task.num_classes - 1)
