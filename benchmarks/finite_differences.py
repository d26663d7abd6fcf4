"""Time finite differences for every pixel of every test image, beside the tape.

    python -m benchmarks.finite_differences [--num_images 10000]

Through `mnist_adv.compute_gradient`, for the softmax regression and for a network with a hidden
layer; compilation is counted. Writes benchmarks/results/finite_differences.md.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import time
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from mnist_adv import compute_gradient
from mnist_adv.data import datasets
from mnist_adv.models import checkpoints

RESULTS = pathlib.Path(__file__).parent / "results"
SOURCES = ("tape", "forward_difference", "central_difference")
NUM_SINGLE = 50


class Network:
    """A hidden layer of 64 units with weights drawn at random: not linear, and nobody knows it."""

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        self.first = tf.constant(generator.normal(0, 0.05, (784, 64)).astype(np.float32))
        self.second = tf.constant(generator.normal(0, 0.3, (64, 10)).astype(np.float32))

    def __call__(self, images: Any) -> Any:
        """Compute logits."""
        hidden = tf.tanh(tf.reshape(images, [-1, 784]) @ self.first)
        return hidden @ self.second


def measure(
    model: Any, images: np.ndarray, targets: np.ndarray, source: str
) -> tuple[float, float, np.ndarray]:
    """Time all images at once, and single ones.

    Args:
        model: images -> logits.
        images: `[n, 28, 28, 1]`.
        targets: `[n]`.
        source: of the gradients.

    Returns:
        Seconds for all; median seconds for one, after a first that sets up; the gradients.
    """
    start = time.perf_counter()
    found = compute_gradient(model, images, targets, source=source)
    seconds = time.perf_counter() - start
    single = []
    for index in range(NUM_SINGLE + 1):
        start = time.perf_counter()
        compute_gradient(model, images[index], int(targets[index]), source=source)
        single.append(time.perf_counter() - start)
    return seconds, statistics.median(single[1:]), found


def main() -> None:
    """Measure, print a table and write it beside this script."""
    parser = argparse.ArgumentParser(description="Time finite differences beside the tape.")
    parser.add_argument("--checkpoint_dir", default="checkpoints")
    parser.add_argument("--num_images", type=int, default=10_000)
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(2)
    test = datasets.load("mnist", "test")
    images = test.images[: arguments.num_images]
    targets = (test.labels[: arguments.num_images] + 1) % 10
    models: dict[str, Any] = {
        "softmax regression": checkpoints.restore(arguments.checkpoint_dir),
        "784-64-10 network": Network(),
    }
    lines = [
        f"All 784 pixels of {len(images):,} images, float32, two threads, compilation counted.",
        "",
        "| model | source | seconds | times the tape | one image, ms | cosine with the tape |",
        "|---|---|---|---|---|---|",
    ]
    pairs = [(name, source) for name in models for source in SOURCES]
    tape_seconds, tape = 0.0, np.zeros((0, 0))
    for name, source in tqdm(pairs, disable=None):
        if source == "tape":
            compute_gradient(models[name], images, targets)  # its first call sets up
        seconds, one, found = measure(models[name], images, targets, source)
        flat = found.reshape(len(found), -1).astype(np.float64)
        if source == "tape":
            tape_seconds, tape = seconds, flat
        lengths = np.linalg.norm(flat, axis=1) * np.linalg.norm(tape, axis=1)
        cosine = np.median((flat * tape).sum(axis=1) / lengths)
        lines.append(
            f"| {name} | {source} | {seconds:.2f} | {seconds / tape_seconds:.0f} | "
            f"{1000 * one:.1f} | {cosine:.6f} |"
        )
    table = "\n".join(lines)
    print(table)
    (RESULTS / "finite_differences.md").write_text(table + "\n")


if __name__ == "__main__":
    main()
