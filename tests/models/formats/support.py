"""Checkpoints by real TF1 programs, written once per session in a process of their own."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from mnist_adv.data import datasets

PROGRAMS = pathlib.Path(__file__).with_name("tf1_programs.py")
NUM_ORACLE_IMAGES = 100


@pytest.fixture(scope="session")
def tf1_folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Run the four programs; each leaves a checkpoint and its session's own logits."""
    folder = tmp_path_factory.mktemp("tf1")
    train, test = datasets.load(split="train"), datasets.load()
    np.savez(
        folder / "data.npz",
        images=train.images[:12000].reshape(-1, 784),
        labels=train.labels[:12000],
        test=test.images[:NUM_ORACLE_IMAGES].reshape(-1, 784),
    )
    # tf.layers went with the old Keras; where that is installed the fourth program calls it.
    legacy = {"TF_USE_LEGACY_KERAS": "1"} if importlib.util.find_spec("tf_keras") else {}
    done = subprocess.run(
        [sys.executable, PROGRAMS, folder / "data.npz", folder],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **legacy},
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return folder
