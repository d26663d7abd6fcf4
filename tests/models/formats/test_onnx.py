"""ONNX files: every operator beside ONNX's own reference, nets as PyTorch exports them."""

from __future__ import annotations

import pathlib
import sys
from typing import Any

import numpy as np
import onnx
import pytest
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from mnist_adv import attack, open_model
from mnist_adv.models.formats.convert import convert
from mnist_adv.models.formats.onnx_operators import OPERATORS
from mnist_adv.models.perceptron import Perceptron
from mnist_adv.models.softmax_regression import SoftmaxRegression

RANDOM = np.random.default_rng(0)
SHAPE = (3, 11, 10)  # channels first


def _weights(*shape: int) -> np.ndarray:
    return RANDOM.normal(0, 0.4, shape).astype(np.float32)


def _save(
    path: pathlib.Path,
    nodes: list[Any],
    arrays: dict[str, np.ndarray],
    *,
    shape: tuple[Any, ...] = ("n", *SHAPE),
    outputs: tuple[Any, ...] = ("n", None),
    opset: int = 21,
) -> pathlib.Path:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, outputs)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


def _channels_last(images: np.ndarray) -> np.ndarray:
    return images.transpose(0, 2, 3, 1) if images.ndim == 4 else images


def _refused(path: Any) -> str:
    with pytest.raises(ValueError) as caught:
        open_model(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


_STEPS = [np.array([1, -2])]
_REDUCTIONS = ("L1", "L2", "Max", "Mean", "Min", "Sum", "SumSquare")

# Operator, attributes, further inputs, opset. The image is `[n, 3, 11, 10]`.
CASES: list[tuple[str, dict[str, Any], list[np.ndarray], int]] = [
    *((name, {}, [], 21) for name in ("Abs", "Exp", "Relu", "Selu", "Sigmoid", "Softplus", "Tanh")),
    *((name, {}, [], 22) for name in ("Identity", "Erf", "HardSwish", "Neg", "Elu", "Mish")),
    *((name, {}, [_weights(3, 1, 1)], 21) for name in ("Add", "Sub", "Mul", "PRelu", "Max", "Min")),
    ("Sum", {}, [_weights(3, 1, 1), _weights(1, 10)], 21),
    ("Div", {}, [_weights(3, 1, 1) + 2], 21),
    ("Pow", {}, [np.array(2, np.float32)], 21),
    ("Elu", {"alpha": 0.3}, [], 21),
    ("Selu", {"alpha": 1.2, "gamma": 0.9}, [], 21),
    ("Gelu", {}, [], 20),
    ("Gelu", {"approximate": "tanh"}, [], 20),
    ("HardSigmoid", {"alpha": 0.4, "beta": 0.2}, [], 21),
    ("LeakyRelu", {"alpha": 0.2}, [], 21),
    ("Clip", {}, [np.array(0.2, np.float32), np.array(0.7, np.float32)], 21),
    ("Clip", {"min": 0.1, "max": 0.6}, [], 6),
    ("Dropout", {}, [], 21),
    ("Celu", {"alpha": 0.4}, [], 12),
    ("Softsign", {}, [], 21),
    ("ThresholdedRelu", {"alpha": 0.4}, [], 10),
    ("Selu", {"alpha": 1.2, "gamma": 0.8}, [], 6),
    ("Mean", {}, [_weights(3, 1, 1), _weights(1, 10)], 13),
    ("Pow", {}, [np.array(3)], 15),
    ("Clip", {}, [np.array(0.2, np.float32)], 21),
    ("Slice", {}, [np.array([1, -3]), np.array([2**62, -12]), np.array([1, -1]), *_STEPS], 13),
    ("Slice", {"starts": [0, 2], "ends": [2, -1], "axes": [1, 3]}, [], 9),
    ("Expand", {}, [np.array([2, 1, 3, 1, 1])[2:]], 13),
    *((f"Reduce{kind}", {"keepdims": 0}, [np.array([-1, 2])], 18) for kind in _REDUCTIONS),
    ("ReduceMax", {"axes": [1]}, [], 11),
    ("LayerNormalization", {"axis": -2}, [_weights(11, 10), _weights(11, 10)], 17),
    ("InstanceNormalization", {"epsilon": 0.1}, [_weights(3), _weights(3)], 6),
    ("GroupNormalization", {"num_groups": 3}, [_weights(3), _weights(3)], 21),
    ("GlobalAveragePool", {}, [], 21),
    ("GlobalMaxPool", {}, [], 21),
    ("ReduceMean", {"axes": [2, 3]}, [], 13),
    ("ReduceMean", {"keepdims": 0}, [np.array([2, 3])], 21),
    ("Transpose", {"perm": [0, 2, 3, 1]}, [], 21),
    ("Flatten", {}, [], 21),
    ("Reshape", {}, [np.array([0, -1])], 21),
    ("Reshape", {}, [np.array([-1, 330])], 21),
    ("Unsqueeze", {}, [np.array([1, -1])], 21),
    ("Unsqueeze", {"axes": [2]}, [], 11),
    ("Pad", {"pads": [0, 0, 1, 2, 0, 0, 0, 3], "value": 0.3}, [], 2),
    ("Pad", {"mode": "reflect"}, [np.array([0, 0, 1, 2, 0, 0, 2, 1])], 21),
    ("Softmax", {"axis": 1}, [], 21),
    ("LogSoftmax", {"axis": 3}, [], 21),
    ("MatMul", {}, [_weights(10, 4)], 21),
    (
        "BatchNormalization",
        {"epsilon": 0.01},
        [_weights(3), _weights(3), _weights(3), np.abs(_weights(3)) + 0.5],
        21,
    ),
    ("Conv", {}, [_weights(5, 3, 3, 2), _weights(5)], 21),
    ("Conv", {"strides": [2, 3], "pads": [1, 0, 2, 1]}, [_weights(4, 3, 3, 3)], 21),
    ("Conv", {"dilations": [2, 2], "auto_pad": "VALID"}, [_weights(4, 3, 3, 3)], 21),
    ("Conv", {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, [_weights(4, 3, 4, 3)], 21),
    ("Conv", {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, [_weights(4, 3, 4, 3)], 21),
    ("Conv", {"group": 3, "strides": [2, 2]}, [_weights(6, 1, 3, 3), _weights(6)], 21),
    ("Conv", {"group": 3, "strides": [2, 1]}, [_weights(6, 1, 3, 3)], 21),
    ("Conv", {"strides": [2, 2], "dilations": [1, 2]}, [_weights(4, 3, 3, 3)], 21),
    ("Conv", {"group": 3, "dilations": [2, 3]}, [_weights(6, 1, 3, 3)], 21),
    ("MaxPool", {"kernel_shape": [2, 3]}, [], 21),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, [], 21),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, [], 21),
    ("MaxPool", {"kernel_shape": [2, 2], "dilations": [2, 3]}, [], 21),
    (
        "MaxPool",
        {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1},
        [],
        22,
    ),
    ("AveragePool", {"kernel_shape": [3, 2], "strides": [2, 2]}, [], 21),
    ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, [], 21),
    (
        "AveragePool",
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 1, 1], "count_include_pad": 1},
        [],
        21,
    ),
    ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, [], 21),
]


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    """Give a test the same numbers whatever ran before it."""
    RANDOM.bit_generator.state = np.random.default_rng(1).bit_generator.state


