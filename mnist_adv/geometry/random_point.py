"""Random points of the unit ball of a norm."""

from __future__ import annotations

import math
from typing import Any

from mnist_adv.geometry.norms import GEOMETRY, Norm, per_image
from mnist_adv.tensors.randomness import exponential, normal, signs, uniform


def random_point(norm: Norm, keys: Any, stream: Any, shape: tuple[int, int, int]) -> Any:
    """Draw one point per image, uniformly.

    Args:
        norm: "linf", "l2" or "l1".
        keys: `[n, 2]` uint32.
        stream: `[n]` int32, the number of the draw; the two below it are used too.
        shape: of a point.

    Returns:
        `[n, *shape]` float32, of norm at most 1.
    """
    if norm is Norm.LINF:
        return 2 * uniform(keys, stream, shape) - 1
    inner = per_image(uniform(keys, stream - 1, (1,))[:, 0])
    if norm is Norm.L2:
        direction = GEOMETRY[norm].steepest(normal(keys, stream, shape))
        return inner ** (1 / math.prod(shape)) * direction
    far = signs(keys, stream - 2, shape) * exponential(keys, stream, shape)
    outside = per_image(exponential(keys, stream - 1, (1,))[:, 0])
    return far / (per_image(GEOMETRY[norm].length(far)) + outside)
