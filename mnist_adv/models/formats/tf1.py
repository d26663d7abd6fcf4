"""Read checkpoints that `tf.train.Saver` wrote, without a graph and without a session.

Both formats are read: V2 (`.index` and `.data-...`) and the single file of V1, with or without
`.meta`. Object-based TF2 checkpoints are named arrays too.
"""

from __future__ import annotations

import glob
import math
import os
import pathlib
import re
from typing import Any

import numpy as np

from mnist_adv.errors import first_line
from mnist_adv.models.activation import BY_OPERATOR, Activation
from mnist_adv.models.checkpoint_list import find_newest
from mnist_adv.models.formats import content
from mnist_adv.models.formats.arrays import NamedArrays, build
from mnist_adv.models.formats.registry import ReadRequest
from mnist_adv.models.formats.saved_graph import plain
from mnist_adv.models.loaded import LoadedModel
from mnist_adv.sizes import require_bytes
from mnist_adv.tensors.lazy import tf

_TF2_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
# What the readers raise for damaged files, by experiment: truncated data is an IndexError.
_DAMAGE = (tf.errors.OpError, RuntimeError, IndexError, ValueError, UnicodeDecodeError)

# An index is a table that begins with the entry of the empty key: a message whose first field is
# the number of shards.
_HEADER = re.compile(rb"\0\0[\x02-\x7f]\x08([\x80-\xff]{0,2}[\x01-\x7f])", re.DOTALL)

_LAYER_OPS = ("BiasAdd", "Add", "AddV2", "MatMul")
# Dropout multiplies or selects; none of these is a layer.
_PASSING_OPS = ("Identity", "Reshape", "Mul", "RealDiv", "Select", "SelectV2", "Cast")


def load(path: str, request: ReadRequest) -> LoadedModel:
    """Build the model whose weights a checkpoint holds.

    Args:
        path: a prefix, any one of its files, or a folder whose newest checkpoint is meant.
        request: how to read it.

    Returns:
        The model, and what was taken.

    Raises:
        FileNotFoundError: nothing there, or one of the files missing; it is named.
        ValueError: the checkpoint is damaged or ambiguous; see `build`.
    """
    return build(read(find_prefix(path)), request)


def find_prefix(path: str | os.PathLike[str]) -> str:
    """Find the checkpoint that a path means.

    Args:
        path: a prefix (`/tmp/model.ckpt`), any one of its files, or a folder whose newest
            checkpoint is meant.

    Returns:
        The prefix.

    Raises:
        FileNotFoundError: nothing there, or one of the files missing; it is named.
        ValueError: one of the files is of another kind.
    """
    where = pathlib.Path(path).expanduser()
    prefix = _newest(where) if where.is_dir() else pathlib.Path(content.checkpoint_prefix(where))
    index = pathlib.Path(f"{prefix}.index")
    shards = sorted(prefix.parent.glob(f"{glob.escape(prefix.name)}.data-*"))
    if prefix.is_file() and not index.exists():
        content.require(prefix, {"checkpoint_table"})
        return str(prefix)
    if not index.exists():
        if shards:
            raise FileNotFoundError(f"no file {index}, which belongs to {shards[0].name}")
        raise FileNotFoundError(f"no checkpoint {prefix}: neither {index} nor a file {prefix}")
    content.require(index, {"checkpoint_table"})
    for shard in _shards(index):
        if not shard.exists():
            # The index verifies itself when it is opened: what it asks for may be the damage.
            _guarded(str(prefix), lambda: tf.train.load_checkpoint(str(prefix)))
            raise FileNotFoundError(f"no file {shard}, which belongs to {index}")
        content.require(shard, {"checkpoint_part"})
    return str(prefix)


def files(prefix: str) -> list[pathlib.Path]:
    """List the files that hold a checkpoint's variables.

    Args:
        prefix: as `find_prefix` returns it.

    Returns:
        The index and the shards, or the one file of V1.
    """
    index = pathlib.Path(f"{prefix}.index")
    if not index.exists():
        return [pathlib.Path(prefix)]
    return [index, *_shards(index)]


def count_shards(index: pathlib.Path) -> int:
    """Read how many files hold a checkpoint's values.

    Args:
        index: the `.index` of a V2 checkpoint.

    Returns:
        Their number.

    Raises:
        ValueError: the index is damaged.
    """
    with index.open("rb") as file:
        found = _HEADER.match(file.read(64))
    if found is None:
        raise ValueError(f"{index.with_suffix('')} is damaged (no header); use an intact copy")
    return sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(found[1]))


