"""Image classification sets of tensorflow-datasets."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mnist_adv.data.images import Shape
from mnist_adv.data.split import Split
from mnist_adv.errors import first_line


@functools.lru_cache(maxsize=8)
def open_tfds(name: str, data_dir: str | None, manual_dir: str | None) -> Mapping[str, Split]:
    """Prepare a data set of TFDS, and list its splits.

    Args:
        name: that TFDS knows.
        data_dir: where TFDS keeps prepared data sets; its own default if None.
        manual_dir: a folder that holds the data set's original files, for use without network.

    Returns:
        split -> its images.

    Raises:
        ValueError: TFDS does not know `name`, or it has no images of one class each.
        OSError: the files cannot be read, or TFDS cannot fetch them.
    """
    import tensorflow_datasets as tfds

    builder = _builder(name, data_dir)
    shape, names = _form(name, builder.info)
    config = tfds.download.DownloadConfig(manual_dir=manual_dir) if manual_dir else None
    try:
        builder.download_and_prepare(download_config=config)
    except Exception as error:  # TFDS lets its network stack's own exceptions through
        raise OSError(
            f"TFDS cannot prepare {name!r}: {first_line(error)}. Without network, put its "
            "original files into a folder and name that with manual_dir"
        ) from error

    def split(part: str, count: int) -> Split:
        def read(first: int, end: int) -> tuple[Sequence[np.ndarray], np.ndarray]:
            pairs = builder.as_dataset(
                split=f"{part}[{first}:{end}]",
                batch_size=None if shape is None else -1,
                shuffle_files=False,
                as_supervised=True,
            )
            if shape is None:
                images, labels = zip(*tfds.as_numpy(pairs))
                return images, np.asarray(labels, np.int64)
            levels, labels = tfds.as_numpy(pairs)
            if name.startswith("emnist"):
                levels = levels.transpose(0, 2, 1, 3)  # TFDS gives EMNIST transposed
            return levels, labels.astype(np.int64)

        return Split(count, names, shape, read)

    return {
        str(part): split(str(part), int(info.num_examples))
        for part, info in builder.info.splits.items()
    }


def class_names_of(name: str) -> tuple[str, ...] | None:
    """Find the names of the classes of a data set, without its files.

    Args:
        name: of a data set.

    Returns:
        The names in label order; None if TFDS does not know it.
    """
    try:
        return _form(name, _builder(name, None).info)[1]
    except ValueError:
        return None


def _builder(name: str, data_dir: str | None) -> Any:
    import tensorflow_datasets as tfds

    try:
        if ":" in name:  # of a community: code and files from elsewhere
            raise ValueError(name)
        return tfds.builder(name, data_dir=data_dir)
    except Exception as error:  # whatever a name makes TFDS look for, or import
        raise ValueError(
            "dataset must be mnist, a folder of images by class or of the four IDX files, or an "
            f"image classification set of TFDS. Received: {name!r}"
        ) from error


def _is_pair(keys: Any) -> bool:
    return isinstance(keys, tuple) and len(keys) == 2 and all(isinstance(key, str) for key in keys)


def _form(name: str, info: Any) -> tuple[Shape | None, tuple[str, ...]]:
    """Return the shape of the images, None if they differ, and the class names."""
    keys, features = info.supervised_keys, info.features
    image, label = (features[key] for key in keys) if _is_pair(keys) else (None, None)
    shape, dtype = (getattr(image, name, None) for name in ("shape", "np_dtype"))
    num_classes, names = (getattr(label, name, None) for name in ("num_classes", "names"))
    if dtype != np.uint8 or shape is None or shape[-1] not in (1, 3) or (num_classes or 0) < 2:
        raise ValueError(
            "dataset must have 8-bit images of 1 or 3 channels, each of one of at least two "
            f"classes. Received: {name!r} with images {shape} and {num_classes} classes"
        )
    return (None if None in shape else shape), tuple(names or ())
