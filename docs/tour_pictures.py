"""The pictures of the tour, drawn from the variables of its own run."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from docs.picture_parts import GREEN, GREY, PURPLE, colour_bar, grey, new_figure, png, signed


def draw(names: Sequence[str], variables: dict[str, Any]) -> dict[str, bytes]:
    """Draw pictures.

    Args:
        names: their file names.
        variables: the names that the tour's code blocks have defined.

    Returns:
        File name -> PNG.
    """
    return {name: draw_one(name.removesuffix(".png"), variables) for name in names}


def draw_one(name: str, variables: dict[str, Any]) -> bytes:
    """Draw one picture.

    Args:
        name: its file name without ending.
        variables: as for `draw`; only those that it shows are needed.

    Returns:
        PNG.
    """
    return png(_PICTURES[name](variables))


def picture(name: str, variables: dict[str, Any]) -> Image.Image:
    """Make a picture of the tour at Python's prompt: `picture("templates", globals()).show()`.

    Args:
        name: its file name without ending.
        variables: the names that the tour's code blocks above it have defined.

    Returns:
        The picture; a notebook shows it by itself.

    Raises:
        ValueError: there is no such picture, or a code block above it has not been run.
    """
    if name not in _PICTURES:
        raise ValueError(f"name must be one of {', '.join(_PICTURES)}. Received: {name!r}")
    try:
        return Image.open(io.BytesIO(draw_one(name, variables)))
    except KeyError as error:
        raise ValueError(
            f"{name} shows {error.args[0]}, which is not defined: run the code above the picture"
        ) from None


def _pixels(v: dict[str, Any]) -> Figure:
    figure = new_figure(3.9, right=0.7)
    whole, corner = figure.subplots(1, 2, width_ratios=[1, 1.1])
    grey(whole, v["x"], "28 x 28")
    whole.add_patch(Rectangle((5.5, 6.5), 8, 5, fill=False, edgecolor=GREEN, linewidth=2))
    part = v["x"].reshape(28, 28)[7:12, 6:14]
    shown = corner.imshow(part, cmap="gray", vmin=0, vmax=1)
    corner.set(xticks=range(8), xticklabels=range(6, 14), yticks=range(5), yticklabels=range(7, 12))
    corner.set_title("100 x[i]")
    for (row, column), value in np.ndenumerate(part):
        colour = "black" if value > 0.5 else "white"
        corner.text(column, row, f"{100 * value:.0f}", ha="center", va="center", color=colour)
    colour_bar(corner, shown)
    return figure


def _templates(v: dict[str, Any]) -> Figure:
    figure = new_figure(3.6, right=0.75)
    limit = float(np.quantile(np.abs(v["W"]), 0.995))
    grid = figure.subplots(2, 5)
    for digit, axes in enumerate(grid.flat):
        shown = signed(axes, v["W"][:, digit], f"W[:, {digit}]", limit=limit, bar=False)
    colour_bar(grid[1, 4], shown, place=(1.06, 0, 0.07, 2.22))
    return figure


def _logit(v: dict[str, Any]) -> Figure:
    x, W, b = v["x"], v["W"], v["b"]
    figure = new_figure(5.2, right=0.75, wspace=0.12)
    grid = figure.subplots(2, 3)
    limit = float(np.quantile(np.abs(W), 0.995))
    for (image, template, product), digit in zip(grid, (7, 2)):
        grey(image, x, "x")
        signed(template, W[:, digit], f"W[:, {digit}]", limit=limit, bar=False)
        total = x @ W[:, digit]
        title = f"sum {total:.1f}, + b {b[digit]:.1f} = {total + b[digit]:.1f}"
        signed(product, x * W[:, digit], title, limit=limit)
    return figure


def _gradient_check(v: dict[str, Any]) -> Figure:
    from mnist_adv.gradients.check import difference_errors

    curves, defaults = difference_errors(v["model"], v["x"], 2)
    figure = new_figure(4, left=0.8, right=0.2, bottom=0.6)
    axes = figure.subplots()
    colours = {"forward_difference": PURPLE, "central_difference": GREEN}
    for name, (steps, error) in curves.items():
        source, dtype = name.split(", ")
        line = "-" if dtype == "float64" else "--"
        axes.loglog(steps, error, line, color=colours[source], label=f"{source}, {dtype}")
        best = int(np.argmin(np.abs(np.log(steps / defaults[name]))))
        axes.plot(steps[best], error[best], "o", color=colours[source])
    axes.set(xlabel="e   (black to white = 1)", ylabel="largest error / largest derivative")
    # Fixed, as rounding errors depend on the number of threads.
    axes.set_ylim(1e-12, 1e2)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def _gradient(v: dict[str, Any]) -> Figure:
    figure = new_figure(3.7, right=0.75, wspace=0.35)
    nudging, hand = figure.subplots(1, 2)
    signed(nudging, -v["by_nudging"], "-(C(x + e) - C(x)) / e")
    signed(hand, -v["by_hand"], "-dC/dx = -W (p - onehot)")
    return figure


def _upstream(v: dict[str, Any]) -> Figure:
    W, p, onehot = v["W"], v["p"], v["onehot"]
    figure = new_figure(4.4, left=0.45, right=0.75, wspace=0.5)
    grid = figure.subplots(2, 3, height_ratios=[1, 2.2])
    columns = (
        ("z", onehot, onehot, "dz[2]/dx"),
        ("p", onehot, p[2] * (onehot - p), "dp[2]/dx"),
        ("z", onehot - p, onehot - p, "-dC/dx"),
    )
    for bars, picture, (place, seed, at_scores, title) in zip(*grid, columns):
        bars.bar(range(10), seed, color=GREY)
        bars.axhline(0, color="black", linewidth=0.5)
        bars.set(ylim=(-1.15, 1.15), xticks=range(10), yticks=[-1, 0, 1], title=f"at {place}[k]")
        bars.tick_params(labelsize=8)
        signed(picture, W @ at_scores, title)
    return figure


def _steps(v: dict[str, Any]) -> Figure:
    from mnist_adv import attack

    figure = new_figure(3.1, right=0.65)
    grid = figure.subplots(2, 6)
    for row, target in zip(grid, (2, 3)):
        result = attack(v["model"], v["x"], targets=target, labels=7, step_size=0.01, trace=True)
        if result.trace is None:
            raise ValueError("attack kept no trace")
        last = len(result.trace.images) - 1
        for axes, step in zip(row, np.linspace(0, last, 5).round().astype(int)):
            q = v["softmax"](result.trace.logits[step, 0].astype(float))
            top = int(np.argmax(q))
            grey(axes, result.trace.images[step, 0])
            weight = "normal" if top == 7 else "bold"
            axes.set_title(f"{0.01 * step:.2f}: {top} ({q[top]:.2f})", weight=weight, fontsize=10)
        signed(row[-1], result.perturbation[0], "d")
    return figure


def _promise(v: dict[str, Any]) -> Figure:
    x, W, b, g, softmax = (v[name] for name in ("x", "W", "b", "g", "softmax"))
    figure = new_figure(3.2, left=0.6, bottom=0.55, wspace=0.25)
    chance, score = figure.subplots(1, 2)

    def moves(sizes: np.ndarray) -> np.ndarray:
        return np.clip(x - sizes[:, None] * np.sign(g), 0, 1) - x

    sizes = np.linspace(0, 0.02, 61)
    happened = softmax((x + moves(sizes)) @ W + b)[:, 2]
    promised = v["p"][2] - moves(sizes) @ (v["p"][2] * g)
    _both(chance, sizes, 1e5 * happened, 1e5 * promised)
    chance.set(title="100000 p[2]")
    sizes = np.linspace(0, 0.12, 61)
    z = (x + moves(sizes)) @ W + b
    lead = z[:, 7] - z[:, 2]
    _both(score, sizes, lead, lead[0] + moves(sizes) @ (W[:, 7] - W[:, 2]))
    score.axhline(0, color="black", linewidth=0.5)
    score.set(title="z[7] - z[2]")
    return figure


def _both(axes: Axes, sizes: np.ndarray, happened: np.ndarray, promised: np.ndarray) -> None:
    axes.plot(sizes, happened, color=PURPLE, label="P(x + d)")
    axes.plot(sizes[::6], promised[::6], "o--", color=GREY, label="P(x) + d . dP/dx")
    axes.set(xlabel="size of the step   (black to white = 1)")
    axes.legend(frameon=False)


def _adding_up(v: dict[str, Any]) -> Figure:
    taken = np.sort(-v["d"] * (v["W"][:, 7] - v["W"][:, 2]))[::-1]
    figure = new_figure(3.2, left=0.6, bottom=0.55, wspace=0.2)
    single, total = figure.subplots(1, 2)
    single.bar(range(784), taken, width=1, color=GREEN)
    single.set_ylabel("logit")
    single.set(title="-d[i] (W[i, 7] - W[i, 2])", xlabel="rank of the pixel, largest first")
    total.plot(np.arange(1, 785), np.cumsum(taken), color=GREEN)
    total.axhline(v["lead"], color=GREY, linestyle="--")
    total.set(title=f"z[7] - z[2] = {v['lead']:.1f}", xlabel="number of pixels", ylim=(0, None))
    return figure


def _hardened(v: dict[str, Any]) -> Figure:
    figure = new_figure(3.6, right=0.7)
    for row, weights in zip(figure.subplots(2, 5), (v["plain"][0], v["hardened"][0])):
        limit = float(np.quantile(np.abs(weights), 0.995))
        for axes, digit in zip(row, (0, 2, 3, 7, 8)):
            signed(axes, weights[:, digit], f"W[:, {digit}]", limit=limit, bar=digit == 8)
    return figure


def _nothing(v: dict[str, Any]) -> Figure:
    from mnist_adv import attack

    figure = new_figure(2.4, right=0.6)
    for axes, confidence in zip(figure.subplots(1, 4), (None, 0.5, 0.9, 0.99)):
        image = np.zeros(784)
        if confidence is not None:
            image = attack(
                v["model"], image, targets=2, step_size=0.005, confidence=confidence, num_steps=60
            ).adversarial.astype(float)
        q = v["softmax"](image.reshape(784) @ v["W"] + v["b"])
        shown = grey(axes, image, f"p[2] = {q[2]:.2f}")
    colour_bar(axes, shown)
    return figure


def _graph(_: dict[str, Any]) -> Figure:
    from docs.tour_graph import draw_graph

    return draw_graph()


_PICTURES: dict[str, Callable[[dict[str, Any]], Figure]] = {
    "pixels": _pixels,
    "templates": _templates,
    "logit": _logit,
    "gradient_check": _gradient_check,
    "graph": _graph,
    "gradient": _gradient,
    "upstream": _upstream,
    "steps": _steps,
    "promise": _promise,
    "adding_up": _adding_up,
    "hardened": _hardened,
    "nothing": _nothing,
}
