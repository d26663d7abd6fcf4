"""Convolutions, pools and normalisations of ONNX, computed with channels last."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mnist_adv.models.formats.onnx_layout import Call, Operator, to_first, to_last
from mnist_adv.tensors.lazy import tf

# Of a side of an image with its pads, which are in memory before a convolution or pool.
_LONGEST = 4096
# Numbers of a kernel with the zeros of its dilations.
_LARGEST_KERNEL = 2**26


def _in_two_dimensions(function: Operator) -> Operator:
    """Compute rows as images of height 1, and refuse what has more dimensions."""

    def compute(call: Call, x: Any, *others: Any) -> Any:
        if x.shape.rank not in (3, 4):
            raise ValueError("only convolutions and pools in one or two dimensions are read")
        if x.shape.rank == 4:
            return function(call, x, *others)
        attributes = dict(call.attributes)
        for name, length in (("kernel_shape", 1), ("strides", 1), ("dilations", 1)):
            if name in attributes:
                attributes[name] = [length, *attributes[name]]
        if "pads" in attributes:
            before, after = attributes["pads"]
            attributes["pads"] = [0, before, 0, after]
        others = (*(tf.expand_dims(kernel, 2) for kernel in others[:1]), *others[1:])
        call = dataclasses.replace(call, attributes=attributes)
        return tf.squeeze(function(call, tf.expand_dims(x, 2), *others), [2])

    return compute


@dataclasses.dataclass(frozen=True)
class _Window:
    """Where the windows of a convolution or pool lie.

    Attributes:
        size: height and width.
        strides: likewise.
        dilations: likewise.
        pads: before and after each, in images of the given size.
        extra: after each, beyond the pads, where the number of windows is rounded up.
    """

    size: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[tuple[int, int], tuple[int, int]]
    extra: tuple[int, int]

    def padded(self, x: Any, value: float, outer: float | None = None) -> Any:
        """Pad images.

        Args:
            x: `[n, h, w, c]`.
            value: of the pads.
            outer: of the extra; that of the pads if None.

        Returns:
            `[n, h + pads, w + pads, c]`.
        """
        outer = value if outer is None else outer
        pads = [[0, 0], *map(list, self.pads), [0, 0]]
        extra = [[0, 0], *([0, more] for more in self.extra), [0, 0]]
        if any(map(any, pads)):
            x = tf.pad(x, pads, constant_values=tf.cast(value, x.dtype))
        if any(map(any, extra)):
            x = tf.pad(x, extra, constant_values=tf.cast(outer, x.dtype))
        return x


def _window(call: Call, x: Any, size: Sequence[int]) -> _Window:
    height, width = int(size[0]), int(size[1])
    strides = call.get("strides") or [1, 1]
    dilations = call.get("dilations") or [1, 1]
    given = call.get("pads") or [0, 0, 0, 0]
    mode = call.get("auto_pad", b"NOTSET").decode()
    pads, extra = [], []
    for axis, reach in enumerate((height, width)):
        length, stride = int(x.shape[1 + axis]), int(strides[axis])
        reach = (reach - 1) * int(dilations[axis]) + 1
        before, after = int(given[axis]), int(given[2 + axis])
        if mode.startswith("SAME"):
            total = max(0, (math.ceil(length / stride) - 1) * stride + reach - length)
            small, large = total // 2, total - total // 2
            before, after = (small, large) if mode == "SAME_UPPER" else (large, small)
        elif mode == "VALID":
            before = after = 0
        more = 0
        if call.get("ceil_mode"):
            steps = (length + before + after - reach) / stride
            windows = math.ceil(steps)
            # A window must begin inside the image or the pad before it.
            windows -= windows * stride >= length + before
            more = max(0, windows * stride + reach - length - before - after)
        pads.append((before, after))
        extra.append(more)
        if length + before + after + more > _LONGEST:
            raise ValueError(f"pads must not make images longer than {_LONGEST:,} pixels")
    return _Window(
        (height, width),
        (int(strides[0]), int(strides[1])),
        (int(dilations[0]), int(dilations[1])),
        (pads[0], pads[1]),
        (extra[0], extra[1]),
    )


@_in_two_dimensions
def conv(call: Call, x: Any, kernel: Any, bias: Any = None) -> Any:
    """Convolve.

    Args:
        call: with strides, pads, dilations and groups.
        x: tensor `[n, c, h, w]` or `[n, c, w]`.
        kernel: `[filters, c / groups, h, w]`.
        bias: `[filters]`.

    Returns:
        `[n, filters, h, w]`.
    """
    x = to_last(x)
    window = _window(call, x, kernel.shape[2:])
    x = window.padded(x, 0)
    kernel = _with_gaps(tf.transpose(kernel, [2, 3, 1, 0]), window.dilations)
    group, channels = int(call.get("group", 1)), int(x.shape[3])
    if group == channels > 1 and window.strides[0] == window.strides[1]:
        filters = tf.reshape(kernel, [*kernel.shape[:2], channels, -1])
        y = tf.nn.depthwise_conv2d(x, filters, [1, *window.strides, 1], "VALID")
    else:
        parts = zip(tf.split(x, group, axis=3), tf.split(kernel, group, axis=3))
        convolved = [tf.nn.conv2d(part, each, window.strides, "VALID") for part, each in parts]
        y = tf.concat(convolved, axis=3)
    return to_first(y if bias is None else y + bias)


def _with_gaps(kernel: Any, dilations: tuple[int, int]) -> Any:
    """Put zeros between the rows and columns of `[h, w, c, filters]`."""
    # TensorFlow has no gradient of dilated convolutions on a CPU.
    if max(dilations) == 1:
        return kernel
    (height, width), (down, across) = kernel.shape[:2], dilations
    rest = list(kernel.shape[2:])
    if math.prod([height, down, width, across, *rest]) > _LARGEST_KERNEL:
        raise ValueError(f"dilations must not make a kernel of over {_LARGEST_KERNEL:,} numbers")
    apart = tf.reshape(kernel, [height, 1, width, 1, *rest])
    apart = tf.pad(apart, [[0, 0], [0, down - 1], [0, 0], [0, across - 1], [0, 0], [0, 0]])
    apart = tf.reshape(apart, [height * down, width * across, *rest])
    return apart[: (height - 1) * down + 1, : (width - 1) * across + 1]


@_in_two_dimensions
def max_pool(call: Call, x: Any) -> Any:
    """Take the largest number of each window.

    Args:
        call: with the size of the windows, strides, pads and dilations.
        x: tensor `[n, c, h, w]` or `[n, c, w]`.

    Returns:
        `[n, c, h, w]`.
    """
    x = to_last(x)
    window = _window(call, x, call.get("kernel_shape"))
    padded = window.padded(x, -np.inf)
    if max(window.dilations) > 1:
        found = tf.nn.pool(
            padded, window.size, "MAX", strides=window.strides, dilations=window.dilations
        )
    else:
        found = tf.nn.max_pool2d(padded, window.size, window.strides, "VALID")
    return to_first(found)


@_in_two_dimensions
def average_pool(call: Call, x: Any) -> Any:
    """Take the mean of each window.

    Args:
        call: with the size of the windows, strides, pads, and whether pads are counted.
        x: tensor `[n, c, h, w]` or `[n, c, w]`.

    Returns:
        `[n, c, h, w]`.

    Raises:
        ValueError: the windows have gaps.
    """
    x = to_last(x)
    window = _window(call, x, call.get("kernel_shape"))
    if max(window.dilations) > 1:
        raise ValueError("only means over windows without gaps are read")
    ones = tf.ones([1, *x.shape[1:3], 1], x.dtype)
    counted = window.padded(ones, float(call.get("count_include_pad", 0)), 0)
    shares, sums = (
        tf.nn.avg_pool2d(values, window.size, window.strides, "VALID")
        for values in (counted, window.padded(x, 0))
    )
    return to_first(sums / shares)


def over_pixels(reduce: Callable[..., Any]) -> Operator:
    """Make an operator that reduces each channel to one number.

    Args:
        reduce: as `tf.reduce_mean`.

    Returns:
        The operator.
    """

    def compute(call: Call, x: Any) -> Any:
        if x.shape.rank == 4:
            return to_first(reduce(to_last(x), axis=[1, 2], keepdims=True))
        return reduce(x, axis=list(range(2, x.shape.rank)), keepdims=True)

    return compute


def batch_normalization(call: Call, x: Any, *of_channels: Any) -> Any:
    """Normalise by the mean and variance that the file holds.

    Args:
        call: with epsilon.
        x: tensor `[n, c, ...]`.
        *of_channels: scale, bias, mean, variance, each `[c]`.

    Returns:
        A tensor of the same shape.

    Raises:
        ValueError: it is to take mean and variance from the batch.
    """
    if call.get("training_mode"):
        raise ValueError("BatchNormalization is in training mode; export the model in eval mode")
    scale, bias, mean, variance = of_channels[:4]
    factor = scale * tf.math.rsqrt(variance + call.get("epsilon", 1e-5))
    shift = bias - mean * factor
    if x.shape.rank == 4:
        return to_first(to_last(x) * factor + shift)
    shape = [1, -1, *[1] * (x.shape.rank - 2)]
    return x * tf.reshape(factor, shape) + tf.reshape(shift, shape)


def lrn(call: Call, x: Any) -> Any:
    """Normalise by the squares of neighbouring channels.

    Args:
        call: with size, bias, alpha and beta.
        x: tensor `[n, c, h, w]`.

    Returns:
        A tensor of the same shape.
    """
    size = int(call.get("size"))
    # TensorFlow's own computes in float32 alone.
    squares = tf.pad(tf.square(to_last(x)), [*[[0, 0]] * 3, [(size - 1) // 2, size // 2]])
    sums = sum(squares[..., at : at + x.shape[1]] for at in range(size))
    base = call.get("bias", 1.0) + call.get("alpha", 1e-4) / size * sums
    return to_first(to_last(x) / base ** call.get("beta", 0.75))
