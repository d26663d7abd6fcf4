"""Where a worker finds the model, whoever trained it, and how it knows that it is the same one."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
import sys
from typing import TYPE_CHECKING

from mnist_adv.data import datasets
from mnist_adv.models.activation import Activation
from mnist_adv.models.preprocessing import Pixels

if TYPE_CHECKING:
    from mnist_adv.models.model import Model


@dataclasses.dataclass(frozen=True)
class ModelSource:
    """A model that any process can open again.

    Attributes:
        where: a folder of our checkpoints, or whatever `open_model` opens.
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

    def open(self, known: datasets.Dataset) -> tuple[Model, str]:
        """Open the model.

        Args:
            known: labelled images of its data set.

        Returns:
            The model and its SHA-256, hexadecimal: over its files, or of a function over its name
            and the file that defines it.

        Raises:
            ValueError: damaged, or no such model in it.
            OSError: it cannot be read.
        """
        if self.ours:
            from mnist_adv.models import checkpoints

            restored = checkpoints.load(self.where)
            return restored.model, restored.digest
        from mnist_adv.models.formats.open import open_model

        opened = open_model(
            self.where,
            num_classes=len(known.class_names),
            variables=self.variables,
            activation=self.activation,
            pixels=self.pixels,
            images=known.images,
        )
        return opened.model, self.identify(opened.digest)

    def identify(self, digest: str) -> str:
        """Give a function a digest too, where files have their own.

        Args:
            digest: SHA-256 over the model's files; empty for a function, which was imported.

        Returns:
            The same, or for a function SHA-256 over its name and the file that defines it.
        """
        return digest or _digest_of_function(self.where)


def _digest_of_function(spec: str) -> str:
    content = hashlib.sha256(spec.encode())
    file = getattr(sys.modules[spec.partition(":")[0]], "__file__", None)
    if file is not None:
        content.update(pathlib.Path(file).read_bytes())
    return content.hexdigest()
