"""Tell the kinds of protobuf files apart by the numbers and types of their first fields.

Protobuf has no signature, and a file's schema is not in it: what its fields are tells which it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_VARINT, _LENGTH = 0, 2
# More than the fields before the graph in any of the files that are told apart.
_MOST_FIELDS = 64
_OP = re.compile(rb"[A-Z]\w*")
# Of `onnx.ModelProto`; a graph (7) or its operator sets (8) must be among them.
_ONNX_TYPES = {1: _VARINT, 5: _VARINT, **dict.fromkeys((2, 3, 4, 6, 7, 8, 14, 20, 25), _LENGTH)}
_ONNX_GRAPH = {7, 8}


class _Field(NamedTuple):
    """A field of a message: its number, its type, and its varint or its first bytes."""

    number: int
    type: int
    value: int
    content: bytes


def is_onnx(head: bytes) -> bool:
    """Tell an ONNX model.

    Args:
        head: the first bytes of the file.

    Returns:
        Whether they are of an `onnx.ModelProto`.
    """
    fields = list(_fields(head))
    numbers = {field.number for field in fields}
    return (
        all(_ONNX_TYPES.get(field.number) == field.type for field in fields)
        and bool(numbers & _ONNX_GRAPH)
        and all(field.value < 100 for field in fields if field.number == 1)
        and (1 in numbers or numbers >= _ONNX_GRAPH)
    )


def is_saved_model(head: bytes) -> bool:
    """Tell the graph of a SavedModel.

    Args:
        head: the first bytes of the file.

    Returns:
        Whether they are of a `tensorflow.SavedModel`: schema version 1, then graphs.
    """
    first, *others = [*_fields(head), _Field(0, 0, 0, b""), _Field(0, 0, 0, b"")][:2]
    return first[:3] == (1, _VARINT, 1) and others[0][:2] == (2, _LENGTH)


def is_frozen_graph(head: bytes) -> bool:
    """Tell a frozen TensorFlow graph.

    Args:
        head: the first bytes of the file.

    Returns:
        Whether they are of a `tensorflow.GraphDef`: nodes, each with a name and an operation.
    """
    for field in _fields(head):
        node = list(_fields(field.content))[:2]
        return (
            field[:2] == (1, _LENGTH)
            and [part[:2] for part in node] == [(1, _LENGTH), (2, _LENGTH)]
            and _OP.fullmatch(node[1].content) is not None
        )
    return False


def is_caffe(head: bytes) -> bool:
    """Tell a Caffe model.

    Args:
        head: the first bytes of the file.

    Returns:
        Whether they are of a `caffe.NetParameter`: a name, then layers of either version.
    """
    fields = list(_fields(head))[:2]
    numbers = [field[:2] for field in fields]
    return (
        numbers in ([(1, _LENGTH), (100, _LENGTH)], [(1, _LENGTH), (2, _LENGTH)])
        and fields[0].content.isascii()
        and [field[:2] for field in _fields(fields[1].content)][:1]
        in ([(1, _LENGTH)], [(2, _LENGTH)], [(4, _LENGTH)])
    )


def _fields(data: bytes) -> Iterator[_Field]:
    """Yield the fields up to the first that is not whole, that one included, or that is none."""
    place = 0
    for _ in range(_MOST_FIELDS):
        key, place = _varint(data, place)
        number, wire = key >> 3, key & 7
        if key <= 0 or not number or wire not in (_VARINT, _LENGTH):
            return
        value, place = _varint(data, place)
        if value < 0:
            return
        if wire == _VARINT:
            yield _Field(number, wire, value, b"")
            continue
        yield _Field(number, wire, 0, data[place : place + value])
        place += value


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Read a number and where it ends; -1 where there is none."""
    value = 0
    for shift in range(0, 64, 7):
        if place >= len(data):
            break
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    return -1, place
