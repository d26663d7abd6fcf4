"""The settings of a training, readable without TensorFlow: flags take their defaults from here."""

from __future__ import annotations

import dataclasses

from mnist_adv.arguments import ABOVE_0, UINT32, real, whole


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
            whole(getattr(self, name), name)
        real(self.learning_rate, "learning_rate", ABOVE_0)
        whole(self.seed, "seed", 0, UINT32)
