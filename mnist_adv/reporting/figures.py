"""Figures of one attack and of the gradient check."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from mnist_adv.attacks import Trace
from mnist_adv.drawing.canvas import clipped, rasterise, seen, show, without_grey_channel
from mnist_adv.tensors.lazy import tf

if TYPE_CHECKING:
    from mnist_adv.reporting.saved_attack import SavedAttack

# Red and blue are kept for brighter and darker.
_BEFORE, _AFTER = "#7f7f7f", "#7b3294"
_DIFFERENCES = ("#7b3294", "#2ca02c", "#000000", "#7f7f7f")
_MOST_FRAMES, _COLUMNS = 12, 4
# Classes whose probabilities are drawn, with short names and with others.
_MOST_BARS, _MOST_WIDE_BARS = 26, 12
# Characters of a class's name: over an image, over a small one, under a bar.
_WIDE, _NARROW, _SLANTED = 24, 12, 16


def attack_figure(saved: SavedAttack, class_names: Sequence[str]) -> np.ndarray:
    """Draw one attack: images, gradient, perturbation, probabilities before, after and by step.

    Args:
        saved: the attack, with its trace, and its saved image.
        class_names: k names.

    Returns:
        `[height, width, 3]` uint8.

    Raises:
        ValueError: the attack has no trace, or is of several images.
    """
    result, verdict, trace = saved.result, saved.verdict, saved.trace
    goal, before, after = result.goal, verdict.clean_probabilities[0], verdict.probabilities[0]
    wanted = int(goal.classes[0])
    class_names = [clipped(name, _WIDE) for name in class_names]
    figure = Figure(figsize=(11, 6.2))
    # Placed by hand: matplotlib's layout engines would take half of the whole run's time.
    show(figure.add_axes((0.005, 0.53, 0.2, 0.37)), result.images[0])
    _caption(figure, 0.105, f"clean: {seen(before, class_names)}")
    if len(trace.gradients):
        _signed(figure, 0.235, -trace.gradients[0, 0])
        towards = goal.describe(class_names)
        _caption(figure, 0.335, f"gradient at the clean image\n(red: brighter leads {towards})")
    _signed(figure, 0.51, saved.image - result.images[0])
    length = f"{result.norm.value} {verdict.norms[result.norm.value][0]:.4g}"
    limit = f" of {result.epsilon:.4g}" if math.isfinite(result.epsilon) else ""
    _caption(figure, 0.61, f"perturbation\n{length}{limit}")
    show(figure.add_axes((0.795, 0.53, 0.2, 0.37)), saved.image)
    _caption(figure, 0.895, f"saved: {seen(after, class_names)}")
    _bars(figure.add_axes((0.04, 0.1, 0.44, 0.32)), before, after, class_names)
    curves = {wanted: _AFTER}
    curves.setdefault(int(before.argmax()), _BEFORE)
    steps = figure.add_axes((0.54, 0.1, 0.44, 0.32))
    _by_step(steps, tf.nn.softmax(trace.logits[:, 0]).numpy(), curves, class_names)
    steps.set_title(f"the {'target' if goal.targeted else 'label'}'s probability by step")
    return rasterise(figure)


def film_strip(trace: Trace, class_names: Sequence[str]) -> np.ndarray:
    """Draw the image changing: up to twelve iterates in rows of four, first and last among them.

    Args:
        trace: of one image.
        class_names: k names.

    Returns:
        `[height, width, 3]` uint8.
    """
    last = len(trace.images) - 1
    frames = np.unique(np.linspace(0, last, min(last + 1, _MOST_FRAMES)).round().astype(int))
    probabilities = tf.nn.softmax(trace.logits[:, 0]).numpy()
    class_names = [clipped(name, _NARROW) for name in class_names]
    height, width = trace.images.shape[2:4]
    columns = min(_COLUMNS, len(frames))
    rows = -(-len(frames) // columns)
    wide, high = 1.3, 1.3 * height / width + 0.5  # inches of a frame, 0.5 for its text
    figure = Figure(figsize=(wide * columns, high * rows))
    for place, frame in enumerate(frames):
        left, bottom = place % columns / columns, 1 - (1 + place // columns) / rows
        size = 0.92 / columns, (high - 0.5) / high / rows
        axis = figure.add_axes((left + 0.04 / columns, bottom, *size))
        show(axis, trace.images[frame, 0])
        axis.set_title(
            f"step {frame}\n{seen(probabilities[frame], class_names)}", fontsize=9, pad=2
        )
    return rasterise(figure)


def difference_error(
    errors: dict[str, tuple[np.ndarray, np.ndarray]], marks: dict[str, float]
) -> np.ndarray:
    """Draw how the error of numerical gradients depends on e.

    Args:
        errors: name -> (e `[m]`, relative error `[m]`).
        marks: name -> the e that is used unless another is given.

    Returns:
        `[height, width, 3]` uint8.
    """
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axis = figure.subplots()
    axis.set_prop_cycle(color=_DIFFERENCES)
    for name, (steps, error) in errors.items():
        (line,) = axis.loglog(steps, error, marker=".", label=name)
        nearest = int(np.argmin(np.abs(np.log(steps) - np.log(marks[name]))))
        axis.plot(marks[name], error[nearest], "o", color=line.get_color(), markersize=9)
    axis.set(
        xlabel="e: how far each pixel is changed",
        ylabel="largest error / largest derivative",
        title="too large an e: truncation; too small: rounding (dot: the default)",
    )
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return rasterise(figure)


def animation(trace: Trace) -> bytes:
    """Encode the iterates of one image as a looping GIF, enlarged to about 224 pixels.

    Args:
        trace: of one image.

    Returns:
        The file's bytes.
    """
    height, width = trace.images.shape[2:4]
    scale = max(1, round(224 / max(height, width)))
    frames = [
        Image.fromarray(without_grey_channel(np.rint(255 * image).astype(np.uint8))).resize(
            (scale * width, scale * height), Image.Resampling.NEAREST
        )
        for image in trace.images[:, 0]
    ]
    content = io.BytesIO()
    pauses = [800] + [120] * (len(frames) - 2) + [1600]
    frames[0].save(
        content,
        "GIF",
        save_all=True,
        append_images=frames[1:],
        duration=pauses[: len(frames)],
        loop=0,
    )
    return content.getvalue()


def _signed(figure: Figure, left: float, values: np.ndarray) -> None:
    summed = values.sum(axis=-1)  # over the channels
    largest = float(np.abs(summed).max()) or 1.0
    axis = figure.add_axes((left, 0.53, 0.2, 0.37))
    shown = axis.imshow(summed, cmap="RdBu_r", vmin=-largest, vmax=largest)
    axis.set_axis_off()
    scale = figure.colorbar(shown, cax=figure.add_axes((left + 0.202, 0.55, 0.008, 0.33)))
    scale.set_ticks([-largest, 0, largest], labels=[f"{-largest:.2g}", "0", f"{largest:.2g}"])


def _caption(figure: Figure, centre: float, text: str) -> None:
    figure.text(centre, 0.91, text, ha="center", va="bottom", fontsize=11)


def _bars(axis: Any, before: np.ndarray, after: np.ndarray, class_names: Sequence[str]) -> None:
    most = _MOST_BARS if max(map(len, class_names)) <= 2 else _MOST_WIDE_BARS
    every = len(class_names) <= most
    shown = np.sort(np.argsort(-np.maximum(before, after), kind="stable")[:most])
    places, names = np.arange(len(shown)), [clipped(class_names[k], _SLANTED) for k in shown]
    axis.bar(places - 0.2, before[shown], 0.4, color=_BEFORE, label="before")
    axis.bar(places + 0.2, after[shown], 0.4, color=_AFTER, label="after")
    crowded = len(names) > 10 or max(map(len, names)) > 2
    turned = {"rotation": 30, "ha": "right", "rotation_mode": "anchor", "fontsize": 8}
    axis.set_xticks(places, names, **(turned if crowded else {}))
    axis.set(
        ylim=(0, 1),
        title="probability of each class" if every else "probability of the likeliest classes",
    )
    axis.legend(frameon=False)


def _by_step(
    axis: Any, probabilities: np.ndarray, curves: dict[int, str], class_names: Sequence[str]
) -> None:
    for label, colour in curves.items():
        axis.plot(probabilities[:, label], color=colour, label=class_names[label], marker=".")
    axis.set(ylim=(0, 1), xlabel="step")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(frameon=False)
