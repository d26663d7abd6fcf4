"""Train plain and defended softmax regressions, and draw the pictures of docs/robust.md.

    python -m docs.robust_figures

writes `robust_curves.png` (exact robust accuracy over the test images) and `robust_templates.png`
(weight templates side by side) into `--output_dir`, and the numbers as `robust_curves.csv` into
`--csv_dir`. It prints the page's table.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import pathlib
import sys
from collections.abc import Iterable

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from docs.picture_parts import GREY, PURPLE, new_figure, png, signed
from mnist_adv.data import datasets
from mnist_adv.models.softmax_regression import SoftmaxRegression
from mnist_adv.models.training import train
from mnist_adv.models.training_config import TrainingConfig
from mnist_adv.optimum import robust_accuracy, smallest_perturbation

Curves = dict[str, np.ndarray]

TITLES = {"linf": "L-inf", "l2": "L2", "l1": "L1"}
DEFENCES = {"linf": (0.05, 0.1, 0.2), "l2": (0.5, 1.0, 2.0), "l1": (2.0, 5.0, 10.0)}
BUDGETS = {
    "linf": np.round(np.arange(0, 0.3001, 0.005), 4),
    "l2": np.round(np.arange(0, 4.001, 0.05), 4),
    "l1": np.round(np.arange(0, 20.01, 0.25), 4),
}
# The columns of the table.
COLUMNS = (("linf", 0.05), ("linf", 0.1), ("l2", 1.0), ("l2", 2.0), ("l1", 5.0), ("l1", 10.0))
_TEMPLATES = (("plain", None), ("linf", 0.1), ("l2", 2.0), ("l1", 5.0))
_PURPLES = ("#c2a5cf", "#9970ab", PURPLE)


@dataclasses.dataclass(frozen=True)
class Trained:
    """A model and what is measured of it.

    Attributes:
        defend: the norm of its training; None: plain.
        epsilon: the radius of its training; None: plain.
        weights: `[784, 10]`.
        curves: norm -> exact robust accuracy at `BUDGETS[norm]`.
    """

    defend: str | None
    epsilon: float | None
    weights: np.ndarray
    curves: Curves

    @property
    def name(self) -> str:
        """Its name in tables and legends."""
        return "plain" if self.defend is None else f"{TITLES[self.defend]} {self.epsilon:g}"


def measure(
    sets: tuple[datasets.Dataset, datasets.Dataset], defend: str | None, epsilon: float | None
) -> Trained:
    """Train one model with the defaults and measure it in every norm.

    Args:
        sets: training and test images.
        defend: the norm; None: plain.
        epsilon: the radius; None: plain.

    Returns:
        The model.
    """
    model = SoftmaxRegression()
    for _ in train(model, *sets, TrainingConfig(defend=defend, epsilon=epsilon)):
        pass
    W, b, test_set = model.W.numpy(), model.b.numpy(), sets[1]
    curves = {}
    for norm, budgets in BUDGETS.items():
        nearest = smallest_perturbation(
            W, b, test_set.images, labels=test_set.labels, norm=norm, progress=False
        )
        curves[norm] = robust_accuracy(nearest, budgets)
    return Trained(defend, epsilon, W, curves)


def draw_curves(models: Iterable[Trained]) -> Figure:
    """Draw a panel per norm: the plain model, and those that were defended in this norm.

    Args:
        models: all of them.

    Returns:
        The figure.
    """
    figure = new_figure(3.3, left=0.6, bottom=0.55, wspace=0.08)
    axes = figure.subplots(1, len(BUDGETS), sharey=True)
    for axis, (norm, budgets) in zip(axes, BUDGETS.items()):
        shown = [model for model in models if model.defend in (None, norm)]
        for model, colour in zip(shown, ("black", *_PURPLES)):
            width = 1.6 if model.defend else 1.2
            axis.plot(budgets, model.curves[norm], color=colour, lw=width, label=model.name)
            if model.epsilon is not None:
                share = np.interp(model.epsilon, budgets, model.curves[norm])
                axis.plot(model.epsilon, share, "o", color=colour, ms=4)
        axis.set(title=TITLES[norm], xlabel="epsilon", xlim=(0, budgets[-1]), ylim=(0, 1))
        axis.grid(color=GREY, alpha=0.25)
        axis.legend(fontsize=8, frameon=False)
    axes[0].set_ylabel("exact robust accuracy")
    return figure


def draw_templates(models: Iterable[Trained]) -> Figure:
    """Draw the centred weights of every class, one row per model, each in its own scale.

    Args:
        models: those to show.

    Returns:
        The figure.
    """
    models = list(models)
    figure = new_figure(0.78 * len(models) + 0.4, left=0.75, wspace=0.05, hspace=0.05)
    axes = figure.subplots(len(models), 10)
    for number, (row, model) in enumerate(zip(axes, models)):
        templates = model.weights - model.weights.mean(axis=1, keepdims=True)
        limit = float(np.quantile(np.abs(templates), 0.99))
        for digit, axis in enumerate(row):
            signed(axis, templates[:, digit], "" if number else str(digit), limit=limit, bar=False)
        row[0].set_ylabel(model.name, rotation=0, ha="right", va="center")
    return figure


def write_csv(path: pathlib.Path, models: Iterable[Trained]) -> None:
    """Write all curves as rows `model, norm, epsilon, robust_accuracy`.

    Args:
        path: the file, overwritten.
        models: the models.
    """
    with open(path, "w", newline="", encoding="ascii") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["model", "norm", "epsilon", "robust_accuracy"])
        for model in models:
            for norm, shares in model.curves.items():
                for epsilon, share in zip(BUDGETS[norm], shares):
                    writer.writerow([model.name, norm, f"{epsilon:g}", f"{share:.4f}"])


def table(path: pathlib.Path) -> list[str]:
    """Write the page's table from the numbers.

    Args:
        path: of `robust_curves.csv`.

    Returns:
        Lines of Markdown.
    """
    with open(path, newline="", encoding="ascii") as stream:
        shares = {
            (row["model"], row["norm"], float(row["epsilon"])): float(row["robust_accuracy"])
            for row in csv.DictReader(stream)
        }
    heads = ["trained on", "clean", *(f"{TITLES[norm]} {epsilon:g}" for norm, epsilon in COLUMNS)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name in dict.fromkeys(model for model, _, _ in shares):
        columns = (("linf", 0.0), *COLUMNS)
        cells = [f"{100 * shares[name, norm, epsilon]:.2f}" for norm, epsilon in columns]
        lines.append(f"| {' | '.join([name, *cells])} |")
    return lines


def main(argv: list[str] | None = None) -> int:
    """Train, measure, draw and write.

    Args:
        argv: the command line without its program; None: `sys.argv`.

    Returns:
        The exit status, 0.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output_dir", type=pathlib.Path, default=pathlib.Path("docs/img"))
    parser.add_argument("--csv_dir", type=pathlib.Path, default=pathlib.Path("benchmarks/results"))
    parser.add_argument("--num_images", type=int, help="of either split; all if not given")
    settings = parser.parse_args(argv)
    train_set, test_set = (_first(split, settings.num_images) for split in ("train", "test"))
    wanted = [(norm, epsilon) for norm, radii in DEFENCES.items() for epsilon in radii]
    models = [
        measure((train_set, test_set), norm, epsilon)
        for norm, epsilon in tqdm([(None, None), *wanted], desc="models", disable=None)
    ]
    for folder in (settings.output_dir, settings.csv_dir):
        folder.mkdir(parents=True, exist_ok=True)
    (settings.output_dir / "robust_curves.png").write_bytes(png(draw_curves(models)))
    shown = [model for model in models if (model.defend or "plain", model.epsilon) in _TEMPLATES]
    (settings.output_dir / "robust_templates.png").write_bytes(png(draw_templates(shown)))
    write_csv(settings.csv_dir / "robust_curves.csv", models)
    print(*table(settings.csv_dir / "robust_curves.csv"), sep="\n")
    return 0


def _first(split: str, count: int | None) -> datasets.Dataset:
    dataset = datasets.load("mnist", split)
    return datasets.Dataset(dataset.images[:count], dataset.labels[:count], dataset.class_names)


if __name__ == "__main__":
    sys.exit(main())
