"""The one form in which images, and the classes that go with them, are passed on."""

from __future__ import annotations

from typing import Any

import numpy as np

from mnist_adv.arguments import ABOVE_0, FLOAT32, as_array, shown, whole

Shape = tuple[int, int, int]  # height, width and channels of an image
Bounds = tuple[float, float]  # the least and the largest value of a pixel
UNIT: Bounds = (0.0, 1.0)

MOST_PIXELS = 2**28  # of one image, all channels counted

_MNIST = (28, 28)


def as_batch(images: Any, bounds: Bounds = UNIT) -> np.ndarray:
    """Bring one image or a batch of them into the form `[n, h, w, c]`, and check the pixels.

    Args:
        images: floats inside the bounds, `[h, w, c]` or `[n, h, w, c]`; of MNIST's size also
            `[28, 28]`, `[784]`, `[n, 28, 28]` or `[n, 784]`.
        bounds: the least and the largest value of a pixel.

    Returns:
        `[n, h, w, c]`, float64 if that came in, else float32; the memory of the images themselves
        where they have that form already.

    Raises:
        ValueError: another shape, whole numbers (0..255?), NaN, a pixel outside the bounds, or
            bounds that are not two rising finite numbers.
    """
    low, high = bounds = checked_bounds(bounds)
    pixels = as_pixels(images, bounds, "images")
    shape = _batch_shape(pixels.shape)
    # Empty batches have no least pixel.
    least, most = (pixels.min(), pixels.max()) if pixels.size else bounds
    if least < low or most > high:
        raise ValueError(
            f"images must lie in [{low:g}, {high:g}]{_hint(bounds)}. "
            f"Received: pixels from {least:g} to {most:g}"
        )
    return pixels.reshape(shape)


def as_pixels(images: Any, bounds: Bounds, name: str) -> np.ndarray:
    """Check that images are finite floats on the scale of the bounds, of any shape.

    Args:
        images: floats, inside the bounds or a little outside.
        bounds: the least and the largest value of a pixel, checked.
        name: the argument's.

    Returns:
        The same shape, float64 if that came in, else float32; the same memory if it was that.

    Raises:
        ValueError: no floats (0..255?), NaN, or a pixel that is further outside the bounds than
            they are apart.
    """
    low, high = bounds
    allowed = f"floats in [{low:g}, {high:g}]{_hint(bounds)}"
    pixels = as_array(images, name, allowed)
    if not np.issubdtype(pixels.dtype, np.floating):
        received = f"dtype={pixels.dtype}" if pixels.ndim else shown(images)
        raise ValueError(f"{name} must be {allowed}. Received: {received}")
    # Both are NaN if any pixel is.
    least, most = (pixels.min(), pixels.max()) if pixels.size else bounds
    if not (np.isfinite(least) and np.isfinite(most)):
        raise ValueError(
            f"{name} must be finite. Received: {np.count_nonzero(~np.isfinite(pixels))} pixels "
            "that are NaN or infinite"
        )
    if least < low - (high - low) or most > high + (high - low):
        raise ValueError(
            f"{name} must lie in [{low:g}, {high:g}]{_hint(bounds)}. "
            f"Received: pixels from {least:g} to {most:g}"
        )
    return pixels.astype(np.float64 if pixels.dtype == np.float64 else np.float32, copy=False)


def _hint(bounds: Bounds) -> str:
    return "; divide grey levels 0..255 by 255" if bounds == UNIT else ""


def as_shape(shape: Any, name: str) -> Shape:
    """Check the shape of an image.

    Args:
        shape: height, width and channels.
        name: the argument's.

    Returns:
        The three.

    Raises:
        ValueError: not three positive integers.
    """
    sides = as_array(shape, name, "three integers: height, width, channels")
    if sides.shape != (3,):
        raise ValueError(
            f"{name} must be three integers: height, width, channels. Received: {shown(shape)}"
        )
    height, width, channels = (int(whole(side, name, 1, MOST_PIXELS)) for side in sides)
    if height * width * channels > MOST_PIXELS:
        raise ValueError(f"{name} must have at most {MOST_PIXELS} pixels. Received: {shown(shape)}")
    return height, width, channels


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


def checked_bounds(bounds: Any) -> Bounds:
    """Check the least and the largest value of a pixel.

    Args:
        bounds: two numbers.

    Returns:
        The two.

    Raises:
        ValueError: not two finite numbers, rising in float32.
    """
    allowed = "two finite numbers, rising in float32"
    ends = as_array(bounds, "bounds", allowed)
    if ends.shape != (2,) or ends.dtype.kind not in "iuf":
        raise ValueError(f"bounds must be {allowed}. Received: {shown(bounds)}")
    low, high = ends.tolist()
    # Nearer to the ends of float32, what is computed from the width would be infinite or zero.
    small = abs(low) <= FLOAT32 / 4 and abs(high) <= FLOAT32 / 4
    if not (small and high - low >= ABOVE_0 and np.float32(low) < np.float32(high)):
        raise ValueError(f"bounds must be {allowed}. Received: {shown(bounds)}")
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
    values = as_array(classes, name, "integers")
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"{name} must be integers. Received: {shown(classes)}")
    if values.shape not in ((), (1,), (num_images,)):
        raise ValueError(
            f"{name} must be one integer or one for each of the {num_images} images. "
            f"Received: shape {list(values.shape)}"
        )
    if values.size and (values.min() < 0 or values.max() >= num_classes):
        wrong = values[(values < 0) | (values >= num_classes)].flat[0]
        raise ValueError(f"{name} must lie in 0..{num_classes - 1}. Received: {wrong}")
    return np.broadcast_to(values, (num_images,)).astype(np.int64)
