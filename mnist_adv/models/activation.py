"""Activation functions by name, without TensorFlow: a flag takes its values from here."""

from __future__ import annotations

import enum


class Activation(enum.Enum):
    """The activation between two layers; the last layer has none, its outputs are the logits."""

    RELU = "relu"
    SIGMOID = "sigmoid"
    TANH = "tanh"
    ELU = "elu"
    SELU = "selu"
    SOFTPLUS = "softplus"
    RELU6 = "relu6"
    LINEAR = "linear"
