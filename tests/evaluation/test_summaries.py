"""TensorBoard's curves of an evaluation."""

from __future__ import annotations

import pathlib

import tensorflow as tf

from mnist_adv.arguments import FLOAT32
from mnist_adv.evaluation.report.summaries import step_of


def test_every_budget_has_a_step_that_tensorboard_takes(tmp_path: pathlib.Path) -> None:
    assert [step_of(epsilon) for epsilon in (0, 0.02, 0.3, 784)] == [0, 20, 300, 784000]
    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        for epsilon in (1e15, 1e30, FLOAT32):
            assert tf.summary.scalar("success", 1.0, step=step_of(epsilon))