@pytest.mark.parametrize(("kind", "attributes", "inputs", "opset"), CASES)
def test_operators_beside_the_reference(
    kind: str, attributes: dict[str, Any], inputs: list[np.ndarray], opset: int, tmp_path: Any
) -> None:
    names = [f"c{number}" for number in range(len(inputs))]
    flat = helper.make_node("Flatten", ["z"], ["f"])
    nodes = [helper.make_node(kind, ["x", *names], ["z"], **attributes), flat]
    # Enough classes for every size, and values as large as logits.
    spread = helper.make_node("Mul", ["f", "spread"], ["y"])
    arrays = {**dict(zip(names, inputs)), "spread": np.array(9, np.float32)}
    path = _save(tmp_path / "m.onnx", [*nodes, spread], arrays, opset=opset)
    images = RANDOM.random((4, *SHAPE)).astype(np.float32)
    opened = open_model(path)
    assert opened.shape == (11, 10, 3)
    (expected,) = ReferenceEvaluator(str(path)).run(None, {"x": images})
    for dtype, tolerance in ((np.float32, 1e-4), (np.float64, 1e-4)):
        found = opened.model(_channels_last(images).astype(dtype))
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
    _check_gradient(opened.model, _channels_last(images))


def _check_gradient(model: Any, images: np.ndarray) -> None:
    """Compare the slope along a direction with a central difference, in float64."""
    random = np.random.default_rng(1)
    at, direction = tf.constant(images, tf.float64), random.normal(size=images.shape)
    weights = random.normal(size=np.shape(model(images)))
    with tf.GradientTape() as tape:
        tape.watch(at)
        value = tf.reduce_sum(weights * model(at))
    gradient = tape.gradient(value, at)
    ahead, behind = (
        tf.reduce_sum(weights * model(at + step * direction)) for step in (1e-6, -1e-6)
    )
    slope = float(tf.reduce_sum(gradient * direction))
    np.testing.assert_allclose(slope, float(ahead - behind) / 2e-6, rtol=1e-5, atol=1e-5)


