"""The page's numbers are Python's: written here, replayed by `node --test`."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import shutil
import subprocess
from typing import Any

import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from PIL import Image, ImageDraw

import mnist_adv
from mnist_adv.geometry.norms import GEOMETRY, Norm
from mnist_adv.models.softmax_regression import SoftmaxRegression
from mnist_adv.playground import page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("node") is None, reason="needs Node (apt-get install nodejs)"),
]

WEB = pathlib.Path(page.__file__).parent
_IMAGES = (0, 1, 2, 7, 18, 62)  # of the test set; the last ones are near to another class
_STEPS = {"linf": ("sign", 0.15, 0.01), "l2": ("unit", 2.0, 0.2), "l1": ("raw", 20.0, 0.5)}


def _text(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()


def _paths(model: SoftmaxRegression, images: np.ndarray) -> list[dict[str, Any]]:
    found = []
    for norm, (rule, epsilon, size) in _STEPS.items():
        for name, stride in ((rule, size), ("sign", 0.02), ("unit", 0.3), ("raw", 0.4)):
            result = mnist_adv.attack(
                model,
                images,
                targets=2,
                labels=7,
                norm=norm,
                epsilon=epsilon,
                step=name,
                step_size=stride,
                num_steps=20,
                stop_early=False,
                trace=True,
            )
            assert result.trace is not None
            found += [
                {
                    "image": number,
                    "request": {
                        "target": 2,
                        "rule": name,
                        "norm": norm,
                        "epsilon": epsilon,
                        "stepSize": stride,
                    },
                    "images": result.trace.images[:, number].reshape(21, -1).tolist(),
                    "predictions": result.trace.logits[:, number].argmax(axis=1).tolist(),
                }
                for number in (0, 3)  # which are no 2 yet
            ]
    return found


def _projections() -> list[dict[str, Any]]:
    rng = np.random.default_rng(5)
    found = []
    for norm in ("linf", "l2", "l1"):
        for epsilon in (0.01, 1.0, 50.0, 1e4):
            change = rng.normal(size=(1, 28, 28, 1))
            geometry = GEOMETRY[Norm(norm)]
            tensor, radius = tf.constant(change), tf.constant([epsilon], tf.float64)
            found.append({
                "norm": norm,
                "epsilon": epsilon,
                "change": change.ravel().tolist(),
                "projected": geometry.project(tensor, radius).numpy().ravel().tolist(),
                "length": float(geometry.length(tensor)[0]),
            })
    return found


def _photos(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Pictures of several kinds, and what `read_digit` makes of them."""
    paper = Image.new("RGB", (240, 180), (236, 228, 210))
    ImageDraw.Draw(paper).line([(60, 40), (150, 42), (95, 150)], fill=(30, 40, 90), width=14)
    wide = Image.new("L", (400, 130), 10)
    ImageDraw.Draw(wide).arc([140, 20, 260, 110], 20, 320, fill=240, width=12)
    clear = Image.new("RGBA", (90, 90), (0, 0, 0, 0))
    ImageDraw.Draw(clear).line([(40, 10), (44, 80)], fill=(255, 255, 255, 255), width=9)
    small = Image.fromarray(np.rint(255 * mnist_adv.load().images[3, :, :, 0]).astype(np.uint8))
    tiny = small.resize((9, 14))
    found = []
    for name, picture in (
        ("ink on paper", paper),
        ("chalk, wide", wide),
        ("transparent", clear),
        ("28 x 28", small),
        ("enlarged", tiny),
    ):
        path = folder / f"{name}.png"
        picture.save(path)
        found.append({
            "name": name,
            "rgba": _text(np.asarray(picture.convert("RGBA"))),
            "width": picture.width,
            "height": picture.height,
            "levels": _text(mnist_adv.read_digit(path).levels),
        })
    return found


@pytest.fixture(scope="module")
def golden(trained: SoftmaxRegression, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """What Python computes, as JSON."""
    folder = tmp_path_factory.mktemp("golden")
    W, b = trained.W.numpy(), trained.b.numpy()
    images = mnist_adv.load().images[list(_IMAGES)]
    rows = images.reshape(len(images), -1).astype(np.float64)
    levels = np.rint(255 * images).astype(np.uint8)
    rows = levels.reshape(len(images), -1) / 255
    logits = rows @ W.astype(np.float64) + b
    probabilities = scipy.special.softmax(logits, axis=1)
    gradients = []
    for number in range(len(images)):
        for target in (2, 3):
            pull = probabilities[number] - np.eye(10)[target]
            exact = W.astype(np.float64) @ pull
            tape = mnist_adv.compute_gradient(trained, images[number], target)
            assert np.abs(tape.ravel() - exact).max() < 1e-5
            gradients.append({
                "image": number,
                "target": target,
                "cost": float(scipy.special.logsumexp(logits[number]) - logits[number, target]),
                "gradient": exact.tolist(),
            })
    carried = page._carried(
        mnist_adv.LoadedModel(trained, "here", "d" * 64, (28, 28, 1)), levels / 255
    )
    content = {
        "model": carried,
        "levels": [_text(image) for image in levels],
        "logits": logits.tolist(),
        "probabilities": probabilities.tolist(),
        "gradients": gradients,
        "paths": _paths(trained, images),
        "projections": _projections(),
        "optima": carried["optima"],
        "photos": _photos(folder),
    }
    path = folder / "golden.json"
    path.write_text(json.dumps(content))
    return path


def test_the_page_computes_what_python_does(golden: pathlib.Path) -> None:
    done = subprocess.run(
        ["node", "--test", "test/"],
        cwd=WEB,
        env={**os.environ, "GOLDEN": str(golden)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "# fail 0" in done.stdout and "# pass 15" in done.stdout, done.stdout[-600:]
