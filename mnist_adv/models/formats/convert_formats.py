"""What weights can be written as, readable without TensorFlow: a flag takes its values here."""

from __future__ import annotations

import enum


class Format(enum.Enum):
    """What can be written.

    CHECKPOINT: our own, in a folder, as `train.py` saves it.
    TF1: name-based, for `tf.compat.v1.train.Saver.restore`.
    NPZ: arrays W and b, or W1, b1, W2, b2, ...
    KERAS: a Sequential model that returns logits.
    """

    CHECKPOINT = "checkpoint"
    TF1 = "tf1"
    NPZ = "npz"
    KERAS = "keras"
