"""The settings of a training, readable without TensorFlow: flags take their defaults from here."""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """The settings that, with the data, decide the weights to the last bit.

    Attributes:
        num_epochs: passes over the training images, at least 1.
        batch_size: images per step; the few that do not fill an epoch's last batch are left
            out of that epoch.
        learning_rate: of the first step; it falls to zero along a cosine.
        seed: of the order of the images; the weights start at zero.

    Example:
        >>> import mnist_adv
        >>> config = mnist_adv.TrainingConfig(num_epochs=5)
        >>> config.num_epochs, config.seed
        (5, 0)
    """

    num_epochs: int = 8
    batch_size: int = 100
    learning_rate: float = 1.3
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot train."""
        for name in ("num_epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1. Received: {getattr(self, name)}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate must be positive. Received: {self.learning_rate}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0. Received: {self.seed}")
