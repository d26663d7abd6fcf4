"""Pictures that a person understands at a glance.

Figures are drawn without pyplot, so nothing global is touched and no window is ever opened.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from mnist_adv.attacks import AttackResult, Trace
from mnist_adv.verdict import Verdict

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
    label, wanted = verdict.clean_predictions[0], result.goal.classes[0]
    figure = Figure(figsize=(11, 6.2), layout="constrained")
    grid = figure.subplot_mosaic(
        [["clean", "gradient", "perturbation", "saved"], ["bars", "bars", "steps", "steps"]],
        height_ratios=[1, 0.9],
    )
    _digit(
        grid["clean"], result.images[0], f"clean: {_seen(verdict.clean_probabilities, class_names)}"
    )
    towards = (
        f"towards {class_names[wanted]}"
        if result.goal.targeted
        else (f"away from {class_names[wanted]}")
    )
    if len(trace.gradients):
        _signed(
            grid["gradient"],
            -trace.gradients[0, 0],
            f"gradient at the clean image\n(red: brighter leads {towards})",
        )
    else:
        grid["gradient"].set_axis_off()
    difference = saved - result.images[0]
    length = verdict.norms[result.norm.value][0]
    _signed(
        grid["perturbation"],
        difference,
        f"perturbation, {result.norm.value} {length:.4g} of {result.epsilon:.4g}",
    )
    _digit(grid["saved"], saved, f"saved: {_seen(verdict.probabilities, class_names)}")
    places = np.arange(len(class_names))
    for offset, probabilities, colour, name in (
        (-0.2, verdict.clean_probabilities[0], _BEFORE, "before"),
        (0.2, verdict.probabilities[0], _AFTER, "after"),
    ):
        grid["bars"].bar(places + offset, probabilities, 0.4, color=colour, label=name)
    crowded = len(class_names) > 10 or max(map(len, class_names)) > 2
    grid["bars"].set_xticks(places, class_names, rotation=60 if crowded else 0)
    grid["bars"].set(ylim=(0, 1), title="probability of each class")
    grid["bars"].legend(frameon=False)
    probabilities = _softmax(trace.logits[:, 0])
    grid["steps"].plot(
        probabilities[:, wanted], color=_AFTER, label=class_names[wanted], marker="."
    )
    if label != wanted:
        grid["steps"].plot(
            probabilities[:, label], color=_BEFORE, label=class_names[label], marker="."
        )
    kind = "the target's" if result.goal.targeted else "the label's"
    grid["steps"].set(ylim=(0, 1), xlabel="step", title=f"{kind} probability by step")
    grid["steps"].xaxis.set_major_locator(MaxNLocator(integer=True))
    grid["steps"].legend(frameon=False)
    return _pixels(figure)


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
    figure = Figure(figsize=(1.25 * max(len(frames), 2), 1.7), layout="constrained")
    axes = figure.subplots(1, len(frames), squeeze=False)[0]
    for axis, frame in zip(axes, frames):
        seen = _seen(probabilities[frame : frame + 1], class_names)
        _digit(axis, trace.images[frame, 0], f"step {frame}\n{seen}", size=9)
    return _pixels(figure)


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
    return _pixels(figure)


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
    return _pixels(figure)


def png(pixels: np.ndarray) -> bytes:
    """Encode `[height, width, 3]` or `[height, width]` uint8 as PNG."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG", compress_level=3)
    return content.getvalue()


def animation(trace: Trace) -> bytes:
    """Encode the iterates of one image as a looping GIF, eight times enlarged."""
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
    if result.trace is None or len(result.images) != 1:
        raise ValueError(f"result must be of one image, with trace=True. Received: {result!r}")
    return result.trace


def _digit(axis: Any, image: np.ndarray, title: str, size: int = 11) -> None:
    axis.imshow(image[..., 0], cmap="gray", vmin=0, vmax=1)
    axis.set_title(title, fontsize=size)
    axis.set_axis_off()


def _signed(axis: Any, values: np.ndarray, title: str) -> None:
    largest = float(np.abs(values).max()) or 1.0
    shown = axis.imshow(values[..., 0], cmap="RdBu_r", vmin=-largest, vmax=largest)
    axis.set_title(title, fontsize=11)
    axis.set_axis_off()
    axis.figure.colorbar(shown, ax=axis, shrink=0.7)


def _seen(probabilities: np.ndarray, class_names: Sequence[str]) -> str:
    prediction = int(probabilities[0].argmax())
    return f"{class_names[prediction]} ({probabilities[0, prediction]:.1%})"


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _pixels(figure: Figure) -> np.ndarray:
    figure.set_dpi(_DPI)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
