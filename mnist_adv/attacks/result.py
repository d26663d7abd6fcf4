"""What an attack hands back."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv.geometry.norms import Norm
from mnist_adv.gradients.goals import Goal
from mnist_adv.verdict.judge import Verdict

if TYPE_CHECKING:
    from mnist_adv.optimum.result import Optimum


@dataclasses.dataclass(frozen=True)
class Trace:
    """Every iterate of the run that made each image's result; index 0 is where that run started.

    `images[result.num_steps[i], i]` is `result.adversarial[i]`. Where images took different numbers
    of steps, the last iterate of the shorter ones is repeated.

    Attributes:
        images: `[steps + 1, n, h, w, c]` float32.
        logits: `[steps + 1, n, k]`.
        objective: `[steps + 1, n]`, what the attack descends.
        gradients: `[steps, n, h, w, c]`, of the objective; none is kept of the last iterate.
        num_steps: `[n]` int64, how many steps each image's run took, past its result too.
    """

    images: np.ndarray
    logits: np.ndarray
    objective: np.ndarray
    gradients: np.ndarray
    num_steps: np.ndarray


@dataclasses.dataclass(frozen=True)
class AttackResult:
    """What an attack found, best iterate per image, and an independent verdict on it.

    Attributes:
        images: clean, `[n, h, w, c]` float32 inside `bounds`; the memory of the array that was
            attacked, if it had that form.
        adversarial: the same shape; where the goal was not reached, the nearest miss.
        goal: the classes and whether they are targets.
        norm: of the budget, or of the distance that was made small.
        epsilon: the budget, one number or `[n]`; infinite if only the distance counted.
        num_steps: `[n]` int64, steps to the returned iterate, in the run that made it.
        num_queries: `[n]` int64, images that the model was asked about, over all steps, restarts
            and searches; a gradient by tape asks once.
        num_gradients: `[n]` int64, how many of these were differentiated; 0 for black-box attacks.
        verdict: derived again from the arrays above.
        method: the attack's name.
        bounds: the least and the largest value of a pixel.
        trace: all iterates, if asked for.
        certificate: of an attack that proves its result smallest, the `Optimum`.
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
    bounds: tuple[float, float] = (0.0, 1.0)
    trace: Trace | None = None
    certificate: Optimum | None = None

    @property
    def perturbation(self) -> np.ndarray:
        """The adversarial minus the clean images, `[n, h, w, c]`."""
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
