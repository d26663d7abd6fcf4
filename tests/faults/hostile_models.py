"""Models that want to run code, open files, take all memory or never end."""

from __future__ import annotations

import functools
import gzip
import io
import json
import marshal
import pathlib
import pickle
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import h5py
import keras
import numpy as np
import onnx
import tensorflow as tf
from onnx import helper
from tensorflow.core.protobuf import saved_model_pb2

from mnist_adv.data.handwriting import read_digit
from mnist_adv.data.idx import read_idx
from mnist_adv.models.formats.open import open_model
from tests.faults.campaign import Campaign, Ended, Outcome
from tests.faults.watch import watching
from tests.models.formats.checkpoint_table import write_index

_SECONDS, _MEGABYTES, _ADDRESSES = 60, 1500, 8 * 2**30
_FLAT = tf.TensorSpec([None, 784])
# What a hostile file touches: the canary, of which it is told the folder.
Make = Callable[[pathlib.Path, pathlib.Path], pathlib.Path]
Outputs = Callable[[Any, pathlib.Path], Any]


@functools.cache
def _weights() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, (784, 10)).astype(np.float32)


@functools.cache
def _images() -> np.ndarray:
    return np.random.default_rng(1).random((8, 28, 28, 1), np.float32)


def _logits(images: Any) -> Any:
    return images @ _weights()


def _scalar(dataset: Any) -> Any:
    return tf.cast(tf.reduce_sum(dataset.batch(9).get_single_element()), tf.float32)


def _text(dataset: Any) -> Any:
    return tf.strings.length(dataset.batch(10**6).get_single_element()[0])


def _file_writer(images: Any, folder: pathlib.Path) -> Any:
    writer = tf.raw_ops.SummaryWriter(shared_name="w", container="")
    made = tf.raw_ops.CreateSummaryFileWriter(
        writer=writer, logdir=str(folder), max_queue=1, flush_millis=1, filename_suffix=".v2"
    )
    with tf.control_dependencies([made]):
        return _logits(images) + tf.zeros([])


def _print(images: Any, folder: pathlib.Path) -> Any:
    tf.print(images, output_stream=f"file://{folder}/printed")
    return _logits(images)


def _write(images: Any, folder: pathlib.Path) -> Any:
    tf.io.write_file(f"{folder}/written", "here")
    return _logits(images)


def _save_tensor(images: Any, folder: pathlib.Path) -> Any:
    tf.raw_ops.SaveV2(
        prefix=f"{folder}/saved", tensor_names=["a"], shape_and_slices=[""], tensors=[images]
    )
    return _logits(images)


def _inner(images: Any, folder: pathlib.Path) -> Any:
    return tf.function(tf.function(lambda: _write(images, folder)))()


def _branch(images: Any, folder: pathlib.Path) -> Any:
    return tf.cond(
        tf.reduce_sum(images) > 1e9,
        lambda: _logits(images) + _scalar(tf.data.Dataset.range(3).cache(f"{folder}/cache")),
        lambda: _logits(images),
    )


def _queue(images: Any, folder: pathlib.Path) -> Any:
    queue = tf.raw_ops.FIFOQueueV2(component_types=[tf.float32], shapes=[[]], shared_name="q")
    (waited,) = tf.raw_ops.QueueDequeueV2(handle=queue, component_types=[tf.float32])
    return _logits(images) + waited


def _endless(images: Any, folder: pathlib.Path) -> Any:
    return tf.while_loop(lambda x: tf.constant(True), lambda x: (x + 1,), [_logits(images)])[0]


def _python(images: Any, folder: pathlib.Path) -> Any:
    def run(values: Any) -> Any:
        (folder / "ran").touch()
        return values

    return _logits(tf.ensure_shape(tf.py_function(run, [images], tf.float32), [None, 784]))


def _words(images: Any, folder: pathlib.Path) -> Any:
    table = tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64, shared_name="t")
    filled = tf.raw_ops.InitializeTableFromTextFileV2(
        table_handle=table, filename=f"{folder}/secret", key_index=-2, value_index=-1
    )
    with tf.control_dependencies([filled]):
        found = tf.raw_ops.LookupTableFindV2(
            table_handle=table, keys=["a"], default_value=tf.constant(0, tf.int64)
        )
    return _logits(images) + tf.cast(found, tf.float32)


