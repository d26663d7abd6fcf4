"""The tour's computation graph: values forward, derivatives back."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from docs.picture_parts import GREEN, PURPLE, new_figure

# What is in each box, and its centre.
_BOXES = {
    "x\n784": (0.7, 1.0),
    "W\n784 x 10": (0.7, 2.6),
    "z = x W + b\n10": (3.1, 1.0),
    "p = softmax(z)\n10": (5.5, 1.0),
    "C = -log p[t]\n1": (7.9, 1.0),
}
_HALF_WIDTH, _HALF_HEIGHT = 0.62, 0.32
# Between the centres of two boxes of a row: what goes forward, what comes back.
_ROW = (
    ((0.7, 3.1), "x", "W (p - onehot)"),
    ((3.1, 5.5), "z", "p - onehot"),
    ((5.5, 7.9), "p", "-1 / p[t]"),
)


def draw_graph() -> Figure:
    """Draw the boxes of the computation, arrows forward (green) and back (purple).

    Returns:
        The figure.
    """
    figure = new_figure(2.9)
    axes = figure.subplots()
    axes.set(xlim=(0, 8.6), ylim=(0.3, 3.0), aspect="equal")
    axes.set_axis_off()
    for text, (x, y) in _BOXES.items():
        axes.add_patch(
            FancyBboxPatch(
                (x - _HALF_WIDTH, y - _HALF_HEIGHT),
                2 * _HALF_WIDTH,
                2 * _HALF_HEIGHT,
                boxstyle="round,pad=0.02",
                facecolor="#eeeeee",
                edgecolor="black",
            )
        )
        axes.text(x, y, text, ha="center", va="center", fontsize=10)
    for (left, right), forward, back in _ROW:
        start, end = left + _HALF_WIDTH + 0.05, right - _HALF_WIDTH - 0.05
        _arrow(axes, (start, 1.12), (end, 1.12), GREEN)
        _arrow(axes, (end, 0.88), (start, 0.88), PURPLE)
        middle = (start + end) / 2
        axes.text(middle, 1.22, forward, ha="center", va="bottom", color=GREEN)
        axes.text(middle, 0.56, back, ha="center", va="top", color=PURPLE)
    _to_the_weights(axes)
    return figure


def _to_the_weights(axes: Axes) -> None:
    _arrow(axes, (1.2, 2.24), (2.5, 1.38), GREEN)
    _arrow(axes, (2.9, 1.38), (1.38, 2.46), PURPLE)
    axes.text(1.62, 1.72, "W", color=GREEN, ha="right")
    axes.text(2.45, 2.0, "x[i] (p - onehot)[k]", color=PURPLE, ha="left")


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.5})
