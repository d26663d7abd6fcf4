"""What a file is, is told from its bytes, whatever it is called, and said by its true name."""

from __future__ import annotations

import gzip
import json
import pathlib
import pickle
import tarfile
import zipfile
from typing import Any

import h5py
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mnist_adv.models.formats import content
from mnist_adv.models.formats.registry import FORMATS, find_format

NAMES = ("model.h5", "model.keras", "model.npz", "model.ckpt", "model", "model.bin")


def _zip(path: pathlib.Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")


def _field(number: int, value: bytes | int) -> bytes:
    """Write a field of a protobuf message, shorter than 128 bytes."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    key = number << 3 | 2
    return bytes([key] if key < 128 else [key & 127 | 128, key >> 7]) + bytes([len(value)]) + value


def _graph() -> Any:
    with tf.Graph().as_default() as graph:
        tf.constant(1.0)
        return graph.as_graph_def()


def _checkpoint(path: pathlib.Path) -> None:
    tf.raw_ops.Save(filename=str(path), tensor_names=["W"], data=[tf.ones([2])])


def _onnx(path: pathlib.Path) -> None:
    path.write_bytes(
        _field(1, 7) + _field(2, b"pytorch") + _field(3, b"2.1") + _field(7, b"\x0a\4node")
    )


def _tar(path: pathlib.Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "model.h5")


def _hdf5_after_a_user_block(path: pathlib.Path) -> None:
    h5py.File(path, "w", userblock_size=512).close()


def _bytes(data: bytes) -> Any:
    return lambda path: path.write_bytes(data)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12345\n"
LEGACY_TORCH = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + pickle.dumps(1001, protocol=2)

# How to write a file, its kind, and a part of its refusal; None: it is read.
KINDS: dict[str, tuple[Any, str, str | None]] = {
    "nothing": (_bytes(b""), "empty", "is empty (0 bytes)"),
    "pointer": (_bytes(POINTER), "git_lfs", "git lfs pull fetches it"),
    "page": (_bytes(b"\n<!DOCTYPE html><html>"), "html", "the download returned a web page"),
    "page without type": (_bytes(b"\xef\xbb\xbf<HTML lang='en'>"), "html", "web page"),
    "pickle": (_bytes(pickle.dumps({"W": [1.0]})), "pickle", "never loaded"),
    "pickle of Python 2": (_bytes(pickle.dumps({"W": [1.0]}, 0)), "pickle", "never loaded"),
    "torch": (
        lambda path: _zip(path, "archive/data.pkl", "archive/version"),
        "torch",
        "export it to ONNX",
    ),
    "torch before 1.6": (_bytes(LEGACY_TORCH), "torch", "export it to ONNX"),
    "zip": (lambda path: _zip(path, "photo.jpg"), "zip", "is a zip archive: unpack it"),
    "zipped SavedModel": (
        lambda path: _zip(path, "net/saved_model.pb", "net/variables/variables.index"),
        "saved_model_zip",
        "unpack it, and name the folder",
    ),
    "gzip": (_bytes(gzip.compress(b"abc")), "compressed", "unpack it"),
    "tar": (_tar, "tar", "unpack it"),
    "picture": (lambda p: Image.new("L", (28, 28)).save(p, "png"), "picture", "by --image"),
    "IDX": (_bytes(b"\0\0\x08\3\0\0\x27\x10"), "idx", "images or labels"),
    "TFLite": (_bytes(b"\x1c\0\0\0TFL3\0\0\0\0"), "tflite", "converted from"),
    "safetensors": (_bytes(b"\2\0\0\0\0\0\0\0{}"), "safetensors", "safetensors.numpy.load_file"),
    "ONNX": (_onnx, "onnx", None),
    "saved_model.pb": (
        _bytes(_field(1, 1) + _field(2, b"\x0a\4meta")),
        "saved_model_graph",
        "name its folder",
    ),
    "frozen graph": (
        lambda path: path.write_bytes(_graph().SerializeToString()),
        "frozen_graph",
        "is a frozen TensorFlow graph",
    ),
    "Caffe": (
        _bytes(_field(1, b"LeNet") + _field(100, _field(1, b"data") + _field(2, b"Input"))),
        "caffe",
        "is a Caffe model",
    ),
    "architecture": (
        _bytes(json.dumps({"class_name": "Sequential", "config": []}).encode()),
        "keras_json",
        "without their weights",
    ),
    "JSON": (_bytes(b'{"W": [[1, 2]]}'), "json", "is JSON"),
    "table": (_bytes(b"0.5,-1e-3,2\n1,2,3\n"), "table", "numpy.loadtxt"),
    "text": (_bytes("Modell für Ziffern\n".encode()), "text", "is text"),
    "checkpoint of TF1": (_checkpoint, "checkpoint_table", None),
    "HDF5": (lambda path: h5py.File(path, "w").close(), "hdf5", None),
    "HDF5 after a block": (_hdf5_after_a_user_block, "hdf5", None),
    "keras": (lambda path: _zip(path, "metadata.json", "config.json"), "keras", None),
    "npz": (lambda path: _zip(path, "W.npy", "b.npy"), "npz", None),
}


@pytest.mark.parametrize("what", KINDS)
def test_the_content_decides_whatever_the_name(tmp_path: pathlib.Path, what: str) -> None:
    write, name, message = KINDS[what]
    written = tmp_path / "written"
    write(written)
    data = written.read_bytes()
    for each in NAMES:
        path = tmp_path / each
        path.write_bytes(data)
        kind = content.identify(path)
        assert kind is not None and kind.name == name
        if message is None:
            assert name in find_format(str(path)).kinds
            continue
        with pytest.raises(ValueError) as caught:
            find_format(str(path))
        said = str(caught.value)
        assert said.startswith(f"{path} is ") and message in said and "\n" not in said
        assert "damaged" not in said


def test_an_unknown_content_goes_to_the_format_that_the_name_says(tmp_path: pathlib.Path) -> None:
    noise = np.random.default_rng(0).bytes(1000)
    for name, expected in {
        "a.h5": "hdf5",
        "a.hdf5": "hdf5",
        "a.keras": "keras",
        "a.npz": "npz",
        "a.ckpt": "tf1",
        "a.ckpt-20": "tf1",
        "a.data-00000-of-00001": "tf1",
    }.items():
        (tmp_path / name).write_bytes(noise)
        assert find_format(str(tmp_path / name)).name == expected
    (tmp_path / "a.xyz").write_bytes(noise)
    with pytest.raises(ValueError, match=r"of no kind of model that is known \(its bytes begin"):
        find_format(str(tmp_path / "a.xyz"))


def test_an_archive_that_is_cut_short_keeps_its_kind(tmp_path: pathlib.Path) -> None:
    _zip(tmp_path / "whole", "metadata.json", "config.json", "model.weights.h5")
    (tmp_path / "model.h5").write_bytes((tmp_path / "whole").read_bytes()[:80])
    assert find_format(str(tmp_path / "model.h5")).name == "keras"


def test_every_kind_that_a_format_names_is_known() -> None:
    known = {kind.name for kind in content.KINDS}
    assert len(known) == len(content.KINDS)
    assert {name for row in FORMATS.values() for name in row.kinds} <= known


def _no_model(folder: pathlib.Path) -> str:
    with pytest.raises(FileNotFoundError) as caught:
        find_format(str(folder))
    return str(caught.value)


def test_a_folder_says_what_it_holds(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    assert _no_model(folder) == f"{folder} is an empty folder"
    for name in "abcdefg":
        (folder / f"{name}.txt").write_text("words")
    assert _no_model(folder) == (
        f"{folder} holds no model, but a.txt, b.txt, c.txt, d.txt, e.txt and 2 more"
    )
    h5py.File(folder / "net.h5", "w").close()
    assert _no_model(folder) == (
        f"{folder} is a folder that holds one model; name it: {folder / 'net.h5'}"
    )
    (folder / "1").mkdir()
    (folder / "1" / "saved_model.pb").touch()
    assert _no_model(folder) == f"{folder} holds several models; name one of them: 1, net.h5"


@pytest.mark.slow
def test_parts_of_a_checkpoint_are_looked_at(tmp_path: pathlib.Path) -> None:
    from mnist_adv.models.formats.tf1 import find_prefix

    prefix = tmp_path / "model.ckpt"
    tf.raw_ops.SaveV2(
        prefix=str(prefix), tensor_names=["W"], shape_and_slices=[""], tensors=[tf.ones([2])]
    )
    assert find_prefix(prefix) == str(prefix)
    for part in (".index", ".data-00000-of-00001"):
        file = pathlib.Path(f"{prefix}{part}")
        intact = file.read_bytes()
        file.write_bytes(POINTER)
        with pytest.raises(ValueError, match="is a Git LFS pointer") as caught:
            find_prefix(prefix)
        assert str(caught.value).startswith(f"{file} is")
        file.write_bytes(intact)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/far/away/model.ckpt-7"\n')
    with pytest.raises(FileNotFoundError, match=r"no file .*model\.ckpt-7\.index, which .* names"):
        find_prefix(tmp_path)
    with pytest.raises(ValueError, match="is the list of a folder's checkpoints: name the folder"):
        find_format(str(tmp_path / "checkpoint"))
