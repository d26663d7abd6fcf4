"""What several test files share: the data, and one model trained with the defaults."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

import numpy as np
import pytest
import tensorflow as tf

from mnist_adv.attacks import lanes
from mnist_adv.commands import train as train_command
from mnist_adv.data import datasets
from mnist_adv.models import checkpoints
from mnist_adv.models.softmax_regression import SoftmaxRegression
from mnist_adv.tensors import compilation


@pytest.fixture(scope="session", autouse=True)
def plain_graphs() -> Iterator[None]:
    """Build plain graphs where users get XLA's programs, which take three times as long.

    Tests of what XLA computes ask for `xla`.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compilation, "XLA", False)
        yield


@pytest.fixture
def xla(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile with XLA as users do; such a test needs a model of its own, or finds old programs."""
    monkeypatch.setattr(compilation, "XLA", True)


@pytest.fixture(scope="session", autouse=True)
def few_lanes() -> Iterator[int]:
    """Keep batches small: tests attack few images, and would wait for a thousand lanes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lanes, "_MOST", 16)
        yield 16


@pytest.fixture
def many_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Change a hundred images at a time, for tests that attack as many."""
    monkeypatch.setattr(lanes, "_MOST", 100)


@pytest.fixture(scope="session")
def test_set() -> datasets.Dataset:
    """The 10,000 test images in their original order."""
    return datasets.load("mnist", "test")


@pytest.fixture(scope="session")
def train_set() -> datasets.Dataset:
    """The 60,000 training images."""
    return datasets.load("mnist", "train")


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder in which `train.py` has been run with its defaults. Read it, do not write to it."""
    # One that is there already serves many processes; see tests/mutation.py.
    kept = os.environ.get("MNIST_ADV_TEST_WORKSHOP")
    folder = pathlib.Path(kept) if kept else tmp_path_factory.mktemp("workshop")
    if (folder / "checkpoints").exists():
        return folder
    argv = [
        "train.py",
        f"--checkpoint_dir={folder / 'checkpoints'}",
        f"--logdir={folder / 'logs'}",
    ]
    assert train_command.main(argv) == 0
    return folder


@pytest.fixture(scope="session")
def trained(workshop: pathlib.Path) -> SoftmaxRegression:
    """The model that the defaults train."""
    return checkpoints.restore(workshop / "checkpoints")


@pytest.fixture(scope="session")
def seven(test_set: datasets.Dataset) -> np.ndarray:
    """`mnist.test.images[0]` of the question, `[28, 28, 1]`."""
    return test_set.images[0]


@pytest.fixture
def toy() -> SoftmaxRegression:
    """A softmax regression with weights drawn at random, for tests that need no training."""
    generator = np.random.default_rng(7)
    model = SoftmaxRegression()
    model.W.assign(generator.normal(0, 0.2, (784, 10)).astype(np.float32))
    model.b.assign(generator.normal(0, 0.2, 10).astype(np.float32))
    return model


@pytest.fixture(scope="session")
def network() -> tf.Module:
    """A small differentiable model that is not linear, float32 and float64."""
    return _Network()


class _Network(tf.Module):
    def __init__(self) -> None:
        super().__init__(name="network")
        generator = np.random.default_rng(11)
        self.first = tf.constant(generator.normal(0, 0.1, (784, 16)))
        self.second = tf.constant(generator.normal(0, 1, (16, 10)))

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        images = tf.convert_to_tensor(images)
        pixels = tf.reshape(images, [-1, 784])
        hidden = tf.tanh(pixels @ tf.cast(self.first, pixels.dtype))
        return hidden @ tf.cast(self.second, pixels.dtype)


def pytest_sessionstart() -> None:
    """Compute on one thread beside other workers, else on the two that the suite is written for."""
    threads = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = str(threads)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
