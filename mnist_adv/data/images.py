"""The one form in which images, and the classes that go with them, travel through the package."""

from __future__ import annotations

from typing import Any

import numpy as np

from mnist_adv.data.datasets import IMAGE_SHAPE

_NUM_PIXELS = int(np.prod(IMAGE_SHAPE))


def as_batch(images: Any) -> np.ndarray:
    """Bring one image or a batch of them into the form `[n, 28, 28, 1]`, and check the pixels.

    Args:
        images: floats in [0, 1] of shape `[28, 28]`, `[784]`, `[28, 28, 1]`, `[n, 28, 28]`,
            `[n, 784]` or `[n, 28, 28, 1]`.

    Returns:
        `[n, 28, 28, 1]`, float64 if that came in, else float32.

    Raises:
        ValueError: another shape, whole numbers (0..255?), NaN, or a pixel outside [0, 1].
    """
    pixels = np.asarray(images)
    shape = pixels.shape
    rows, columns, _ = IMAGE_SHAPE
    singles = ((_NUM_PIXELS,), (rows, columns), IMAGE_SHAPE)
    if shape not in singles and (len(shape) < 2 or shape[1:] not in singles):
        raise ValueError(
            "images must have shape [28, 28], [784], [28, 28, 1] or [n, 28, 28, 1]. "
            f"Received: {list(shape)}"
        )
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
    return pixels.astype(dtype).reshape(-1, *IMAGE_SHAPE)


def as_classes(classes: Any, num_images: int, num_classes: int, name: str) -> np.ndarray:
    """Bring one class or one class per image into the form `[n]`, and check the range.

    Args:
        classes: an integer, or `[n]` integers, in [0, num_classes).
        num_images: n.
        num_classes: how many logits the model has.
        name: what the caller calls them ("targets", "labels"), for the messages.

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
