"""Write a record to a file, and read it back: dataclasses of arrays, numbers, texts and records.

The file is an .npz, which `numpy.load` reads without pickle: one member per array, and one text,
"record", with the rest as JSON. Reading makes nothing but the records that the caller names, from
values of the types that their fields have; nothing in the file is ever run.
"""

from __future__ import annotations

import dataclasses
import enum
import io
import json
import math
import os
import types
import typing
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from mnist_adv import files
from mnist_adv.archives import array_headers, open_zip, read_array
from mnist_adv.arguments import as_path
from mnist_adv.errors import first_line

_FORMAT, _VERSION, _RECORD = "mnist_adv result", 1, "record"
_NUMBERS = "biuf"  # kinds of arrays
_LEAST_SHARE = 1 / 50  # of its size; what shrinks below a hundredth is refused when it is read


def write_record(path: str | os.PathLike[str], record: Any) -> None:
    """Write a record, so that the file is complete or absent.

    Args:
        path: of the file; replaced if it is there. The name is taken as it is: no ending is added.
        record: a dataclass.

    Raises:
        ValueError: it holds something else than arrays of numbers, numbers, texts and records.
        OSError: the file cannot be written.
    """
    name = as_path(path, "path")
    arrays: dict[str, np.ndarray] = {}
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "kind": type(record).__name__,
        "fields": _encode(record, "", arrays),
    }
    text = json.dumps(content, indent=1, allow_nan=False)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for member, array in {_RECORD: np.array(text), **arrays}.items():
            _add(archive, member, array)
    files.write(name, packed.getvalue())


def read_record(path: str | os.PathLike[str], kinds: Mapping[str, type]) -> Any:
    """Read a record.

    Args:
        path: of the file.
        kinds: name -> class, of all records that may be in it.

    Returns:
        The record.

    Raises:
        ValueError: the file is damaged, holds no such record, or one of a later version.
        OSError: it cannot be read.
    """
    name = as_path(path, "path")
    with open_zip(name) as archive:
        headers = array_headers(archive, name)
        if _RECORD not in headers or headers[_RECORD][1].kind != "U":
            raise ValueError(f"{name} holds no result of mnist_adv")
        text = str(read_array(archive, _RECORD))
        arrays = {
            member: read_array(archive, member)
            for member, (_, dtype) in headers.items()
            if dtype.kind in _NUMBERS
        }
    try:
        content = json.loads(text)
        known = content["format"], content["version"]
        if known != (_FORMAT, _VERSION):
            raise ValueError(f"format {known[0]!r}, version {known[1]!r}")
        if content["kind"] not in kinds:
            raise ValueError(f"a result of kind {content['kind']!r}")
        return _decode(kinds[content["kind"]], content["fields"], arrays, kinds)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        said = f"no {error}" if isinstance(error, KeyError) else first_line(error)
        raise ValueError(f"{name} holds no result that this version reads ({said})") from error


def _add(archive: zipfile.ZipFile, member: str, array: np.ndarray) -> None:
    content = io.BytesIO()
    np.lib.format.write_array(content, array, allow_pickle=False)
    data = content.getvalue()
    small = len(zlib.compress(data, 1)) < _LEAST_SHARE * len(data)
    kind = zipfile.ZIP_STORED if small else zipfile.ZIP_DEFLATED
    archive.writestr(zipfile.ZipInfo(f"{member}.npy"), data, kind)


def _encode(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """Turn a value into JSON, its arrays into members that bear the names of its fields."""
    if dataclasses.is_dataclass(value):
        return {
            field.name: _encode(getattr(value, field.name), f"{name}{field.name}.", arrays)
            for field in dataclasses.fields(value)
        }
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in _NUMBERS:
            raise ValueError(f"{name[:-1]} must be numbers. Received: an array of {value.dtype}")
        arrays[name[:-1]] = value
        return {"array": name[:-1]}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: _encode(each, f"{name}{key}.", arrays) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(each, f"{name}{place}.", arrays) for place, each in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        return {"number": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"{name[:-1]} cannot be saved. Received: {type(value).__name__}")


def _decode(
    hint: Any, value: Any, arrays: Mapping[str, np.ndarray], kinds: Mapping[str, type]
) -> Any:
    """Make of JSON what a field's annotation says."""

    def inner(hint: Any, value: Any) -> Any:
        return _decode(hint, value, arrays, kinds)

    if hint is Any:
        hint = _of_any(value)
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _first_that_fits(parts, value, inner)
    if hint is types.NoneType:
        _require(value is None, "nothing", value)
        return None
    if hint is np.ndarray or origin is np.ndarray:
        _require(isinstance(value, dict) and set(value) == {"array"}, "an array", value)
        return arrays[value["array"]]
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        hints = typing.get_type_hints(hint, localns=dict(kinds))
        _require(isinstance(value, dict) and value.keys() <= hints.keys(), hint.__name__, value)
        return hint(**{key: inner(hints[key], each) for key, each in value.items()})
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint(value)
    if origin in (dict, Mapping):
        _require(isinstance(value, dict), "names and values", value)
        return {key: inner(parts[1], each) for key, each in value.items()}
    if origin in (list, tuple):
        _require(isinstance(value, list), "a list", value)
        several = origin is list or parts[1:] == (Ellipsis,)
        each_hint = [parts[0]] * len(value) if several else parts
        _require(len(each_hint) == len(value), f"{len(each_hint)} values", value)
        return origin(inner(*pair) for pair in zip(each_hint, value))
    if hint is float:
        if isinstance(value, dict) and set(value) == {"number"}:
            return float(value["number"])
        _require(isinstance(value, float | int) and not isinstance(value, bool), "a number", value)
        return value
    _require(type(value) is hint, getattr(hint, "__name__", str(hint)), value)
    return value


def _of_any(value: Any) -> Any:
    """Tell the type of what no annotation describes: arrays, numbers, texts, lists and names."""
    if isinstance(value, list):
        return list[Any]
    if isinstance(value, dict) and "array" in value:
        return np.ndarray
    if isinstance(value, dict) and "number" not in value:
        return dict[str, Any]
    return float if isinstance(value, dict) else type(value)


def _first_that_fits(parts: tuple[Any, ...], value: Any, decode: Any) -> Any:
    refused: Exception | None = None
    for part in parts:
        try:
            return decode(part, value)
        except (ValueError, KeyError, TypeError) as error:
            refused = refused or error
    raise refused or ValueError("nothing fits")


def _require(holds: bool, wanted: str, value: Any) -> None:
    if not holds:
        raise ValueError(f"{wanted} is expected where {type(value).__name__} is")
