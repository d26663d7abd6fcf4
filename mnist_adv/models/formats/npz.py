"""Read and write weights in NumPy's .npz, whose arrays never need a pickle."""

from __future__ import annotations

import os
import pathlib
import zipfile
import zlib
from typing import Any

import numpy as np

from mnist_adv.models.formats import content
from mnist_adv.models.formats.arrays import NamedArrays, build
from mnist_adv.models.formats.registry import ReadRequest, WriteRequest
from mnist_adv.models.loaded import LoadedModel
from mnist_adv.models.perceptron import Perceptron, layers_of
from mnist_adv.models.softmax_regression import SoftmaxRegression


def load(path: str, request: ReadRequest) -> LoadedModel:
    """Build the model whose weights an .npz holds.

    Args:
        path: the file.
        request: how to read it.

    Returns:
        The model, and what was taken.

    Raises:
        ValueError: the file is damaged, ambiguous, or holds pickled objects; see `build`.
        OSError: the file cannot be opened.
    """
    return build(read(path), request)


def write(
    model: SoftmaxRegression | Perceptron, path: pathlib.Path, request: WriteRequest
) -> list[pathlib.Path]:
    """Write weights as arrays.

    Args:
        model: whose weights.
        path: the new file, which ends in .npz.
        request: the arrays' names.

    Returns:
        The file.
    """
    weights = (array for layer in layers_of(model)[0] for array in layer)
    named: dict[str, Any] = dict(zip(request.names.values(), weights))
    np.savez(path, **named)
    return [path]


def read(path: str | os.PathLike[str]) -> NamedArrays:
    """Open the arrays of an .npz.

    Args:
        path: the file.

    Returns:
        Its float arrays.

    Raises:
        ValueError: the file is damaged, is no .npz, or holds pickled objects.
        OSError: the file cannot be opened.
    """
    arrays: dict[str, Any] = {}
    try:
        # Opened here: NumPy leaves the file open when it is no zip.
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            for name in archive.files:
                arrays[name] = archive[name]
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, AttributeError) as error:
        if "allow_pickle" in str(error) or "pickle" in str(error).lower():
            raise ValueError(f"{path} {content.PICKLED}") from error
        raise ValueError(f"{path} is damaged or no .npz ({error}); use an intact copy") from error
    floats = {name: array for name, array in arrays.items() if array.dtype.kind == "f"}
    return NamedArrays(
        where=os.fspath(path),
        shapes={name: list(array.shape) for name, array in floats.items()},
        read=floats.__getitem__,
        files=[pathlib.Path(path)],
    )
