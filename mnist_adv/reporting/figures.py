"""Pictures that a person understands at a glance.

Figures are drawn without pyplot, so nothing global is touched and no window is ever opened.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from mnist_adv.attacks import AttackResult, Trace
from mnist_adv.verdict.judge import Verdict

_DPI = 110
_BEFORE, _AFTER = "#7f7f7f", "#d62728"
_MOST_FRAMES = 12


def attack_figure(
    result: AttackResult, saved: np.ndarray, verdict: Verdict, class_names: Sequence[str]
) -> np.ndarray:
    """Draw one attack: images, gradient, perturbation, probabilities before, after and by step.

    Args:
        result: of one image, with its trace.
        saved: `[28, 28, 1]` in [0, 1], the image as it was read back from its file.
        verdict: on the saved image.
        class_names: k names.

    Returns:
        `[height, width, 3]` uint8.
    """
    trace = required_trace(result)
    goal, before, after = result.goal, verdict.clean_probabilities[0], verdict.probabilities[0]
    wanted = int(goal.classes[0])
    figure = Figure(figsize=(11, 6.2))
    # Placed by hand: matplotlib's layout engines would take half of the whole run's time.
    _digit(figure.add_axes((0.005, 0.53, 0.2, 0.37)), result.images[0])
    _caption(figure, 0.105, f"clean: {seen(before, class_names)}")
    if len(trace.gradients):
        _signed(figure, 0.235, -trace.gradients[0, 0])
        towards = goal.describe(class_names)
        _caption(figure, 0.335, f"gradient at the clean image\n(red: brighter leads {towards})")
    _signed(figure, 0.51, saved - result.images[0])
    length = f"{result.norm.value} {verdict.norms[result.norm.value][0]:.4g}"
    limit = f" of {result.epsilon:.4g}" if math.isfinite(result.epsilon) else ""
    _caption(figure, 0.61, f"perturbation\n{length}{limit}")
    _digit(figure.add_axes((0.795, 0.53, 0.2, 0.37)), saved)
    _caption(figure, 0.895, f"saved: {seen(after, class_names)}")
    _bars(figure.add_axes((0.04, 0.1, 0.44, 0.32)), before, after, class_names)
    curves = {wanted: _AFTER}
    curves.setdefault(int(before.argmax()), _BEFORE)
    steps = figure.add_axes((0.54, 0.1, 0.44, 0.32))
    _by_step(steps, _softmax(trace.logits[:, 0]), curves, class_names)
    steps.set_title(f"the {'target' if goal.targeted else 'label'}'s probability by step")
    return rasterise(figure)


def film_strip(trace: Trace, class_names: Sequence[str]) -> np.ndarray:
    """Draw the digit changing: up to twelve iterates, first and last among them.

    Args:
        trace: of one image.
        class_names: k names.

    Returns:
        `[height, width, 3]` uint8.
    """
    last = len(trace.images) - 1
    frames = np.unique(np.linspace(0, last, min(last + 1, _MOST_FRAMES)).round().astype(int))
    probabilities = _softmax(trace.logits[:, 0])
    gap = 3
    strip = np.ones((28, (28 + gap) * len(frames) - gap))
    figure = Figure(figsize=(1.2 * len(frames), 1.75))
    axis = figure.add_axes((0, 0, 1, 28 / 41))
    for place, frame in enumerate(frames):
        left = (28 + gap) * place
        strip[:, left : left + 28] = trace.images[frame, 0, ..., 0]
        axis.text(
            left + 13.5,
            -2,
            f"step {frame}\n{seen(probabilities[frame], class_names)}",
            ha="center",
            va="bottom",
            fontsize=9,
        )
    _digit(axis, strip[..., np.newaxis])
    return rasterise(figure)


def templates(weights: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """Draw the weights of each class as a picture, on one scale.

    Args:
        weights: `[784, k]`.
        class_names: k names.

    Returns:
        `[height, width, 3]` uint8.
    """
    rows = -(-len(class_names) // 5)
    figure = Figure(figsize=(8, 1.9 * rows), layout="constrained")
    axes = figure.subplots(rows, 5, squeeze=False).ravel()
    largest = float(np.abs(weights).max()) or 1.0
    for axis in axes:
        axis.set_axis_off()
    for axis, name, template in zip(axes, class_names, weights.T):
        shown = axis.imshow(template.reshape(28, 28), cmap="RdBu_r", vmin=-largest, vmax=largest)
        axis.set_title(name, fontsize=10)
    figure.colorbar(shown, ax=list(axes), shrink=0.8)
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
    for name, (steps, error) in errors.items():
        (line,) = axis.loglog(steps, error, marker=".", label=name)
        nearest = int(np.argmin(np.abs(np.log(steps) - np.log(marks[name]))))
        axis.plot(marks[name], error[nearest], "o", color=line.get_color(), markersize=9)
    axis.set(
        xlabel="e: how far each pixel is nudged",
        ylabel="largest error / largest derivative",
        title="too large an e: truncation; too small: rounding (dot: the default)",
    )
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return rasterise(figure)


def png(pixels: np.ndarray) -> bytes:
    """Encode `[height, width, 3]` or `[height, width]` uint8 as PNG.

    Args:
        pixels: `[height, width, 3]` or `[height, width]` uint8.

    Returns:
        The file's bytes.
    """
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG", compress_level=3)
    return content.getvalue()


def animation(trace: Trace) -> bytes:
    """Encode the iterates of one image as a looping GIF, eight times enlarged.

    Args:
        trace: of one image.

    Returns:
        The file's bytes.
    """
    frames = [
        Image.fromarray(np.rint(255 * image[0, ..., 0]).astype(np.uint8)).resize(
            (224, 224), Image.Resampling.NEAREST
        )
        for image in trace.images
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


def required_trace(result: AttackResult) -> Trace:
    """Take the trace of an attack on one image.

    Args:
        result: any.

    Returns:
        Its trace.

    Raises:
        ValueError: the result is of several images, or was made without a trace.
    """
    if result.trace is None or len(result.images) != 1:
        raise ValueError(f"result must be of one image, with trace=True. Received: {result!r}")
    return result.trace


def seen(probabilities: np.ndarray, class_names: Sequence[str]) -> str:
    """Say what the model sees.

    Args:
        probabilities: `[k]`.
        class_names: k names.

    Returns:
        The class with its probability: "7 (99.6%)".
    """
    prediction = int(probabilities.argmax())
    return f"{class_names[prediction]} ({probabilities[prediction]:.1%})"


def _digit(axis: Any, image: np.ndarray) -> None:
    axis.imshow(image[..., 0], cmap="gray", vmin=0, vmax=1)
    axis.set_axis_off()


def _signed(figure: Figure, left: float, values: np.ndarray) -> None:
    largest = float(np.abs(values).max()) or 1.0
    axis = figure.add_axes((left, 0.53, 0.2, 0.37))
    shown = axis.imshow(values[..., 0], cmap="RdBu_r", vmin=-largest, vmax=largest)
    axis.set_axis_off()
    scale = figure.colorbar(shown, cax=figure.add_axes((left + 0.202, 0.55, 0.008, 0.33)))
    scale.set_ticks([-largest, 0, largest], labels=[f"{-largest:.2g}", "0", f"{largest:.2g}"])


def _caption(figure: Figure, centre: float, text: str) -> None:
    figure.text(centre, 0.91, text, ha="center", va="bottom", fontsize=11)


def _bars(axis: Any, before: np.ndarray, after: np.ndarray, class_names: Sequence[str]) -> None:
    places = np.arange(len(class_names))
    axis.bar(places - 0.2, before, 0.4, color=_BEFORE, label="before")
    axis.bar(places + 0.2, after, 0.4, color=_AFTER, label="after")
    crowded = len(class_names) > 10 or max(map(len, class_names)) > 2
    axis.set_xticks(places, class_names, rotation=30 if crowded else 0)
    axis.set(ylim=(0, 1), title="probability of each class")
    axis.legend(frameon=False)


def _by_step(
    axis: Any, probabilities: np.ndarray, curves: dict[int, str], class_names: Sequence[str]
) -> None:
    for label, colour in curves.items():
        axis.plot(probabilities[:, label], color=colour, label=class_names[label], marker=".")
    axis.set(ylim=(0, 1), xlabel="step")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(frameon=False)


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def rasterise(figure: Figure) -> np.ndarray:
    """Draw a figure, `[height, width, 3]` uint8.

    Args:
        figure: any.

    Returns:
        `[height, width, 3]` uint8.
    """
    figure.set_dpi(_DPI)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
