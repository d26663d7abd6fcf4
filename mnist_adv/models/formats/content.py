"""Tell what a file is from its first bytes, whatever its name.

A kind is one row of `KINDS`. A format that reads it names it in its row of `FORMATS`; a file of any
other kind is refused with what it is and what to do, and never called damaged.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import zipfile
from collections.abc import Callable, Container, Sequence

from mnist_adv.models.formats import protobuf

_HEAD, _TAIL = 2**16, 8
# Superblocks of HDF5 may stand behind a block of the user's.
_HDF5_OFFSETS = (0, 512, 1024, 2048)
_PART = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")
_SAVE_ARRAYS = "save plain arrays with numpy.savez(path, W=..., b=...)"
PICKLED = f"holds pickled objects, which are never loaded; {_SAVE_ARRAYS}"
_EXPORT = "export it to ONNX, or save its weights with numpy.savez(path, W1=..., b1=..., ...)"


@dataclasses.dataclass(frozen=True)
class Content:
    """What is looked at of a file.

    Attributes:
        path: of the file.
        size: in bytes.
        head: its first 64 KiB.
        tail: its last 8 bytes.
        names: of the entries, if it is a zip archive; of the first alone, if it is cut short.
    """

    path: pathlib.Path
    size: int
    head: bytes
    tail: bytes
    names: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of file; the rows of `KINDS` stand at the end of this file.

    Attributes:
        name: by which a format names it.
        description: what a file of this kind is.
        matches: whether a content is of this kind, where no kind before it is.
        remedy: what to do, where no format reads it.
    """

    name: str
    description: str
    matches: Callable[[Content], bool]
    remedy: str

    def refusal(self, path: str | os.PathLike[str]) -> ValueError:
        """Make the error of a file of this kind where another is wanted.

        Args:
            path: of the file.

        Returns:
            The error, of one line.
        """
        return ValueError(f"{os.fspath(path)} is {self.description}: {self.remedy}")


def identify(path: str | os.PathLike[str]) -> Kind | None:
    """Find the kind of a file.

    Args:
        path: of a file that exists.

    Returns:
        The first row of `KINDS` that matches; None if none does.

    Raises:
        OSError: the file cannot be read.
    """
    content = _look(pathlib.Path(path))
    return next((kind for kind in KINDS if kind.matches(content)), None)


def require(path: str | os.PathLike[str], kinds: Container[str]) -> None:
    """Refuse a file that is of another kind than its reader reads.

    Args:
        path: of a file that exists.
        kinds: names of rows of `KINDS`; a file of no known kind passes too.

    Raises:
        ValueError: it is of another kind.
        OSError: the file cannot be read.
    """
    kind = identify(path)
    if kind is not None and kind.name not in kinds:
        raise kind.refusal(path)


def unknown(path: str | os.PathLike[str]) -> str:
    """Describe a file of which neither its content nor its name says what it is.

    Args:
        path: of a file that exists.

    Returns:
        One line, for an error.
    """
    with pathlib.Path(path).open("rb") as file:
        head = file.read(8)
    return (
        f"{os.fspath(path)} is of no kind of model that is known (its bytes begin "
        f"{head.hex(' ')}); see docs/models.md for those that are read"
    )


def is_checkpoint_part(path: str | os.PathLike[str]) -> bool:
    """Tell by its name one of a checkpoint's files.

    Args:
        path: of the file.

    Returns:
        Whether it ends as `.index`, `.meta` or `.data-00000-of-00001` do.
    """
    return _PART.search(os.fspath(path)) is not None


def checkpoint_prefix(path: str | os.PathLike[str]) -> str:
    """Take off what a checkpoint's files add to its name.

    Args:
        path: a prefix or one of the files.

    Returns:
        The prefix.
    """
    return _PART.sub("", os.fspath(path))


def _look(path: pathlib.Path) -> Content:
    with path.open("rb") as file:
        head = file.read(_HEAD)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL))
        tail = file.read()
    return Content(path, size, head, tail, _names(path, head))


