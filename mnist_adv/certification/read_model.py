"""Read any model as a chain of affine segments and nonlinearities, from the graph that it makes.

Whatever a model was made with, TensorFlow traces it into operations. Those that do not depend on
the pixels are constants; each of the others must have one input that does. The network that is
read is compared with the model, so that a graph that was misread is refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse

from mnist_adv.certification.network import Affine, Network, Step
from mnist_adv.certification.nonlinearities import apply
from mnist_adv.data.images import Shape
from mnist_adv.models.model import Model
from mnist_adv.tensors.lazy import tf

_NUM_PROBES = 8
_AGREEMENT = 1e-9  # relative, of float64 logits that two programs compute
# What gives its input another name.
_SAME = {"Identity", "StopGradient", "PreventGradient", "Snapshot", "EnsureShape", "CheckNumerics"}
_SHAPES = {"Shape", "Size", "Rank"}  # of values, and not values
_ELEMENTWISE = {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh"}


def read_network(model: Model, shape: Shape) -> Network:
    """Read a model as a chain of affine segments and nonlinearities.

    Args:
        model: images `[n, h, w, c]` -> logits, in float64 too; traced once.
        shape: of its images, `(h, w, c)`.

    Returns:
        The network, which computes the same logits in float64.

    Raises:
        ValueError: the model cannot be traced in float64, is no chain, or holds an operation that
            is neither affine nor one of `NONLINEARITIES`; it is named.
    """
    traced, digest = _trace(model, shape)
    segments: list[Affine] = []
    kinds: list[str] = []
    windows: list[int] = []
    steps: list[Step] = []
    start: tuple[int, ...] = shape
    convolutions = False
    for node in traced:
        if node.kind in _SAME:
            continue
        if node.kind in _ELEMENTWISE or node.kind == "MaxPool":
            window = 1
            if node.kind == "MaxPool":
                step, window = _windows(node)
                steps.append(step)
            segments.append(Affine(start, steps))
            kinds.append(_ELEMENTWISE.get(node.kind, "maximum"))
            windows.append(window)
            steps, start = [], node.out_shape
        elif node.kind in _READERS:
            steps.append(_READERS[node.kind](node))
            convolutions |= "Conv" in node.kind
        else:
            raise ValueError(
                f"bounds are known for {', '.join([*_READERS, *_ELEMENTWISE, 'MaxPool'])}. "
                f"Received: a model with {node.kind}"
            )
    segments.append(Affine(start, steps))
    network = Network(tuple(segments), tuple(kinds), tuple(windows), convolutions, digest)
    _require_same(network, model, shape)
    return network


def logits_of(network: Network, images: Any) -> Any:
    """Compute a network's logits.

    Args:
        network: as read.
        images: `[n, ...]` float64.

    Returns:
        `[n, k]` float64.
    """
    values = tf.reshape(images, [-1, network.segments[0].in_size])
    for number, segment in enumerate(network.segments):
        values = segment.linear(values) + segment.bias
        if number < len(network.kinds):
            values = apply(network.kinds[number], values, network.windows[number])
    return values


@dataclasses.dataclass(frozen=True)
class _Node:
    """An operation of the chain.

    Attributes:
        kind: its type.
        place: which of its inputs depends on the pixels.
        constants: of its other inputs, None in that place.
        in_shape: of one image's values before it.
        out_shape: and after it.
        attribute: name -> value.
    """

    kind: str
    place: int
    constants: tuple[Any, ...]
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    attribute: Callable[[str], Any]


def _trace(model: Model, shape: Shape) -> tuple[list[_Node], str]:
    """List the operations between the pixels and the logits, and digest all of their graph."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    spec = tf.TensorSpec([1, *shape], tf.float64)
    try:
        model(tf.zeros([1, *shape], tf.float64))  # what a model builds, it builds once and eagerly
        traced = tf.function(model, autograph=False).get_concrete_function(spec)
        frozen = convert_variables_to_constants_v2(traced)
    except (AttributeError, NotImplementedError, TypeError, tf.errors.OpError) as error:
        raise ValueError(
            "bounds need a model that TensorFlow traces in float64. Received: "
            f"{type(model).__name__} ({str(error).splitlines()[0]})"
        ) from error
    (pixels,), (end,) = frozen.inputs, frozen.outputs
    chain: list[Any] = []
    tensor = end
    depends = _dependents(frozen.graph, pixels)
    while tensor is not pixels:
        operation = tensor.op
        moving = [each for each in operation.inputs if each.ref() in depends]
        if len(moving) != 1:
            raise ValueError(
                "bounds need layers one after another. Received: a model whose "
                f"{operation.type} has {len(moving)} inputs that depend on the pixels"
            )
        chain.append((operation, moving[0], tensor))
        (tensor,) = moving
    wanted = {
        tensor.ref(): tensor
        for operation, before, after in chain
        for tensor in (*operation.inputs, after)
    }
    fetched = frozen.prune([pixels], list(wanted.values()))(tf.zeros([1, *shape], tf.float64))
    values = dict(zip(wanted, map(np.asarray, fetched)))
    nodes = [
        _Node(
            operation.type,
            [each is before for each in operation.inputs].index(True),
            tuple(None if e is before else values[e.ref()] for e in operation.inputs),
            values[before.ref()].shape[1:],
            values[after.ref()].shape[1:],
            operation.get_attr,
        )
        for operation, before, after in reversed(chain)
    ]
    content = frozen.graph.as_graph_def().SerializeToString(deterministic=True)
    return nodes, hashlib.sha256(content).hexdigest()


