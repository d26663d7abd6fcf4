"""Activations by name, readable without TensorFlow: flags take their values from here."""

from __future__ import annotations

import enum


class Activation(enum.Enum):
    """What stands between two layers; the last layer has none, its outputs are the logits."""

    RELU = "relu"
    SIGMOID = "sigmoid"
    TANH = "tanh"
    ELU = "elu"
    SELU = "selu"
    SOFTPLUS = "softplus"
    RELU6 = "relu6"
    LINEAR = "linear"
