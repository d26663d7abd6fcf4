"""Where a model is and how it is read, so that every process can open the same one."""

from __future__ import annotations

import dataclasses
import functools
import math

from mnist_adv.data.class_names import fit_class_names
from mnist_adv.data.datasets import Dataset, DataSource
from mnist_adv.models import first_look
from mnist_adv.models.activation import Activation
from mnist_adv.models.formats.registry import with_absolute_paths
from mnist_adv.models.formats.shapes import MNIST_SHAPE
from mnist_adv.models.loaded import LoadedModel
from mnist_adv.models.preprocessing import Pixels

# Of the images on which a model is tried: how many, and how many numbers in all.
_MOST_PROBES, _FEWEST_PROBES, _MOST_NUMBERS = 500, 16, 5_000_000


@dataclasses.dataclass(frozen=True)
class ModelSource:
    """A model that any process can open.

    Attributes:
        where: a folder of checkpoints of `train.py`, or whatever `open_model` opens.
        ours: whether it is the former.
        variables: as in `open_model`.
        activation: as in `open_model`.
        pixels: as in `open_model`.
        class_names: in label order; those of the data set if None.
    """

    where: str
    ours: bool = True
    variables: str | None = None
    activation: Activation | None = None
    pixels: Pixels = Pixels()
    class_names: tuple[str, ...] | None = None

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
        return dataclasses.replace(self, where=with_absolute_paths(self.where))

    def require_there(self) -> None:
        """Refuse at once, without TensorFlow, what is not there or is of no kind that is read.

        Raises:
            FileNotFoundError: no such file or folder, or no checkpoint in it.
            ValueError: it is of no kind that is read.
            OSError: it cannot be read.
        """
        (first_look.require_checkpoint if self.ours else first_look.require_file)(self.where)

    def known_class_names(self) -> tuple[str, ...]:
        """Name the classes, as far as that takes no TensorFlow.

        Returns:
            The names in label order; empty if the model has to be read first.
        """
        if self.class_names is not None:
            return self.class_names
        return first_look.class_names(self.where) if self.ours else ()

    def open(self, data: DataSource | None = None) -> LoadedModel:
        """Open the model.

        Args:
            data: the data set of a model that does not name its own; its images are brought into
                the shape that the model takes. None: MNIST, for a model of its form.

        Returns:
            The model, with its data set, empty if that is not known, and the names of its classes.

        Raises:
            ValueError: damaged, or no such model in it; or it has too few classes for the data set.
            OSError: it cannot be read.
        """
        loaded = self._open_ours() if self.ours else self._open_other(data)
        names = self.class_names or loaded.class_names
        num_classes = len(loaded.class_names)
        if self.class_names is not None and len(names) != num_classes:
            raise ValueError(
                f"class names must be {num_classes}, one for each class of {loaded.where}. "
                f"Received: {len(names)}"
            )
        return dataclasses.replace(loaded, class_names=names)

    def _open_ours(self) -> LoadedModel:
        from mnist_adv.models import checkpoints

        return checkpoints.load(self.where)

    def _open_other(self, data: DataSource | None) -> LoadedModel:
        from mnist_adv.models.formats.open import open_model

        known = None
        if data is not None:
            known = functools.cache(
                lambda shape: load_probes(dataclasses.replace(data, shape=shape))
            )
        opened = open_model(
            self.where,
            variables=self.variables,
            activation=self.activation,
            pixels=self.pixels,
            images=(lambda shape: known(shape).images) if known else None,
            shape=data.open().shape if data else None,
        )
        num_classes = len(opened.class_names)
        if data is None or known is None:
            is_mnist = (opened.shape, num_classes) == (MNIST_SHAPE, 10)
            return dataclasses.replace(opened, dataset="mnist" if is_mnist else "")
        probes = known(opened.shape)
        if probes.labels.max() >= num_classes:
            raise ValueError(
                f"{data.dataset} has images of class {probes.labels.max()} "
                f"({probes.class_names[probes.labels.max()]}), and {opened.where} the classes 0 to "
                f"{num_classes - 1} alone"
            )
        names = fit_class_names(probes.class_names, num_classes)
        return dataclasses.replace(opened, dataset=data.dataset, class_names=names)


def load_probes(data: DataSource) -> Dataset:
    """Load labelled images on which a model is tried.

    Args:
        data: the data set, in the shape that the model takes; its split plays no part.

    Returns:
        The first 500 images of the split on which models are tested, fewer if they are large.

    Raises:
        ValueError: as `data.datasets.load`.
        OSError: as `data.datasets.load`.
    """
    tested = dataclasses.replace(data, split=None)
    shape = data.shape or tested.open().shape
    fitting = _MOST_NUMBERS // math.prod(shape or (1,))
    return tested.load((0, max(_FEWEST_PROBES, min(_MOST_PROBES, fitting))))