def _dependents(graph: Any, pixels: Any) -> set[Any]:
    """Find the tensors whose values, and not only shapes, depend on the pixels."""
    found = {pixels.ref()}
    for operation in graph.get_operations():
        inputs = (each.ref() in found for each in operation.inputs)
        if operation.type not in _SHAPES and any(inputs):
            found.update(each.ref() for each in operation.outputs)
    return found


def _require_same(network: Network, model: Model, shape: Shape) -> None:
    images = np.random.default_rng(0).random((_NUM_PROBES, *shape))
    ours, theirs = np.asarray(logits_of(network, images)), np.asarray(model(tf.constant(images)))
    if ours.shape != theirs.shape or not np.allclose(
        ours, theirs, rtol=_AGREEMENT, atol=_AGREEMENT * (1 + np.abs(theirs).max())
    ):
        raise ValueError(
            "the network that was read computes other logits than the model: "
            "it is no chain of layers that work on each image alone"
        )


def _same(values: Any) -> Any:
    return values


def _moved(function: Callable[[Any], Any]) -> Step:
    return Step(function, function)


def _product(node: _Node) -> Step:
    kernel = node.constants[1]
    if kernel is None or kernel.ndim != 2:
        raise ValueError("bounds need products of values with a matrix of weights")
    names = ("transpose_a", "transpose_b") if node.kind == "MatMul" else ("adj_x", "adj_y")
    if node.attribute(names[0]):
        raise ValueError("bounds need products that leave values as rows")
    kernel = kernel.T if node.attribute(names[1]) else kernel
    return Step(
        lambda values: tf.matmul(values, kernel),
        lambda values: tf.matmul(values, np.abs(kernel)),
        True,
        len(kernel),
        matrix=(lambda: scipy.sparse.csr_array(kernel.T)) if len(node.in_shape) == 1 else None,
    )


def _convolution(node: _Node) -> Step:
    kernel = node.constants[1]
    convolve = tf.nn.conv2d if node.kind == "Conv2D" else tf.nn.depthwise_conv2d
    strides, dilations = node.attribute("strides"), node.attribute("dilations")
    name = node.attribute("padding").decode()
    explicit = np.reshape(node.attribute("explicit_paddings") or [0] * 8, [4, 2]).tolist()
    padding = explicit if name == "EXPLICIT" else name
    _require_last(node)
    rates = dilations[1:3]
    if node.kind != "Conv2D":
        dilations = rates

    def by(weights: np.ndarray) -> Callable[[Any], Any]:
        return lambda values: convolve(values, weights, strides, padding, dilations=dilations)

    size = math.prod(kernel.shape[:3] if node.kind == "Conv2D" else kernel.shape[:2])

    def matrix() -> Any:
        places = _places(node.in_shape, kernel.shape[:2], strides, rates, padding)
        if node.kind == "Conv2D":  # `[o, kh, kw, c]`
            weights = np.moveaxis(kernel, 3, 0)
        else:  # of each channel, and 0 of the others
            weights = np.einsum("ijcm,cd->cmijd", kernel, np.eye(kernel.shape[2]))
        weights = weights.reshape(-1, places.shape[1])
        shape = len(places), len(weights), places.shape[1]
        indices = np.broadcast_to(places[:, np.newaxis], shape).reshape(-1)
        there = np.broadcast_to(places[:, np.newaxis] >= 0, shape).reshape(-1)
        data = np.where(there, np.broadcast_to(weights, shape).reshape(-1), 0.0)
        starts = np.arange(0, len(data) + 1, shape[2])
        columns = math.prod(node.in_shape)
        found = scipy.sparse.csr_array(
            (data, np.maximum(indices, 0), starts), shape=(len(starts) - 1, columns)
        )
        found.eliminate_zeros()
        return found

    grouped = node.kind == "Conv2D" and kernel.shape[2] != node.in_shape[2]
    return Step(by(kernel), by(np.abs(kernel)), True, size, matrix=None if grouped else matrix)


def _places(
    shape: tuple[int, ...], size: Any, strides: Any, rates: Any, padding: Any
) -> np.ndarray:
    """Find the inputs of each window, `[windows, inputs]`; -1 outside an image."""
    numbers = np.arange(1.0, math.prod(shape) + 1).reshape(1, *shape)
    if not isinstance(padding, str):
        numbers, padding = np.pad(numbers, padding), "VALID"
    patches = tf.image.extract_patches(numbers, [1, *size, 1], strides, [1, *rates, 1], padding)
    return np.asarray(patches).reshape(-1, patches.shape[3]).astype(np.int64) - 1