def test_every_operator_is_tried() -> None:
    # In the tests below.
    logic = {"And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or"}
    elsewhere = {"Cast", "Concat", "ConstantOfShape", "Gather", "GatherND", "Gemm", "LRN", "Shape"}
    more = {"Log", "Reciprocal", "Split", "Sqrt", "Squeeze", "Where"}
    assert set(OPERATORS) == {kind for kind, *_ in CASES} | logic | elsewhere | more


def _check(path: pathlib.Path, tolerance: float = 1e-4) -> Any:
    """Compare a model of images SHAPE with the reference, image by image; return the model."""
    images = RANDOM.random((4, *SHAPE)).astype(np.float32)
    reference = ReferenceEvaluator(str(path))
    each = [reference.run(None, {"x": images[at : at + 1]})[0] for at in range(4)]
    model = open_model(path).model
    found = model(_channels_last(images))
    np.testing.assert_allclose(found, np.concatenate(each), rtol=tolerance, atol=tolerance)
    return model


def test_choices_between_numbers(tmp_path: pathlib.Path) -> None:
    comparisons = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal")
    nodes = [
        helper.make_node("Split", ["x"], ["r", "g", "b"], axis=1, num_outputs=3),
        *(helper.make_node(kind, ["r", "g"], [kind]) for kind in comparisons),
        helper.make_node("Not", ["Greater"], ["not"]),
        helper.make_node("And", ["not", "LessOrEqual"], ["and"]),
        helper.make_node("Or", ["Equal", "Less"], ["or"]),
        helper.make_node("Where", ["and", "r", "b"], ["p"]),
        helper.make_node("Where", ["or", "b", "half"], ["q"]),
        helper.make_node("Cast", ["GreaterOrEqual"], ["s"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["p", "q", "s"], ["t"], axis=-3),
        helper.make_node("Log", ["one_more"], ["logarithm"]),
        helper.make_node("Add", ["t", "logarithm"], ["u"]),
        helper.make_node("Reciprocal", ["u"], ["v"]),
        helper.make_node("Transpose", ["v"], ["pixels"], perm=[1, 2, 3, 0]),
        helper.make_node("GatherND", ["pixels", "places"], ["chosen"]),
        helper.make_node("Transpose", ["chosen"], ["w"], perm=[2, 0, 1]),
        helper.make_node("Flatten", ["w"], ["y"]),
    ]
    arrays = {
        "half": np.array(0.5, np.float32),
        "one_more": np.full([3, 1, 1], 1.05, np.float32),
        "places": np.array([[0, 1], [2, 3], [2, 10], [1, 0]]),
    }
    _check(_save(tmp_path / "m.onnx", nodes, arrays, opset=18))


@pytest.mark.parametrize("batch", ["n", 1])
def test_shapes_that_the_graph_computes(batch: Any, tmp_path: pathlib.Path) -> None:
    """A token for each image, channels in groups, as transformers and ShuffleNet have them."""
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["a"]),
        helper.make_node("Shape", ["a"], ["size"]),
        helper.make_node("Gather", ["size", "zero"], ["count"]),
        helper.make_node("Gather", ["size", "one"], ["channels"]),
        helper.make_node("Div", ["channels", "two"], ["half"]),
        helper.make_node("Unsqueeze", ["count", "axis"], ["count1"]),
        helper.make_node("Unsqueeze", ["half", "axis"], ["half1"]),
        helper.make_node("Concat", ["count1", "two1", "half1", "rest"], ["grouped"], axis=0),
        helper.make_node("Reshape", ["a", "grouped"], ["b"]),
        helper.make_node("Transpose", ["b"], ["c"], perm=[0, 2, 1, 3]),
        helper.make_node("Slice", ["size", "axis", "two_1"], ["front"]),
        helper.make_node("Concat", ["front", "rest"], ["flat"], axis=0),
        helper.make_node("Reshape", ["c", "flat"], ["d"]),
        helper.make_node("Concat", ["count1", "ones"], ["for_token"], axis=0),
        helper.make_node("Expand", ["token", "for_token"], ["tokens"]),
        helper.make_node("ConstantOfShape", ["for_token"], ["zeros"]),
        helper.make_node("Add", ["tokens", "zeros"], ["e"]),
        helper.make_node("Concat", ["d", "e"], ["f"], axis=1),
        helper.make_node("MatMul", ["f", "W"], ["g"]),
        helper.make_node("Flatten", ["g"], ["y"]),
    ]
    arrays = {
        "k": _weights(4, 3, 3, 3),
        "zero": np.array(0),
        "one": np.array(1),
        "two": np.array(2),
        "two1": np.array([2]),
        "two_1": np.array([2]),
        "axis": np.array([0]),
        "rest": np.array([-1]),
        "ones": np.array([1, 1]),
        "token": _weights(1, 1, 72),
        "W": _weights(72, 2),
    }
    _check(_save(tmp_path / "m.onnx", nodes, arrays, shape=(batch, *SHAPE), outputs=(batch, 10)))
    if batch == 1:  # as exporters fold it, where one image is written into the file
        nodes[14] = helper.make_node("Identity", ["token"], ["e"])
        _check(_save(tmp_path / "m.onnx", nodes[:15] + nodes[17:], arrays, shape=(1, *SHAPE)))


