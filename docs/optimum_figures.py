"""Draw the pictures of docs/optimum.md.

    python -m docs.optimum_figures --checkpoint_dir=checkpoints --output_dir=docs/img

writes `optimum_digits.png` (digits with their smallest change in the four norms side by side) and
`optimum_curve.png` (exact robust accuracy over the test images), and the curve's numbers as
`optimum_curve.csv` into `--csv_dir`.
"""

from __future__ import annotations

import argparse
import csv
import pathlib
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_adv.optimum import Optimum, robust_accuracy, smallest_perturbation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NORMS = ("linf", "l2", "l1", "l0")
_TITLES = {"linf": "L-inf", "l2": "L2", "l1": "L1", "l0": "L0"}
_BUDGETS = {
    "linf": np.round(np.arange(0, 0.2501, 0.005), 4),
    "l2": np.round(np.arange(0, 3.001, 0.05), 4),
    "l1": np.round(np.arange(0, 20.01, 0.25), 4),
    "l0": np.arange(0, 31.0),
}


def draw_digits(images: np.ndarray, labels: np.ndarray, optima: dict[str, Optimum]) -> Figure:
    """Draw images and their smallest changes: one row per image, two columns per norm.

    Args:
        images: `[n, 28, 28, 1]`.
        labels: `[n]`.
        optima: norm -> targeted optimum of these images.

    Returns:
        The figure.
    """
    from matplotlib.figure import Figure

    columns = 1 + 2 * len(optima)
    figure = Figure(figsize=(1.15 * columns, 1.42 * len(images) + 0.5), layout="constrained")
    axes = figure.subplots(len(images), columns, squeeze=False)
    for row, image in enumerate(images):
        _show(axes[row, 0], image[..., 0], "gray", 0, 1)
        axes[row, 0].set_title(f"a {labels[row]}", fontsize=8)
        for number, (norm, optimum) in enumerate(optima.items()):
            change = optimum.perturbation[row].reshape(28, 28)
            largest = np.abs(change).max()
            left, right = axes[row, 1 + 2 * number], axes[row, 2 + 2 * number]
            _show(left, optimum.adversarial[row].reshape(28, 28), "gray", 0, 1)
            shown = _show(right, change / largest, "RdBu_r", -1, 1)
            left.set_title(f"{_TITLES[norm]}: a {optimum.classes[row]}", fontsize=8)
            right.set_title(f"{optimum.upper_bound[row]:.3g}", fontsize=8)
    bar = figure.colorbar(shown, ax=axes, location="bottom", shrink=0.4, aspect=50, pad=0.01)
    bar.set_label("change of a pixel / largest change in the picture (red: brighter)", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def draw_curve(curves: dict[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Draw exact robust-accuracy curves, one panel per norm.

    Args:
        curves: norm -> budgets and robust accuracies.

    Returns:
        The figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 2.6), layout="constrained")
    axes = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    units = {"l0": "pixels"}
    for axis, (norm, (epsilons, shares)) in zip(axes, curves.items()):
        if norm == "l0":
            axis.step(epsilons, shares, where="post", color="black")
        else:
            axis.plot(epsilons, shares, color="black")
        axis.set_title(_TITLES[norm], fontsize=10)
        axis.set_xlabel(f"epsilon ({units.get(norm, 'pixel values 0..1')})", fontsize=8)
        axis.set_ylim(0, 1)
        axis.set_xlim(0, epsilons[-1])
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("exact robust accuracy", fontsize=8)
    return figure


def write_csv(path: pathlib.Path, curves: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Write curves as rows `norm, epsilon, robust_accuracy`.

    Args:
        path: the file, overwritten.
        curves: norm -> budgets and robust accuracies.
    """
    with open(path, "w", newline="", encoding="ascii") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["norm", "epsilon", "robust_accuracy"])
        for norm, (epsilons, shares) in curves.items():
            for epsilon, share in zip(epsilons, shares):
                writer.writerow([norm, f"{epsilon:g}", f"{share:.4f}"])


def main(argv: list[str] | None = None) -> int:
    """Solve, draw and write.

    Args:
        argv: the command line without its program; None: `sys.argv`.

    Returns:
        The exit status, 0.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoint_dir", type=pathlib.Path, default=pathlib.Path("checkpoints"))
    parser.add_argument("--output_dir", type=pathlib.Path, default=pathlib.Path("docs/img"))
    parser.add_argument("--csv_dir", type=pathlib.Path, default=pathlib.Path("benchmarks/results"))
    parser.add_argument("--num_images", type=int, default=10_000, help="of the curve")
    settings = parser.parse_args(argv)
    from mnist_adv.data import datasets
    from mnist_adv.models import checkpoints

    model, test_set = checkpoints.restore(settings.checkpoint_dir), datasets.load("mnist", "test")
    W, b = model.W.numpy(), model.b.numpy()
    chosen = _first_of_each(test_set.labels, (7, 3, 0, 4, 1))
    targets = np.array([2, 8, 6, 9, 7])
    optima = {
        norm: smallest_perturbation(W, b, test_set.images[chosen], targets, norm=norm)
        for norm in NORMS
    }
    curves = {}
    for norm in NORMS:
        images, labels = test_set.images[: settings.num_images], test_set.labels
        labels = labels[: settings.num_images]
        optimum = smallest_perturbation(W, b, images, labels=labels, norm=norm)
        curves[norm] = (_BUDGETS[norm], robust_accuracy(optimum, _BUDGETS[norm]))
    for folder in (settings.output_dir, settings.csv_dir):
        folder.mkdir(parents=True, exist_ok=True)
    digits = draw_digits(test_set.images[chosen], test_set.labels[chosen], optima)
    _save(digits, settings.output_dir / "optimum_digits.png")
    _save(draw_curve(curves), settings.output_dir / "optimum_curve.png")
    write_csv(settings.csv_dir / "optimum_curve.csv", curves)
    return 0


def _first_of_each(labels: np.ndarray, wanted: tuple[int, ...]) -> np.ndarray:
    return np.array([int(np.argmax(labels == label)) for label in wanted])


def _show(axis: Any, picture: np.ndarray, colors: str, low: float, high: float) -> Any:
    axis.set_axis_off()
    return axis.imshow(picture, cmap=colors, vmin=low, vmax=high, interpolation="nearest")


def _save(figure: Figure, path: pathlib.Path) -> None:
    # No software version inside: the same picture gives the same file.
    figure.savefig(path, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    sys.exit(main())