_DATA = tf.data.Dataset
# Each after the operation that must be named.
_GRAPHS: dict[str, Outputs] = {
    "CacheDataset": lambda x, f: _logits(x) + _scalar(_DATA.range(3).cache(f"{f}/cache")),
    "SnapshotDataset": lambda x, f: _logits(x) + _scalar(_DATA.range(3).snapshot(f"{f}/snapshot")),
    "FlatMapDataset, over lines": lambda x, f: (
        _logits(x) + tf.cast(_text(tf.data.TextLineDataset(f"{f}/secret")), tf.float32)
    ),
    "FlatMapDataset, over bytes": lambda x, f: (
        _logits(x) + tf.cast(_text(tf.data.FixedLengthRecordDataset(f"{f}/secret", 1)), tf.float32)
    ),
    "FlatMapDataset, over records": lambda x, f: (
        _logits(x) + tf.cast(_text(tf.data.TFRecordDataset(f"{f}/secret")), tf.float32)
    ),
    "CreateSummaryFileWriter": _file_writer,
    "DebugIdentityV2": lambda x, f: tf.raw_ops.DebugIdentityV2(
        input=_logits(x), tensor_debug_mode=2, debug_urls=[f"file://{f}/debug"]
    ),
    "DebugIdentityV3": lambda x, f: tf.raw_ops.DebugIdentityV3(
        input=_logits(x), debug_urls=[f"file://{f}/debug"]
    ),
    "RestoreV2": lambda x, f: (
        x
        @ tf.raw_ops.RestoreV2(
            prefix=f"{f}/other", tensor_names=["W"], shape_and_slices=[""], dtypes=[tf.float32]
        )[0]
    ),
    "Restore": lambda x, f: (
        x @ tf.raw_ops.Restore(file_pattern=f"{f}/other", tensor_name="W", dt=tf.float32)
    ),
    "ImmutableConst": lambda x, f: (
        x
        @ tf.raw_ops.ImmutableConst(
            dtype=tf.float32, shape=[784, 10], memory_region_name=f"{f}/secret"
        )
    ),
    "WriteFile": _write,
    "ReadFile": lambda x, f: (
        _logits(x) + tf.cast(tf.strings.length(tf.io.read_file(f"{f}/secret")), tf.float32)
    ),
    "MatchingFiles": lambda x, f: (
        _logits(x) + tf.cast(tf.size(tf.io.matching_files(f"{f}/*")), tf.float32)
    ),
    "SaveV2": _save_tensor,
    "PrintV2": _print,
    "PyFunc": _python,
    "InitializeTableFromTextFile": _words,
    "QueueDequeue": _queue,
    "While": _endless,
    "WriteFile, two functions deep": _inner,
    "chooses by Greater": _branch,
    "numbers for a tensor of two images": lambda x, f: (
        _logits(x) + tf.reduce_sum(tf.fill([10**5, 10**5], x[0, 0]))
    ),
    "for Range": lambda x, f: (
        _logits(x)
        + tf.reduce_sum(tf.cast(tf.raw_ops.Range(start=0, limit=10**9, delta=1), tf.float32))
    ),
    "for Tile": lambda x, f: _logits(x) + tf.reduce_sum(tf.tile(x, [1, 10**6])),
    "for Pad": lambda x, f: _logits(x) + tf.reduce_sum(tf.pad(x, [[0, 0], [10**9, 0]])),
    "for OneHot": lambda x, f: _logits(x) + tf.reduce_sum(tf.one_hot(tf.cast(x, tf.int32), 10**9)),
    "at most 4,096 parts": lambda x, f: (
        _logits(x) + tf.raw_ops.Unpack(value=tf.fill([10**5], x[0, 0]), num=10**5)[7]
    ),
    "multiplications": lambda x, f: (
        _logits(x)
        + tf.reduce_sum(
            tf.nn.conv2d(
                tf.fill([1, 2000, 2000, 1], x[0, 0]),
                tf.fill([1500, 1500, 1, 1], x[0, 1]),
                1,
                "SAME",
            )
        )
    ),
    "shape depends on the values": lambda x, f: (
        _logits(x) + tf.reduce_sum(tf.zeros(tf.cast(1e12 * x[0, 0], tf.int64)))
    ),
}


def _saved(outputs: Outputs, work: pathlib.Path, canary: pathlib.Path) -> pathlib.Path:
    module = tf.Module()

    @tf.function(input_signature=[_FLAT], autograph=False)
    def serve(images: Any) -> Any:
        return {"outputs": tf.ensure_shape(outputs(images, canary), [None, 10])}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tf.saved_model.save(module, str(work / "saved"), signatures=serve)
    return work / "saved"


