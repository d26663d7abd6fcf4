"""The operators of ONNX that are read, each computed by TensorFlow."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mnist_adv.models.formats import onnx_windows as windows
from mnist_adv.models.formats.onnx_constants import BATCH, grows, lengths_of, new_lengths
from mnist_adv.models.formats.onnx_layout import Call, Operator, concat, elementwise, to_last
from mnist_adv.tensors.lazy import tf

_FLOATS = ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16")


def _each(function: Callable[..., Any]) -> Operator:
    """Make an operator without attributes that computes each number by itself."""
    return elementwise(lambda call, *inputs: function(*inputs))


def _pair(function: Callable[..., Any]) -> Operator:
    """Make an operator of two broadcast tensors; before version 7 `axis` aligns the second."""
    together = _each(function)

    def compute(call: Call, a: Any, b: Any) -> Any:
        if call.get("broadcast") and len(b.shape):
            axis = int(call.get("axis", len(a.shape) - len(b.shape))) % len(a.shape)
            b = tf.reshape(b, [*b.shape, *[1] * (len(a.shape) - axis - len(b.shape))])
        return together(call, a, b)

    return compute


def _numbers(values: Any, what: str) -> list[int]:
    """Read whole numbers that decide a shape: they must be in the file."""
    if not isinstance(values, np.ndarray | list | tuple):
        raise ValueError(f"{what} must be numbers in the file")
    return [int(value) for value in np.ravel(values)]


def _given(call: Call, inputs: Sequence[Any], name: str) -> list[int] | None:
    """Give the numbers of an operator, which older versions have as an attribute."""
    values = inputs[0] if inputs and inputs[0] is not None else call.get(name)
    return None if values is None else _numbers(values, name)


def _for_images(call: Call, lengths: Sequence[int]) -> list[Any]:
    """Put the number of images there are into a shape."""
    return [call.count * (length // BATCH) if grows(length) else int(length) for length in lengths]


def _gemm(call: Call, a: Any, b: Any, c: Any = None) -> Any:
    product = tf.matmul(a, b, bool(call.get("transA", 0)), bool(call.get("transB", 0)))
    product = call.get("alpha", 1.0) * product
    return product if c is None else product + call.get("beta", 1.0) * c


def _flatten(call: Call, x: Any) -> Any:
    axis = int(call.get("axis", 1)) % max(x.shape.rank, 1)
    if axis != 1:
        raise ValueError("Flatten must keep images apart (axis 1)")
    return tf.reshape(x, [-1, math.prod(x.shape[1:])])


def _reshape(call: Call, x: Any, *shape: Any) -> Any:
    wanted = _given(call, shape, "shape") or []
    return tf.reshape(x, new_lengths(x, wanted, call.batch, not call.get("allowzero")))


def _expand(call: Call, x: Any, shape: Any) -> Any:
    lengths = np.broadcast_shapes(tuple(lengths_of(x)), tuple(_numbers(shape, "shape")))
    return tf.broadcast_to(x, _for_images(call, lengths))


def _constant_of_shape(call: Call, shape: Any) -> Any:
    from onnx import numpy_helper

    given = call.get("value")
    value = np.zeros(1, np.float32) if given is None else numpy_helper.to_array(given)
    lengths = _numbers(shape, "shape")
    if value.dtype.kind != "f":
        return np.broadcast_to(value.reshape(()), lengths)  # a view: no memory is taken
    return tf.fill(_for_images(call, lengths), tf.cast(value.reshape(()), call.dtype))


def _squeeze(call: Call, x: Any, *axes: Any) -> Any:
    return tf.squeeze(x, _given(call, axes, "axes"))


def _unsqueeze(call: Call, x: Any, *axes: Any) -> Any:
    wanted = _given(call, axes, "axes") or []
    rank = len(x.shape) + len(wanted)
    for axis in sorted(axis % rank for axis in wanted):
        x = np.expand_dims(x, axis) if isinstance(x, np.ndarray) else tf.expand_dims(x, axis)
    return x


def _transpose(call: Call, x: Any) -> Any:
    order = call.get("perm")
    return to_last(x) if order == [0, 2, 3, 1] else tf.transpose(x, order)


def _slice(call: Call, x: Any, *inputs: Any) -> Any:
    starts, ends, axes, steps = (
        _given(call, inputs[at : at + 1], name)
        for at, name in enumerate(("starts", "ends", "axes", "steps"))
    )
    starts, ends = starts or [], ends or []
    chosen = [slice(None)] * len(x.shape)
    for axis, start, end, step in zip(
        axes or range(len(starts)), starts, ends, steps or [1] * len(starts)
    ):
        begin, stop, step = slice(start, end, step).indices(lengths_of(x)[axis])
        chosen[axis] = slice(begin, None if stop < 0 else stop, step)
        if x.shape[axis] is None:
            if (begin, step) != (0, 1) or stop != lengths_of(x)[axis]:
                raise ValueError("Slice must keep all images")
            chosen[axis] = slice(None)
    return x[tuple(chosen)]


def _split(call: Call, x: Any, *sizes: Any) -> Any:
    axis = int(call.get("axis", 0))
    given = _given(call, sizes, "split")
    if given is None:
        length, number = lengths_of(x)[axis], call.num_outputs
        size = math.ceil(length / number)
        given = [min(size, length - at * size) for at in range(number)]
    return tf.split(x, given, axis)


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


def _reduce(function: Callable[..., Any]) -> Operator:
    def compute(call: Call, x: Any, *axes: Any) -> Any:
        wanted = _given(call, axes, "axes")
        if not wanted and call.get("noop_with_empty_axes"):
            return x
        return function(x, wanted or None, keepdims=bool(call.get("keepdims", 1)))

    return compute


def _normalize(call: Call, x: Any, axes: Sequence[int]) -> Any:
    mean, variance = tf.nn.moments(x, list(axes), keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + call.get("epsilon", 1e-5))


def _layer_normalization(call: Call, x: Any, scale: Any, bias: Any = None) -> Any:
    rank = x.shape.rank
    found = _normalize(call, x, range(int(call.get("axis", -1)) % rank, rank)) * scale
    return found if bias is None else found + bias


def _instance_normalization(call: Call, x: Any, scale: Any, bias: Any) -> Any:
    shape = [1, -1, *[1] * (x.shape.rank - 2)]
    found = _normalize(call, x, range(2, x.shape.rank))
    return found * tf.reshape(scale, shape) + tf.reshape(bias, shape)


def _group_normalization(call: Call, x: Any, scale: Any, bias: Any) -> Any:
    groups, channels = int(call.get("num_groups")), x.shape[1]
    parts = tf.reshape(x, [-1, groups, channels // groups, *x.shape[2:]])
    found = _normalize(call, parts, range(2, parts.shape.rank))
    # Before version 21 there is one of each for a group, since then for a channel.
    shape = [1, groups, scale.shape[0] // groups, *[1] * (x.shape.rank - 2)]
    found = found * tf.reshape(scale, shape) + tf.reshape(bias, shape)
    return tf.reshape(found, [-1, *x.shape[1:]])


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
    values = tf.convert_to_tensor(x)
    if name in _FLOATS:
        # The whole model is computed in one dtype.
        return values if values.dtype.is_floating else tf.cast(values, call.dtype)
    raise ValueError(
        f"Cast must be to floats, not {name.lower()}: no gradient would be left of what was rounded"
    )


OPERATORS: dict[str, Operator] = {
    "Abs": _each(tf.abs),
    "Add": _pair(lambda a, b: a + b),
    "And": _pair(tf.logical_and),
    "AveragePool": windows.average_pool,
    "BatchNormalization": windows.batch_normalization,
    "Cast": elementwise(_cast),
    "Celu": elementwise(
        lambda call, x: (
            tf.nn.relu(x)
            + call.get("alpha", 1.0) * tf.math.expm1(tf.minimum(x, 0) / call.get("alpha", 1.0))
        )
    ),
    "Clip": elementwise(_clip),
    "Concat": concat,
    "ConstantOfShape": _constant_of_shape,
    "Conv": windows.conv,
    "Div": _pair(lambda a, b: a / b),
    "Dropout": lambda call, x, *_: x,
    "Elu": elementwise(
        lambda call, x: tf.nn.relu(x) + call.get("alpha", 1.0) * tf.math.expm1(tf.minimum(x, 0))
    ),
    "Equal": _pair(tf.equal),
    "Erf": _each(tf.math.erf),
    "Exp": _each(tf.exp),
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": lambda call, x, places: tf.gather(x, places, axis=int(call.get("axis", 0))),
    "GatherND": lambda call, x, places: tf.gather_nd(x, places, int(call.get("batch_dims", 0))),
    "Gelu": elementwise(
        lambda call, x: tf.nn.gelu(x, approximate=call.get("approximate") == b"tanh")
    ),
    "Gemm": _gemm,
    "GlobalAveragePool": windows.over_pixels(tf.reduce_mean),
    "GlobalMaxPool": windows.over_pixels(tf.reduce_max),
    "Greater": _pair(tf.greater),
    "GreaterOrEqual": _pair(tf.greater_equal),
    "GroupNormalization": _group_normalization,
    "HardSigmoid": elementwise(
        lambda call, x: tf.clip_by_value(call.get("alpha", 0.2) * x + call.get("beta", 0.5), 0, 1)
    ),
    "HardSwish": _each(lambda x: x * tf.clip_by_value(x / 6 + 0.5, 0, 1)),
    "Identity": lambda call, x: x,
    "InstanceNormalization": _instance_normalization,
    "LRN": windows.lrn,
    "LayerNormalization": _layer_normalization,
    "LeakyRelu": elementwise(lambda call, x: tf.nn.leaky_relu(x, call.get("alpha", 0.01))),
    "Less": _pair(tf.less),
    "LessOrEqual": _pair(tf.less_equal),
    "Log": _each(tf.math.log),
    "LogSoftmax": _softmax(tf.nn.log_softmax),
    "MatMul": lambda call, a, b: tf.matmul(a, b),
    "Max": _each(lambda *parts: functools.reduce(tf.maximum, parts)),
    "MaxPool": windows.max_pool,
    "Mean": _each(lambda *parts: sum(parts[1:], parts[0]) / len(parts)),
    "Min": _each(lambda *parts: functools.reduce(tf.minimum, parts)),
    "Mish": _each(lambda x: x * tf.tanh(tf.math.softplus(x))),
    "Mul": _pair(lambda a, b: a * b),
    "Neg": _each(tf.negative),
    "Not": _each(tf.logical_not),
    "Or": _pair(tf.logical_or),
    "PRelu": _pair(lambda x, slope: tf.where(x > 0, x, slope * x)),
    "Pad": _pad,
    "Pow": _pair(lambda a, b: a ** tf.cast(b, a.dtype)),
    "Reciprocal": _each(tf.math.reciprocal),
    "ReduceL1": _reduce(lambda x, *axes, **how: tf.reduce_sum(tf.abs(x), *axes, **how)),
    "ReduceL2": _reduce(tf.math.reduce_euclidean_norm),
    "ReduceMax": _reduce(tf.reduce_max),
    "ReduceMean": _reduce(tf.reduce_mean),
    "ReduceMin": _reduce(tf.reduce_min),
    "ReduceSum": _reduce(tf.reduce_sum),
    "ReduceSumSquare": _reduce(lambda x, *axes, **how: tf.reduce_sum(x * x, *axes, **how)),
    "Relu": _each(tf.nn.relu),
    "Reshape": _reshape,
    "Selu": elementwise(
        lambda call, x: (
            call.get("gamma", 1.0507009873554805)
            * (
                tf.nn.relu(x)
                + call.get("alpha", 1.6732632423543772) * tf.math.expm1(tf.minimum(x, 0))
            )
        )
    ),
    "Shape": lambda call, x: np.array(
        lengths_of(x)[call.get("start", 0) : call.get("end")], np.int64
    ),
    "Sigmoid": _each(tf.sigmoid),
    "Slice": _slice,
    "Softmax": _softmax(tf.nn.softmax),
    "Softplus": _each(tf.math.softplus),
    "Softsign": _each(tf.nn.softsign),
    "Split": _split,
    "Sqrt": _each(tf.sqrt),
    "Squeeze": _squeeze,
    "Sub": _pair(lambda a, b: a - b),
    "Sum": _each(lambda *parts: sum(parts[1:], parts[0])),
    "Tanh": _each(tf.tanh),
    "ThresholdedRelu": elementwise(
        lambda call, x: tf.where(x > call.get("alpha", 1.0), x, tf.zeros_like(x))
    ),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _each(tf.where),
}