def test_rows_are_convolved(tmp_path: pathlib.Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "k", "kb"], ["a"], strides=[2], pads=[2, 1]),
        helper.make_node("MaxPool", ["a"], ["b"], kernel_shape=[2]),
        helper.make_node("Flatten", ["b"], ["y"]),
    ]
    arrays = {"k": _weights(3, 11, 3), "kb": _weights(3)}
    path = _save(tmp_path / "m.onnx", nodes, arrays, shape=("n", 11, 10))
    images = RANDOM.random((4, 11, 10)).astype(np.float32)
    (expected,) = ReferenceEvaluator(str(path)).run(None, {"x": images})
    np.testing.assert_allclose(open_model(path).model(images[..., None]), expected, rtol=1e-4)


def test_broadcasts_of_old_versions(tmp_path: pathlib.Path) -> None:
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"], axis=1, broadcast=1),
        helper.make_node("Flatten", ["a"], ["y"]),
    ]
    path = _save(tmp_path / "m.onnx", nodes, {"b": _weights(3)}, opset=6)
    images = RANDOM.random((2, *SHAPE)).astype(np.float32)
    bias = numpy_helper.to_array(onnx.load(path).graph.initializer[0])
    expected = (images + bias[:, None, None]).reshape(2, -1)
    np.testing.assert_allclose(open_model(path).model(_channels_last(images)), expected, rtol=1e-5)


