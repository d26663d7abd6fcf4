"""Train three small networks, and draw the band between what is proved of them and what is broken.

    python -m docs.band_figure

writes `band.png` into `--output_dir`, for docs/robust.md, and prints the medians of each network.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

import mnist_adv
from docs.picture_parts import GREY, PURPLE, new_figure, png
from mnist_adv.data.datasets import Dataset, load
from mnist_adv.evaluation.analyse.band import Band
from mnist_adv.evaluation.result import Evaluation
from mnist_adv.tensors.startup import import_tensorflow

NETWORKS = ("plain", "adversarial training", "interval bounds")
EPSILON = 0.1
EPSILONS = "0,0.01,...,0.2"
_GREEN = "#00693e"


def train(name: str, digits: Dataset, num_epochs: int) -> Any:
    """Train a network of one hidden layer, 784-100-10.

    Args:
        name: one of `NETWORKS`.
        digits: what it learns from.
        num_epochs: how long.

    Returns:
        A Keras model.
    """
    import keras

    from mnist_adv.keras import AdversarialTraining, IntervalBoundTraining

    keras.utils.set_random_seed(0)
    layers = keras.layers
    hidden, last = layers.Dense(100, "relu"), layers.Dense(10)
    model = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), hidden, last])
    trained = model
    if name == "adversarial training":
        trained = AdversarialTraining(model, norm="linf", epsilon=EPSILON)
    if name == "interval bounds":
        steps = num_epochs * (len(digits.labels) // 100)
        trained = IntervalBoundTraining(
            model, epsilon=EPSILON, warmup_steps=steps // 10, ramp_steps=steps // 2
        )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trained.compile("adam", loss)
    trained.fit(digits.images, digits.labels, 100, num_epochs, verbose=0)
    return model


def measure(model: Any, digits: Dataset) -> Evaluation:
    """Attack and certify a network.

    Args:
        model: images -> logits.
        digits: what it is measured on.

    Returns:
        The evaluation, with its band.
    """
    return mnist_adv.evaluate(
        model,
        digits.images,
        digits.labels,
        attacks=["pgd", "fmn"],
        epsilons=EPSILONS,
        certify=True,
        progress=False,
    )


def draw(bands: dict[str, tuple[tuple[float, ...], Band]]) -> Figure:
    """Draw a panel per network.

    Args:
        bands: name -> budgets and band.

    Returns:
        The figure.
    """
    figure = new_figure(3.3, left=0.6, bottom=0.55, wspace=0.08)
    axes = figure.subplots(1, len(bands), sharey=True)
    for axis, (name, (epsilons, band)) in zip(axes, bands.items()):
        proved, unbroken = (
            [share.value for share in shares] for shares in (band.certified, band.unbroken)
        )
        axis.fill_between(epsilons, proved, unbroken, color=_GREEN, alpha=0.15, lw=0)
        axis.plot(epsilons, unbroken, color=PURPLE, lw=1.6, label="robust under attacks")
        axis.plot(epsilons, proved, color=_GREEN, lw=1.6, label="certified")
        axis.set(title=name, xlabel="L-inf epsilon", xlim=(0, epsilons[-1]), ylim=(0, 1))
        axis.set_xticks(np.arange(0, epsilons[-1] - 1e-9, 0.05))  # the last meets the next panel's
        axis.grid(color=GREY, alpha=0.25)
    axes[0].set_ylabel("share of the images")
    axes[0].legend(fontsize=8, frameon=False)
    return figure


def main(argv: list[str] | None = None) -> int:
    """Train, measure, draw and write.

    Args:
        argv: the command line without its program; None: `sys.argv`.

    Returns:
        The exit status, 0.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output_dir", type=pathlib.Path, default=pathlib.Path("docs/img"))
    parser.add_argument("--num_images", type=int, default=500, help="that are measured")
    parser.add_argument("--num_training_images", type=int, help="all if not given")
    parser.add_argument("--num_epochs", type=int, default=10)
    settings = parser.parse_args(argv)
    import_tensorflow()
    learned = _first("train", settings.num_training_images)
    digits = _first("test", settings.num_images)
    bands = {}
    for name in tqdm(NETWORKS, disable=None):
        found = measure(train(name, learned, settings.num_epochs), digits)
        if found.band is None:
            raise RuntimeError("an evaluation that certifies has a band")
        bands[name] = found.table.plan.epsilons, found.band
    settings.output_dir.mkdir(parents=True, exist_ok=True)
    (settings.output_dir / "band.png").write_bytes(png(draw(bands)))
    for name, (epsilons, band) in bands.items():
        at = int(np.searchsorted(epsilons, EPSILON))
        shares = [100 * each[at].value for each in (band.certified, band.open)]
        print(
            f"{name}: {band.sentence}; at {EPSILON:g} {shares[0]:.1f} % proved, {shares[1]:.1f} "
            "% open"
        )
    return 0


def _first(split: str, count: int | None) -> Dataset:
    dataset = load("mnist", split)
    return Dataset(dataset.images[:count], dataset.labels[:count], dataset.class_names)


if __name__ == "__main__":
    sys.exit(main())
