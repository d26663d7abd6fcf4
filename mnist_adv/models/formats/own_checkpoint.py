"""Write weights as a checkpoint that `train.py` could have saved."""

from __future__ import annotations

import pathlib

from mnist_adv import files
from mnist_adv.models.checkpoints import Saver
from mnist_adv.models.formats.registry import WriteRequest
from mnist_adv.models.perceptron import Perceptron
from mnist_adv.models.softmax_regression import SoftmaxRegression


def write(
    model: SoftmaxRegression | Perceptron, folder: pathlib.Path, request: WriteRequest
) -> list[pathlib.Path]:
    """Add a checkpoint to a folder.

    Args:
        model: whose weights.
        folder: of checkpoints; made if missing.
        request: the data set and the classes.

    Returns:
        The new checkpoint's prefix.

    Raises:
        ValueError: several layers.
        OSError: the folder cannot be made or written.
    """
    if not isinstance(model, SoftmaxRegression):
        raise ValueError(
            f"our own checkpoint holds softmax regression only. Received: {model}; use npz or keras"
        )
    config = {
        "model": {
            "type": "SoftmaxRegression",
            "num_classes": int(model.b.shape[0]),
            "image_shape": list(request.shape),
        },
        "dataset": request.dataset,
        "class_names": list(request.class_names),
        "converted_from": request.source,
    }
    folder.mkdir(parents=True, exist_ok=True)
    with files.alone(folder):
        return [pathlib.Path(Saver(folder, model, config).save(epoch=0))]