class _Resource(tf.saved_model.experimental.TrackableResource):
    """A resource whose initializer, which TensorFlow runs when it loads, writes a file."""

    def __init__(self, folder: pathlib.Path) -> None:
        super().__init__()
        self._folder = folder

    def _create_resource(self) -> Any:
        return tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[])

    def _initialize(self) -> None:
        tf.io.write_file(f"{self._folder}/initialized", "here")

    def _destroy_resource(self) -> None:
        tf.io.write_file(f"{self._folder}/destroyed", "here")


def _initializer(work: pathlib.Path, canary: pathlib.Path) -> pathlib.Path:
    module = tf.Module()
    module.resource = _Resource(canary)

    @tf.function(input_signature=[_FLAT], autograph=False)
    def serve(images: Any) -> Any:
        return {"outputs": _logits(images)}

    module.serve = serve
    # Keeping the resource from being made here, where its initializer would run.
    tf.saved_model.save(module, str(work / "saved"), signatures=serve)
    return work / "saved"


def _edited(
    change: Callable[[Any], None], work: pathlib.Path, canary: pathlib.Path
) -> pathlib.Path:
    """Write a graph that TensorFlow would not."""
    folder = _saved(lambda images, _: _logits(images) + tf.constant(1.0, shape=[10]), work, canary)
    file = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    change(saved.meta_graphs[0])
    file.write_bytes(saved.SerializeToString())
    (folder / "fingerprint.pb").unlink()
    return folder


def _many_calls(graph: Any) -> None:
    """Call a function that calls another twice, which calls another twice, ..."""
    library = graph.graph_def.library.function
    for function in library:
        for node in function.node_def:
            if node.op.startswith("Add"):
                call = function.node_def.add(name="many", op="PartitionedCall")
                call.input.append(node.input[0])
                node.input[0] = "many:output:0"
                _set_call(call, "twice39")
    for depth in range(40):
        made = library.add()
        made.signature.name = f"twice{depth}"
        made.signature.input_arg.add(name="x", type=1)
        made.signature.output_arg.add(name="y", type=1)
        for name in ("a", "b"):
            call = made.node_def.add(name=name, op="PartitionedCall" if depth else "Identity")
            call.input.append("x")
            _set_call(call, f"twice{depth - 1}")
        total = made.node_def.add(name="total", op="AddV2")
        total.input.extend(["a:output:0", "b:output:0"])
        total.attr["T"].type = 1
        made.ret["y"] = "total:z:0"


def _set_call(node: Any, name: str) -> None:
    if node.op == "Identity":
        node.attr["T"].type = 1
        return
    node.attr["f"].func.name = name
    node.attr["Tin"].list.type.append(1)
    node.attr["Tout"].list.type.append(1)


def _self_call(graph: Any) -> None:
    for function in graph.graph_def.library.function:
        for node in function.node_def:
            if node.op.endswith("PartitionedCall"):
                node.attr["f"].func.name = function.signature.name


def _huge_constant(graph: Any) -> None:
    for function in graph.graph_def.library.function:
        for node in function.node_def:
            if node.op == "Const" and node.attr["value"].tensor.dtype == 1:
                node.attr["value"].tensor.tensor_shape.dim[0].size = 2**40


def _circle(graph: Any) -> None:
    for function in graph.graph_def.library.function:
        for node in function.node_def:
            if node.op.startswith("Add"):
                node.input[0] = f"{node.name}:z:0"


def _custom_operation(graph: Any) -> None:
    for function in graph.graph_def.library.function:
        for node in function.node_def:
            if node.op.startswith("Add"):
                node.op = "Explode\x1b[31m"


def _keras(change: Callable[[Any], None], work: pathlib.Path, canary: pathlib.Path) -> pathlib.Path:
    """Write a `.keras` whose config was changed."""
    path, changed = work / "plain.keras", work / "my.keras"
    keras.Sequential([keras.Input((784,)), keras.layers.Dense(10)]).save(path)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                change(config)
                content = json.dumps(config).replace("CANARY", str(canary)).encode()
            new.writestr(name, content)
    return changed


def _last(**change: Any) -> Callable[[Any], None]:
    """Change the description of the last layer."""
    return lambda config: config["config"]["layers"][-1].update(change)


