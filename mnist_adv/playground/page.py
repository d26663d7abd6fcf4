"""Write the page: one HTML file with its program, the weights, some digits and their optima.

The sources in `web/` are ES modules, which the tests import one by one. A browser loads no module
beside a page that was opened from the disk, so they are joined here into one.
"""

from __future__ import annotations

import base64
import importlib.resources
import json
import re
from typing import Any

import numpy as np

import mnist_adv
from mnist_adv.data.datasets import Dataset
from mnist_adv.models.formats.shapes import MNIST_SHAPE, listed
from mnist_adv.models.linear import linear_parts
from mnist_adv.models.loaded import LoadedModel
from mnist_adv.optimum import smallest_perturbation

_NORMS = ("linf", "l2", "l1")
_PER_CLASS = 2
_IMPORT = re.compile(r'^import (\{[^}]*\}) from "\./(\w+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:const|(?:async )?function) (\w+))", re.MULTILINE)


def build_page(plain: LoadedModel, test_set: Dataset, robust: LoadedModel | None = None) -> str:
    """Build the page of a softmax regression.

    Args:
        plain: the model, of 28 x 28 x 1 pixels.
        test_set: from which the first two images of every class are taken.
        robust: a second one with the same classes, to be compared; None: no comparison.

    Returns:
        HTML that needs nothing else.

    Raises:
        ValueError: a model that is no softmax regression of that shape, models of different
            classes, or a class without an image.
    """
    chosen = _choose(test_set, len(plain.class_names))
    images, labels = test_set.images[chosen], test_set.labels[chosen]
    models = [_carried(model, images) for model in (plain, robust) if model is not None]
    if robust is not None and len(robust.class_names) != len(plain.class_names):
        raise ValueError(
            f"the two models must have the same classes. Received: {len(plain.class_names)} and "
            f"{len(robust.class_names)}"
        )
    data = {
        "version": mnist_adv.__version__,
        "classes": list(plain.class_names),
        "models": models,
        "digits": [
            {"index": int(index), "label": int(label), "levels": _encode(_levels(image))}
            for index, label, image in zip(chosen, labels, images)
        ],
    }
    # "<" would end the element early, were it in a name of a class.
    carried = json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    page = _read("index.html")
    for name, text in (
        ("style.css", _read("style.css")),
        ("data", carried),
        ("program", program()),
    ):
        page = page.replace(f"/* {name} */", text)
    return page


def program() -> str:
    """Join the modules of the page, each after those that it imports.

    Returns:
        JavaScript without imports and exports: a module is a function that returns its exports.
    """
    done: dict[str, str] = {}

    def add(name: str) -> None:
        if name not in done:
            text = _read(f"{name}.js")
            for _, needed in _IMPORT.findall(text):
                add(needed)
            exports = ", ".join(exported for _, exported in _EXPORT.findall(text))
            body = _EXPORT.sub(r"\1", _IMPORT.sub(r"const \1 = \2_module;\n", text))
            done[name] = f"const {name}_module = (() => {{\n{body}return {{ {exports} }};\n}})();\n"

    add("main")
    return "\n".join(done.values())


def _choose(test_set: Dataset, num_classes: int) -> np.ndarray:
    found = [np.flatnonzero(test_set.labels == k)[:_PER_CLASS] for k in range(num_classes)]
    missing = [k for k, index in enumerate(found) if not len(index)]
    if missing:
        raise ValueError(
            f"the data set must have an image of every class. Received: none of {missing[0]}"
        )
    return np.sort(np.concatenate(found))


def _carried(model: LoadedModel, images: np.ndarray) -> dict[str, Any]:
    parts = linear_parts(model.model)
    if parts is None or model.shape != MNIST_SHAPE:
        raise ValueError(
            "the page is of softmax regression on images of 28 x 28 x 1. Received: "
            f"{type(model.model).__name__} on {listed(model.shape)} ({model.where})"
        )
    W, b = (part.astype("<f4") for part in parts)
    training = model.config.get("training", {})
    return {
        "weights": _encode(W),
        "bias": _encode(b),
        "digest": model.digest[:8],
        "defend": training.get("defend"),
        "epsilon": training.get("epsilon"),
        "optima": {norm: _optima(W, b, images, norm) for norm in _NORMS},
    }


def _optima(
    W: np.ndarray, b: np.ndarray, images: np.ndarray, norm: str
) -> list[list[float | None]]:
    """Prove the smallest change of each image to each class; 0 for the class that is seen."""
    count, num_classes = len(images), W.shape[1]
    seen = (images.reshape(count, -1).astype(np.float64) @ W + b).argmax(axis=1)
    image, target = np.nonzero(np.arange(num_classes) != seen[:, np.newaxis])
    optimum = smallest_perturbation(W, b, images[image], target, norm=norm, progress=False)
    found = np.zeros((count, num_classes))
    found[image, target] = optimum.upper_bound
    return [[value if np.isfinite(value) else None for value in row] for row in found.tolist()]


def _levels(image: np.ndarray) -> np.ndarray:
    return np.rint(255 * image).astype(np.uint8)


def _encode(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def _read(name: str) -> str:
    return (importlib.resources.files(__package__) / "web" / name).read_text("utf-8")
