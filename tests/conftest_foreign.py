"""Checkpoints by real TF1 programs, written once per session in a process of their own."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from mnist_adv import data

PROGRAMS = pathlib.Path(__file__).with_name("tf1_programs.py")
NUM_ORACLE_IMAGES = 100


@pytest.fixture(scope="session")
def tf1_folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Run the four programs; each leaves a checkpoint and its session's own logits."""
    folder = tmp_path_factory.mktemp("tf1")
    train, test = data.load(split="train"), data.load()
    np.savez(
        folder / "data.npz",
        images=train.images[:12000].reshape(-1, 784),
        labels=train.labels[:12000],
        test=test.images[:NUM_ORACLE_IMAGES].reshape(-1, 784),
    )
    done = subprocess.run(
        [sys.executable, PROGRAMS, folder / "data.npz", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return folder
