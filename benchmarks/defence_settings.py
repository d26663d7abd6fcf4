"""Choose the settings of `train.py --defend` by images held out of the training set.

    python -m benchmarks.defence_settings

trains on the first 50,000 training images, at L-infinity 0.05 and 0.1, with every learning rate and
every share of the steps over which epsilon rises, and counts clean and exact robust accuracy of the
last 10,000. The setting with the largest mean of these four numbers is trained on all 60,000 and
measured on the test images. Writes `defence_settings.md` into `--output_dir`.
"""

from __future__ import annotations

import argparse
import itertools
import pathlib
import sys
from unittest import mock

import numpy as np
from tqdm import tqdm

from mnist_adv.data.datasets import Dataset, load
from mnist_adv.models.softmax_regression import SoftmaxRegression
from mnist_adv.models.training import train
from mnist_adv.models.training_config import TrainingConfig
from mnist_adv.optimum import robust_accuracy, smallest_perturbation

RADII = (0.05, 0.1)
LEARNING_RATES = (0.1, 0.2, 0.3, 0.5, 0.8)
RISES = (1 / 4, 3 / 8, 1 / 2)
HELD_OUT = 10_000


def measure(
    train_set: Dataset, other: Dataset, epsilon: float, rate: float, rise: float
) -> tuple[float, float]:
    """Train once.

    Args:
        train_set: what is learned from.
        other: what is measured on.
        epsilon: the radius of both.
        rate: the learning rate.
        rise: share of the steps over which epsilon rises from 0.

    Returns:
        Clean and exact robust accuracy.
    """
    model = SoftmaxRegression()
    config = TrainingConfig(defend="linf", epsilon=epsilon, learning_rate=rate)
    with mock.patch("mnist_adv.models.training._RAMP", rise):
        for _ in train(model, train_set, other, config):
            pass
    optimum = smallest_perturbation(
        model.W.numpy(), model.b.numpy(), other.images, labels=other.labels, norm="linf"
    )
    clean, robust = robust_accuracy(optimum, [0.0, epsilon])
    return float(clean), float(robust)


def part(dataset: Dataset, first: int, end: int) -> Dataset:
    """Take consecutive images.

    Args:
        dataset: any.
        first: index of the first.
        end: and one past the last.

    Returns:
        They.
    """
    return Dataset(dataset.images[first:end], dataset.labels[first:end], dataset.class_names)


def main(argv: list[str] | None = None) -> int:
    """Choose, measure and write.

    Args:
        argv: the command line without its program; None: `sys.argv`.

    Returns:
        The exit status, 0.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    results = pathlib.Path(__file__).parent / "results"
    parser.add_argument("--output_dir", type=pathlib.Path, default=results)
    parser.add_argument("--num_images", type=int, help="of either split; all if not given")
    arguments = parser.parse_args(argv)
    known, test_set = (
        part(load("mnist", name), 0, arguments.num_images) for name in ("train", "test")
    )
    edge = len(known.labels) - min(HELD_OUT, len(known.labels) // 6)
    learned, held_out = part(known, 0, edge), part(known, edge, len(known.labels))
    found: dict[tuple[float, float], list[tuple[float, float]]] = {}
    grid = list(itertools.product(LEARNING_RATES, RISES))
    for rate, rise in tqdm(grid, disable=None):
        found[rate, rise] = [measure(learned, held_out, radius, rate, rise) for radius in RADII]
    best = max(grid, key=lambda setting: np.mean(found[setting]))
    once = [measure(known, test_set, radius, *best) for radius in RADII]
    heads = [f"{what} at {radius:g}" for radius in RADII for what in ("robust", "clean")]
    lines = [
        f"Trained on {edge:,} images, measured on the {len(held_out.labels):,} after them.",
        "",
        f"| learning rate | epsilon rises over | {' | '.join(heads)} |",
        "|---" * (2 + len(heads)) + "|",
        *(_line(f"{rate:g} | {rise:.3g}", shares) for (rate, rise), shares in found.items()),
        "",
        f"Chosen: learning rate {best[0]:g}, epsilon rises over {best[1]:.3g} of the steps.",
        f"Trained on all {len(known.labels):,}, measured on {len(test_set.labels):,} test images:",
        "",
        f"| | | {' | '.join(heads)} |",
        "|---" * (2 + len(heads)) + "|",
        _line("test images |", once),
    ]
    print(*lines, sep="\n")
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    path = arguments.output_dir / "defence_settings.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


def _line(setting: str, shares: list[tuple[float, float]]) -> str:
    cells = [f"{100 * share:.2f}" for clean, robust in shares for share in (robust, clean)]
    return f"| {setting} | {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