def _setting(**change: Any) -> Callable[[Any], None]:
    """Change the settings of the last layer."""
    return lambda config: config["config"]["layers"][-1]["config"].update(change)


def _bytecode() -> str:
    code = compile("lambda x: open('CANARY/ran', 'w') and x", "", "eval").co_consts[0]
    return marshal.dumps(code).hex()


def _twice(config: Any) -> None:
    inner = json.loads(json.dumps(config))
    for depth in range(40):
        inner = {
            "module": "keras.src.models.functional",
            "class_name": "Functional",
            "name": f"m{depth}",
            "inbound_nodes": [{"args": [], "kwargs": {}}] * 2,
            "config": {"name": f"m{depth}", "layers": [inner]},
        }
    config.clear()
    config.update(inner)


def _deep(work: pathlib.Path, canary: pathlib.Path) -> pathlib.Path:
    """Put models in models until no parser follows."""
    path = _keras(lambda config: None, work, canary)
    with zipfile.ZipFile(path) as archive:
        weights = archive.read("model.weights.h5")
    opening, closing = '{"class_name": "Sequential", "config": {"layers": [', "]}}"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", opening * 5000 + closing * 5000)
        archive.writestr("model.weights.h5", weights)
    return path


def _keras_weights(
    change: Callable[[Any, pathlib.Path], None], work: pathlib.Path, canary: pathlib.Path
) -> pathlib.Path:
    """Write a `.keras` whose arrays lie elsewhere."""
    path = _keras(lambda config: None, work, canary)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    stored = work / "weights.h5"
    stored.write_bytes(entries["model.weights.h5"])
    with h5py.File(stored, "a") as file:
        change(file, canary)
    entries["model.weights.h5"] = stored.read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def _link(file: Any, canary: pathlib.Path) -> None:
    del file["layers/dense/vars/0"]
    file["layers/dense/vars/0"] = h5py.ExternalLink(str(canary / "other.h5"), "W")


def _stored_elsewhere(file: Any, canary: pathlib.Path) -> None:
    del file["layers/dense/vars/0"]
    file.create_dataset(
        "layers/dense/vars/0", (784, 10), "f4", external=[(str(canary / "secret"), 0, 31_360)]
    )


def _virtual(file: Any, canary: pathlib.Path) -> None:
    del file["layers/dense/vars/0"]
    layout = h5py.VirtualLayout((784, 10), "f4")
    layout[:] = h5py.VirtualSource(str(canary / "other.h5"), "W", (784, 10))
    file.create_virtual_dataset("layers/dense/vars/0", layout)


def _hdf5(layer: Any, work: pathlib.Path, canary: pathlib.Path) -> pathlib.Path:
    path = work / "my.h5"
    settings = {"name": "dense", "units": 10, "batch_input_shape": [None, 784]}
    dense = {"class_name": "Dense", "config": settings}
    config = {"class_name": "Sequential", "config": {"name": "s", "layers": [dense, layer]}}
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config).replace("CANARY", str(canary))
        file.attrs["keras_version"] = "2.3.1"
        group = file.create_group("model_weights/dense")
        group.parent.attrs["layer_names"] = [b"dense"]
        group.attrs["weight_names"] = [b"kernel", b"bias"]
        group["kernel"], group["bias"] = _weights(), np.zeros(10, np.float32)
    return path


def _onnx(
    nodes: list[Any], arrays: list[Any], work: pathlib.Path, canary: pathlib.Path
) -> pathlib.Path:
    images = helper.make_tensor_value_info("x", 1, [None, 1, 28, 28])
    outputs = helper.make_tensor_value_info("y", 1, [None, 10])
    graph = helper.make_graph(nodes, "graph", [images], [outputs], arrays)
    path = work / "my.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


def _external(work: pathlib.Path, canary: pathlib.Path) -> pathlib.Path:
    array = onnx.TensorProto(name="W", data_type=1, dims=[784, 10], data_location=1)
    array.external_data.add(key="location", value=str(canary / "secret"))
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "W"], "y")]
    return _onnx(nodes, [array], work, canary)


def _sized(name: str, *lengths: int) -> Any:
    return helper.make_tensor(name, 7, [len(lengths)], lengths)


