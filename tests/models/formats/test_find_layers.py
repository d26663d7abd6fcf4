"""Variables are found by shape; names decide only between equals; nothing is guessed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_adv.models.formats.arrays import parse_variables
from mnist_adv.models.formats.find_layers import Chain, Layer, find_chain, follow

Shapes = dict[str, list[int]]


def _find(shapes: Shapes, num_classes: int = 10) -> Chain:
    return find_chain(shapes, num_classes, "model.ckpt")


@pytest.mark.parametrize(
    ("weights", "bias"),
    [
        ("Variable", "Variable_1"),
        ("W", "b"),
        ("softmax_linear/weights", "softmax_linear/biases"),
        ("dense/kernel", "dense/bias"),
        ("model/W", "model/b"),
        ("b", "W"),  # names do not matter
    ],
)
@pytest.mark.parametrize("transposed", [False, True])
def test_one_layer_is_found_whatever_its_names(weights: str, bias: str, transposed: bool) -> None:
    shape = [10, 784] if transposed else [784, 10]
    assert _find({weights: shape, bias: [10]}) == Chain((Layer(weights, bias),), transposed)


def test_bias_may_be_a_row_or_missing() -> None:
    assert _find({"W": [784, 10], "b": [1, 10]}).layers == (Layer("W", "b"),)
    assert _find({"W": [784, 10]}).layers == (Layer("W", None),)


@pytest.mark.parametrize(
    "slots",
    [
        {"W/Adam": [784, 10], "W/Adam_1": [784, 10], "b/Adam": [10], "beta1_power": []},
        {"train/train/W/Adam": [784, 10], "train/beta1_power": []},
        {"W/Momentum": [784, 10], "b/Momentum": [10]},
        {"W/RMSProp": [784, 10], "W/RMSProp_1": [784, 10]},
        {"b/ExponentialMovingAverage": [10], "global_step": []},
        {"W/own_slot": [784, 10]},
        {"model/W/.OPTIMIZER_SLOT/optimizer/m": [784, 10]},
        {"optimizer/_variables/2": [784, 10], "optimizer/_variables/3": [10]},
    ],
)
def test_slots_and_scalars_are_passed_over(slots: Shapes) -> None:
    assert _find({"W": [784, 10], "b": [10], **slots}).layers == (Layer("W", "b"),)


def test_nameless_layers_are_paired_by_number() -> None:
    # Weights first, then biases, as one popular perceptron example declares them.
    shapes: Shapes = {
        "Variable": [784, 256],
        "Variable_1": [256, 256],
        "Variable_2": [256, 10],
        "Variable_3": [256],
        "Variable_4": [256],
        "Variable_5": [10],
    }
    assert _find(shapes).layers == (
        Layer("Variable", "Variable_3"),
        Layer("Variable_1", "Variable_4"),
        Layer("Variable_2", "Variable_5"),
    )


def test_equal_layers_are_ordered_and_paired_by_number() -> None:
    shapes: Shapes = {}
    for number, (inputs, outputs) in enumerate([(784, 64)] + [(64, 64)] * 11 + [(64, 10)]):
        suffix = f"_{number}" if number else ""
        shapes[f"dense{suffix}/kernel"] = [inputs, outputs]
        shapes[f"dense{suffix}/bias"] = [outputs]
    layers = _find(shapes).layers
    names = ["dense"] + [f"dense_{number}" for number in range(1, 13)]
    assert layers == tuple(Layer(f"{name}/kernel", f"{name}/bias") for name in names)


def test_letters_with_numbers_are_paired_by_number() -> None:
    shapes: Shapes = {"W1": [784, 10], "b1": [10], "W2": [10, 10], "b2": [10]}
    assert _find(shapes).layers == (Layer("W1", "b1"), Layer("W2", "b2"))


def test_names_that_share_nothing_but_a_number_are_paired_by_it() -> None:
    shapes: Shapes = {"w_in1": [784, 10], "w_out2": [10, 10], "b_out2": [10], "b_in1": [10]}
    assert _find(shapes).layers == (Layer("w_in1", "b_in1"), Layer("w_out2", "b_out2"))


@given(st.lists(st.integers(2, 40), min_size=1, max_size=5, unique=True), st.randoms())
@settings(derandomize=True, deadline=None)
def test_any_perceptron_of_different_widths_is_found(widths: list[int], random: object) -> None:
    sizes = [784, *[width for width in widths if width != 10], 10]
    names = [f"v{i}" for i in range(2 * len(sizes))]
    random.shuffle(names)  # type: ignore[attr-defined]
    shapes: Shapes = {}
    expected = []
    for inputs, outputs in zip(sizes, sizes[1:]):
        weights, bias = names.pop(), names.pop()
        shapes[weights], shapes[bias] = [inputs, outputs], [outputs]
        expected.append(Layer(weights, bias))
    assert _find(dict(sorted(shapes.items()))) == Chain(tuple(expected), transposed=False)


@pytest.mark.parametrize(
    "shapes",
    [
        {"teacher/W": [784, 10], "student/W": [784, 10], "b": [10]},
        {"W": [784, 10], "b": [10], "c": [10]},
        {"first": [784, 9], "left": [9, 9], "right": [9, 9], "last": [9, 10]},
        {"W": [784, 10], "b": [10], "conv/kernel": [5, 5, 1, 32]},
        {"W": [784, 10], "b": [10], "norm/moving_mean": [784]},
        {"W": [784, 100], "b": [100]},
    ],
)
def test_ambiguous_is_refused_with_names_and_shapes(shapes: Shapes) -> None:
    with pytest.raises(ValueError, match="--variables W=NAME,b=NAME") as caught:
        _find(shapes)
    for name, shape in shapes.items():
        assert f"{name} {shape}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_task_is_listed() -> None:
    with pytest.raises(ValueError, match=r"another task.*: embedding \[5000, 64\], out \[64, 2\]"):
        _find({"embedding": [5000, 64], "out": [64, 2], "out/Adam": [64, 2]})


def test_long_list_is_cut() -> None:
    with pytest.raises(ValueError, match=r"and 88 more$"):
        _find({f"v{i:03d}": [i + 2, 3] for i in range(100)})


def test_named_variables_are_followed() -> None:
    shapes: Shapes = {
        "teacher/W": [784, 10],
        "student/W": [10, 784],
        "b": [10],
        "h": [784, 5],
        "o": [5, 10],
    }
    chain = follow(parse_variables("W=teacher/W, b=b"), shapes, 10, "model.ckpt")
    assert chain == Chain((Layer("teacher/W", "b"),), transposed=False)
    chain = follow(parse_variables("W=student/W"), shapes, 10, "model.ckpt")
    assert chain == Chain((Layer("student/W", None),), transposed=True)
    chain = follow(parse_variables("W1=h,W2=o,b2=b"), shapes, 10, "model.ckpt")
    assert chain == Chain((Layer("h", None), Layer("o", "b")), transposed=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("W", "must be W=NAME,b=NAME"),
        ("W=a,W=b", "each role once"),
        ("weights=W", "roles W and b"),
        ("W=nowhere,b=b", "holds no 'nowhere'"),
        ("b=b", "gives no weights for b"),
        ("W=b,b=W", "must lead from 784 pixels to 10 classes"),
        ("W1=W,W2=W,b2=b", "must lead from 784 pixels to 10 classes"),
    ],
)
def test_wrong_names_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        follow(parse_variables(text), {"W": [784, 10], "b": [10]}, 10, "model.ckpt")
