"""Look for images that violate proved bounds: random ones, and those that attacks find.

    python -m benchmarks.bound_sampling --models a.keras b.onnx --methods ibp crown alpha_crown

bounds the margins of test images over all classes, and holds the logits that each model computes
in float32 against the bounds. It writes `bound_sampling.md` into `--output_dir`, and ends with
status 1 if a bound is violated.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from typing import Any

import numpy as np
from tqdm import tqdm

import mnist_adv
from mnist_adv.certification.bounds import Bounder
from mnist_adv.certification.method import Method
from mnist_adv.certification.propagation import FLOAT32, Propagation
from mnist_adv.certification.read_model import read_network
from mnist_adv.certification.region import Ball
from mnist_adv.data.datasets import load
from mnist_adv.geometry.norms import Norm
from mnist_adv.models.as_model import as_model
from mnist_adv.models.logits import predict

_BATCH = 1000


def least_margins(
    model: Any, image: np.ndarray, label: int, epsilon: float, count: int, seed: int
) -> np.ndarray:
    """Sample the margins of an image's neighbours, half of which are corners of the ball.

    Args:
        model: images -> logits.
        image: `[h, w, c]` float32 in the unit box.
        label: whose logit is compared with the others.
        epsilon: the L-inf radius.
        count: of random images; ten steps of PGD towards each other class come on top.
        seed: of the random numbers.

    Returns:
        `[k]`: the least that was seen; infinite for the label.
    """
    generator = np.random.default_rng(seed)
    low, high = np.maximum(image - epsilon, 0), np.minimum(image + epsilon, 1)
    least = np.full(predict(model, image[np.newaxis]).shape[1], np.inf)

    def see(images: np.ndarray) -> None:
        logits = predict(model, images.astype(np.float32)).astype(np.float64)
        seen = (logits[:, [label]] - logits).min(axis=0)
        least[:] = np.minimum(least, seen)

    for start in range(0, count, _BATCH):
        shape = (min(_BATCH, count - start), *image.shape)
        shares = generator.random(shape)
        see(low + (high - low) * (shares.round() if start // _BATCH % 2 else shares))
    others = np.delete(np.arange(len(least)), label)
    towards = mnist_adv.attack(
        model,
        np.repeat(image[np.newaxis], len(others), axis=0),
        targets=others,
        method="pgd",
        norm="linf",
        epsilon=epsilon,
        num_steps=10,
    )
    see(np.clip(towards.adversarial, low, high))
    least[label] = np.inf
    return least


def main(argv: list[str] | None = None) -> int:
    """Bound, sample and write.

    Args:
        argv: the command line without its program; None: `sys.argv`.

    Returns:
        The exit status: 1 if a bound is violated, else 0.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", required=True, help="files or folders")
    parser.add_argument("--methods", nargs="+", default=["ibp", "crown", "alpha_crown"])
    parser.add_argument("--epsilon", type=float, default=0.01)
    parser.add_argument("--num_images", type=int, default=10)
    parser.add_argument("--num_samples", type=int, default=100_000, help="for all images together")
    parser.add_argument(
        "--output_dir", type=pathlib.Path, default=pathlib.Path("benchmarks/results")
    )
    settings = parser.parse_args(argv)
    test = load("mnist", "test")
    images, labels = test.images[: settings.num_images], test.labels[: settings.num_images]
    radii = np.full(len(images), settings.epsilon)
    lines = [
        f"# Bounds at L-inf {settings.epsilon:g} beside {settings.num_samples:,} samples",
        "",
        f"Margins of the first {len(images)} test images; the slack is the least margin that was",
        "seen less the bound, over images and classes.",
        "",
        "| model | bounds | violated | least slack | median slack |",
        "|---|---|---|---|---|",
    ]
    violated = 0
    for name in settings.models:
        model = as_model(mnist_adv.open_model(name).model, images)
        network = read_network(model, images.shape[1:])
        bounder = Bounder(Propagation(network, Ball(Norm.LINF, 0.0, 1.0), FLOAT32))
        each = settings.num_samples // len(images)
        seen = np.array([
            least_margins(model, image, int(label), settings.epsilon, each, seed)
            for seed, (image, label) in enumerate(
                tqdm(zip(images, labels), pathlib.Path(name).name, len(images), disable=None)
            )
        ])
        pixels = images.reshape(len(images), -1).astype(np.float64)
        for method in settings.methods:
            bounds = bounder.margins(pixels, labels, radii, Method(method))
            slack = seen[np.isfinite(seen)] - bounds[np.isfinite(seen)]
            violated += int((slack < 0).sum())
            lines.append(
                f"| {pathlib.Path(name).name} | {method} | {int((slack < 0).sum())} | "
                f"{slack.min():.2g} | {np.median(slack):.2g} |"
            )
            print(lines[-1], flush=True)
    settings.output_dir.mkdir(parents=True, exist_ok=True)
    target = settings.output_dir / "bound_sampling.md"
    target.write_text("\n".join(lines) + "\n")
    print(f"wrote {target}")
    return 1 if violated else 0


if __name__ == "__main__":
    sys.exit(main())
