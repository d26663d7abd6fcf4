"""The pictures of the tour, drawn from the variables of its own run.

Their only text is numbers and formulas, so that every language can show them.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageFilter
from PIL.PngImagePlugin import PngInfo

_DPI = 80
_COLOURS = 255
_TITLES = "Description"
_VISIBLE = 3.0  # grey levels of 255, on average
_GREEN, _RED, _BLUE, _GREY = "#2ca02c", "#d62728", "#1f77b4", "#7f7f7f"


def draw(variables: dict[str, Any]) -> dict[str, bytes]:
    """Draw all pictures.

    Args:
        variables: the names that the tour's code blocks have defined.

    Returns:
        File name -> PNG.
    """
    return {f"{name}.png": draw_one(name, variables) for name in _PICTURES}


def draw_one(name: str, variables: dict[str, Any]) -> bytes:
    """Draw one picture.

    Args:
        name: its file name without ending.
        variables: as for `draw`; only those that it shows are needed.

    Returns:
        PNG.
    """
    return _png(_PICTURES[name](variables))


def alike(first: bytes, second: bytes) -> bool:
    """Compare two pictures as a short-sighted eye does.

    Versions of matplotlib set letters, and round edges to whole pixels, in ways of their own.

    Args:
        first: a PNG.
        second: another.

    Returns:
        Whether they have one size and, blurred, differ little in their grey levels on average.
    """
    blur = ImageFilter.BoxBlur(3)
    one, two = (Image.open(io.BytesIO(content)) for content in (first, second))
    if one.size != two.size:
        return False
    levels = [np.asarray(image.convert("RGB").filter(blur), float) for image in (one, two)]
    difference = levels[0] - levels[1]
    return float(np.abs(difference).mean()) < _VISIBLE


def titles(content: bytes) -> str:
    """Read the titles of a picture's parts, numbers and all, which `draw` has noted in its file.

    Args:
        content: a PNG.

    Returns:
        The titles, separated by semicolons.
    """
    return str(Image.open(io.BytesIO(content)).info[_TITLES])


def _png(figure: Figure) -> bytes:
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    notes = PngInfo()
    notes.add_text(_TITLES, "; ".join(axes.get_title() for axes in figure.axes))
    content = io.BytesIO()
    drawn.quantize(_COLOURS, dither=Image.Dither.NONE).save(
        content, "PNG", optimize=True, pnginfo=notes
    )
    return content.getvalue()


def _figure(width: float, height: float, *, left: float = 0.1, bottom: float = 0.1) -> Figure:
    # Fixed margins, in inches: automatic ones depend on the version of matplotlib.
    figure = Figure(figsize=(width, height), dpi=_DPI)
    figure.subplots_adjust(
        left=left / width,
        right=1 - 0.1 / width,
        bottom=bottom / height,
        top=1 - 0.35 / height,
        wspace=0.1 if left < 0.2 else 0.15,
        hspace=0.22,
    )
    return figure


def _grey(axes: Axes, image: np.ndarray, title: str = "") -> None:
    axes.imshow(np.reshape(image, (28, 28)), cmap="gray", vmin=0, vmax=1)
    axes.set_title(title)
    axes.set_axis_off()


def _signed(axes: Axes, image: np.ndarray, title: str = "", scale: float | None = None) -> None:
    limit = float(np.abs(image).max()) if scale is None else scale
    axes.imshow(np.reshape(image, (28, 28)), cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes.set_title(title)
    axes.set(xticks=[], yticks=[])


def _pixels(v: dict[str, Any]) -> Figure:
    figure = _figure(8, 4)
    whole, corner = figure.subplots(1, 2)
    _grey(whole, v["x"])
    whole.add_patch(_frame())
    part = v["x"].reshape(28, 28)[7:12, 6:14]
    corner.imshow(part, cmap="gray", vmin=0, vmax=1)
    corner.set_axis_off()
    for (row, column), value in np.ndenumerate(part):
        colour = "black" if value > 0.5 else "white"
        corner.text(column, row, f"{100 * value:.0f}", ha="center", va="center", color=colour)
    return figure


def _frame() -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((5.5, 6.5), 8, 5, fill=False, edgecolor=_RED, linewidth=2)


def _templates(v: dict[str, Any]) -> Figure:
    figure = _figure(9, 4)
    scale = float(np.quantile(np.abs(v["W"]), 0.995))
    for digit, axes in enumerate(figure.subplots(2, 5).flat):
        _signed(axes, v["W"][:, digit], str(digit), scale)
    return figure


def _logit(v: dict[str, Any]) -> Figure:
    x, W, b = v["x"], v["W"], v["b"]
    figure = _figure(8, 5.4)
    grid = figure.subplots(2, 3)
    scale = float(np.quantile(np.abs(W), 0.995))
    for (image, template, product), digit in zip(grid, (7, 2)):
        _grey(image, x, "x")
        _signed(template, W[:, digit], f"W[:, {digit}]", scale)
        total = x @ W[:, digit]
        title = f"sum {total:.1f}, + b {b[digit]:.1f} = {total + b[digit]:.1f}"
        _signed(product, x * W[:, digit], title, scale)
    return figure


def _gradient(v: dict[str, Any]) -> Figure:
    figure = _figure(8, 4)
    nudging, hand = figure.subplots(1, 2)
    _signed(nudging, v["by_nudging"], "785 x C")
    _signed(hand, v["by_hand"], "W (p - onehot)")
    return figure


def _upstream(v: dict[str, Any]) -> Figure:
    W, p, onehot = v["W"], v["p"], v["onehot"]
    figure = _figure(9, 5, left=0.35)
    grid = figure.subplots(2, 3, height_ratios=[1, 2.4])
    columns = (
        ("z", onehot, onehot),
        ("p", onehot, p[2] * (onehot - p)),
        ("z", p - onehot, p - onehot),
    )
    titles = ("dz[2] / dx", "dp[2] / dx", "dC / dx")
    for bars, picture, (place, seed, at_scores), title in zip(*grid, columns, titles):
        bars.bar(range(10), seed, color=[_RED if value > 0 else _BLUE for value in seed])
        bars.axhline(0, color=_GREY, linewidth=0.5)
        bars.set(ylim=(-1.15, 1.15), xticks=range(10), yticks=[-1, 0, 1], title=f"at {place}")
        answer = W @ at_scores
        _signed(picture, answer, f"{title},  max {_short(float(np.abs(answer).max()))}")
    return figure


def _short(value: float) -> str:
    return f"{value:.2f}" if value > 0.01 else f"{value:.0e}"


def _steps(v: dict[str, Any]) -> Figure:
    from mnist_adv import attack

    figure = _figure(9, 3.7)
    grid = figure.subplots(2, 6)
    for row, target in zip(grid, (2, 3)):
        result = attack(v["model"], v["x"], targets=target, labels=7, step_size=0.01, trace=True)
        if result.trace is None:
            raise ValueError("attack kept no trace")
        last = len(result.trace.images) - 1
        for axes, step in zip(row, np.linspace(0, last, 5).round().astype(int)):
            q = v["softmax"](result.trace.logits[step, 0].astype(float))
            top = int(np.argmax(q))
            _grey(axes, result.trace.images[step, 0])
            axes.set_title(f"{0.01 * step:.2f}: {top} ({q[top]:.2f})", color=_hue(top))
        _signed(row[-1], result.perturbation[0], f"$\\pm${0.01 * last:.2f}")
    return figure


def _hue(digit: int) -> str:
    return "black" if digit == 7 else _RED


def _promise(v: dict[str, Any]) -> Figure:
    x, W, b, g, softmax = (v[name] for name in ("x", "W", "b", "g", "softmax"))
    sizes = np.linspace(0, 0.12, 61)
    moves = np.clip(x - sizes[:, None] * np.sign(g), 0, 1) - x
    z = (x + moves) @ W + b
    figure = _figure(9, 3.4, left=0.6, bottom=0.4)
    chance, score = figure.subplots(1, 2)
    slope = -v["p"][2] * g
    chance.semilogy(sizes, softmax(z)[:, 2], color=_RED, label="P(x + d)")
    chance.semilogy(sizes, v["p"][2] + moves @ slope, "--", color=_GREY, label="P(x) + d . dP/dx")
    chance.set(title="p[2]")
    lead = z[:, 7] - z[:, 2]
    score.plot(sizes, lead, color=_RED, label="L(x + d)")
    promised = lead[0] + moves[::6] @ (W[:, 7] - W[:, 2])
    score.plot(sizes[::6], promised, "o", color=_GREY, label="L(x) + d . dL/dx")
    score.axhline(0, color="black", linewidth=0.5)
    score.set(title="L = z[7] - z[2]")
    for axes in (chance, score):
        axes.legend(frameon=False)
    return figure


def _adding_up(v: dict[str, Any]) -> Figure:
    taken = np.sort(-v["d"] * (v["W"][:, 7] - v["W"][:, 2]))[::-1]
    figure = _figure(9, 3.2, left=0.6, bottom=0.5)
    single, total = figure.subplots(1, 2)
    single.bar(range(784), taken, width=1, color=_GREEN)
    single.set(title="-d[i] (W[i, 7] - W[i, 2])", xlabel="i")
    total.plot(np.cumsum(taken), color=_GREEN)
    total.axhline(v["lead"], color=_RED, linestyle="--")
    total.set(title=f"$\\sum$,  z[7] - z[2] = {v['lead']:.1f}", xlabel="i", ylim=(0, None))
    return figure


def _hardened(v: dict[str, Any]) -> Figure:
    figure = _figure(9, 4)
    rows = (v["W"], v["hardened"][0])
    for row, weights in zip(figure.subplots(2, 5), rows):
        for axes, digit in zip(row, (0, 2, 3, 7, 8)):
            limit = float(np.quantile(np.abs(weights), 0.995))
            _signed(axes, weights[:, digit], f"{digit}   max {np.abs(weights).max():.1f}", limit)
    return figure


def _nothing(v: dict[str, Any]) -> Figure:
    from mnist_adv import attack

    figure = _figure(9, 2.6)
    for axes, confidence in zip(figure.subplots(1, 4), (None, 0.5, 0.9, 0.99)):
        image = np.zeros(784)
        if confidence is not None:
            image = attack(
                v["model"], image, targets=2, step_size=0.005, confidence=confidence, num_steps=60
            ).adversarial.astype(float)
        q = v["softmax"](image.reshape(784) @ v["W"] + v["b"])
        _grey(axes, image, f"p[2] = {q[2]:.2f}")
    return figure


_PICTURES: dict[str, Callable[[dict[str, Any]], Figure]] = {
    "pixels": _pixels,
    "templates": _templates,
    "logit": _logit,
    "gradient": _gradient,
    "upstream": _upstream,
    "steps": _steps,
    "promise": _promise,
    "adding_up": _adding_up,
    "hardened": _hardened,
    "nothing": _nothing,
}
