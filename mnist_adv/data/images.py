"""The one form in which images, and the classes that go with them, are passed on."""

from __future__ import annotations

from typing import Any

import numpy as np

Shape = tuple[int, int, int]  # height, width and channels of an image
Bounds = tuple[float, float]  # the least and the largest value of a pixel
UNIT: Bounds = (0.0, 1.0)

_MNIST = (28, 28)


def as_batch(images: Any, bounds: Bounds = UNIT) -> np.ndarray:
    """Bring one image or a batch of them into the form `[n, h, w, c]`, and check the pixels.

    Args:
        images: floats inside the bounds, `[h, w, c]` or `[n, h, w, c]`; of MNIST's size also
            `[28, 28]`, `[784]`, `[n, 28, 28]` or `[n, 784]`.
        bounds: the least and the largest value of a pixel.

    Returns:
        `[n, h, w, c]`, float64 if that came in, else float32.

    Raises:
        ValueError: another shape, whole numbers (0..255?), NaN, a pixel outside the bounds, or
            bounds that are not two rising finite numbers.
    """
    low, high = _checked(bounds)
    pixels = np.asarray(images)
    shape = _batch_shape(pixels.shape)
    divide = "; divide grey levels 0..255 by 255" if bounds == UNIT else ""
    if not np.issubdtype(pixels.dtype, np.floating):
        raise ValueError(
            f"images must be floats in [{low:g}, {high:g}]{divide}. Received: dtype={pixels.dtype}"
        )
    # Both are NaN if any pixel is.
    least, most = (pixels.min(), pixels.max()) if pixels.size else bounds
    if not (np.isfinite(least) and np.isfinite(most)):
        raise ValueError(
            f"images must be finite. Received: {np.count_nonzero(~np.isfinite(pixels))} pixels "
            "that are NaN or infinite"
        )
    if least < low or most > high:
        raise ValueError(
            f"images must lie in [{low:g}, {high:g}]{divide}. "
            f"Received: pixels from {least:g} to {most:g}"
        )
    dtype = np.float64 if pixels.dtype == np.float64 else np.float32
    return pixels.astype(dtype).reshape(shape)


def to_unit(images: np.ndarray, bounds: Bounds) -> np.ndarray:
    """Map images from their bounds to [0, 1].

    Args:
        images: of any shape, float32.
        bounds: the least and the largest value of a pixel.

    Returns:
        The same shape; the same array if the bounds are [0, 1] already.
    """
    if bounds == UNIT:
        return images
    low, high = np.float32(bounds[0]), np.float32(bounds[1])
    return np.clip((images - low) / (high - low), 0, 1, dtype=np.float32)


def from_unit(
    images: np.ndarray, unit: np.ndarray, clean: np.ndarray, bounds: Bounds
) -> np.ndarray:
    """Map changed images from [0, 1] back to their bounds; unchanged pixels keep their bits.

    Args:
        images: `[..., n, h, w, c]` float32 in [0, 1].
        unit: the clean images in [0, 1], `[n, h, w, c]`.
        clean: the same inside the bounds.
        bounds: the least and the largest value of a pixel.

    Returns:
        The shape of `images`; the same array if the bounds are [0, 1].
    """
    if bounds == UNIT:
        return images
    low, high = np.float32(bounds[0]), np.float32(bounds[1])
    return np.where(images == unit, clean, np.clip(low + (high - low) * images, low, high))


def _checked(bounds: Bounds) -> Bounds:
    low, high = bounds
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(f"bounds must be two finite numbers, rising. Received: {bounds}")
    return low, high


def _batch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Find the shape `[n, h, w, c]` that an accepted shape stands for."""
    pixels = _MNIST[0] * _MNIST[1]
    if len(shape) == 4 and 0 not in shape[1:]:
        return shape
    if shape in ((pixels,), _MNIST) or (len(shape) >= 2 and shape[1:] in ((pixels,), _MNIST)):
        return (-1, *_MNIST, 1)
    if len(shape) == 3 and 0 not in shape:
        return (1, *shape)
    raise ValueError(
        "images must have shape [h, w, c] or [n, h, w, c], or one of MNIST's: [28, 28], [784], "
        f"[n, 28, 28], [n, 784]. Received: {list(shape)}"
    )


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
