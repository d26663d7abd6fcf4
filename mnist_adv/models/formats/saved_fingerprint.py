"""Compare a SavedModel with the checksums that TensorFlow 2 writes beside it in `fingerprint.pb`.

A graph has no checksum of its own, though a frozen one holds all the weights. TensorFlow's
checksum is FarmHash's Fingerprint64, of the index of the variables as it lies there, and of the
graph in the order in which C++ writes maps.
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from mnist_adv.errors import first_line
from mnist_adv.tensors.lazy import tf

_FILE = "fingerprint.pb"
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
# The remainder by it is what TensorFlow's operation gives of a fingerprint.
_MODULUS = 2**63 - 1


class _Field(NamedTuple):
    """A field of a message: its number, where it begins, where its content begins, its end."""

    number: int
    start: int
    content: int
    end: int


def require_same(folder: pathlib.Path, model: Any) -> None:
    """Refuse a SavedModel that is not what its fingerprint was made of.

    Args:
        folder: of the SavedModel; one without fingerprint, as TF1 wrote it, passes.
        model: the parsed `SavedModel`.

    Raises:
        ValueError: the fingerprint is damaged, or of another graph or other variables.
        OSError: a file cannot be read.
    """
    from tensorflow.core.protobuf import fingerprint_pb2

    file, graph = folder / _FILE, folder / "saved_model.pb"
    if not file.exists():
        return
    try:
        known = fingerprint_pb2.FingerprintDef.FromString(file.read_bytes())
    except Exception as error:  # protobuf's DecodeError, whichever implementation runs
        raise ValueError(f"{file} is damaged ({first_line(error)}); use an intact copy") from error
    # The first version hashed less than the file; later ones left maps as they came.
    has_debug_info = any(each.graph_def.HasField("debug_info") for each in model.meta_graphs)
    if known.version.producer and not has_debug_info:
        _require(known.saved_model_checksum, _as_hashed(model), graph, file)
    index = folder / "variables" / "variables.index"
    if known.checkpoint_hash and index.exists():
        _require(known.checkpoint_hash, index.read_bytes(), index, file)


def _require(checksum: int, content: bytes, of: pathlib.Path, file: pathlib.Path) -> None:
    found = int(tf.strings.to_hash_bucket_fast([content], _MODULUS)[0])
    if found != checksum % _MODULUS:
        raise ValueError(
            f"{of} is damaged (its checksum is not the one in {file.name}); use an intact copy, or "
            f"delete {file} if the model was changed on purpose"
        )


def _as_hashed(model: Any) -> bytes:
    """Serialize as C++ does: maps in ascending order of their keys."""
    # Python's implementations have orders of their own.
    content = bytearray(model.SerializeToString(deterministic=True))
    _sort_maps(content, _Field(0, 0, 0, len(content)), model.DESCRIPTOR)
    return bytes(content)


def _sort_maps(content: bytearray, message: _Field, kind: Any) -> None:
    """Bring the maps of a message, and of those in it, into order; no length changes."""
    inner = _with_maps(kind)
    entries: dict[int, list[_Field]] = {}
    for field in _fields(content, message):
        if field.number in inner:
            _sort_maps(content, field, inner[field.number])
            if inner[field.number].GetOptions().map_entry:
                entries.setdefault(field.number, []).append(field)
    for fields in entries.values():
        parts = [
            (_key(content, field), bytes(content[field.start : field.end])) for field in fields
        ]
        content[fields[0].start : fields[-1].end] = b"".join(part for _, part in sorted(parts))


@functools.cache
def _with_maps(kind: Any) -> dict[int, Any]:
    """Give the fields of a message that are maps or hold some, with their messages."""
    return {
        field.number: field.message_type
        for field in kind.fields
        if field.message_type is not None and _holds_maps(field.message_type, ())
    }


def _holds_maps(kind: Any, above: tuple[str, ...]) -> bool:
    if kind.GetOptions().map_entry:
        return True
    return kind.full_name not in above and any(
        field.message_type is not None and _holds_maps(field.message_type, (*above, kind.full_name))
        for field in kind.fields
    )


def _key(content: bytearray, entry: _Field) -> int | bytes:
    """Read the key of a map: a text, which is compared by its bytes, or a whole number."""
    for field in _fields(content, entry):
        if field.number == 1:
            if content[field.start] & 7 == _LENGTH:
                return bytes(content[field.content : field.end])
            return _varint(content, field.content)[0]
    raise ValueError("a map has an entry without a key")


def _fields(content: bytearray, field: _Field) -> Iterator[_Field]:
    place = field.content
    while place < field.end:
        start = place
        key, place = _varint(content, place)
        kind, first = key & 7, place
        if kind == _VARINT:
            _, place = _varint(content, place)
        elif kind == _LENGTH:
            length, first = _varint(content, place)
            place = first + length
        else:
            place += {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}[kind]
        yield _Field(key >> 3, start, first, place)


def _varint(content: bytearray, place: int) -> tuple[int, int]:
    """Read a varint; return it and where it ends."""
    value = shift = 0
    while True:
        byte = content[place]
        value |= (byte & 127) << shift
        shift, place = shift + 7, place + 1
        if byte < 128:
            return value, place
