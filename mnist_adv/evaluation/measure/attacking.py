"""The one seam between measuring and attacking: names in, results out."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv.attacks import attack, registry
from mnist_adv.geometry.norms import Norm

if TYPE_CHECKING:
    from mnist_adv.attacks import AttackResult
    from mnist_adv.models.model import Model


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
    return tuple(registry.ATTACKS)


def require_known(name: str, norm: Norm) -> None:
    """Refuse a name that is not an attack's, or a norm that the attack does not have.

    Raises:
        ValueError: either.
    """
    if name not in registry.ATTACKS:
        raise ValueError(f"attack must be one of {', '.join(known_attacks())}. Received: {name!r}")
    norms = registry.ATTACKS.find(name).attack.norms
    if norm not in norms:
        raise ValueError(
            f"norm of {name} must be one of {', '.join(known.value for known in norms)}. "
            f"Received: {norm.value!r}"
        )


def is_minimal(name: str) -> bool:
    """Say whether an attack seeks the smallest change, and needs no budget."""
    return registry.ATTACKS.find(name).attack.minimal


def needs_donors(name: str) -> bool:
    """Say whether an attack mixes in other images of the data set."""
    return registry.ATTACKS.find(name).attack.needs_donors


def is_baseline(name: str) -> bool:
    """Say whether an attack asks the model for no direction: every other must beat it."""
    return registry.ATTACKS.find(name).baseline


def run_attack(
    name: str,
    model: Model,
    question: Question,
    *,
    epsilon: float,
    num_steps: int | None,
    step_size: float | None,
    seed: int,
    donors: tuple[np.ndarray, np.ndarray] | None = None,
) -> AttackResult:
    """Run a named attack on all images of a question.

    Args:
        name: one of `known_attacks`.
        model: images -> logits.
        question: the images and what is wanted of them.
        epsilon: the budget; infinite for attacks that seek the smallest change.
        num_steps: most steps; None: the attack's own.
        step_size: length of a step in pixel units; None: the attack's own.
        seed: of what is drawn at random.
        donors: images `[m, h, w, c]` of the data set and their labels, for attacks that need them.

    Returns:
        The attack's result.
    """
    row, settings = registry.ATTACKS.find(name), dict[str, Any]()
    if row.attack.needs_donors:
        settings["donors"] = donors
    return attack(
        model,
        question.images,
        method=name,
        targets=question.targets,
        labels=question.labels,
        norm=question.norm,
        epsilon=epsilon,
        num_steps=num_steps if row.attack.takes_steps else None,
        step_size=step_size,
        seed=seed,
        **settings,
    )
