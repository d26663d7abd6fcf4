"""A folder of PNG and JPEG pictures: one folder per class, perhaps one above it per split."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

import numpy as np

from mnist_adv.data.pictures import SUFFIXES, read_levels
from mnist_adv.data.split import Split


def is_image_folder(folder: str | None) -> bool:
    """Tell whether a folder holds pictures by class, or splits of them.

    Args:
        folder: its path.

    Returns:
        Whether one of its folders, or one in these, holds a picture.
    """
    return folder is not None and bool(_classes(pathlib.Path(folder)) or _parts(folder))


def open_folder(folder: str) -> Mapping[str, Split]:
    """List the pictures of a folder.

    Args:
        folder: that holds a folder of pictures for each class, or such folders for each split.

    Returns:
        split -> its pictures: the first of each class, then the second of each, ..., classes and
        files in the order of their names, so that the first few are of all classes. A folder
        without splits is both "train" and "test".
    """
    parts = _parts(folder)
    if parts:
        names = sorted({name for classes in parts.values() for name in classes})
        return {split: _split(classes, names) for split, classes in parts.items()}
    classes = _classes(pathlib.Path(folder))
    whole = _split(classes, sorted(classes))
    return {"train": whole, "test": whole}


def _split(classes: Mapping[str, list[pathlib.Path]], names: list[str]) -> Split:
    numbered = sorted(
        (number, label, file)
        for label, name in enumerate(names)
        for number, file in enumerate(classes.get(name, []))
    )
    labels = np.array([label for _, label, _ in numbered], np.int64)

    def read(first: int, end: int) -> tuple[list[np.ndarray], np.ndarray]:
        return [read_levels(file) for *_, file in numbered[first:end]], labels[first:end]

    return Split(len(numbered), tuple(names), None, read)


def _parts(folder: str) -> dict[str, dict[str, list[pathlib.Path]]]:
    found = {path.name: _classes(path) for path in _folders(pathlib.Path(folder))}
    return {name: classes for name, classes in found.items() if classes}


def _classes(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    found = {path.name: _pictures(path) for path in _folders(folder)}
    return {name: files for name, files in found.items() if files}


def _folders(folder: pathlib.Path) -> list[pathlib.Path]:
    if not folder.is_dir():
        return []
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def _pictures(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
