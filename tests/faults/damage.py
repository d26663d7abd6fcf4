"""Files that a disk, a copy or a download damaged: of every kind that is read."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import pathlib
import shutil
import struct
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from onnx import helper, numpy_helper
from PIL import Image

import mnist_adv
from mnist_adv.data.handwriting import read_digit
from mnist_adv.data.idx import read_idx
from mnist_adv.data.pictures import read_levels
from mnist_adv.evaluation.load_result import load_result
from mnist_adv.evaluation.measure.store import Store, pack
from mnist_adv.evaluation.plan import Plan
from mnist_adv.models.checkpoints import Saver
from mnist_adv.models.linear import LinearModel
from mnist_adv.models.softmax_regression import SoftmaxRegression
from tests.evaluation.support import SMALL
from tests.faults.campaign import Campaign, Ended, Outcome

_LAYERS = {"W1": (784, 8), "b1": (8,), "W2": (8, 6), "b2": (6,), "W3": (6, 10), "b3": (10,)}
_LARGEST_BLOCK = 4096
_EDGE = 600  # bytes at either end of a file, where its structure stands


@dataclasses.dataclass(frozen=True)
class Artefact:
    """What is damaged.

    Attributes:
        name: of its kind.
        make: fills an empty folder.
        read: the folder -> all that is read of it.
        untold: files of which the format cannot tell whether they are damaged, by their suffix;
            docs/reliability.md says why.
    """

    name: str
    make: Callable[[pathlib.Path], Any]
    read: Callable[[pathlib.Path], Any]
    untold: tuple[str, ...] = ()


@functools.cache
def _weights() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(0, 0.3, one).astype(np.float32) for name, one in _LAYERS.items()}


@functools.cache
def _images() -> np.ndarray:
    return np.random.default_rng(1).random((4, 28, 28, 1), np.float32)


@functools.cache
def _levels() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (28, 28), np.uint8)


def _opened(name: str, **settings: Any) -> Callable[[pathlib.Path], Any]:
    def read(folder: pathlib.Path) -> Any:
        opened = mnist_adv.open_model(folder / name, images=_images(), **settings)
        return np.asarray(opened.model(_images()))

    return read


def _checkpoint(folder: pathlib.Path) -> None:
    model = SoftmaxRegression(10)
    model.W.assign(np.random.default_rng(3).normal(0, 0.1, (784, 10)))
    model.b.assign(np.random.default_rng(4).normal(0, 0.1, 10))
    Saver(folder, model, {"model": {"num_classes": 10}}).save(epoch=1)


def _tf1(folder: pathlib.Path) -> None:
    np.savez(folder / "x.npz", **_weights())
    mnist_adv.convert(folder / "x.npz", folder / "x.ckpt", activation="relu")
    (folder / "x.npz").unlink()


def _v1(folder: pathlib.Path) -> None:
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        for name, array in _weights().items():
            v1.Variable(array, name=name, use_resource=False)
        saver = v1.train.Saver(write_version=v1.train.SaverDef.V1)
        session.run(v1.global_variables_initializer())
        saver.save(session, str(folder / "x.ckpt"), write_meta_graph=False, write_state=False)


def _npy(folder: pathlib.Path) -> None:
    for name, array in _weights().items():
        np.save(folder / f"{name}.npy", array)


def _net() -> Any:
    keras.utils.set_random_seed(0)
    return keras.Sequential([
        keras.Input((28, 28, 1)),
        keras.layers.Conv2D(2, 5, strides=4, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(10),
    ])


def _frozen(folder: pathlib.Path) -> None:
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 784], "x")
        y = tf.nn.relu(x @ _weights()["W1"]) @ _weights()["W2"]
        v1.saved_model.simple_save(session, str(folder / "saved"), {"x": x}, {"y": y})


def _onnx(folder: pathlib.Path) -> None:
    arrays = [numpy_helper.from_array(_weights()[name], name) for name in ("W1", "W2")]
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("MatMul", ["f", "W1"], ["g"]),
        helper.make_node("Relu", ["g"], ["h"]),
        helper.make_node("MatMul", ["h", "W2"], ["y"]),
    ]
    images = helper.make_tensor_value_info("x", 1, [None, 1, 28, 28])
    outputs = helper.make_tensor_value_info("y", 1, [None, 6])
    graph = helper.make_graph(nodes, "graph", [images], [outputs], arrays)
    (folder / "my.onnx").write_bytes(helper.make_model(graph).SerializeToString())


def _idx(folder: pathlib.Path) -> None:
    rng = np.random.default_rng(5)
    images = struct.pack(">4B3I", 0, 0, 8, 3, 20, 28, 28) + rng.bytes(20 * 784)
    labels = struct.pack(">4BI", 0, 0, 8, 1, 20) + rng.bytes(20)
    (folder / "images.gz").write_bytes(gzip.compress(images))
    (folder / "labels.gz").write_bytes(gzip.compress(labels))


def _png(folder: pathlib.Path) -> None:
    Image.fromarray(_levels()).save(folder / "my.png", optimize=True)


def _jpeg(folder: pathlib.Path) -> None:
    Image.fromarray(np.kron(_levels()[:8, :8], np.ones((12, 12), np.uint8))).save(folder / "my.jpg")


def _plan() -> Plan:
    return Plan(**{**SMALL, "num_images": 6})


def _evaluation(folder: pathlib.Path) -> None:
    plan = _plan()
    store = Store(folder / "mine", plan)
    for chunk in plan.chunks():
        rng = np.random.default_rng(chunk.number)
        arrays = {"lengths": rng.random((3, 40)), "success": rng.random(40) < 0.5}
        store.put(chunk, pack(arrays, plan.chunk_digest(chunk)))


def _read_evaluation(folder: pathlib.Path) -> Any:
    store = Store(folder / "mine", _plan())
    missing = store.missing()
    if missing:  # measured again, which is no result of the damaged file
        raise ValueError(f"{folder}: chunk {missing[0].number} is measured again")
    return list(store.read())


def _result(folder: pathlib.Path) -> None:
    W, b = np.random.default_rng(6).normal(0, 0.3, (784, 10)), np.zeros(10)
    result = mnist_adv.attack(LinearModel(W, b), _images(), targets=2, num_steps=3, epsilon=0.1)
    result.save(folder / "my.npz")


def _read_result(folder: pathlib.Path) -> Any:
    result = load_result(folder / "my.npz")
    return [result.images, result.adversarial, result.success, result.num_steps, result.epsilon]


ARTEFACTS: Sequence[Artefact] = (
    Artefact("our checkpoint", _checkpoint, _opened(".")),
    Artefact("TF1 checkpoint with its graph", _tf1, _opened("x.ckpt")),
    Artefact("TF1 checkpoint of one file (V1)", _v1, _opened("x.ckpt", activation="relu")),
    Artefact(
        ".npz",
        lambda folder: np.savez(folder / "x.npz", **_weights()),
        _opened("x.npz", activation="relu"),
    ),
    Artefact(".npy", _npy, _opened(".", activation="relu"), (".npy",)),
    Artefact(".keras", lambda folder: _net().save(folder / "my.keras"), _opened("my.keras")),
    Artefact("HDF5", lambda folder: _net().save(folder / "my.h5"), _opened("my.h5"), (".h5",)),
    Artefact(
        "SavedModel",
        lambda folder: _net().export(folder / "saved", verbose=False),
        _opened("saved"),
    ),
    Artefact("SavedModel of TF1, frozen", _frozen, _opened("saved"), (".pb",)),
    Artefact("ONNX", _onnx, _opened("my.onnx"), (".onnx",)),
    Artefact(
        "IDX",
        _idx,
        lambda folder: [read_idx(folder / f"{name}.gz") for name in ("images", "labels")],
    ),
    Artefact("PNG", _png, lambda folder: read_digit(folder / "my.png").levels),
    Artefact("JPEG", _jpeg, lambda folder: read_levels(folder / "my.jpg"), (".jpg",)),
    Artefact("chunks of an evaluation", _evaluation, _read_evaluation),
    Artefact("result of an attack", _result, _read_result),
)


def _flip(file: pathlib.Path, rng: np.random.Generator) -> str:
    content = bytearray(file.read_bytes())
    # Half of the flips hit what says how the rest is to be read.
    last = len(content) - 1
    place = int(rng.integers(len(content)))
    if rng.random() < 0.5:
        place = min(place % (2 * _EDGE), last)
        place = last - place // 2 if place % 2 else place // 2
    bit = int(rng.integers(8))
    content[place] ^= 1 << bit
    file.write_bytes(content)
    return f"bit {bit} of byte {place} of {len(content)}"


def _cut(file: pathlib.Path, rng: np.random.Generator) -> str:
    content = file.read_bytes()
    length = int(rng.integers(1, len(content)))
    file.write_bytes(content[:length])
    return f"cut to {length} of {len(content)} bytes"


def _overwrite(file: pathlib.Path, rng: np.random.Generator) -> str:
    kind = int(rng.integers(4))
    if kind == 0:
        file.write_bytes(b"")
        return "empty"
    if kind == 1:
        file.unlink()
        file.mkdir()
        return "a folder in its place"
    content = bytearray(file.read_bytes())
    start = int(rng.integers(len(content)))
    length = min(int(rng.integers(1, _LARGEST_BLOCK)), len(content) - start)
    content[start : start + length] = bytes(length)
    file.write_bytes(content)
    return f"{length} zeros from byte {start} of {len(content)}"


def _prepare(made: pathlib.Path) -> None:
    for artefact in ARTEFACTS:
        (made / artefact.name).mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            artefact.make(made / artefact.name)


@functools.cache
def _undamaged(made: pathlib.Path, name: str) -> Any:
    artefact = next(artefact for artefact in ARTEFACTS if artefact.name == name)
    return artefact.read(made / name)


def _trial(
    harm: Callable[[pathlib.Path, np.random.Generator], str],
    seed: int,
    number: int,
    made: pathlib.Path,
    work: pathlib.Path,
) -> Ended:
    rng = np.random.default_rng([seed, number])
    artefact = ARTEFACTS[number % len(ARTEFACTS)]
    expected = _undamaged(made, artefact.name)
    folder = shutil.copytree(made / artefact.name, work / "copy")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    file = files[int(rng.integers(len(files)))]
    said = f"{artefact.name}, {file.name}: {harm(file, rng)}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = artefact.read(folder)
    except (ValueError, OSError) as error:
        clear = "\n" not in str(error) and str(folder) in str(error)
        return Ended(Outcome.REFUSED if clear else Outcome.TRACEBACK, f"{said}: {error}")
    except Exception as error:
        return Ended(Outcome.TRACEBACK, f"{said}: {type(error).__name__}: {error}")
    if _same(found, expected):
        return Ended(Outcome.UNHARMED, said)
    return Ended(Outcome.UNTOLD if file.suffix in artefact.untold else Outcome.SILENT, said)


def _same(found: Any, expected: Any) -> bool:
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(
            _same(found[key], expected[key]) for key in expected
        )
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(_same, found, expected))
    found, expected = np.asarray(found), np.asarray(expected)
    same_kind = (found.shape, found.dtype) == (expected.shape, expected.dtype)
    return bool(same_kind and found.tobytes() == expected.tobytes())


_PROMISE = "A damaged file is refused by its name, or gives what the undamaged one gives."
CAMPAIGNS = (
    Campaign("bit flips", _PROMISE, 1500, _prepare, functools.partial(_trial, _flip, 1), quick=30),
    Campaign("truncations", _PROMISE, 300, _prepare, functools.partial(_trial, _cut, 2), quick=15),
    Campaign(
        "zeroed blocks, empty files, folders for files",
        _PROMISE,
        300,
        _prepare,
        functools.partial(_trial, _overwrite, 3),
        quick=15,
    ),
)