def test_gradient_beside_finite_differences(tmp_path: pathlib.Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["a"], strides=[2, 2], dilations=[1, 2]),
        helper.make_node("Tanh", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "depthwise"], ["c"], group=4),
        helper.make_node("LRN", ["c"], ["d"], size=3, alpha=0.5),
        helper.make_node("AveragePool", ["d"], ["e"], kernel_shape=[2, 2], pads=[1, 1, 0, 0]),
        helper.make_node("Elu", ["e"], ["f"], alpha=0.7),
        helper.make_node("Flatten", ["f"], ["g"]),
        helper.make_node("Gemm", ["g", "W"], ["y"]),
    ]
    arrays = {"k": _weights(4, 3, 3, 3), "depthwise": _weights(4, 1, 2, 2), "W": _weights(32, 3)}
    nodes[3], lrn = helper.make_node("Identity", ["c"], ["d"]), nodes[3]
    _check(_save(tmp_path / "m.onnx", nodes, arrays))
    nodes[3] = lrn  # the reference computes another
    model = open_model(_save(tmp_path / "m.onnx", nodes, arrays)).model
    _check_gradient(model, RANDOM.random((2, 11, 10, 3)))


def test_no_transposes_between_convolutions(tmp_path: pathlib.Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["a", "b_"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Add", ["c", "x"], ["d"]),
        helper.make_node("MaxPool", ["d"], ["e"], kernel_shape=[2, 2]),
        helper.make_node("Concat", ["e", "e"], ["f"], axis=1),
        helper.make_node("GlobalAveragePool", ["f"], ["g"]),
        helper.make_node("Flatten", ["g"], ["y"]),
    ]
    arrays = {"k": _weights(3, 3, 3, 3), "b_": _weights(3, 1, 1) + 3}
    model = _check(_save(tmp_path / "m.onnx", nodes, arrays))
    graph = tf.function(model).get_concrete_function(tf.TensorSpec([None, 11, 10, 3])).graph
    (called,) = (op for op in graph.get_operations() if op.type == "PartitionedCall")
    inner = graph.as_graph_def().library.function
    (body,) = (each for each in inner if each.signature.name == called.get_attr("f").name)
    users = {
        name.split(":")[0] for node in body.node_def if node.op != "Shape" for name in node.input
    }
    moved = [node.name for node in body.node_def if node.op == "Transpose" and node.name in users]
    # Those of the kernel and of b_, which TensorFlow does once, and that before Flatten.
    assert len(moved) == 3


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_weights_of_other_floats(kind: Any, tmp_path: pathlib.Path) -> None:
    number = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], to=number),
        helper.make_node("Conv", ["a", "k"], ["b"]),
        helper.make_node("Cast", ["b"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["c"], ["y"]),
    ]
    path = _save(tmp_path / "m.onnx", nodes, {"k": _weights(2, 3, 3, 3).astype(kind)})
    _check(path, tolerance=2e-2 if kind == np.float16 else 1e-5)


