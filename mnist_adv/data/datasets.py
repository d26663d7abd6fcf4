"""Labelled images, from the package's own MNIST files or from tensorflow-datasets.

MNIST is read from the four original files, in their original order, so that test image 0 is the 7
that `mnist.test.images[0]` was in TensorFlow 1. `tfds.load("mnist")` cannot give that: TFDS
shuffles when it prepares (its test labels begin 2 0 4 8 7), and preparing takes about 18 seconds.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from typing import Any

import numpy as np

from mnist_adv.data.idx import read_idx
from mnist_adv.errors import first_line

IMAGE_SHAPE = (28, 28, 1)
SPLITS = ("train", "test")

_FOLDER = pathlib.Path(__file__).parent / "mnist"
_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}

_NUM_DONORS = 2000


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
        split: "train" or "test".
        data_dir: where TFDS keeps prepared data sets; its own default if None.
        manual_dir: a folder that holds the data set's original files, for use without network.
    """

    dataset: str = "mnist"
    split: str = "test"
    data_dir: str | None = None
    manual_dir: str | None = None

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
        return load(
            self.dataset,
            self.split,
            data_dir=self.data_dir,
            manual_dir=self.manual_dir,
            rows=rows,
        )

    def count(self) -> int:
        """Count the images of the split without reading them.

        Returns:
            How many images the split has.

        Raises:
            ValueError: as `load`.
            OSError: as `load`.
        """
        _check_split(self.split)
        if self.dataset == "mnist":
            return len(_read_once(_FOLDER / _FILES[self.split][1]))
        builder = _prepared(self.dataset, self.data_dir, self.manual_dir)
        return int(builder.info.splits[self.split].num_examples)

    def load_donors(self) -> tuple[np.ndarray, np.ndarray]:
        """Load the images that attacks such as "blend" mix into others.

        Returns:
            The first 2,000 training images `[m, 28, 28, 1]`, or test images of a data set that has
            no others, and their labels `[m]`; all of them if there are fewer.

        Raises:
            ValueError: as `load`.
            OSError: as `load`.
        """
        there = SPLITS
        if self.dataset != "mnist":
            there = _prepared(self.dataset, self.data_dir, self.manual_dir).info.splits
        source = dataclasses.replace(self, split="train" if "train" in there else "test")
        donors = source.load((0, min(_NUM_DONORS, source.count())))
        return donors.images, donors.labels


def load(
    name: str = "mnist",
    split: str = "test",
    *,
    data_dir: str | None = None,
    manual_dir: str | None = None,
    rows: tuple[int, int] | None = None,
) -> Dataset:
    """Load one split of a data set of 28 x 28 grey images, or a range of its images.

    Args:
        name: "mnist" for the package's own copy, else any TFDS data set of 28 x 28 x 1 images
            with at least ten classes: "fashion_mnist", "kmnist", "emnist/letters", ...
        split: "train" or "test".
        data_dir: where TFDS keeps prepared data sets; its own default if None.
        manual_dir: a folder that holds the data set's original files, for use without network.
        rows: index of the first image and one past the last; None: all images.

    Returns:
        The images, `[n, 28, 28, 1]`, and labels of the split; MNIST in the original order.

    Raises:
        ValueError: `split` is neither "train" nor "test"; a folder is given for "mnist"; TFDS does
            not know `name`, or its images are not 28 x 28 x 1, or it has under ten classes.
        OSError: the files cannot be read, or TFDS cannot fetch them.

    Example:
        >>> import mnist_adv
        >>> mnist_adv.load("mnist", "test").labels[:5]
        array([7, 2, 1, 0, 4])
    """
    _check_split(split)
    if rows is not None and not 0 <= rows[0] < rows[1]:
        raise ValueError(f"rows must be (first, end) with 0 <= first < end. Received: {rows}")
    if name != "mnist":
        return _load_tfds(name, split, data_dir, manual_dir, rows)
    if data_dir or manual_dir:
        raise ValueError(
            "data_dir and manual_dir are for TFDS data sets; mnist comes with the package. "
            f"Received: data_dir={data_dir!r}, manual_dir={manual_dir!r}"
        )
    images_file, labels_file = _FILES[split]
    images = _read_once(_FOLDER / images_file)[..., np.newaxis]
    labels = _read_once(_FOLDER / labels_file).astype(np.int64)
    chosen = slice(None) if rows is None else slice(*rows)
    return Dataset(to_float(images[chosen]), labels[chosen], tuple("0123456789"))


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


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}. Received: {split!r}")


@functools.lru_cache(maxsize=4)
def _read_once(path: pathlib.Path) -> np.ndarray:
    # The package's own files never change, and unpacking them for every chunk of a split takes
    # longer than many an attack.
    return read_idx(path)


def _load_tfds(
    name: str,
    split: str,
    data_dir: str | None,
    manual_dir: str | None,
    rows: tuple[int, int] | None = None,
) -> Dataset:
    import tensorflow_datasets as tfds

    builder = _prepared(name, data_dir, manual_dir)
    part = split if rows is None else f"{split}[{rows[0]}:{rows[1]}]"
    pairs = tfds.as_numpy(
        builder.as_dataset(split=part, batch_size=-1, shuffle_files=False, as_supervised=True)
    )
    levels, labels = pairs
    if name.startswith("emnist"):
        levels = levels.transpose(0, 2, 1, 3)  # TFDS gives EMNIST transposed
    names = tuple(builder.info.features["label"].names)
    return Dataset(to_float(levels), labels.astype(np.int64), names)


def _prepared(name: str, data_dir: str | None, manual_dir: str | None) -> Any:
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise ValueError(
            f"dataset must be mnist or a TFDS data set of 28 x 28 x 1 images. Received: {name!r}"
        ) from error
    _check_features(name, builder.info.features)
    config = tfds.download.DownloadConfig(manual_dir=manual_dir) if manual_dir else None
    try:
        builder.download_and_prepare(download_config=config)
    except Exception as error:  # TFDS lets its network stack's own exceptions through
        raise OSError(
            f"TFDS cannot prepare {name!r}: {first_line(error)}. Without network, put its "
            "original files into a folder and name that with manual_dir"
        ) from error
    return builder


def _check_features(name: str, features: Any) -> None:
    named = dict(features.items()) if hasattr(features, "items") else {}
    image = getattr(named.get("image"), "shape", None)
    num_classes = getattr(named.get("label"), "num_classes", None)
    if image != IMAGE_SHAPE or num_classes is None or num_classes < 10:
        raise ValueError(
            f"dataset must have images of shape {IMAGE_SHAPE} and at least ten classes. "
            f"Received: {name!r} with shape {image} and {num_classes} classes"
        )
