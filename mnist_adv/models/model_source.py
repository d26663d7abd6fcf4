"""Where a model is and how it is read, so that every process can open the same one."""

from __future__ import annotations

import dataclasses
import os

from mnist_adv.data.datasets import Dataset
from mnist_adv.models.activation import Activation
from mnist_adv.models.formats.registry import is_function
from mnist_adv.models.loaded import LoadedModel
from mnist_adv.models.preprocessing import Pixels


@dataclasses.dataclass(frozen=True)
class ModelSource:
    """A model that any process can open.

    Attributes:
        where: a folder of checkpoints of `train.py`, or whatever `open_model` opens.
        ours: whether it is the former.
        variables: as in `open_model`.
        activation: as in `open_model`.
        pixels: as in `open_model`.
    """

    where: str
    ours: bool = True
    variables: str | None = None
    activation: Activation | None = None
    pixels: Pixels = Pixels()

    @property
    def reading(self) -> str:
        """How the file is read, beyond what is in it; empty where it says all by itself."""
        parts = {
            "variables": self.variables,
            "activation": self.activation and self.activation.value,
            "pixels": None if self.pixels.plain else str(self.pixels),
        }
        return "; ".join(f"{name} {value}" for name, value in parts.items() if value)

    def with_absolute_path(self) -> ModelSource:
        """Make a path absolute, as a worker may have another current folder.

        Returns:
            The same source by its absolute path; a function keeps its name.
        """
        if is_function(self.where):
            return self
        return dataclasses.replace(self, where=os.path.abspath(self.where))

    def open(self, dataset: str = "mnist", known: Dataset | None = None) -> LoadedModel:
        """Open the model.

        Args:
            dataset: the data set of a model that does not name its own.
            known: images of that data set, for such a model; the MNIST test images if None.

        Returns:
            The model, with its data set and classes.

        Raises:
            ValueError: damaged, or no such model in it.
            OSError: it cannot be read.
        """
        if self.ours:
            from mnist_adv.models import checkpoints

            return checkpoints.load(self.where)
        from mnist_adv.models.formats.open import open_model

        opened = open_model(
            self.where,
            num_classes=len(known.class_names) if known else None,
            variables=self.variables,
            activation=self.activation,
            pixels=self.pixels,
            images=known.images if known else None,
        )
        names = known.class_names if known else opened.class_names
        return dataclasses.replace(opened, dataset=dataset, class_names=names)
