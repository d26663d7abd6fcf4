"""Activation functions by name, without TensorFlow: a flag takes its values from here."""

from __future__ import annotations

from mnist_adv.arguments import NamedChoice


class Activation(NamedChoice):
    """The activation between two layers; the last layer has none, its outputs are the logits."""

    RELU = "relu"
    SIGMOID = "sigmoid"
    TANH = "tanh"
    ELU = "elu"
    SELU = "selu"
    SOFTPLUS = "softplus"
    RELU6 = "relu6"
    LINEAR = "linear"


# By the names that TensorFlow's graphs and ONNX give them: "Relu", "Sigmoid", ...
BY_OPERATOR = {
    activation.value.capitalize(): activation
    for activation in Activation
    if activation is not Activation.LINEAR
}
