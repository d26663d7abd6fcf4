"""The operators of ONNX that are read, each computed by TensorFlow.

Arrays keep ONNX's order, channels before height and width; convolutions and pools are computed with
channels last, as TensorFlow does on a CPU.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Call:
    """What is known of one use of an operator.

    Attributes:
        attributes: by name.
        opset: the version of the operators' definitions.
        batch: the number of images that the file was written for; None: any.
    """

    attributes: Mapping[str, Any]
    opset: int
    batch: int | None

    def get(self, name: str, default: Any = None) -> Any:
        """Give an attribute.

        Args:
            name: of the attribute.
            default: if it is not there.

        Returns:
            Its value.
        """
        return self.attributes.get(name, default)


Operator = Callable[..., Any]

# Of a side of an image with its pads, which are in memory before a convolution or pool.
_LONGEST = 4096


def _plain(function: Callable[..., Any]) -> Operator:
    return lambda call, *inputs: function(*inputs)


def _numbers(values: Any, what: str) -> list[int]:
    """Read whole numbers that decide a shape: they must be in the file."""
    if not isinstance(values, np.ndarray | list | tuple):
        raise ValueError(f"{what} must be numbers in the file")
    return [int(value) for value in np.ravel(values)]


def _axes(call: Call, inputs: Sequence[Any]) -> list[int] | None:
    """Give the axes of an operator, which older versions have as an attribute."""
    given = inputs[0] if inputs else call.get("axes")
    return None if given is None else _numbers(given, "axes")


def _last(x: Any) -> Any:
    return tf.transpose(x, [0, 2, 3, 1])


def _first(x: Any) -> Any:
    return tf.transpose(x, [0, 3, 1, 2])


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
    if x.shape.rank != 4 or len(size) != 2:
        raise ValueError("only convolutions and pools in two dimensions are read")
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


def _conv(call: Call, x: Any, kernel: Any, bias: Any = None) -> Any:
    x = _last(x)
    kernel = tf.convert_to_tensor(kernel)
    window = _window(call, x, kernel.shape[2:])
    x = window.padded(x, 0)
    group, channels = int(call.get("group", 1)), int(x.shape[3])
    how: dict[str, Any] = {"padding": "VALID", "dilations": window.dilations}
    if group == channels > 1:
        strides = window.strides
        if strides[0] != strides[1] or (max(window.dilations) > 1 and max(strides) > 1):
            raise ValueError("only depthwise convolutions with equal strides are read")
        multiplier = kernel.shape[0] // channels
        shape = [channels, multiplier, *window.size]
        filters = tf.transpose(tf.reshape(kernel, shape), [2, 3, 0, 1])
        y = tf.nn.depthwise_conv2d(x, filters, [1, *strides, 1], **how)
    else:
        parts = zip(tf.split(x, group, axis=3), tf.split(kernel, group, axis=0))
        convolved = [
            tf.nn.conv2d(part, tf.transpose(filters, [2, 3, 1, 0]), window.strides, **how)
            for part, filters in parts
        ]
        y = convolved[0] if group == 1 else tf.concat(convolved, axis=3)
    return _first(y if bias is None else y + bias)


def _max_pool(call: Call, x: Any) -> Any:
    x = _last(x)
    window = _window(call, x, call.get("kernel_shape"))
    padded = window.padded(x, -np.inf)
    if max(window.dilations) > 1:
        found = tf.nn.pool(
            padded, window.size, "MAX", strides=window.strides, dilations=window.dilations
        )
    else:
        found = tf.nn.max_pool2d(padded, window.size, window.strides, "VALID")
    return _first(found)


def _average_pool(call: Call, x: Any) -> Any:
    x = _last(x)
    window = _window(call, x, call.get("kernel_shape"))
    counted = window.padded(tf.ones_like(x[:1]), float(call.get("count_include_pad", 0)), 0)
    shares, sums = (
        tf.nn.avg_pool2d(values, window.size, window.strides, "VALID")
        for values in (counted, window.padded(x, 0))
    )
    return _first(sums / shares)


def _over_pixels(reduce: Callable[..., Any]) -> Operator:
    return lambda call, x: reduce(x, axis=list(range(2, x.shape.rank)), keepdims=True)


def _gemm(call: Call, a: Any, b: Any, c: Any = None) -> Any:
    product = tf.matmul(a, b, bool(call.get("transA", 0)), bool(call.get("transB", 0)))
    product = call.get("alpha", 1.0) * product
    return product if c is None else product + call.get("beta", 1.0) * c


def _batch_normalization(call: Call, x: Any, *of_channels: Any) -> Any:
    if call.get("training_mode"):
        raise ValueError("BatchNormalization is in training mode; export the model in eval mode")
    shape = [1, -1, *[1] * (x.shape.rank - 2)]
    scale, bias, mean, variance = (tf.reshape(values, shape) for values in of_channels[:4])
    return (x - mean) * tf.math.rsqrt(variance + call.get("epsilon", 1e-5)) * scale + bias


def _flatten(call: Call, x: Any) -> Any:
    axis = int(call.get("axis", 1)) % max(x.shape.rank, 1)
    if axis != 1:
        raise ValueError("Flatten must keep images apart (axis 1)")
    return tf.reshape(x, [-1, math.prod(x.shape[1:])])


def _reshape(call: Call, x: Any, shape: Any) -> Any:
    if not isinstance(shape, np.ndarray):
        return tf.reshape(x, shape)
    wanted = [int(length) for length in shape]
    kept = [not length and not call.get("allowzero") for length in wanted]
    wanted = [x.shape[at] if keep and at else wanted[at] for at, keep in enumerate(kept)]
    written_for = call.batch is not None and wanted[:1] == [call.batch]
    if wanted and isinstance(x, tf.Tensor) and (kept[0] or written_for):
        # The number of images stays what it is, also if the file was written for another.
        rest = [length for length in wanted[1:] if length != -1]
        if -1 in wanted[1:]:
            size = math.prod(x.shape[1:]) // math.prod(rest)
            wanted = [size if length == -1 else length for length in wanted]
        wanted[0] = -1
    return tf.reshape(x, wanted)


def _squeeze(call: Call, x: Any, *axes: Any) -> Any:
    return tf.squeeze(x, _axes(call, axes))


def _unsqueeze(call: Call, x: Any, *axes: Any) -> Any:
    wanted = _axes(call, axes) or []
    rank = len(x.shape) + len(wanted)
    for axis in sorted(axis % rank for axis in wanted):
        x = np.expand_dims(x, axis) if isinstance(x, np.ndarray) else tf.expand_dims(x, axis)
    return x


def _transpose(call: Call, x: Any) -> Any:
    return tf.transpose(x, call.get("perm"))


def _clip(call: Call, x: Any, low: Any = None, high: Any = None) -> Any:
    low = call.get("min") if low is None else low
    high = call.get("max") if high is None else high
    x = x if low is None else tf.maximum(x, tf.cast(low, x.dtype))
    return x if high is None else tf.minimum(x, tf.cast(high, x.dtype))


def _softmax(function: Callable[..., Any]) -> Operator:
    def compute(call: Call, x: Any) -> Any:
        if call.opset >= 13:
            return function(x, axis=int(call.get("axis", -1)))
        axis = int(call.get("axis", 1)) % x.shape.rank
        if axis == 0:
            raise ValueError("Softmax must keep images apart")
        rows = tf.reshape(x, [-1, *x.shape[1:axis], math.prod(x.shape[axis:])])
        return tf.reshape(function(rows), tf.shape(x))

    return compute


def _reduce_mean(call: Call, x: Any, *axes: Any) -> Any:
    return tf.reduce_mean(x, _axes(call, axes), keepdims=bool(call.get("keepdims", 1)))


def _pad(call: Call, x: Any, pads: Any = None, value: Any = None, axes: Any = None) -> Any:
    given = _numbers(call.get("pads") if pads is None else pads, "pads")
    chosen = range(x.shape.rank) if axes is None else _numbers(axes, "axes")
    around = [[0, 0] for _ in range(x.shape.rank)]
    for place, axis in enumerate(chosen):
        around[axis] = [given[place], given[place + len(given) // 2]]
    mode = call.get("mode", b"constant").decode()
    if mode not in ("constant", "reflect") or any(length < 0 for pair in around for length in pair):
        raise ValueError("Pad must add constants or reflections")
    number = call.get("value", 0.0) if value is None else value
    constant = tf.cast(tf.reshape(number, []), x.dtype)
    return tf.pad(x, around, mode.upper(), constant)


def _cast(call: Call, x: Any) -> Any:
    import onnx

    name = onnx.TensorProto.DataType.Name(call.get("to"))
    floats = ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16")
    values = tf.convert_to_tensor(x)
    if name in floats and values.dtype.is_floating:
        return values  # the whole model is computed in one dtype
    if name not in (*floats, "INT64", "INT32"):
        raise ValueError(f"Cast must be to floats, or to numbers that decide a shape, not {name}")
    if name not in floats and values.dtype.is_floating:
        raise ValueError("Cast must not round what images become: no gradient would be left")
    return tf.cast(values, tf.float32 if name in floats else tf.int64)


def _selu(call: Call, x: Any) -> Any:
    alpha, gamma = call.get("alpha", 1.67326319217681884), call.get("gamma", 1.05070102214813232)
    return gamma * tf.where(x > 0, x, alpha * tf.math.expm1(tf.minimum(x, 0)))


def _lrn(call: Call, x: Any) -> Any:
    size = int(call.get("size"))
    return _first(
        tf.nn.lrn(
            _last(x),
            (size - 1) // 2,
            call.get("bias", 1.0),
            call.get("alpha", 1e-4) / size,
            call.get("beta", 0.75),
        )
    )


OPERATORS: dict[str, Operator] = {
    "Abs": _plain(tf.abs),
    "Add": _plain(lambda a, b: a + b),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": lambda call, *parts: tf.concat(parts, axis=int(call.get("axis"))),
    "Conv": _conv,
    "Div": _plain(lambda a, b: a / b),
    "Dropout": lambda call, x, *_: x,
    "Elu": lambda call, x: tf.where(
        x > 0, x, call.get("alpha", 1.0) * tf.math.expm1(tf.minimum(x, 0))
    ),
    "Erf": _plain(tf.math.erf),
    "Exp": _plain(tf.exp),
    "Flatten": _flatten,
    "Gather": lambda call, x, places: tf.gather(x, places, axis=int(call.get("axis", 0))),
    "Gelu": lambda call, x: tf.nn.gelu(x, approximate=call.get("approximate") == b"tanh"),
    "Gemm": _gemm,
    "GlobalAveragePool": _over_pixels(tf.reduce_mean),
    "GlobalMaxPool": _over_pixels(tf.reduce_max),
    "HardSigmoid": lambda call, x: tf.clip_by_value(
        call.get("alpha", 0.2) * x + call.get("beta", 0.5), 0, 1
    ),
    "HardSwish": _plain(lambda x: x * tf.clip_by_value(x / 6 + 0.5, 0, 1)),
    "Identity": _plain(lambda x: x),
    "LRN": _lrn,
    "LeakyRelu": lambda call, x: tf.nn.leaky_relu(x, call.get("alpha", 0.01)),
    "Log": _plain(tf.math.log),
    "LogSoftmax": _softmax(tf.nn.log_softmax),
    "MatMul": _plain(tf.matmul),
    "MaxPool": _max_pool,
    "Mul": _plain(lambda a, b: a * b),
    "Max": _plain(lambda *parts: functools.reduce(tf.maximum, parts)),
    "Min": _plain(lambda *parts: functools.reduce(tf.minimum, parts)),
    "Mish": _plain(lambda x: x * tf.tanh(tf.math.softplus(x))),
    "Neg": _plain(lambda x: -x),
    "PRelu": _plain(lambda x, slope: tf.where(x > 0, x, slope * x)),
    "Pad": _pad,
    "Pow": _plain(lambda a, b: a**b),
    "ReduceMean": _reduce_mean,
    "Relu": _plain(tf.nn.relu),
    "Reshape": _reshape,
    "Selu": _selu,
    "Reciprocal": _plain(lambda x: 1 / x),
    "Shape": _plain(lambda x: tf.shape(x, tf.int64)),
    "Sigmoid": _plain(tf.sigmoid),
    "Softmax": _softmax(tf.nn.softmax),
    "Softplus": _plain(tf.math.softplus),
    "Sqrt": _plain(tf.sqrt),
    "Squeeze": _squeeze,
    "Sub": _plain(lambda a, b: a - b),
    "Sum": _plain(lambda *parts: sum(parts[1:], parts[0])),
    "Tanh": _plain(tf.tanh),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
