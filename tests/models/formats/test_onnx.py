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
    ("MaxPool", {"kernel_shape": [2, 3]}, [], 21),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, [], 21),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, [], 21),
    ("MaxPool", {"kernel_shape": [2, 2], "dilations": [2, 3]}, [], 21),
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


def test_every_operator_is_tried() -> None:
    elsewhere = {"Cast", "Concat", "Gather", "Gemm", "LRN", "Shape", "Squeeze"}  # below
    positive = {"Log", "Sqrt", "Reciprocal"}
    assert set(OPERATORS) == {kind for kind, *_ in CASES} | elsewhere | positive


def test_operators_whose_reference_is_wrong(tmp_path: pathlib.Path) -> None:
    images = RANDOM.random((2, *SHAPE)).astype(np.float32)
    settings = {"size": 3, "alpha": 0.6, "beta": 0.7, "bias": 1.5}
    nodes = [
        helper.make_node("LRN", ["x"], ["z"], **settings),
        helper.make_node("Mul", ["z", "ten"], ["w"]),
        helper.make_node("Flatten", ["w"], ["y"]),
    ]
    path = _save(tmp_path / "m.onnx", nodes, {"ten": np.array(10, np.float32)})
    around = np.pad(images.astype(float) ** 2, [(0, 0), (1, 1), (0, 0), (0, 0)])
    squares = around[:, :-2] + around[:, 1:-1] + around[:, 2:]
    expected = 10 * images / (1.5 + 0.6 / 3 * squares) ** 0.7
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
    words = {"s": np.array(["a"], object)}
    _save(path, [helper.make_node("Add", ["x", "s"], ["y"])], words)
    assert "holds s, which is not of numbers" in _refused(path)
    big = np.array([0, 0, 9000, 9000, 0, 0, 9000, 9000])
    nodes = [helper.make_node("Pad", ["x", "p"], ["q"]), helper.make_node("Flatten", ["q"], ["y"])]
    _save(path, nodes, {"p": big})
    assert "numbers at Pad, for one image; at most 268,435,456" in _refused(path)
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
