"""One use of an operator of ONNX, and the order of the axes in which it is computed.

ONNX has channels before height and width, and TensorFlow computes on a CPU with channels last. A
tensor that was brought into ONNX's order is taken back to the one that it was computed in, so that
no transpose lies between one convolution and the next.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from mnist_adv.tensors.lazy import tf

_TO_FIRST, _TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


@dataclasses.dataclass(frozen=True)
class Call:
    """What is known of one use of an operator.

    Attributes:
        attributes: by name.
        opset: the version of the operators' definitions.
        num_outputs: that the node has.
        batch: the number of images that the file was written for; None: any.
        count: a scalar tensor, the number of images there are.
        dtype: of the images.
    """

    attributes: Mapping[str, Any]
    opset: int
    num_outputs: int
    batch: int | None
    count: Any
    dtype: Any

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


def is_first(x: Any) -> bool:
    """Tell a tensor that was computed with channels last.

    Args:
        x: anything.

    Returns:
        Whether it is one, in the order of ONNX now.
    """
    if not isinstance(x, tf.Tensor) or x.shape.rank != 4 or x.op.type != "Transpose":
        return False
    order = tf.get_static_value(x.op.inputs[1])
    return order is not None and list(order) == _TO_FIRST


def to_last(x: Any) -> Any:
    """Put channels last.

    Args:
        x: tensor `[n, c, h, w]`.

    Returns:
        `[n, h, w, c]`.
    """
    return x.op.inputs[0] if is_first(x) else tf.transpose(x, _TO_LAST)


def to_first(x: Any) -> Any:
    """Put channels before height and width.

    Args:
        x: tensor `[n, h, w, c]`.

    Returns:
        `[n, c, h, w]`.
    """
    return tf.transpose(x, _TO_FIRST)


def elementwise(function: Callable[..., Any]) -> Operator:
    """Make an operator that computes each number by itself, in the order in which tensors are.

    Args:
        function: call, tensors -> tensor; they are broadcast.

    Returns:
        The operator.
    """

    def compute(call: Call, *inputs: Any) -> Any:
        given = [x for x in inputs if x is not None]
        if not any(map(is_first, given)) or not all(map(_can_be_four, given)):
            return function(call, *inputs)
        last = [x if x is None or not x.shape else to_last(_as_four(x)) for x in inputs]
        return to_first(function(call, *last))

    return compute


def _can_be_four(x: Any) -> bool:
    return len(x.shape) == 4 or (len(x.shape) < 4 and None not in tuple(x.shape))


def _as_four(x: Any) -> Any:
    return x if len(x.shape) == 4 else tf.reshape(x, [1] * (4 - len(x.shape)) + list(x.shape))


def concat(call: Call, *parts: Any) -> Any:
    """Join tensors along an axis.

    Args:
        call: with the axis.
        *parts: tensors.

    Returns:
        Their concatenation. What was written for one image is there for each.
    """
    axis = int(call.get("axis"))
    if call.batch == 1 and axis and any(part.shape[0] is None for part in parts):
        parts = tuple(
            tf.broadcast_to(part, [call.count, *part.shape[1:]]) if part.shape[0] == 1 else part
            for part in parts
        )
    if any(map(is_first, parts)):
        return to_first(tf.concat([to_last(part) for part in parts], _TO_FIRST[axis % 4]))
    return tf.concat(parts, axis)
