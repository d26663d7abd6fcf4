"""Checkpoints: what goes in comes out, and what is damaged is named."""

from __future__ import annotations

import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from mnist_adv.models import checkpoints
from mnist_adv.models.softmax_regression import SoftmaxRegression

CONFIG = {"model": {"type": "SoftmaxRegression", "num_classes": 10}, "dataset": "mnist"}


@pytest.fixture
def folder(tmp_path: pathlib.Path, toy: SoftmaxRegression) -> pathlib.Path:
    """A folder with one checkpoint of the toy model."""
    checkpoints.Saver(tmp_path / "saved", toy, CONFIG).save(1)
    return tmp_path / "saved"


def test_round_trip_is_exact(folder: pathlib.Path, toy: SoftmaxRegression) -> None:
    restored = checkpoints.load(folder)
    assert isinstance(restored.model, SoftmaxRegression) and restored.dataset == "mnist"
    np.testing.assert_array_equal(restored.model.W, toy.W)
    np.testing.assert_array_equal(restored.model.b, toy.b)
    assert restored.config == {**CONFIG, "epoch": 1}
    assert len(restored.digest) == 64


def test_the_reader_rebuilds_the_model_from_the_checkpoint(tmp_path: pathlib.Path) -> None:
    model = SoftmaxRegression(37)
    config = {"model": {"type": "SoftmaxRegression", "num_classes": 37}}
    checkpoints.Saver(tmp_path, model, config).save(1)
    assert checkpoints.restore(tmp_path).W.shape == (784, 37)


def test_the_newest_is_restored_and_a_few_are_kept(
    tmp_path: pathlib.Path, toy: SoftmaxRegression
) -> None:
    saver = checkpoints.Saver(tmp_path, toy, CONFIG)
    prefixes = []
    for epoch in range(1, 6):
        toy.b.assign(np.full(10, epoch))
        prefixes.append(saver.save(epoch))
    assert checkpoints.load(tmp_path).config["epoch"] == 5
    assert checkpoints.restore(tmp_path).b.numpy().tolist() == [5.0] * 10
    kept = sorted(path.stem for path in tmp_path.glob("*.index"))
    assert kept == ["ckpt-3", "ckpt-4", "ckpt-5"]


def test_another_training_goes_on_numbering(folder: pathlib.Path, toy: SoftmaxRegression) -> None:
    before = {path: path.read_bytes() for path in folder.glob("ckpt-*")}
    prefix = checkpoints.Saver(folder, toy, CONFIG).save(1)
    assert prefix.endswith("ckpt-2")
    assert {path: path.read_bytes() for path in before} == before


def test_nothing_to_restore_is_said(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere; training makes it"):
        checkpoints.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint in .*; training makes one"):
        checkpoints.load(tmp_path)


def damage(path: pathlib.Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        content[len(content) // 2] ^= 0x10
        path.write_bytes(content)


@pytest.mark.parametrize("how", ["missing", "truncated", "empty", "altered"])
@pytest.mark.parametrize("file", ["index", "data-00000-of-00001"])
def test_a_damaged_checkpoint_is_named(folder: pathlib.Path, how: str, file: str) -> None:
    damage(folder / f"ckpt-1.{file}", how)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        checkpoints.load(folder)
    message = str(caught.value)
    assert "ckpt-1" in message and "restore an intact copy" in message
    assert "\n" not in message


def test_every_flipped_byte_of_the_weights_is_noticed(folder: pathlib.Path) -> None:
    path = folder / "ckpt-1.data-00000-of-00001"
    content = path.read_bytes()
    for place in range(0, len(content), len(content) // 20):
        altered = bytearray(content)
        altered[place] ^= 1
        path.write_bytes(altered)
        with pytest.raises(ValueError, match="ckpt-1 is damaged"):
            checkpoints.load(folder)


def test_another_tasks_checkpoint_is_refused(tmp_path: pathlib.Path) -> None:
    tf.train.CheckpointManager(
        tf.train.Checkpoint(kernel=tf.Variable([1.0])), str(tmp_path), max_to_keep=1
    ).save()
    with pytest.raises(ValueError, match="not a checkpoint of mnist_adv: it carries no config"):
        checkpoints.load(tmp_path)


def test_another_shape_is_refused(tmp_path: pathlib.Path, toy: SoftmaxRegression) -> None:
    config = {"model": {"type": "SoftmaxRegression", "num_classes": 12}}
    checkpoints.Saver(tmp_path, toy, config).save(1)
    message = r"must hold W of shape \[784, 12\]. Received: \[784, 10\]"
    with pytest.raises(ValueError, match=message):
        checkpoints.load(tmp_path)


def test_weights_that_are_not_finite_are_refused(
    tmp_path: pathlib.Path, toy: SoftmaxRegression
) -> None:
    toy.b.assign(np.full(10, np.nan))
    checkpoints.Saver(tmp_path, toy, CONFIG).save(1)
    with pytest.raises(ValueError, match="holds weights that are not finite: b"):
        checkpoints.load(tmp_path)


def test_the_digest_is_of_the_content(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    assert checkpoints.load(tmp_path / "copy").digest == checkpoints.load(folder).digest
