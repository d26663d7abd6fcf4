"""What an attack hands back."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from mnist_adv.gradients.goals import Goal
from mnist_adv.geometry.norms import Norm
from mnist_adv.verdict.judge import Verdict


@dataclasses.dataclass(frozen=True)
class Trace:
    """Every iterate of an attack; index 0 is the start, the last is judged too.

    Attributes:
        images: `[steps + 1, n, 28, 28, 1]` float32.
        logits: `[steps + 1, n, k]`.
        objective: `[steps + 1, n]`, what the attack descends.
        gradients: `[steps, n, 28, 28, 1]`, of the objective; none is kept of the last iterate.
    """

    images: np.ndarray
    logits: np.ndarray
    objective: np.ndarray
    gradients: np.ndarray


@dataclasses.dataclass(frozen=True)
class AttackResult:
    """What an attack found, best iterate per image, and an independent verdict on it.

    Attributes:
        images: clean, `[n, 28, 28, 1]` float32 in [0, 1].
        adversarial: the same shape; where the goal was not reached, the nearest miss.
        goal: the classes and whether they are targets.
        norm: of the budget, or of the distance that was made small.
        epsilon: the budget, one number or `[n]`; infinite if only the distance counted.
        num_steps: `[n]` int64, steps taken to the returned iterate.
        num_queries: `[n]` int64, images that the model was asked about, over all steps, restarts
            and searches; a gradient by tape asks once.
        num_gradients: `[n]` int64, how many of these were differentiated; 0 for black-box attacks.
        verdict: derived again from the arrays above.
        method: the attack's name.
        trace: all iterates, if asked for.
    """

    images: np.ndarray
    adversarial: np.ndarray
    goal: Goal
    norm: Norm
    epsilon: Any
    num_steps: np.ndarray
    num_queries: np.ndarray
    num_gradients: np.ndarray
    verdict: Verdict
    method: str
    trace: Trace | None = None

    @property
    def perturbation(self) -> np.ndarray:
        """The adversarial minus the clean images, `[n, 28, 28, 1]`."""
        return self.adversarial - self.images

    @property
    def success(self) -> np.ndarray:
        """Per image, `[n]` bool: goal reached, inside the budget and inside [0, 1]."""
        return self.verdict.success

    @property
    def distances(self) -> np.ndarray:
        """Per image, `[n]` float64: the norm of the perturbation; infinite without success."""
        return np.where(self.success, self.verdict.norms[self.norm.value], np.inf)

    def __repr__(self) -> str:
        kind = "targeted" if self.goal.targeted else "untargeted"
        budget = f"{self.epsilon:g}" if np.ndim(self.epsilon) == 0 else "a budget per image"
        return (
            f"AttackResult({self.method}, {kind}, {self.norm.value} <= {budget}: "
            f"{int(self.success.sum())} of {len(self.images)} succeed)"
        )
