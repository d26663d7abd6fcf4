"""The certified smallest change of a linear model, in the form of an attack."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from typing_extensions import override

from mnist_adv.attacks.base import Attack, Outcome, Run
from mnist_adv.attacks.task import Inputs, Status, Task
from mnist_adv.models.linear import linear_parts
from mnist_adv.optimum import smallest_perturbation, to_float32
from mnist_adv.verdict.beside_optimum import require_linear


def applies(task: Task) -> bool:
    """Say whether a task's optimum is known.

    Args:
        task: holds the model.

    Returns:
        Whether its model is linear in the pixels.
    """
    return linear_parts(task.model) is not None


@dataclasses.dataclass(frozen=True)
class OptimumAttack(Attack):
    """Solve for the smallest change, with a proof; for models that are linear in the pixels.

    Images are solved one by one, as an attack's result must not depend on its batch;
    `smallest_perturbation` itself is several times faster for many.

    Attributes:
        margin: the least by which the wanted logit exceeds the others.
        seconds_per_image: for targeted L0, how long branch and bound may take for one image.
    """

    num_steps: int = 1
    margin: float = 0.0
    seconds_per_image: float = 10.0

    minimal = True
    takes_steps = False

    @override
    def cost(self, task: Task) -> tuple[int, int]:
        return 0, 0  # solved from the weights

    @override
    def solve(self, task: Task, inputs: Inputs, run: Run) -> Outcome:
        parts = require_linear(task.model)
        classes: dict[str, Any] = {"targets" if task.targeted else "labels": inputs["classes"]}
        clean = inputs["clean"].reshape(-1, *task.shape)
        optimum = smallest_perturbation(
            *parts,
            clean,
            norm=task.norm,
            margin=self.margin,
            seconds_per_image=self.seconds_per_image,
            one_by_one=True,
            progress=False,
            **classes,
        )
        images, _ = to_float32(*parts, optimum, one_by_one=True)
        moved = (images != clean).reshape(len(clean), -1).any(axis=1)
        return Outcome(
            image=images.reshape(-1, *task.flat),
            status=np.where(optimum.found, Status.ADVERSARIAL, Status.MISSED).astype(np.int32),
            value=optimum.upper_bound.astype(np.float32),
            number=moved.astype(np.int32),
            queries=np.zeros(len(clean), np.int64),
            gradients=np.zeros(len(clean), np.int64),
            certificate=optimum,
        )
