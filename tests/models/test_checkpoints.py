"""Checkpoints: what goes in comes out, and what is damaged is named."""

from __future__ import annotations

import pathlib

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


def test_the_digest_is_of_the_weights(folder: pathlib.Path, toy: SoftmaxRegression) -> None:
    first = checkpoints.load(folder).digest
    # Saved again, later, by another process that counts anew: the same model.
    checkpoints.Saver(folder, toy, CONFIG).save(2)
    assert checkpoints.load(folder).digest == first
    toy.b.assign_add(np.full(10, 1e-6))
    checkpoints.Saver(folder, toy, CONFIG).save(3)
    assert checkpoints.load(folder).digest != first


def test_a_resumed_training_writes_the_bytes_of_an_unbroken_one(
    tmp_path: pathlib.Path, toy: SoftmaxRegression
) -> None:
    unbroken = checkpoints.Saver(tmp_path / "unbroken", toy, CONFIG)
    for epoch in (1, 2):
        unbroken.save(epoch)
        checkpoints.Saver(tmp_path / "resumed", toy, CONFIG).save(epoch)
    for file in ("ckpt-2.index", "ckpt-2.data-00000-of-00001"):
        one, two = (tmp_path / name / file for name in ("unbroken", "resumed"))
        assert one.read_bytes() == two.read_bytes()


BAD_CONFIGS = {
    "[]": "image|has no",
    "7": "none of mnist_adv",
    "{": "none of mnist_adv",
    "[" * 100_000: "none of mnist_adv",
    "{}": "it has no 'model'",
    '{"model": 3, "epoch": 1}': "none of mnist_adv",
    '{"model": {}, "epoch": 1}': "it has no 'num_classes'",
    '{"model": {"num_classes": "10"}, "epoch": 1}': "num_classes must be an integer",
    '{"model": {"num_classes": 10}}': "it has no 'epoch'",
    '{"model": {"num_classes": 10}, "epoch": []}': "epoch must be",
    '{"model": {"num_classes": 10, "image_shape": 28}, "epoch": 1}': "image_shape must be",
    '{"model": {"num_classes": 10, "image_shape": [1, 1, 1e9]}, "epoch": 1}': "must be an integer",
    '{"model": {"num_classes": 1000000000}, "epoch": 1}': "must hold W of shape",
    '{"model": {"num_classes": 10}, "epoch": 1, "dataset": 5}': "dataset must be a text",
    '{"model": {"num_classes": 10}, "epoch": 1, "class_names": [1]}': "list of texts",
    '{"model": {"num_classes": 10}, "epoch": 1, "class_names": "ab"}': "2 classes of 10",
    '{"model": {"num_classes": 10}, "epoch": 1, "training": 1}': "none of mnist_adv",
    '{"model": {"num_classes": 10}, "epoch": 1, "training": {"depth": 1}}': "depth",
    '{"model": {"num_classes": 10}, "epoch": 1, "training": {"seed": "x"}}': "seed must be",
}


@pytest.mark.parametrize(("text", "message"), BAD_CONFIGS.items(), ids=str)
def test_a_config_that_is_not_ours_is_named(
    tmp_path: pathlib.Path, toy: SoftmaxRegression, text: str, message: str
) -> None:
    checkpoint = tf.train.Checkpoint(model=toy, config=tf.Variable(text, name="config"))
    tf.train.CheckpointManager(checkpoint, str(tmp_path), max_to_keep=1).save()
    with pytest.raises(ValueError, match=message) as caught:
        checkpoints.load(tmp_path)
    said = str(caught.value)
    assert said.startswith(str(tmp_path / "ckpt-1")) and "\n" not in said and len(said) < 400


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe garbage \0", b"model_checkpoint_path: 7", b"[" * 1000, b"none"]
)
def test_a_damaged_list_of_checkpoints_is_named(folder: pathlib.Path, content: bytes) -> None:
    (folder / "checkpoint").write_bytes(content)
    with pytest.raises(ValueError, match="is no list of checkpoints") as caught:
        checkpoints.load(folder)
    assert str(caught.value).startswith(str(folder / "checkpoint"))


def test_a_list_that_names_a_missing_checkpoint_is_named(folder: pathlib.Path) -> None:
    (folder / "checkpoint").write_text('model_checkpoint_path: "elsewhere/ckpt-9"')
    with pytest.raises(FileNotFoundError, match=r"no file .*ckpt-9\.index, which "):
        checkpoints.load(folder)


def test_a_full_disk_keeps_the_earlier_checkpoint_and_nothing_of_the_new(
    folder: pathlib.Path, toy: SoftmaxRegression, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    saver = checkpoints.Saver(folder, toy, CONFIG)

    def full(checkpoint_number: int) -> None:
        (folder / f"ckpt-{checkpoint_number}_temp").mkdir()
        (folder / f"ckpt-{checkpoint_number}.data-00000-of-00001").write_bytes(b"half")
        (folder / "checkpoint.tmp0123").write_bytes(b"half")
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(saver._manager, "save", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        saver.save(2)
    assert caught.value.filename == str(folder / "ckpt-2")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_a_killed_training_left_is_removed(
    folder: pathlib.Path, toy: SoftmaxRegression
) -> None:
    names = {path.name for path in folder.iterdir()}
    (folder / "ckpt-2_temp").mkdir()
    for name in ("ckpt-2.data-00000-of-00001.tempstate1", "checkpoint.tmpab"):
        (folder / name).write_bytes(b"half")
    (folder / "notes.txt").write_text("mine")
    checkpoints.Saver(folder, toy, CONFIG)
    assert {path.name for path in folder.iterdir()} == names | {"notes.txt"}


def test_a_rotation_that_was_cut_short_is_finished(
    folder: pathlib.Path, toy: SoftmaxRegression, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver = checkpoints.Saver(folder, toy, CONFIG)
    saver.save(2)
    saver.save(3)
    monkeypatch.setattr(saver._manager, "_sweep", lambda: None)  # killed before it
    saver.save(4)
    (folder / "ckpt-1.index").unlink()
    (folder / "notes.txt").write_text("mine")
    checkpoints.sweep(folder)
    kept = {f"ckpt-{n}.{part}" for n in (2, 3, 4) for part in ("index", "data-00000-of-00001")}
    assert {path.name for path in folder.iterdir()} == kept | {"checkpoint", "notes.txt"}
    assert checkpoints.load(folder).config["epoch"] == 4
    assert checkpoints.Saver(folder, toy, CONFIG).save(5).endswith("ckpt-5")
    assert len(list(folder.glob("*.index"))) == 3
