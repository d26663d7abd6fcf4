"""Read and write weights in NumPy's .npz, whose arrays never need a pickle."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import numpy as np

from mnist_adv import archives
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
        ValueError: the file is damaged, is no .npz, holds pickled objects, or asks for more than a
            hundred times its bytes.
        OSError: the file cannot be opened.
    """
    try:
        with archives.open_zip(path) as archive:
            headers = archives.array_headers(archive, path)
    except archives.PickledError as error:
        raise ValueError(f"{path} {content.PICKLED}") from error

    def read_one(name: str) -> np.ndarray:
        with archives.open_zip(path) as archive:
            return archives.read_array(archive, name)

    return NamedArrays(
        where=os.fspath(path),
        shapes={name: list(shape) for name, (shape, dtype) in headers.items() if dtype.kind == "f"},
        read=read_one,
        files=[pathlib.Path(path)],
    )