def _average_pool(node: _Node) -> Step:
    size, strides = node.attribute("ksize"), node.attribute("strides")
    padding = node.attribute("padding").decode()
    _require_last(node)

    def pool(values: Any) -> Any:
        return tf.nn.avg_pool2d(values, size, strides, padding)

    return Step(pool, pool, True, math.prod(size) + 1)


def _mean(node: _Node) -> Step:
    axes = tuple(np.ravel(node.constants[1]).tolist())
    rank = len(node.in_shape) + 1
    keep = node.attribute("keep_dims")
    count = math.prod(node.in_shape[axis % rank - 1] for axis in axes)
    reduce = tf.reduce_mean if node.kind == "Mean" else tf.reduce_sum

    def reduced(values: Any) -> Any:
        return reduce(values, axes, keepdims=keep)

    return Step(reduced, reduced, True, count + 1)


def _shift(node: _Node) -> Step:
    constant = node.constants[1 - node.place]
    if node.kind == "Sub" and node.place == 1:
        return Step(tf.negative, _same, False, 1, constant)
    return Step(_same, _same, False, 1, -constant if node.kind == "Sub" else constant)


def _scale(node: _Node) -> Step:
    constant = node.constants[1 - node.place]
    if node.kind == "RealDiv":
        if node.place == 1:
            raise ValueError("bounds are not known for a division by values")
        constant = 1 / constant
    # Twice: a constant that a network computes of its weights has rounded too.
    return Step(
        lambda values: values * constant, lambda values: values * np.abs(constant), False, 2
    )


def _normalised(node: _Node) -> Step:
    if node.attribute("is_training"):
        raise ValueError("bounds need batch normalisation in inference mode")
    _require_last(node)
    gamma, beta, mean, variance = node.constants[1:5]
    factor = gamma / np.sqrt(variance + node.attribute("epsilon"))
    shift = beta - mean * factor
    return Step(
        lambda values: values * factor, lambda values: values * np.abs(factor), False, 4, shift
    )


def _reshape(node: _Node) -> Step:
    shape = node.out_shape
    return _moved(lambda values: tf.reshape(values, [-1, *shape]))


def _transpose(node: _Node) -> Step:
    order = node.constants[1].tolist()
    if order[0]:
        raise ValueError("bounds need images to stay apart. Received: a model that transposes them")
    return _moved(lambda values: tf.transpose(values, order))


def _pad(node: _Node) -> Step:
    around = node.constants[1]
    value = float(node.constants[2]) if node.kind == "PadV2" else 0.0
    if around[0].any():
        raise ValueError("bounds need images to stay apart. Received: a model that pads batches")
    shift = np.pad(np.zeros(node.in_shape), around[1:], constant_values=value)
    return dataclasses.replace(_moved(lambda values: tf.pad(values, around)), shift=shift)


def _reverse(node: _Node) -> Step:
    axes = np.ravel(node.constants[1]).tolist()
    return _moved(lambda values: tf.reverse(values, axes))


def _windows(node: _Node) -> tuple[Step, int]:
    """Gather the inputs of each window of a maximum; one at the edge holds some of them twice."""
    _require_last(node)
    _, height, width, channels = (1, *node.in_shape)
    size, strides = node.attribute("ksize")[1:3], node.attribute("strides")[1:3]
    places = np.arange(height * width, dtype=np.float64).reshape(1, height, width, 1) + 1
    patches = np.asarray(
        tf.image.extract_patches(
            places, [1, *size, 1], [1, *strides, 1], [1, 1, 1, 1], node.attribute("padding")
        )
    )[0].astype(np.int64)
    patches = np.where(patches > 0, patches, patches.max(axis=-1, keepdims=True)) - 1
    # `[oh, ow, c, window]`: the neighbours of a window are next to one another.
    index = patches[:, :, np.newaxis] * channels + np.arange(channels)[:, np.newaxis]
    if node.out_shape != index.shape[:3]:
        raise ValueError("bounds are known for windows of a maximum without gaps")
    chosen = tf.constant(index.reshape(-1))
    size_before = math.prod(node.in_shape)
    gather = _moved(lambda values: tf.gather(tf.reshape(values, [-1, size_before]), chosen, axis=1))
    return gather, index.shape[3]


def _require_last(node: _Node) -> None:
    if node.attribute("data_format") != b"NHWC":
        raise ValueError("bounds need values with channels last")


_READERS: dict[str, Callable[[_Node], Step]] = {
    **dict.fromkeys(("MatMul", "BatchMatMulV2"), _product),
    **dict.fromkeys(("Conv2D", "DepthwiseConv2dNative"), _convolution),
    "AvgPool": _average_pool,
    **dict.fromkeys(("Mean", "Sum"), _mean),
    **dict.fromkeys(("Add", "AddV2", "BiasAdd", "Sub"), _shift),
    **dict.fromkeys(("Mul", "RealDiv"), _scale),
    "Neg": lambda node: Step(tf.negative, _same),
    "FusedBatchNormV3": _normalised,
    **dict.fromkeys(("Reshape", "Squeeze", "ExpandDims"), _reshape),
    "Transpose": _transpose,
    **dict.fromkeys(("Pad", "PadV2"), _pad),
    "ReverseV2": _reverse,
}