class _Explosive:
    """What runs code when a pickle of it is loaded."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return pathlib.Path.touch, (self._path,)


def _pickled_npz(work: pathlib.Path, canary: pathlib.Path) -> pathlib.Path:
    np.savez(work / "my.npz", W=np.array([_Explosive(canary / "ran")], object))
    return work / "my.npz"


def _pickled_npy(work: pathlib.Path, canary: pathlib.Path) -> pathlib.Path:
    np.save(work / "my.npy", np.array([_Explosive(canary / "ran")], object), allow_pickle=True)
    return work / "my.npy"


def _pickle(work: pathlib.Path, canary: pathlib.Path) -> pathlib.Path:
    (work / "my.npz").write_bytes(pickle.dumps(_Explosive(canary / "ran")))
    return work / "my.npz"


def _header(*shape: int) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    return stream.getvalue()


def _npz(members: dict[str, bytes], work: pathlib.Path, canary: pathlib.Path) -> pathlib.Path:
    with zipfile.ZipFile(work / "my.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("CANARY", str(canary)), content)
    return work / "my.npz"


def _climbing(work: pathlib.Path, canary: pathlib.Path) -> pathlib.Path:
    """Name a member of an archive by a path that leads out of it."""
    members = {"CANARY/W.npy": _header(784, 10) + _weights().tobytes()}
    return _npz(members, work, canary)


def _npy(content: bytes, work: pathlib.Path, canary: pathlib.Path) -> pathlib.Path:
    (work / "my.npy").write_bytes(content)
    return work / "my.npy"


def _checkpoint(work: pathlib.Path, canary: pathlib.Path) -> pathlib.Path:
    (work / "my.ckpt.data-00000-of-00001").write_bytes(bytes(1000))
    write_index(work / "my.ckpt.index", {"W": (784, 2**31), "b": (2**31,)}, 1000)
    return work / "my.ckpt"


def _picture(work: pathlib.Path, canary: pathlib.Path) -> pathlib.Path:
    parts = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">2L5B", 30_000, 30_000, 8, 2, 0, 0, 0)
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(10**6))), (b"IEND", b"")):
        parts += struct.pack(">L", len(data)) + kind + data
        parts += struct.pack(">L", zlib.crc32(kind + data))
    (work / "my.png").write_bytes(parts)
    return work / "my.png"


def _packed_digits(work: pathlib.Path, canary: pathlib.Path) -> pathlib.Path:
    header = struct.pack(">4B3I", 0, 0, 8, 3, 500_000, 28, 28)
    packer = zlib.compressobj(9, wbits=31)
    parts = [packer.compress(header)]
    parts += [packer.compress(bytes(784 * 5000)) for _ in range(100)]
    (work / "my.gz").write_bytes(b"".join([*parts, packer.flush()]))
    return work / "my.gz"


def _archive(work: pathlib.Path, canary: pathlib.Path) -> pathlib.Path:
    with tarfile.open(work / "my.tar", "w") as archive:
        archive.add(canary / "secret", "../saved_model.pb")
    return work / "my.tar"


def _packed_pickle(work: pathlib.Path, canary: pathlib.Path) -> pathlib.Path:
    content = gzip.compress(pickle.dumps(_Explosive(canary / "ran")))
    (work / "my.keras").write_bytes(content)
    return work / "my.keras"


_LAMBDA = {"class_name": "Lambda", "config": {"name": "l", "function": [_bytecode(), None, None]}}
_MEAN = helper.make_node("ReduceMean", ["q"], ["y"], keepdims=0)
# How each is made, and what its refusal must say.
_MODELS: list[tuple[Make, str]] = [
    *(
        (functools.partial(_saved, outputs), name.partition(",")[0])
        for name, outputs in _GRAPHS.items()
    ),
    (functools.partial(_edited, _self_call), "at most 100 deep"),
    (functools.partial(_edited, _many_calls), "500,000 steps"),
    (functools.partial(_edited, _huge_constant), "for Const"),
    (functools.partial(_edited, _circle), "depends on itself"),
    (functools.partial(_edited, _custom_operation), r"Explode\x1b[31m"),
    *(
        (functools.partial(_keras, change), message)
        for change, message in (
            (_last(class_name="Lambda"), "Lambda"),
            (_last(module="keras", class_name="layers.Lambda"), "layers.Lambda"),
            (_last(module="keras", class_name="layers.TFSMLayer"), "layers.TFSMLayer"),
            (_last(class_name="TFSMLayer", config={"filepath": "CANARY"}), "TFSMLayer"),
            (
                _last(class_name="TextVectorization", config={"vocabulary": "CANARY/secret"}),
                "TextVectorization",
            ),
            (_last(module="keras.utils", class_name="get_file"), "get_file"),
            (_last(module="os", class_name="system"), "system of os"),
            (_last(module="keras.src.ops.core", class_name="Map"), "Map"),
            (_setting(units=10**9), "asks for weights"),
            (_setting(kernel_initializer={"class_name": "__lambda__"}), "__lambda__"),
            (
                _setting(activation={"module": "os", "class_name": "function", "config": "abort"}),
                "function of os",
            ),
            (_twice, "at most 30,000 parts"),
        )
    ),
    (_deep, "config.json"),
    (functools.partial(_keras_weights, _link), "link"),
    (functools.partial(_keras_weights, _stored_elsewhere), "another file"),
    (functools.partial(_keras_weights, _virtual), "another file"),
    (functools.partial(_hdf5, _LAMBDA), "Lambda"),
    (functools.partial(_hdf5, {"class_name": "os.system", "config": {"name": "ls"}}), "os.system"),
    (_external, "another file"),
    (functools.partial(_onnx, [helper.make_node("Loop", ["x"], ["y"])], []), "Loop"),
    (
        functools.partial(_onnx, [helper.make_node("PythonOp", ["x"], ["y"], domain="a")], []),
        "Pyth",
    ),
    (
        functools.partial(
            _onnx,
            [helper.make_node("Expand", ["x", "s"], ["q"]), _MEAN],
            [_sized("s", 10**6, 1, 1, 28, 28)],
        ),
        "numbers for one image",
    ),
    (_pickled_npz, "pickled"),
    (_pickled_npy, "pickled"),
    (_pickle, "pickle"),
    (functools.partial(_npz, {"W.npy": _header(10**8) + bytes(4 * 10**8)}), "asks for"),
    (functools.partial(_npz, {"W.npy": _header(2**50) + bytes(80)}), "asks for"),
    (functools.partial(_npy, _header(2**50) + bytes(80)), "damaged"),
    (_checkpoint, "asks for"),
    (_picture, "pixels"),
    (_packed_digits, "asks for"),
    (_archive, "tar"),
    (_packed_pickle, "compressed"),
    # Their hostile part is nowhere on the way to the outputs: it is not read.
    (_initializer, ""),
    (_climbing, ""),
]


def _open(path: pathlib.Path) -> Any:
    if path.suffix == ".png":
        return read_digit(path)
    if path.suffix == ".gz":
        return read_idx(path)
    return open_model(path, images=_images()).model(_images())


def _prepare(made: pathlib.Path) -> None:
    (made / "secret").write_bytes(_weights().tobytes())
    tf.raw_ops.SaveV2(
        prefix=str(made / "other"),
        tensor_names=["W"],
        shape_and_slices=[""],
        tensors=[tf.constant(_weights())],
    )
    with h5py.File(made / "other.h5", "w") as file:
        file["W"] = _weights()


def _trial(number: int, made: pathlib.Path, work: pathlib.Path) -> Ended:
    # The first few are of all kinds.
    make, message = _MODELS[37 * number % len(_MODELS)]
    path = make(work, made)
    said, outputs = "", np.zeros([])
    with watching(made, _ADDRESSES) as seen, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            outputs = _open(path)
        except (ValueError, OSError) as error:
            said = str(error)
        except Exception as error:
            return Ended(Outcome.TRACEBACK, f"{path.name}: {type(error).__name__}: {error}")
    if seen.touched:
        return Ended(Outcome.SILENT, f"{message}: opened a file that is not its own")
    if seen.seconds > _SECONDS or seen.megabytes > _MEGABYTES:
        took = f"{seen.seconds:.0f} s and {seen.megabytes:.0f} MB"
        return Ended(Outcome.CRASHED, f"{message}: took {took}")
    if not said:
        expected = _logits(_images().reshape(-1, 784))
        same = message == "" and np.allclose(outputs, expected, atol=1e-4)
        return Ended(Outcome.UNHARMED if same else Outcome.SILENT, f"{message}: was opened")
    names_it = bool(message) and message in said and "\n" not in said and str(path) in said
    return Ended(Outcome.REFUSED if names_it else Outcome.SILENT, f"{message}: {said[:300]}")


CAMPAIGN = Campaign(
    name="hostile models",
    promise="Nothing in a file is run, no other file is opened, and memory and time are bounded.",
    count=len(_MODELS),
    prepare=_prepare,
    trial=_trial,
    quick=6,
)
