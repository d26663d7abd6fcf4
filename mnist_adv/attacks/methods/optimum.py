"""The certified optimum of a linear model as an attack's result."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mnist_adv.attacks.result import AttackResult
from mnist_adv.attacks.traced_run import from_start_to_end
from mnist_adv.data.images import as_batch
from mnist_adv.geometry.norms import Norm
from mnist_adv.gradients.goals import make_goal
from mnist_adv.optimum import Optimum, smallest_perturbation, to_float32
from mnist_adv.verdict.beside_optimum import require_linear
from mnist_adv.verdict.judge import judge


def as_attack(
    model: Any,
    images: Any,
    *,
    targets: Any = None,
    labels: Any = None,
    norm: Norm | str = Norm.L2,
    epsilon: float | None = None,
    margin: float = 0.0,
    trace: bool = False,
    **settings: Any,
) -> tuple[AttackResult, Optimum]:
    """Return the optimum as an attack's result, verified like any other.

    Args:
        model: a `SoftmaxRegression` or a `LinearModel`.
        images: one image or a batch, floats in [0, 1].
        targets: the class to reach, one integer or `[n]`.
        labels: the class to leave, one integer or `[n]`.
        norm: "linf", "l2", "l1" or "l0".
        epsilon: the budget; images whose optimum is larger fail. None: as large as needed.
        margin: lead of the wanted logit.
        trace: whether to keep the clean image and the optimum as a trace of two iterates.
        settings: for `smallest_perturbation`.

    Returns:
        The result, its adversarial images in float32, and the optimum with its certificate.

    Raises:
        ValueError: as `smallest_perturbation`; or the model is not linear.
    """
    W, b = require_linear(model)
    clean = as_batch(images).astype(np.float32)
    goal = make_goal(len(clean), W.shape[1], targets=targets, labels=labels)
    wanted: dict[str, Any] = {"targets" if goal.targeted else "labels": goal.classes}
    optimum = smallest_perturbation(W, b, clean, norm=norm, margin=margin, **wanted, **settings)
    adversarial, _ = to_float32(W, b, optimum)
    epsilon = math.inf if epsilon is None else epsilon
    none = np.zeros(len(clean), np.int64)  # a linear model is solved from its weights
    result = AttackResult(
        images=clean,
        adversarial=adversarial,
        goal=goal,
        norm=Norm(optimum.norm),
        epsilon=epsilon,
        num_steps=optimum.iterations,
        num_queries=none,
        num_gradients=none,
        verdict=judge(model, clean, adversarial, norm=optimum.norm, epsilon=epsilon, **wanted),
        method="optimum",
        trace=from_start_to_end(model, goal, clean, adversarial) if trace else None,
    )
    return result, optimum
