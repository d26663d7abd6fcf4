"""Random numbers per image: a pure function of the image's key, so batches cannot matter.

Threefry-2x32 with twenty rounds (Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as
1, 2, 3", 2011), written in TensorFlow operations because `tf.random.stateless_uniform` takes one
seed for a whole batch.
"""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np

from mnist_adv.tensors.lazy import tf

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def keys_of(images: np.ndarray, seed: Any) -> np.ndarray:
    """Derive each image's key from a seed and from what it shows.

    The content and not the position counts, so that an image gets the same numbers alone and
    among others.

    Args:
        images: `[n, 28, 28, 1]` float32.
        seed: one integer or `[n]`.

    Returns:
        `[n, 2]` uint32.
    """
    content = [zlib.crc32(image) for image in np.ascontiguousarray(images)]
    seeds = np.broadcast_to(np.asarray(seed, np.uint32), (len(images),))
    return np.stack([seeds, np.array(content, np.uint32)], axis=1)


def bits(keys: Any, stream: Any, count: int) -> Any:
    """Make random bits.

    Args:
        keys: `[n, 2]` uint32.
        stream: `[n]` int32; another number, other bits.
        count: m.

    Returns:
        `[n, m]` uint32.
    """
    first, second = keys[:, :1], keys[:, 1:]
    parity = tf.constant(_PARITY, tf.uint32)
    schedule = [first, second, _xor(_xor(first, second), parity)]
    half = (count + 1) // 2
    position = tf.constant(np.arange(half, dtype=np.uint32))[tf.newaxis]
    left = tf.cast(stream, tf.uint32)[:, tf.newaxis] + tf.zeros_like(position) + first
    right = position + second
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            left = left + right
            right = _xor(_rotate(right, rotation), left)
        left = left + schedule[(group + 1) % 3]
        right = right + schedule[(group + 2) % 3] + tf.constant(group + 1, tf.uint32)
    return tf.concat([left, right], axis=1)[:, :count]


def uniform(keys: Any, stream: Any, shape: tuple[int, ...]) -> Any:
    """Draw from [0, 1), `[n, *shape]` float32; arguments as `bits`.

    Args:
        keys: `[n, 2]` uint32.
        stream: `[n]` int32, the number of the draw.
        shape: of one image's draw.

    Returns:
        `[n, *shape]` float32.
    """
    values = tf.bitwise.right_shift(bits(keys, stream, math.prod(shape)), tf.constant(8, tf.uint32))
    return tf.reshape(tf.cast(tf.cast(values, tf.int32), tf.float32) * 2.0**-24, [-1, *shape])


def signs(keys: Any, stream: Any, shape: tuple[int, ...]) -> Any:
    """Draw -1 or 1, `[n, *shape]` float32; arguments as `bits`.

    Args:
        keys: `[n, 2]` uint32.
        stream: `[n]` int32, the number of the draw.
        shape: of one image's draw.

    Returns:
        `[n, *shape]` float32.
    """
    return tf.where(uniform(keys, stream, shape) < 0.5, -1.0, 1.0)


def normal(keys: Any, stream: Any, shape: tuple[int, ...]) -> Any:
    """Draw from the standard normal distribution, `[n, *shape]` float32 (Box, Muller, 1958).

    Args:
        keys: `[n, 2]` uint32.
        stream: `[n]` int32, the number of the draw.
        shape: of one image's draw.

    Returns:
        `[n, *shape]` float32.
    """
    two = uniform(keys, stream, (2, *shape))
    radius = tf.sqrt(-2 * tf.math.log(1 - two[:, 0]))  # 1 - u is never 0
    return radius * tf.cos(2 * math.pi * two[:, 1])


def exponential(keys: Any, stream: Any, shape: tuple[int, ...]) -> Any:
    """Draw from the exponential distribution of mean 1, `[n, *shape]` float32.

    Args:
        keys: `[n, 2]` uint32.
        stream: `[n]` int32, the number of the draw.
        shape: of one image's draw.

    Returns:
        `[n, *shape]` float32.
    """
    return -tf.math.log(1 - uniform(keys, stream, shape))


def _xor(left: Any, right: Any) -> Any:
    return tf.bitwise.bitwise_xor(left, right)


def _rotate(values: Any, places: int) -> Any:
    up = tf.bitwise.left_shift(values, tf.constant(places, tf.uint32))
    return tf.bitwise.bitwise_or(
        up, tf.bitwise.right_shift(values, tf.constant(32 - places, tf.uint32))
    )
