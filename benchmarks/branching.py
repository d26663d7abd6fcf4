"""What methods that branch settle in the same time, on small networks.

    python -m benchmarks.branching --models mnist2x10.onnx

certifies test images that are classified correctly, without attacks, by each method in turn and
with the same seconds for an image, and writes `branching.md` into `--output_dir`. Two networks are
trained here: 784-50-50-10 on MNIST, and scikit-learn's `MLPClassifier`, 64-32-10, on its digits of
8 x 8 pixels. Programs are compiled before. HiGHS alone, without branching before and after it,
claims what the row says, and proves nothing.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

import mnist_adv
from benchmarks.certification import trained_net
from mnist_adv.certification.method import BRANCHING, Method
from mnist_adv.certification.mixed_integer import Program
from mnist_adv.certification.propagation import UNITS, Propagation
from mnist_adv.certification.prover import compiled_bounder
from mnist_adv.certification.read_model import read_network
from mnist_adv.certification.region import Ball
from mnist_adv.certification.result import Arithmetic
from mnist_adv.data.datasets import load
from mnist_adv.geometry.norms import Norm
from mnist_adv.models.activation import Activation
from mnist_adv.models.as_model import as_model
from mnist_adv.models.logits import predict
from mnist_adv.models.perceptron import make_model

_WIDTHS, _NUM_EPOCHS = (50, 50), 5
_METHODS = (Method.ALPHA_CROWN, *BRANCHING)
_HEADER = """\
| network | L-inf | method | proved | broken | unresolved | seconds |
|---|---|---|---|---|---|---|"""


def digits_net() -> tuple[Any, np.ndarray, np.ndarray]:
    """Train scikit-learn's perceptron on its digits.

    Returns:
        The model; images `[n, 8, 8, 1]` in [0, 1] and labels that it was not trained on.
    """
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    digits = load_digits()
    images, labels = (digits.data / 16).astype(np.float32), digits.target
    network = MLPClassifier((32,), max_iter=400, random_state=0).fit(images[:1000], labels[:1000])
    layers = [
        (w.astype(np.float32), b.astype(np.float32))
        for w, b in zip(network.coefs_, network.intercepts_)
    ]
    return make_model(layers, Activation.RELU), images[1000:].reshape(-1, 8, 8, 1), labels[1000:]


def networks(
    paths: list[str], epsilons: list[float]
) -> Iterator[tuple[str, Any, np.ndarray, np.ndarray, float]]:
    """Make or read the networks.

    Args:
        paths: of files of models of MNIST.
        epsilons: a radius for each of them.

    Yields:
        A name, the model, images, labels, and the radius.
    """
    test = load("mnist", "test")
    yield "scikit-learn, 64-32-10", *digits_net(), 0.08
    model = trained_net(load("mnist", "train"), _WIDTHS, _NUM_EPOCHS)
    yield "784-50-50-10", model, test.images, test.labels, 0.05
    for path, epsilon in zip(paths, epsilons, strict=True):
        name = pathlib.Path(path).name
        yield name, mnist_adv.open_model(path).model, test.images, test.labels, epsilon


def settle(
    model: Any, images: np.ndarray, labels: np.ndarray, epsilon: float, seconds: float
) -> Iterator[str]:
    """Certify images by each method that takes the network.

    Args:
        model: images -> logits.
        images: `[n, h, w, c]`.
        labels: `[n]`.
        epsilon: the L-inf radius.
        seconds: for each image.

    Yields:
        The cells of a row.
    """
    for method in _METHODS:
        given: dict[str, Any] = {"epsilon": epsilon, "method": method, "attack": False}
        given |= {"seconds_per_image": seconds} if method in BRANCHING else {}
        try:
            mnist_adv.certify(model, images, labels, **_briefly(given))  # compiles
        except ValueError as error:
            print(f"{method.value}: {error}", flush=True)
            continue
        started = time.perf_counter()
        found = mnist_adv.certify(model, images, labels, **given)
        took = time.perf_counter() - started
        proved, broken = int(found.proved.sum()), int(found.broken.sum())
        left = len(labels) - proved - broken
        yield f"| {method.value} | {proved} | {broken} | {left} | {took:.1f} |"


def ask_highs(
    model: Any, images: np.ndarray, labels: np.ndarray, epsilon: float, seconds: float
) -> str:
    """Ask HiGHS alone for the margins that lines leave open.

    Args:
        model: images -> logits.
        images: `[n, h, w, c]`.
        labels: `[n]`.
        epsilon: the L-inf radius.
        seconds: for each image.

    Returns:
        The cells of a row.
    """
    height, width, channels = images.shape[1:]
    network = read_network(as_model(model, images), (height, width, channels))
    propagation = Propagation(network, Ball(Norm.LINF, 0.0, 1.0), UNITS[Arithmetic.FLOAT32])
    bounder, identity = compiled_bounder(propagation), np.eye(network.num_classes)
    pixels, radius = images.reshape(len(images), -1).astype(np.float64), np.array([epsilon])
    counts = {"claimed": 0, "broken": 0, "left": 0}
    started = time.perf_counter()
    for image, label in zip(pixels, labels):
        until = time.perf_counter() + seconds
        margins = bounder.margins(image[None], np.array([label]), radius, Method.ALPHA_CROWN)[0]
        others = [other for other in margins.argsort() if margins[other] <= 0]
        whole, known = bounder.refine(image, epsilon), "claimed"
        program = Program(network, propagation.ball, whole.region, whole.intervals)
        for number, other in enumerate(others):
            share = max(0.01, until - time.perf_counter()) / (len(others) - number)
            answer = program.minimise(identity[label] - identity[other], share)
            if answer.margin < 0:
                known = "broken"
                break
            known = known if answer.bound > 0 else "left"
        counts[known] += 1
    took = time.perf_counter() - started
    cells = " | ".join(map(str, counts.values()))
    return f"| HiGHS alone | {cells} | {took:.1f} |"


def _briefly(given: dict[str, Any]) -> dict[str, Any]:
    return {n: value / 10 if n == "seconds_per_image" else value for n, value in given.items()}


def make_parser(doc: str, num_images: int, seconds: float) -> argparse.ArgumentParser:
    """Make the flags of a script that certifies `networks`.

    Args:
        doc: of the script; its first line describes it.
        num_images: by default.
        seconds: of branching, for an image, by default.

    Returns:
        The parser.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--models", nargs="*", default=[], help="files of networks of MNIST")
    parser.add_argument("--epsilons", nargs="*", type=float, default=[], help="one for each")
    parser.add_argument("--num_images", type=int, default=num_images)
    parser.add_argument("--seconds", type=float, default=seconds, help="of branching, for an image")
    results = pathlib.Path("benchmarks/results")
    parser.add_argument("--output_dir", type=pathlib.Path, default=results)
    return parser


