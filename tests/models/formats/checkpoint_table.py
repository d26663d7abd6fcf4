"""Write the index of a TensorFlow checkpoint that says whatever a test wants it to say.

The format is LevelDB's table: blocks of sorted pairs, each with a checksum, then a footer.
"""

from __future__ import annotations

import pathlib
import struct
from collections.abc import Mapping

from tensorflow.core.protobuf import tensor_bundle_pb2

_MAGIC = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"


def write_index(path: pathlib.Path, shapes: Mapping[str, tuple[int, ...]], stored: int) -> None:
    """Write an index of float32 variables.

    Args:
        path: that ends in ".index".
        shapes: name -> shape that it claims.
        stored: bytes that each claims to have in the one shard.
    """
    header = tensor_bundle_pb2.BundleHeaderProto(num_shards=1)
    header.version.producer = 1
    pairs = {b"": header.SerializeToString()}
    for name, shape in sorted(shapes.items()):
        entry = tensor_bundle_pb2.BundleEntryProto(dtype=1, size=stored)
        for length in shape:
            entry.shape.dim.add(size=length)
        pairs[name.encode()] = entry.SerializeToString()
    data = _block(pairs)
    empty = _block({})
    index = _block({b"\xff": _varint(0) + _varint(len(data) - 5)})
    handles = _varint(len(data)) + _varint(len(empty) - 5)
    handles += _varint(len(data) + len(empty)) + _varint(len(index) - 5)
    path.write_bytes(data + empty + index + handles.ljust(40, b"\0") + _MAGIC)


def _block(pairs: Mapping[bytes, bytes]) -> bytes:
    content, restarts = b"", []
    for key, value in pairs.items():
        restarts.append(len(content))  # no key is shortened by the one before
        content += _varint(0) + _varint(len(key)) + _varint(len(value)) + key + value
    restarts = restarts or [0]
    content += struct.pack(f"<{len(restarts)}L", *restarts) + struct.pack("<L", len(restarts))
    content += b"\0"  # not compressed
    checksum = _crc32c(content)
    masked = ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return content + struct.pack("<L", masked)


def _varint(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def _crc32c(data: bytes) -> int:
    checksum = 0xFFFFFFFF
    for byte in data:
        checksum ^= byte
        for _ in range(8):
            checksum = checksum >> 1 ^ 0x82F63B78 * (checksum & 1)
    return checksum ^ 0xFFFFFFFF