def _names(path: pathlib.Path, head: bytes) -> Sequence[str]:
    if not head.startswith(b"PK"):
        return ()
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        length = int.from_bytes(head[26:28], "little")
        first = head[30 : 30 + length].decode("utf-8", "replace")
        return [first] if head.startswith(b"PK\3\4") and first else ()


def _starts(*signatures: bytes) -> Callable[[Content], bool]:
    return lambda content: content.head.startswith(signatures)


def _looks_like(pattern: bytes) -> Callable[[Content], bool]:
    """Match the first bytes, after spaces and a mark of the byte order."""
    compiled = re.compile(rb"(\xef\xbb\xbf)?\s*(" + pattern + rb")", re.IGNORECASE)
    return lambda content: compiled.match(content.head) is not None


def _holds(pattern: str) -> Callable[[Content], bool]:
    """Match a zip archive by the name of an entry."""
    compiled = re.compile(pattern)
    return lambda content: any(compiled.search(name) for name in content.names)


def _is_pickle(content: Content) -> bool:
    # Protocols 2 to 5 begin with their number; 0 and 1 are text, and all end with a full stop.
    text = re.compile(rb"c[\w.]+\n[\w.]+\n|\((dp|lp)\d*\n|\((d|l)[pq.]|\]q|\}q")
    binary = content.head[:1] == b"\x80" and content.head[1:2] in (b"\2", b"\3", b"\4", b"\5")
    return binary or (text.match(content.head) is not None and content.tail.endswith(b"."))


def _is_safetensors(content: Content) -> bool:
    length = int.from_bytes(content.head[:8], "little")
    return content.head[8:9] == b"{" and 2 <= length <= content.size - 8


def _is_idx(content: Content) -> bool:
    return content.head[:3] == b"\0\0\x08" and content.head[3:4] in (b"\1", b"\3")


def _is_text(content: Content) -> bool:
    # A head may end inside a character.
    text = content.head[:1000].decode("utf-8", "ignore")
    whole = len(text.encode()) >= min(len(content.head), 1000) - 3
    return whole and all(char.isprintable() or char.isspace() for char in text)


_UNPACK = "unpack it, and name the model in it"