def _shards(index: pathlib.Path) -> list[pathlib.Path]:
    """List the files of the values, there or not; others of the prefix were left by a kill."""
    count, prefix = count_shards(index), str(index.with_suffix(""))
    return [pathlib.Path(f"{prefix}.data-{number:05d}-of-{count:05d}") for number in range(count)]


def read(prefix: str) -> NamedArrays:
    """Open a checkpoint's variables.

    Args:
        prefix: as `find_prefix` returns it.

    Returns:
        Its float variables; TF2's suffix is left out of their names.

    Raises:
        ValueError: the checkpoint is damaged, or asks for much more than its files hold.
    """
    reader = _guarded(prefix, lambda: tf.train.load_checkpoint(prefix))
    dtypes = _guarded(prefix, reader.get_variable_to_dtype_map)
    shapes = _guarded(prefix, reader.get_variable_to_shape_map)
    stored = {name.removesuffix(_TF2_SUFFIX): name for name in shapes if dtypes[name].is_floating}

    stored_bytes = sum(file.stat().st_size for file in files(prefix))
    for name, full in stored.items():
        wanted = math.prod(shapes[full]) * dtypes[full].size
        require_bytes(wanted, stored_bytes, plain(name), prefix)
    activation, doubt = _activation(f"{prefix}.meta")

    def read_one(name: str) -> np.ndarray:
        return np.asarray(_guarded(prefix, lambda: reader.get_tensor(stored[name])))

    return NamedArrays(
        where=prefix,
        shapes={name: shapes[full] for name, full in stored.items()},
        read=read_one,
        files=files(prefix),
        activation=activation,
        doubt=doubt,
    )


def _guarded(prefix: str, action: Any) -> Any:
    try:
        return action()
    except _DAMAGE as error:
        raise ValueError(
            f"{prefix} is damaged ({first_line(error)}); use an intact copy"
        ) from error


def _newest(folder: pathlib.Path) -> pathlib.Path:
    newest = find_newest(folder)
    if newest is not None:
        return newest
    found = sorted(folder.glob("*.index"))
    if len(found) != 1:
        names = ", ".join(file.stem for file in found) or "none"
        raise FileNotFoundError(f"no list of checkpoints in {folder}; name one of these: {names}")
    return found[0].with_suffix("")


def _activation(meta: str) -> tuple[Activation | None, str]:
    """Read the activation between the layers from the saved graph, without building it.

    Returns:
        It, if the graph tells; and why the graph is not believed, if so: it has no checksum, but a
        damaged one is likely to contradict itself.
    """
    path = pathlib.Path(meta)
    if not path.is_file():
        return None, ""
    try:
        saved = tf.compat.v1.MetaGraphDef.FromString(path.read_bytes())
        nodes = {node.name: node for node in saved.graph_def.node}
    except Exception:  # protobuf's DecodeError, whichever implementation runs
        return None, f"{meta} is damaged"
    listed = {operation.name for operation in saved.meta_info_def.stripped_op_list.op}
    for node in nodes.values():
        if listed and node.op not in listed:
            return None, f"{meta} is damaged: it lists no operation {plain(node.op)}"
        for source in node.input:
            if source.split(":")[0].lstrip("^") not in nodes:
                return None, f"{meta} is damaged: it has no node {plain(source)}"
    found: set[Activation] = set()
    for node in nodes.values():
        if node.op == "MatMul" and not re.search(r"(^|/)gradients(_\d+)?/", node.name):
            if len(node.input) < 2:
                return None, f"{meta} is damaged: {plain(node.name)} has no inputs"
            found |= _feeding(nodes, node.input[0])
    return (found.pop() if len(found) == 1 else None), ""


def _feeding(nodes: dict[str, Any], name: str) -> set[Activation]:
    """Name the activations that last changed the values of a node; none for the pixels."""
    found: set[Activation] = set()
    seen = set()
    waiting = [name]
    while waiting:
        node = nodes[waiting.pop().split(":")[0].lstrip("^")]
        if node.name in seen:
            continue
        seen.add(node.name)
        if node.op in BY_OPERATOR:
            found.add(BY_OPERATOR[node.op])
        elif node.op in _LAYER_OPS:
            found.add(Activation.LINEAR)
        elif node.op in _PASSING_OPS:
            waiting += node.input
    return found
