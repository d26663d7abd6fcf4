"""Bound the work that a graph asks for, before any of it is done.

Tensors of a bounded size can still be combined in years: a window over a whole image, at every
place of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

# Multiplications for one image; residual nets of 150 layers for photographs need a third.
_MOST = 2**35
_CONVOLUTIONS = frozenset(["Conv2D", "Conv3D"])
_PRODUCTS = frozenset(["MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum"])


def require_quick(operations: Iterable[Any], num_images: int, path: str) -> None:
    """Refuse a graph that needs more multiplications than any real net.

    Args:
        operations: of a `tf.Graph`, in which all shapes are known.
        num_images: that it was built for.
        path: of the file, for the message.

    Raises:
        ValueError: it needs more than 2**35 for an image.
    """
    wanted = sum(map(_multiplications, operations)) // num_images
    if wanted > _MOST:
        raise ValueError(
            f"{path} must need at most {_MOST:,} multiplications for one image. Received: "
            f"{wanted:,}"
        )


def _multiplications(operation: Any) -> int:
    """Count the multiplications, or comparisons, of an operation that looks at windows or rows."""
    sizes = [_size(tensor) for tensor in operation.inputs]
    made = sum(map(_size, operation.outputs))
    if operation.type in _CONVOLUTIONS:  # a kernel [..., inputs, outputs]
        return made * sizes[1] // max(1, _last(operation.inputs[1]))
    if operation.type == "DepthwiseConv2dNative":  # [h, w, inputs, multiplier]
        return made * math.prod(_lengths(operation.inputs[1])[:2])
    if operation.type == "Conv2DBackpropInput":  # of sizes, kernel [..., outputs, inputs], images
        return sizes[2] * sizes[1] // max(1, _last(operation.inputs[1]))
    if operation.type in _PRODUCTS and len(sizes) == 2:
        # Of [.., m, k] and [.., k, n]: the root of m k times k n times m n, batches taken out.
        batches = math.prod(_lengths(operation.outputs[0])[:-2]) or 1
        if operation.type == "Einsum":
            batches = 1
        return math.isqrt(sizes[0] * sizes[1] * made // batches)
    if operation.type in ("MaxPool", "AvgPool"):
        return made * math.prod(operation.get_attr("ksize"))
    if operation.type == "LRN":
        return made * (2 * operation.get_attr("depth_radius") + 1)
    return 0


def _size(tensor: Any) -> int:
    return math.prod(_lengths(tensor))


def _last(tensor: Any) -> int:
    return (_lengths(tensor) or [1])[-1]


def _lengths(tensor: Any) -> list[int]:
    """List the lengths; those that are not known count as one."""
    return [length or 1 for length in tensor.shape.as_list()] if tensor.shape.rank else []
