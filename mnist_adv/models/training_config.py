"""The settings of a training, readable without TensorFlow: flags take their defaults from here."""

from __future__ import annotations

import dataclasses

from mnist_adv.arguments import ABOVE_0, UINT32, real, shown, whole

DEFENDED_NORMS = ("linf", "l2", "l1")

# Worst margins have steeper gradients than clean ones.
_LEARNING_RATE, _DEFENDED_LEARNING_RATE = 1.3, 0.5


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """The settings that, with the data, decide the weights to the last bit.

    Attributes:
        num_epochs: passes over the training images, at least 1.
        batch_size: images per step; the few that do not fill an epoch's last batch are left
            out of that epoch.
        learning_rate: of the first step; it falls to zero along a cosine. None, which becomes the
            number: 1.3, or 0.5 with `defend`.
        seed: of the order of the images; the weights start at zero.
        defend: "linf", "l2" or "l1": train on the worst image inside the ball of this norm and
            [0, 1]; None: on the images as they are.
        epsilon: the ball's radius in pixel units, above 0; with `defend` alone. It rises from 0
            along a line over the first half of the steps.

    Example:
        >>> import mnist_adv
        >>> config = mnist_adv.TrainingConfig(num_epochs=5)
        >>> config.num_epochs, config.seed
        (5, 0)
        >>> mnist_adv.TrainingConfig(defend="linf", epsilon=0.1).learning_rate
        0.5
    """

    num_epochs: int = 8
    batch_size: int = 100
    learning_rate: float | None = None
    seed: int = 0
    defend: str | None = None
    epsilon: float | None = None

    def __post_init__(self) -> None:
        """Refuse settings that cannot train."""
        for name in ("num_epochs", "batch_size"):
            whole(getattr(self, name), name)
        if self.learning_rate is None:
            rate = _LEARNING_RATE if self.defend is None else _DEFENDED_LEARNING_RATE
            object.__setattr__(self, "learning_rate", rate)
        real(self.learning_rate, "learning_rate", ABOVE_0)
        whole(self.seed, "seed", 0, UINT32)
        if self.defend is not None and (
            not isinstance(self.defend, str) or self.defend not in DEFENDED_NORMS
        ):
            raise ValueError(
                f"defend must be one of {', '.join(DEFENDED_NORMS)}, or None. "
                f"Received: {shown(self.defend)}"
            )
        if (self.defend is None) != (self.epsilon is None):
            raise ValueError(
                "defend and epsilon must be given together. "
                f"Received: defend {shown(self.defend)} and epsilon {shown(self.epsilon)}"
            )
        if self.epsilon is not None:
            real(self.epsilon, "epsilon", ABOVE_0)
