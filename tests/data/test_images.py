"""The one form of images and classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mnist_adv.data.images import as_batch, as_classes


@pytest.mark.parametrize(
    ("shape", "count"),
    [((28, 28), 1), ((784,), 1), ((28, 28, 1), 1), ((3, 28, 28), 3), ((3, 784), 3), ((0, 784), 0)],
)
def test_as_batch_accepts_the_usual_shapes(shape: tuple[int, ...], count: int) -> None:
    pixels = np.linspace(0, 1, int(np.prod(shape))).reshape(shape)
    batch = as_batch(pixels)
    assert batch.shape == (count, 28, 28, 1)
    np.testing.assert_array_equal(batch.ravel(), pixels.ravel())


@pytest.mark.parametrize(
    ("given", "batch"),
    [
        ((2, 8, 9, 1), (2, 8, 9, 1)),
        ((8, 9, 1), (1, 8, 9, 1)),
        ((32, 32, 3), (1, 32, 32, 3)),
        ((0, 8, 8, 1), (0, 8, 8, 1)),
        ((2, 6, 6, 2), (2, 6, 6, 2)),
    ],
)
def test_as_batch_takes_the_shape_from_the_images(
    given: tuple[int, ...], batch: tuple[int, ...]
) -> None:
    assert as_batch(np.zeros(given)).shape == batch


def test_as_batch_keeps_float64_and_makes_the_rest_float32() -> None:
    assert as_batch(np.zeros((28, 28), np.float64)).dtype == np.float64
    assert as_batch(np.zeros((28, 28), np.float16)).dtype == np.float32


def broken(value: float) -> np.ndarray:
    pixels = np.zeros((28, 28), np.float32)
    pixels[5, 5] = value
    return pixels


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((27, 28)), r"must have shape .* Received: \[27, 28\]"),
        (np.zeros((2, 0, 8, 1)), r"Received: \[2, 0, 8, 1\]"),
        (np.zeros((8, 8)), r"must have shape \[h, w, c\] .* Received: \[8, 8\]"),
        (np.zeros((28, 28), np.uint8), "divide grey levels 0..255 by 255. Received: dtype=uint8"),
        (broken(np.nan), "must be finite. Received: 1 pixels"),
        (broken(np.inf), "must be finite. Received: 1 pixels"),
        (broken(255), "divide grey levels 0..255 by 255. Received: pixels from 0 to 255"),
        (broken(-0.5), "Received: pixels from -0.5 to 0"),
    ],
)
def test_as_batch_refuses(images: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_batch(images)


def test_as_classes_spreads_one_over_all() -> None:
    np.testing.assert_array_equal(as_classes(3, 2, 10, "targets"), [3, 3])
    np.testing.assert_array_equal(as_classes([3, 4], 2, 10, "targets"), [3, 4])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (10, "targets must lie in 0..9. Received: 10"),
        ([0, -1], "targets must lie in 0..9. Received: -1"),
        ([1, 2, 3], r"one for each of the 2 images. Received: shape \[3\]"),
        (1.0, "targets must be integers. Received: 1.0"),
        ("2", "targets must be integers. Received: '2'"),
    ],
)
def test_as_classes_refuses(classes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_classes(classes, 2, 10, "targets")
