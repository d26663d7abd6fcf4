"""Labelled images: the package's own MNIST files, other files, or tensorflow-datasets.

MNIST is read from the four original files, in their original order, so that test image 0 is the 7
that `mnist.test.images[0]` was in TensorFlow 1. `tfds.load("mnist")` cannot give that: TFDS
shuffles when it prepares (its test labels begin 2 0 4 8 7), and preparing takes about 18 seconds.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from mnist_adv.arguments import as_array, as_path, shown
from mnist_adv.data import idx, image_folder, pictures, tfds_sets
from mnist_adv.data.images import Shape, as_shape
from mnist_adv.data.split import Split

_OURS = "mnist"
_FOLDER = pathlib.Path(__file__).parent / _OURS
_NUM_DONORS = 2000
_ROWS = "(first, end) with 0 <= first < end"


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One split of a data set.

    Attributes:
        images: `[n, h, w, c]` float32 in [0, 1].
        labels: `[n]` int64 in [0, len(class_names)).
        class_names: the name of each class, in label order.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Dataset({len(self.labels)} images, {len(self.class_names)} classes)"


@dataclasses.dataclass(frozen=True)
class DataSource:
    """One split of a data set, and where its files are: all that any process needs to load it.

    Attributes:
        dataset: a name that `load` takes.
        split: "train", "test", or another that the data set has; None: "test", or the last one
            where there is none of that name.
        data_dir: where TFDS keeps prepared data sets; its own default if None.
        manual_dir: a folder of pictures by class, of the four IDX files, or of the original files
            that TFDS asks for.
        shape: `(h, w, c)` into which images are brought; None: they stay as they are.
    """

    dataset: str = _OURS
    split: str | None = None
    data_dir: str | None = None
    manual_dir: str | None = None
    shape: Shape | None = None

    def __post_init__(self) -> None:
        """Refuse what names nothing; take a folder that is named as the data set for what it is."""
        object.__setattr__(self, "dataset", as_path(self.dataset, "dataset"))
        for name in ("data_dir", "manual_dir", "split"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str | os.PathLike):
                raise ValueError(f"{name} must be a text. Received: {shown(value)}")
        if self.shape is not None:
            as_shape(self.shape, "shape")
        if self.manual_dir is None and self.dataset != _OURS and os.path.isdir(self.dataset):
            folder = os.path.abspath(self.dataset)
            if idx.is_idx_folder(folder) or image_folder.is_image_folder(folder):
                object.__setattr__(self, "manual_dir", folder)
                object.__setattr__(self, "dataset", os.path.basename(folder))

    def open(self) -> Split:
        """Find the split, without reading its images.

        Returns:
            The split.

        Raises:
            ValueError: as `load`.
            OSError: as `load`.
        """
        splits, name = self.splits(), self.split_name()
        if name not in splits:
            raise ValueError(f"split must be one of {', '.join(splits)}. Received: {name!r}")
        return splits[name]

    def split_name(self) -> str:
        """Find the name of the split.

        Returns:
            That given, else the name of the split on which models are tested.

        Raises:
            ValueError: as `load`.
            OSError: as `load`.
        """
        if self.split is not None:
            return self.split
        splits = self.splits()
        return "test" if "test" in splits else list(splits)[-1]

    def splits(self) -> Mapping[str, Split]:
        """Find all splits of the data set.

        Returns:
            name -> split.

        Raises:
            ValueError: as `load`.
            OSError: as `load`.
        """
        return _splits(self.dataset, self.data_dir, self.manual_dir)

    def load(self, rows: tuple[int, int] | None = None) -> Dataset:
        """Load the split, or some images of it.

        Args:
            rows: as in `load`.

        Returns:
            The images and labels.

        Raises:
            ValueError: as `load`.
            OSError: as `load`.
        """
        if rows is not None:
            ends = as_array(rows, "rows", _ROWS)
            if ends.shape != (2,) or ends.dtype.kind not in "iu" or not 0 <= ends[0] < ends[1]:
                raise ValueError(f"rows must be {_ROWS}. Received: {shown(rows)}")
        split = self.open()
        first, end = (0, split.count) if rows is None else rows
        levels, labels = split.read(first, min(end, split.count))
        return Dataset(to_float(self._in_shape(levels, split.shape)), labels, split.class_names)

    def _in_shape(
        self, levels: Sequence[np.ndarray] | np.ndarray, shape: Shape | None
    ) -> np.ndarray:
        if shape is not None and self.shape in (None, shape):
            return np.asarray(levels)
        if self.shape is None:
            if len({image.shape for image in levels}) > 1:
                raise ValueError(
                    f"the images of {self.dataset} differ in size; say the shape to bring them into"
                )
            return np.asarray(levels)
        return np.stack([pictures.fit(image, self.shape) for image in levels])

    def count(self) -> int:
        """Count the images of the split without reading them.

        Returns:
            How many images the split has.

        Raises:
            ValueError: as `load`.
            OSError: as `load`.
        """
        return self.open().count

    def load_donors(self) -> tuple[np.ndarray, np.ndarray]:
        """Load the images that attacks such as "blend" mix into others.

        Returns:
            The first 2,000 training images `[m, h, w, c]`, or images of this split of a data set
            that has no others, and their labels `[m]`; all of them if there are fewer.

        Raises:
            ValueError: as `load`.
            OSError: as `load`.
        """
        split = "train" if "train" in self.splits() else self.split
        donors = dataclasses.replace(self, split=split).load((0, _NUM_DONORS))
        return donors.images, donors.labels


def load(
    name: str = _OURS,
    split: str | None = None,
    *,
    data_dir: str | None = None,
    manual_dir: str | None = None,
    rows: tuple[int, int] | None = None,
    shape: Shape | None = None,
) -> Dataset:
    """Load one split of a data set of images, or a range of its images.

    Args:
        name: "mnist" for the package's own copy; a folder with a folder of PNG or JPEG pictures
            for each class, or with such folders for each split; a folder of the four IDX files;
            else any image classification set of TFDS: "fashion_mnist", "cifar10", ...
        split: "train", "test", or another that the data set has; None: "test", or the last one
            where there is none of that name.
        data_dir: where TFDS keeps prepared data sets; its own default if None.
        manual_dir: a folder that holds the data set's original files, for use without network. The
            four IDX files are read as they are, in their order; others are given to TFDS.
        rows: index of the first image and one past the last; None: all images.
        shape: `(h, w, c)` into which images are brought (see `pictures.fit`); None: they stay as
            they are.

    Returns:
        The images, `[n, h, w, c]`, and labels of the split; MNIST in the original order.

    Raises:
        ValueError: no such split; a folder is given for "mnist" that does not hold its files; TFDS
            does not know `name`, or its images have no single class; images differ in size and no
            shape is given; a file is damaged.
        OSError: the files cannot be read, or TFDS cannot fetch them.

    Example:
        >>> import mnist_adv
        >>> mnist_adv.load("mnist", "test").labels[:5]
        array([7, 2, 1, 0, 4])
    """
    return DataSource(name, split, data_dir, manual_dir, shape).load(rows)


def _splits(name: str, data_dir: str | None, manual_dir: str | None) -> Mapping[str, Split]:
    if manual_dir is not None and idx.is_idx_folder(manual_dir):
        return idx.open_idx(manual_dir, _class_names(name, manual_dir))
    if manual_dir is not None and image_folder.is_image_folder(manual_dir):
        return image_folder.open_folder(manual_dir)
    if name == _OURS:
        if data_dir or manual_dir:
            raise ValueError(
                "data_dir and manual_dir are for TFDS data sets; mnist comes with the package. "
                f"Received: data_dir={data_dir!r}, manual_dir={manual_dir!r}"
            )
        return idx.open_idx(_FOLDER, None)
    return tfds_sets.open_tfds(name, data_dir, manual_dir)


def _class_names(name: str, folder: str) -> tuple[str, ...] | None:
    """Find the names of the classes where the data set has another name than the folder."""
    is_known = name not in (_OURS, os.path.basename(os.path.abspath(folder)))
    return tfds_sets.class_names_of(name) if is_known else None


def to_float(levels: np.ndarray) -> np.ndarray:
    """Turn 8-bit grey levels into the pixels that models see; the only place that does.

    Args:
        levels: uint8 in 0..255, any shape.

    Returns:
        float32 in [0, 1], same shape.

    Raises:
        ValueError: `levels` is not uint8.
    """
    if levels.dtype != np.uint8:
        raise ValueError(f"levels must be uint8. Received: dtype={levels.dtype}")
    return np.divide(levels, np.float32(255), dtype=np.float32)