def write(lines: list[str], target: pathlib.Path) -> None:
    """Write lines of Markdown, into a folder that is made if need be.

    Args:
        lines: without their ends.
        target: the file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(lines) + "\n")
    print(f"wrote {target}")


def main(argv: list[str] | None = None) -> int:
    """Certify, measure and write.

    Args:
        argv: the command line without its program; None: `sys.argv`.

    Returns:
        The exit status, 0.
    """
    settings = make_parser(__doc__, num_images=20, seconds=5).parse_args(argv)
    lines = [
        f"# {settings.num_images} images, at most {settings.seconds:g} s for each",
        "",
        *_HEADER.splitlines(),
    ]
    for name, model, images, labels, epsilon in networks(settings.models, settings.epsilons):
        some = images[: 2 * settings.num_images]
        right = np.flatnonzero(predict(model, some).argmax(axis=1) == labels[: len(some)])
        right = right[: settings.num_images]
        for cells in settle(model, images[right], labels[right], epsilon, settings.seconds):
            lines.append(f"| {name} | {epsilon:g} {cells}")
            print(lines[-1], flush=True)
        cells = ask_highs(model, images[right], labels[right], epsilon, settings.seconds)
        lines.append(f"| {name} | {epsilon:g} {cells}")
        print(lines[-1], flush=True)
    write(lines, settings.output_dir / "branching.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
