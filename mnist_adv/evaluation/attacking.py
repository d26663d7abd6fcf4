"""The one seam between measuring and attacking: names in, results out."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv.norms import Norm

if TYPE_CHECKING:
    from mnist_adv.attacks import AttackResult
    from mnist_adv.models import Model


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked of an attack.

    Attributes:
        images: `[n, 28, 28, 1]` float32 in [0, 1].
        labels: `[n]` int64.
        targets: `[n]` int64, or None: away from the labels.
        norm: of the budget.
    """

    images: np.ndarray
    labels: np.ndarray
    targets: np.ndarray | None
    norm: Norm

    def of(self, rows: np.ndarray) -> Question:
        """Take some rows."""
        targets = None if self.targets is None else self.targets[rows]
        return Question(self.images[rows], self.labels[rows], targets, self.norm)


def known_attacks() -> tuple[str, ...]:
    """List the names that `run_attack` takes."""
    return ("pgd",)


def require_known(name: str, norm: Norm) -> None:
    """Refuse a name that is not an attack's, or a norm that the attack does not have."""
    if name not in known_attacks():
        raise ValueError(f"attack must be one of {', '.join(known_attacks())}. Received: {name!r}")


def is_minimal(name: str) -> bool:
    """Say whether an attack seeks the smallest change, and needs no budget."""
    return False


def is_baseline(name: str) -> bool:
    """Say whether an attack uses no gradient and no query: what every other must beat."""
    return False


def run_attack(
    name: str,
    model: Model,
    question: Question,
    *,
    epsilon: float,
    num_steps: int | None,
    step_size: float | None,
    seed: int,
) -> AttackResult:
    """Run a named attack on all images of a question at one budget."""
    from mnist_adv.attacks import attack

    given: dict[str, Any] = {} if num_steps is None else {"num_steps": num_steps}
    return attack(
        model,
        question.images,
        targets=question.targets,
        labels=question.labels,
        norm=question.norm,
        epsilon=epsilon,
        step_size=step_size,
        **given,
    )
