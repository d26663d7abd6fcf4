"""Pictures of an evaluation: curves, distances, matrices and digits.

Axes are placed by hand: matplotlib's layout engines draw everything twice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mnist_adv.drawing.canvas import clipped, rasterise, without_grey_channel
from mnist_adv.drawing.pairs import Picture
from mnist_adv.evaluation.analyse.band import CERTIFIED, OPEN, Band
from mnist_adv.evaluation.analyse.statistics import OPTIMUM, Curve, Matrices, Share
from mnist_adv.evaluation.analyse.table import Table

_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2")
_BLACK, _GREY, _PALE = "#000000", "#777777", "#d9d9d9"
_GREEN = "#00693e"
_MOST_CLASSES, _LONGEST_NAME = 26, 12


def security_curve(table: Table, curves: Sequence[Curve], band: Band | None = None) -> Picture:
    """Draw success and robust accuracy against epsilon, with Wilson's intervals.

    Args:
        table: for the budgets.
        curves: from `statistics.curves`.
        band: what is proved beside what is broken; None: not known.

    Returns:
        The figure.
    """
    figure = Picture(figsize=(11, 4.6), dpi=110)
    left, right = (figure.add_axes((x, 0.12, 0.42, 0.77)) for x in (0.065, 0.56))
    epsilons = np.array(table.plan.epsilons)
    for curve in curves:
        colour = _colour(table, curve.name)
        style = {"saved": ":", "float": "-"}[curve.form]
        style = "--" if curve.name == OPTIMUM else style
        label = curve.name if curve.form == "float" else None
        for axis, shares in ((left, curve.robust), (right, curve.success)):
            values, low, high = _ends(shares)
            axis.plot(epsilons, values, style, color=colour, label=label, marker=".", markersize=4)
            if curve.form == "float":
                axis.fill_between(epsilons, low, high, color=colour, alpha=0.2, linewidth=0)
    if band is not None:
        proved, unbroken = _ends(band.certified)[0], _ends(band.unbroken)[0]
        left.fill_between(epsilons, proved, unbroken, color=_GREEN, alpha=0.15, lw=0, label=OPEN)
        label = f"{CERTIFIED} ({band.method})"
        left.plot(epsilons, proved, color=_GREEN, label=label, marker=".", markersize=4)
    goal = table.plan.targets.value.replace("_", " ")
    left.set(title="robust accuracy: images still classified correctly")
    kind = "the label left" if not table.plan.targeted else f"the target reached ({goal})"
    right.set(title=f"success: {kind}")
    for axis in (left, right):
        axis.set(xlabel=f"epsilon ({table.plan.norm.value})", ylim=(-0.02, 1.02))
        axis.set_xlim(epsilons[0], epsilons[-1] if len(epsilons) > 1 else epsilons[0] + 1)
        axis.grid(alpha=0.3)
    left.plot([], [], ":", color=_GREY, label="rounded to 8 bits")
    left.legend(frameon=False, fontsize=9)
    return figure


def distances(table: Table) -> np.ndarray:
    """Draw the distances at which goals were met: a histogram and the cumulative curve.

    Args:
        table: all cases.

    Returns:
        `[height, width, 3]` uint8.
    """
    figure = Figure(figsize=(11, 4.2))
    left, right = (figure.add_axes((x, 0.13, 0.42, 0.76)) for x in (0.065, 0.56))
    found = table.distance("float")
    finite = found[np.isfinite(found) & (found > 0)]
    longest = float(finite.max()) if finite.size else 1.0
    edges = np.linspace(0, longest, 41).tolist()
    for number, name in enumerate(table.plan.attacks):
        colour, values = _colour(table, name), found[number]
        met = np.sort(values[np.isfinite(values)])
        left.hist(met, edges, histtype="step", color=colour, linewidth=1.5, label=name)
        shares = np.arange(len(met) + 1) / len(values)
        ends = np.concatenate([[0], met, [longest]])
        right.step(ends, np.append(shares, shares[-1]), where="post", color=colour, label=name)
    norm = table.plan.norm.value
    left.set(title="distances at which the goal was met", xlabel=norm, ylabel="cases")
    right.set(title="share met within a distance", xlabel=norm, ylim=(-0.02, 1.02))
    for axis in (left, right):
        axis.set_xlim(0, longest)
        axis.grid(alpha=0.3)
    right.legend(frameon=False, fontsize=9, loc="lower right")
    return rasterise(figure)


def class_matrices(table: Table, name: str, found: Matrices, class_names: Sequence[str]) -> Any:
    """Draw true class by target: how often, and how far; of many classes the most frequent.

    Args:
        table: for the mode and the norm.
        name: of the attack.
        found: from `statistics.matrices`.
        class_names: k names.

    Returns:
        `[height, width, 3]` uint8.
    """
    chosen = most_frequent(found.counts)
    class_names = [clipped(class_names[k], _LONGEST_NAME) for k in chosen]
    side = max(4.6, 0.46 * len(class_names))
    figure = Figure(figsize=(2 * side + 0.8, side))
    other = "target" if table.plan.targeted else "seen as"
    what = "success" if table.plan.targeted else "share of the images of the class"
    drawn = (
        (found.success, f"{name}: {what}", "Blues", "{:.0%}"),
        (found.distance, f"{name}: median {table.plan.norm.value} distance", "viridis", "{}"),
    )
    for place, (values, title, colours, form) in enumerate(drawn):
        axis = figure.add_axes((0.06 + 0.5 * place, 0.11, 0.42, 0.79))
        values = values[np.ix_(chosen, chosen)]
        finite = values[np.isfinite(values)]
        top = 1.0 if form == "{:.0%}" else float(finite.max(initial=0)) or 1.0
        axis.imshow(np.where(np.isfinite(values), values, np.nan), cmap=colours, vmin=0, vmax=top)
        for (row, column), value in np.ndenumerate(values):
            if not np.isnan(value):
                dark = value > 0.55 * top if colours == "Blues" else value < 0.55 * top
                text = "inf" if np.isinf(value) else form.format(_short(value, form))
                axis.text(
                    column,
                    row,
                    text,
                    ha="center",
                    va="center",
                    fontsize=7.5,
                    color="white" if dark else "black",
                )
        ticks = np.arange(len(class_names))
        crowded = max(map(len, class_names)) > 2
        axis.set_xticks(ticks, class_names, rotation=60 if crowded else 0, fontsize=8)
        axis.set_yticks(ticks, class_names, fontsize=8)
        axis.set_facecolor(_PALE)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(other)
        axis.set_ylabel("true class")
    return rasterise(figure)


def most_frequent(counts: np.ndarray) -> np.ndarray:
    """Choose the classes that are shown of many.

    Args:
        counts: `[k, k]`, how often each pair of classes occurs.

    Returns:
        The most frequent, at most 26, in their order.
    """
    seen = counts.sum(axis=0) + counts.sum(axis=1)
    return np.sort(np.argsort(-seen, kind="stable")[:_MOST_CLASSES])


@dataclasses.dataclass(frozen=True)
class Pair:
    """A clean image beside what became of it.

    Attributes:
        clean: `[h, w, c]` uint8, grey or RGB.
        changed: `[h, w, c]` uint8.
        caption: up to two lines.
        met: whether the goal was met.
    """

    clean: np.ndarray
    changed: np.ndarray
    caption: str
    met: bool


def mosaic(pairs: Sequence[Pair], columns: int) -> np.ndarray:
    """Draw pairs of images on a grid, each with its caption.

    Args:
        pairs: at least one, all of one shape.
        columns: pairs per row.

    Returns:
        `[height, width, 3]` uint8.
    """
    height, width, channels = pairs[0].clean.shape
    unit = width / 28  # lengths below are those of an image that is 28 pixels wide
    gap, margin, above = (max(1, round(unit * length)) for length in (2, 3, 16))
    wide, high = 2 * (width + margin) + gap, height + above
    rows = -(-len(pairs) // columns)
    canvas = np.full((rows * high, columns * wide, channels), 255, np.uint8)
    for place, pair in enumerate(pairs):
        top, left = high * (place // columns) + above, wide * (place % columns) + margin
        canvas[top : top + height, left : left + width] = pair.clean
        canvas[top : top + height, left + width + gap : left + 2 * width + gap] = pair.changed
    per_inch = 42 * unit
    figure = Figure(figsize=(columns * wide / per_inch, rows * high / per_inch + 0.08))
    axis = figure.add_axes((0, 0, 1, rows * high / (rows * high + 0.08 * per_inch)))
    grey: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 255}
    axis.imshow(without_grey_channel(canvas), aspect="auto", interpolation="nearest", **grey)
    axis.set_axis_off()
    for place, pair in enumerate(pairs):
        centre = wide * (place % columns) + margin + width
        axis.text(
            centre,
            high * (place // columns) + above - 1.5 * unit,
            pair.caption,
            ha="center",
            va="bottom",
            fontsize=8,
            color="black" if pair.met else "#b00020",
        )
    return rasterise(figure)


def _ends(shares: Sequence[Share]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    low, high = np.array([share.interval for share in shares]).T
    return np.array([share.value for share in shares]), low, high


def _colour(table: Table, name: str) -> str:
    if name not in table.plan.attacks:
        return _BLACK if name == OPTIMUM else _GREY
    return _COLOURS[table.plan.attacks.index(name) % len(_COLOURS)]


def _short(value: float, form: str) -> Any:
    return value if form != "{}" else f"{value:.2g}".removeprefix("0")