def test_operators_whose_reference_is_wrong(tmp_path: pathlib.Path) -> None:
    images = RANDOM.random((2, *SHAPE)).astype(np.float32)
    for size in (2, 3):
        settings = {"size": size, "alpha": 0.6, "beta": 0.7, "bias": 1.5}
        nodes = [
            helper.make_node("LRN", ["x"], ["z"], **settings),
            helper.make_node("Mul", ["z", "ten"], ["w"]),
            helper.make_node("Flatten", ["w"], ["y"]),
        ]
        path = _save(tmp_path / "m.onnx", nodes, {"ten": np.array(10, np.float32)})
        around = np.pad(images.astype(float) ** 2, [(0, 0), (size - 2, 1), (0, 0), (0, 0)])
        squares = sum(around[:, at : at + 3] for at in range(size))
        expected = 10 * images / (1.5 + 0.6 / size * squares) ** 0.7
        found = open_model(path).model(_channels_last(images))
        np.testing.assert_allclose(found, expected.reshape(2, -1), rtol=1e-4)
    # Before version 13 a softmax is over all that follows its axis.
    nodes = [
        helper.make_node("Softmax", ["x"], ["z"]),
        helper.make_node("Mul", ["z", "ten"], ["w"]),
        helper.make_node("Flatten", ["w"], ["y"]),
    ]
    path = _save(tmp_path / "m.onnx", nodes, {"ten": np.array(999, np.float32)}, opset=11)
    exponentials = np.exp(images.astype(float)).reshape(2, -1)
    expected = 999 * exponentials / exponentials.sum(axis=1, keepdims=True)
    found = open_model(path).model(_channels_last(images))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def _as_pytorch_does(batch: Any) -> tuple[list[Any], dict[str, np.ndarray]]:
    """A net with `x.view(x.size(0), -1)`, or with a number of images written into it."""
    nodes = [
        helper.make_node("Conv", ["x", "k", "kb"], ["a"], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Sqrt", ["one"], ["root"]),
        helper.make_node("Mul", ["b", "root"], ["c"]),
        helper.make_node("Shape", ["c"], ["size"]),
        helper.make_node("Gather", ["size", "zero"], ["count"]),
        helper.make_node("Unsqueeze", ["count", "zeros"], ["counts"]),
        helper.make_node("Cast", ["counts"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Concat", ["whole", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["c", "shape" if batch == "n" else "fixed"], ["d"]),
        helper.make_node("Gemm", ["d", "W", "b_"], ["e"], transB=1),
        helper.make_node("Softmax", ["e"], ["y"], axis=1),
    ]
    arrays = {
        "k": _weights(6, 3, 3, 3),
        "kb": _weights(6),
        "one": np.ones([1], np.float32),
        "zero": np.array(0),
        "zeros": np.array([0]),
        "rest": np.array([-1]),
        "fixed": np.array([1, -1]),
        "W": _weights(4, 6 * 5 * 4),
        "b_": _weights(4),
    }
    return nodes, arrays


@pytest.mark.parametrize("batch", ["n", 1])
def test_nets_as_pytorch_exports_them(batch: Any, tmp_path: pathlib.Path) -> None:
    nodes, arrays = _as_pytorch_does(batch)
    path = _save(tmp_path / "net.onnx", nodes, arrays, shape=(batch, *SHAPE), outputs=(batch, 4))
    opened = open_model(path)
    assert "its last softmax was taken off: the outputs are logits" in opened.notes
    images = RANDOM.random((9, *SHAPE)).astype(np.float32)
    reference = ReferenceEvaluator(str(path))
    expected = np.concatenate([
        reference.run(None, {"x": images[at : at + 1]})[0] for at in range(9)
    ])
    last = _channels_last(images)
    np.testing.assert_allclose(tf.nn.softmax(opened.model(last)), expected, atol=1e-5)
    labels = expected.argmax(axis=1)
    result = attack(opened.model, last, labels=labels, epsilon=0.5, step_size=0.1)
    seen = np.concatenate([
        reference.run(None, {"x": one[None].transpose(0, 3, 1, 2)})[0] for one in result.adversarial
    ])
    np.testing.assert_array_equal(seen.argmax(axis=1) != labels, result.success)
    assert result.success.any()


@pytest.mark.parametrize("channels", [1, 3])
def test_chains_become_models_of_ours(channels: int, tmp_path: pathlib.Path) -> None:
    arrays = {
        "W": _weights(channels * 30, 8),
        "b": _weights(8),
        "V": _weights(5, 8),
        "c": _weights(5),
    }
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("MatMul", ["f", "W"], ["g"]),
        helper.make_node("Add", ["g", "b"], ["h"]),
        helper.make_node("Tanh", ["h"], ["i"]),
        helper.make_node("Gemm", ["i", "V", "c"], ["y"], transB=1, alpha=0.5, beta=2.0),
    ]
    path = _save(tmp_path / "m.onnx", nodes, arrays, shape=("n", channels, 6, 5))
    opened = open_model(path)
    assert isinstance(opened.model, Perceptron) and opened.shape == (6, 5, channels)
    images = RANDOM.random((7, channels, 6, 5)).astype(np.float32)
    (expected,) = ReferenceEvaluator(str(path)).run(None, {"x": images})
    np.testing.assert_allclose(opened.model(_channels_last(images)), expected, rtol=1e-4, atol=1e-5)
    convert(path, tmp_path / "m.npz")
    again = open_model(tmp_path / "m.npz", activation="tanh", shape=(6, 5, channels))
    np.testing.assert_allclose(again.model(_channels_last(images)), expected, rtol=1e-4, atol=1e-5)


def test_normalisations_become_part_of_the_chain(tmp_path: pathlib.Path) -> None:
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["a"]),
        helper.make_node("Div", ["a", "deviation"], ["b"]),
        helper.make_node("Reshape", ["b", "flat"], ["c"]),
        helper.make_node("MatMul", ["c", "U"], ["d"]),
        helper.make_node("MatMul", ["d", "V"], ["e"]),
        helper.make_node("Sub", ["p", "e"], ["f"]),
        helper.make_node("Relu", ["f"], ["g"]),
        helper.make_node("Mul", ["p", "g"], ["h"]),
        helper.make_node("Add", ["h", "ten"], ["i"]),
        helper.make_node("Gemm", ["i", "W", "w"], ["y"]),
    ]
    arrays = {
        "mean": _weights(3, 1, 1),
        "deviation": np.abs(_weights(1, 3, 1, 1)) + 0.3,
        "flat": np.array([0, -1]),
        "U": _weights(330, 4),
        "V": _weights(4, 6),
        "p": _weights(6),
        "ten": np.array([10], np.float32),
        "W": _weights(6, 5),
        "w": _weights(5),
    }
    model = _check(_save(tmp_path / "m.onnx", nodes, arrays), tolerance=1e-3)
    assert repr(model) == "Perceptron(330 -> 6 -> 5, relu)"


