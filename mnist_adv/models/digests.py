"""What identifies a model: what it computes with, not the files in which it came.

So a training that was resumed ends in the model of the unbroken one, and converted weights stay
the same model.
"""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from mnist_adv.models.perceptron import Perceptron, layers_of
from mnist_adv.models.softmax_regression import SoftmaxRegression


def digest_layers(model: SoftmaxRegression | Perceptron, shape: Sequence[int]) -> str:
    """Identify a model of Dense layers, whatever kind of file it is from.

    Args:
        model: the model.
        shape: of its images, `(h, w, c)`.

    Returns:
        SHA-256 over the shape, the activation and the weights, hexadecimal.
    """
    layers, activation = layers_of(model)
    said = f"Dense layers of {[int(side) for side in shape]}, {activation and activation.value}"
    return digest_parts([said.encode()], (array for layer in layers for array in layer))


def digest_parts(architecture: Iterable[bytes], weights: Iterable[np.ndarray]) -> str:
    """Identify a model by its parts, in a fixed order.

    Args:
        architecture: what says how it computes.
        weights: what it computes with.

    Returns:
        SHA-256, hexadecimal.
    """
    content = hashlib.sha256()
    for part in architecture:
        content.update(f"{len(part)}:".encode() + part)
    for array in weights:
        content.update(f"{array.dtype.name}{list(array.shape)}".encode() + array.tobytes())
    return content.hexdigest()


def digest_files(files: Iterable[pathlib.Path], name: str) -> str:
    """Identify a function of Python, of which nothing else can be told.

    Args:
        files: that define it, in a fixed order.
        name: of the function, which its file alone does not identify.

    Returns:
        SHA-256 over the name and the files, hexadecimal.

    Raises:
        OSError: a file cannot be read.
    """
    content = hashlib.sha256(name.encode())
    for file in files:
        content.update(file.read_bytes())
    return content.hexdigest()