KINDS = (
    Kind(
        "empty",
        "empty (0 bytes)",
        lambda content: not content.size,
        "the download or the copy failed; fetch it again",
    ),
    Kind(
        "git_lfs",
        "a Git LFS pointer, not the file",
        _starts(b"version https://git-lfs", b"version https://hawser"),
        "git lfs pull fetches it",
    ),
    Kind(
        "html",
        "an HTML page",
        _looks_like(rb"<!doctype html|<html|<head|<\?xml[^>]*>\s*<!doctype html"),
        "the download returned a web page; use the link to the raw file",
    ),
    # Their bytes say nothing: weights, or a graph that is optional.
    Kind(
        "checkpoint_part",
        "a part of a checkpoint",
        lambda content: is_checkpoint_part(content.path) and content.path.suffix != ".index",
        "name the checkpoint by its prefix",
    ),
    Kind(
        "checkpoint_table",
        "a TensorFlow checkpoint",
        # The end of every table, in the format of LevelDB.
        lambda content: content.tail == b"\x57\xfb\x80\x8b\x24\x75\x47\xdb",
        "name the checkpoint by its prefix",
    ),
    Kind(
        "checkpoint_list",
        "the list of a folder's checkpoints",
        _looks_like(rb"model_checkpoint_path:"),
        "name the folder",
    ),
    Kind("npy", "a NumPy array (.npy)", _starts(b"\x93NUMPY"), _SAVE_ARRAYS),
    Kind(
        "hdf5",
        "an HDF5 file",
        lambda content: any(
            content.head[start : start + 8] == b"\x89HDF\r\n\x1a\n" for start in _HDF5_OFFSETS
        ),
        "save the model with model.save('model.keras')",
    ),
    Kind(
        "torch",
        "a PyTorch file",
        lambda content: (
            _holds(r"(^|/)(data\.pkl|constants\.pkl)$")(content)
            or content.head.startswith(b"\x80\2\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")
        ),
        f"it holds pickled code, which is never loaded; {_EXPORT}",
    ),
    Kind(
        "keras",
        "a Keras file (.keras)",
        lambda content: (
            {"config.json", "metadata.json", "model.weights.h5"} & set(content.names) != set()
        ),
        "save the model with model.save('model.keras')",
    ),
    Kind(
        "saved_model_zip",
        "a zip archive of a SavedModel",
        _holds(r"(^|/)saved_model\.pb$"),
        "unpack it, and name the folder",
    ),
    Kind(
        "npz",
        "NumPy arrays (.npz)",
        lambda content: (
            bool(content.names) and all(name.endswith(".npy") for name in content.names)
        ),
        _SAVE_ARRAYS,
    ),
    Kind("zip", "a zip archive", lambda content: bool(content.names), _UNPACK),
    Kind(
        "pickle", "a pickle", _is_pickle, f"it may hold code, and is never loaded; {_SAVE_ARRAYS}"
    ),
    Kind(
        "compressed",
        "a compressed file",
        _starts(
            *(b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf\x27\x1c"),
            *(b"Rar!\x1a\7", b"\x78\x9c", b"\x78\xda"),
        ),
        _UNPACK,
    ),
    Kind("tar", "a tar archive", lambda content: content.head[257:262] == b"ustar", _UNPACK),
    Kind(
        "picture",
        "a picture",
        _starts(b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a"),
        "attack.py takes pictures by --image; name the model's file here",
    ),
    Kind("pdf", "a PDF", _starts(b"%PDF"), "name the model's file here"),
    Kind(
        "idx",
        "an IDX file of images or labels, as MNIST's",
        _is_idx,
        "name the model's file here",
    ),
    Kind(
        "tflite",
        "a TensorFlow Lite model",
        lambda content: content.head[4:8] == b"TFL3",
        "give the Keras model or the SavedModel that it was converted from",
    ),
    Kind(
        "safetensors",
        "a safetensors file",
        _is_safetensors,
        "save its arrays with numpy.savez(path, **safetensors.numpy.load_file(...))",
    ),
    Kind(
        "matlab",
        "a MATLAB file",
        _starts(b"MATLAB 5.0"),
        "save its arrays with numpy.savez(path, W=..., b=...), read by scipy.io.loadmat",
    ),
    Kind(
        "onnx",
        "an ONNX model",
        lambda content: protobuf.is_onnx(content.head),
        "it is not read; give the model that it was exported from",
    ),
    Kind(
        "saved_model_graph",
        "the graph of a SavedModel",
        lambda content: protobuf.is_saved_model(content.head),
        "name its folder, in which variables/ must lie too",
    ),
    Kind(
        "frozen_graph",
        "a frozen TensorFlow graph",
        lambda content: protobuf.is_frozen_graph(content.head),
        "save the model as a SavedModel, or as a checkpoint",
    ),
    Kind("caffe", "a Caffe model", lambda content: protobuf.is_caffe(content.head), _EXPORT),
    Kind(
        "keras_json",
        "JSON of a Keras model's layers, without their weights",
        _looks_like(rb'\{[\s\S]*"class_name"'),
        "save the whole with model.save('model.keras')",
    ),
    Kind(
        "json",
        "JSON",
        _looks_like(rb'[{\[]\s*["\d{\[-]'),
        f"it is not read; {_SAVE_ARRAYS}",
    ),
    Kind(
        "table",
        "a table of numbers in text",
        _looks_like(rb"[-+]?\d[\d.e+-]*[,;\t ]+[-+]?\d"),
        "read it with numpy.loadtxt, and " + _SAVE_ARRAYS,
    ),
    Kind("text", "text", _is_text, "name the model's file here"),
)
