"""Robust accuracy under an attack, after every epoch."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from typing_extensions import override

from mnist_adv.arguments import as_text, choose, real, whole
from mnist_adv.attacks import attack
from mnist_adv.attacks.registry import ATTACKS
from mnist_adv.data.images import UNIT, Bounds
from mnist_adv.geometry.norms import Norm
from mnist_adv.keras.wrapper import Wrapper

_NAME = "val_robust_accuracy"


class RobustAccuracy(keras.callbacks.Callback):
    """Log the share of images that keep their label under an attack, as `val_robust_accuracy`.

    It works for every Keras model of images, plain or in a wrapper. Put it before the callbacks
    that use the number, as `EarlyStopping("val_robust_accuracy", mode="max")` does.

    Args:
        images: `[n, h, w, c]` floats inside the bounds; MNIST's may be flat.
        labels: `[n]` integers.
        norm: "linf", "l2", "l1" or "l0".
        epsilon: the budget, in units of the pixels.
        method: an attack of the registry.
        every: after how many epochs it is measured, at least 1; the number stands until then.
        name: of the number in the logs; None: `val_robust_accuracy`.
        bounds: the least and the largest value of a pixel.
        **settings: others of `mnist_adv.attack`: num_steps, restarts, ...

    Raises:
        ValueError: an argument out of form or range; what the attack refuses comes with the first
            measurement.

    Example:
        >>> import keras
        >>> import mnist_adv.keras
        >>> layers = [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
        >>> model = keras.Sequential(layers)
        >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        >>> model.compile("adam", loss)
        >>> digits = mnist_adv.load("mnist", "test")
        >>> robust = mnist_adv.keras.RobustAccuracy(
        ...     digits.images[:50], digits.labels[:50], epsilon=0.05
        ... )
        >>> history = model.fit(
        ...     digits.images[:500], digits.labels[:500], callbacks=[robust], verbose=0
        ... )
        >>> len(history.history["val_robust_accuracy"])
        1
    """

    def __init__(
        self,
        images: Any,
        labels: Any,
        *,
        norm: Norm | str = Norm.LINF,
        epsilon: float,
        method: Any = "pgd",
        every: int = 1,
        name: str | None = None,
        bounds: Bounds = UNIT,
        **settings: Any,
    ) -> None:
        super().__init__()
        if isinstance(method, str):
            ATTACKS.find(method)
        if not len(images) or len(images) != len(labels):
            raise ValueError(
                "images and labels must be as many, one at least. "
                f"Received: {len(images)} and {len(labels)}"
            )
        self._images = np.asarray(images, np.float32)
        self._labels = np.asarray(labels).reshape(-1)
        self._every = int(whole(every, "every"))
        self._name = as_text(name, "name") or _NAME
        self._value: float | None = None
        self._settings = {
            "norm": choose(Norm, norm, "norm"),
            "epsilon": float(real(epsilon, "epsilon", 0)),
            "method": method,
            "bounds": bounds,
            **settings,
        }

    @override
    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Attack, and add the number to the logs.

        Args:
            epoch: the number of the epoch, from 0.
            logs: of the epoch.
        """
        if self._value is None or (epoch + 1) % self._every == 0:
            self._value = self.measure()
        if logs is not None:
            logs[self._name] = self._value

    def measure(self) -> float:
        """Attack the images with the weights of the moment.

        Returns:
            The share that keeps its label, in [0, 1].
        """
        model = self.model.model if isinstance(self.model, Wrapper) else self.model
        result = attack(model, self._images, labels=self._labels, **self._settings)
        return 1 - float(np.mean(result.success))