def test_what_only_looks_like_a_chain(tmp_path: pathlib.Path) -> None:
    nodes = [  # each row of pixels by itself
        helper.make_node("MatMul", ["x", "W"], ["a"]),
        helper.make_node("Flatten", ["a"], ["y"]),
    ]
    model = _check(_save(tmp_path / "m.onnx", nodes, {"W": _weights(10, 4)}))
    assert "ONNX" in repr(model)
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Flatten", ["t"], ["f"]),
        helper.make_node("Gemm", ["f", "W"], ["y"]),
    ]
    model = _check(_save(tmp_path / "m.onnx", nodes, {"W": _weights(330, 4)}))
    assert "ONNX" in repr(model)


def test_one_layer_is_softmax_regression(tmp_path: pathlib.Path) -> None:
    nodes = [
        helper.make_node("Squeeze", ["x", "axis"], ["s"]),
        helper.make_node("MatMul", ["s", "W"], ["y"]),
    ]
    arrays = {"W": _weights(20, 3), "axis": np.array([1])}
    path = _save(tmp_path / "m.onnx", nodes, arrays, shape=("n", 1, 20))
    assert "1 x 20" in _refused(path)  # no square image
    nodes = [helper.make_node("Gemm", ["x", "W"], ["y"])]
    path = _save(tmp_path / "m.onnx", nodes, {"W": _weights(48, 3)}, shape=("n", 48))
    opened = open_model(path)
    assert isinstance(opened.model, SoftmaxRegression) and opened.shape == (4, 4, 3)


