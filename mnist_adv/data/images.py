"""The one form in which images, and the classes that go with them, are passed on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mnist_adv.data.datasets import IMAGE_SHAPE


def as_batch(images: Any, shape: Sequence[int] | None = None) -> np.ndarray:
    """Bring one image or a batch of them into the form `[n, h, w, c]`, and check the pixels.

    Args:
        images: floats in [0, 1] of shape `[n, h, w, c]` or, for c of 1 or 3, `[h, w, c]`. Where
            `(h, w, c)` is known, also `[n, h * w * c]`, `[h * w * c]` and, for c = 1, `[n, h, w]`
            and `[h, w]`.
        shape: `(h, w, c)`; if None it is that of the images, and MNIST's `(28, 28, 1)` for those
            of less than four dimensions whose last is not 1 or 3.

    Returns:
        `[n, h, w, c]`, float64 if that came in, else float32.

    Raises:
        ValueError: another shape, integers (0..255?), NaN, or a pixel outside [0, 1].
    """
    pixels = np.asarray(images)
    given = pixels.shape
    other = ""
    if shape is None:
        other = ", or [n, h, w, c]"
        channels_last = len(given) == 4 or (len(given) == 3 and given[-1] in (1, 3))
        shape = given[-3:] if channels_last else IMAGE_SHAPE
    height, width, channels = shape
    singles = [(height, width, channels), (math.prod(shape),)]
    singles += [(height, width)] * (channels == 1)
    if 0 in shape or (given not in singles and (len(given) < 2 or given[1:] not in singles)):
        allowed = [form for single in singles for form in (["n", *single], [*single])]
        told = " or ".join(f"[{', '.join(map(str, form))}]" for form in allowed)
        raise ValueError(f"images must have shape {told}{other}. Received: {list(given)}")
    if not np.issubdtype(pixels.dtype, np.floating):
        raise ValueError(
            "images must be floats in [0, 1]; divide grey levels 0..255 by 255. "
            f"Received: dtype={pixels.dtype}"
        )
    # Both are NaN if any pixel is.
    least, most = (pixels.min(), pixels.max()) if pixels.size else (0, 1)
    if not (np.isfinite(least) and np.isfinite(most)):
        raise ValueError(
            f"images must be finite. Received: {np.count_nonzero(~np.isfinite(pixels))} pixels "
            "that are NaN or infinite"
        )
    if least < 0 or most > 1:
        raise ValueError(
            "images must lie in [0, 1]; divide grey levels 0..255 by 255. "
            f"Received: pixels from {least:g} to {most:g}"
        )
    dtype = np.float64 if pixels.dtype == np.float64 else np.float32
    count = 1 if given in singles else len(pixels)
    return pixels.astype(dtype).reshape(count, *shape)


def as_classes(classes: Any, num_images: int, num_classes: int, name: str) -> np.ndarray:
    """Bring one class or one class per image into the form `[n]`, and check the range.

    Args:
        classes: an integer, or `[n]` integers, in [0, num_classes).
        num_images: n.
        num_classes: how many logits the model has.
        name: the argument's name ("targets", "labels"), for the messages.

    Returns:
        `[n]` int64.

    Raises:
        ValueError: not integers, another number of them than images, or out of range.
    """
    values = np.asarray(classes)
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"{name} must be integers. Received: {classes!r}")
    if values.shape not in ((), (1,), (num_images,)):
        raise ValueError(
            f"{name} must be one integer or one for each of the {num_images} images. "
            f"Received: shape {list(values.shape)}"
        )
    if values.size and (values.min() < 0 or values.max() >= num_classes):
        wrong = values[(values < 0) | (values >= num_classes)].flat[0]
        raise ValueError(f"{name} must lie in 0..{num_classes - 1}. Received: {wrong}")
    return np.broadcast_to(values, (num_images,)).astype(np.int64)