def test_what_is_refused(tmp_path: pathlib.Path, monkeypatch: Any) -> None:
    path = tmp_path / "m.onnx"
    _save(path, [helper.make_node("Loop", ["x"], ["y"]), helper.make_node("Foo", [], ["z"])], {})
    assert "holds operators that are not read: Foo, Loop. Read are Abs" in _refused(path)
    _save(path, [helper.make_node("Softmax", ["x"], ["y"], axis=0)], {}, outputs=("n", *SHAPE))
    open_model(path)  # the softmax comes off, whatever it was
    _save(path, [helper.make_node("Flatten", ["x"], ["y"], axis=0)], {})
    assert "cannot be computed at Flatten (Flatten must keep images apart" in _refused(path)
    mean = helper.make_node("ReduceMean", ["x"], ["m"], axes=[0])
    nodes = [
        mean,
        helper.make_node("Sub", ["x", "m"], ["d"]),
        helper.make_node("Flatten", ["d"], ["y"]),
    ]
    _save(path, nodes, {}, opset=13)
    assert "computes other outputs for images together than for each alone" in _refused(path)
    wide = {"kernel_shape": [2, 2], "strides": [9000, 9000], "pads": [9000, 9000, 9000, 9000]}
    pool = helper.make_node("MaxPool", ["x"], ["p"], **wide)
    _save(path, [pool, helper.make_node("Flatten", ["p"], ["y"])], {})
    assert "pads must not make images longer than 4,096 pixels" in _refused(path)
    apart = helper.make_node("Conv", ["x", "k"], ["p"], dilations=[9000, 9000])
    flat = helper.make_node("Flatten", ["p"], ["y"])
    _save(path, [apart, flat], {"k": _weights(1, 3, 3, 3)})
    assert "dilations must not make a kernel of over 67,108,864 numbers" in _refused(path)
    words = {"s": np.array(["a"], object)}
    _save(path, [helper.make_node("Add", ["x", "s"], ["y"])], words)
    assert "holds s, which is not of numbers" in _refused(path)
    big = np.array([0, 0, 9000, 9000, 0, 0, 9000, 9000])
    nodes = [helper.make_node("Pad", ["x", "p"], ["q"]), helper.make_node("Flatten", ["q"], ["y"])]
    _save(path, nodes, {"p": big})
    assert "must need at most 268,435,456 numbers for one image. Received: 973," in _refused(path)
    nodes = [
        helper.make_node("Expand", ["p", "p"], ["q"]),
        helper.make_node("Add", ["x", "q"], ["r"]),
        helper.make_node("Flatten", ["r"], ["y"]),
    ]
    _save(path, nodes, {"p": np.array([9000, 9000, 9000, 1])})
    assert "must need at most 268,435,456 numbers for one image" in _refused(path)
    round_it = helper.make_node("Cast", ["x"], ["c"], to=TensorProto.INT64)
    _save(path, [round_it, helper.make_node("Flatten", ["c"], ["y"])], {})
    assert "at Cast (Cast must be to floats, not int64: no gradient" in _refused(path)
    _save(path, [helper.make_node("Floor", ["x"], ["c"])], {})
    assert "cannot be computed at Floor (it is read of small constants alone)" in _refused(path)
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Cast", ["s"], ["t"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["t"], ["u"]),
        helper.make_node("Mul", ["x", "u"], ["v"]),
        helper.make_node("Flatten", ["v"], ["y"]),
    ]
    _save(path, nodes, {})
    assert "at Cast (the number of images must not enter what is computed" in _refused(path)
    nodes = [helper.make_node("Reshape", ["x", "s"], ["y"])]
    _save(path, nodes, {"s": np.array([330])}, shape=(1, *SHAPE))
    assert "n x 3 x 11 x 10 numbers cannot be given the shape 330 for any" in _refused(path)
    _save(path, [helper.make_node("Pad", ["x"], ["y"], pads=[0] * 8, mode=1)], {}, opset=2)
    assert "cannot be computed at Pad" in _refused(path)
    _save(path, [helper.make_node("Constant", [], ["y"], value="text")], {})
    assert "holds a Constant that is not of numbers" in _refused(path)
    _save(path, [helper.make_node("Flatten", ["later"], ["y"])], {})
    assert "is damaged (Flatten takes later, which nothing before it computes)" in _refused(path)
    nodes = [
        helper.make_node("Log", ["W"], ["V"]),
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("MatMul", ["f", "V"], ["p"]),
        helper.make_node("Softmax", ["p"], ["y"]),
    ]
    _save(path, nodes, {"W": -np.ones([330, 3], np.float32)})
    assert "returns values that are not finite for" in _refused(path)
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("MatMul", ["f", "W"], ["y"]),
    ]
    _save(path, nodes, {"W": np.full([330, 3], np.nan, np.float32)})
    assert "weights that are not finite: W" in _refused(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert "damaged" in _refused(path)
    with pytest.raises(FileNotFoundError, match=r"no file .*absent\.onnx"):
        open_model(tmp_path / "absent.onnx")
    path.write_bytes(content)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert "pip install 'mnist_adv[onnx]'" in _refused(path)


def test_other_files_are_not_opened(tmp_path: pathlib.Path) -> None:
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("MatMul", ["f", "W"], ["y"]),
    ]
    path = _save(tmp_path / "m.onnx", nodes, {"W": _weights(330, 40)})
    model = onnx.load(path)
    onnx.save_model(model, path, save_as_external_data=True, location="other.bin", size_threshold=0)
    assert "holds W in another file, which is not opened" in _refused(path)
