"""The file formats of models: how each is recognised, read and, for weights, written.

A format is one row of `FORMATS` and one module beside this one, which is imported when the row is
first used: flags list the formats without TensorFlow.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mnist_adv.data.images import Shape
from mnist_adv.models.activation import Activation
from mnist_adv.models.formats import content
from mnist_adv.models.loaded import LoadedModel
from mnist_adv.registry import Registry

# A prefix with the number of a step.
_CHECKPOINT = re.compile(r"\.ckpt-\d+$")
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")

# How many names of a folder without a model are listed, and how many are looked at.
_MOST_LISTED, _MOST_LOOKED_AT = 5, 200


@dataclasses.dataclass(frozen=True)
class ReadRequest:
    """How a file is to be read.

    Attributes:
        images: shape `(h, w, c)` of the model's images -> `[n, h, w, c]` float32 in the scale and
            polarity that it expects, clean ones on which its outputs are tested.
        shape: `(h, w, c)` of the images at hand, where the file leaves a choice.
        num_classes: of the model, where the file leaves a choice.
        variables: "W=NAME,b=NAME" where a file of named arrays does not say which are the model.
        activation: between layers, for a file of named arrays that does not say.
    """

    images: Callable[[Shape], np.ndarray]
    shape: Shape | None = None
    num_classes: int | None = None
    variables: str | None = None
    activation: Activation | None = None


@dataclasses.dataclass(frozen=True)
class WriteRequest:
    """What is written beside the weights.

    Attributes:
        names: role ("W", "b", or "W1", "b1", ...) -> name of the variable, in the order of the
            layers; empty for a format that names its own.
        shape: of the model's images, `(h, w, c)`.
        source: the file that the weights come from.
        dataset: that they were trained on.
        class_names: in label order.
        replaces: the checkpoint of TF1 that bears the destination's name, if there is one: the new
            index alone decides which is read, if the other files have other names.
    """

    names: Mapping[str, str]
    shape: Shape
    source: str
    dataset: str
    class_names: Sequence[str]
    replaces: pathlib.Path | None = None


Reader = Callable[[str, ReadRequest], LoadedModel]
# Takes a `SoftmaxRegression` or `Perceptron`, the path and the request; returns the files, the last
# of which completes them.
Writer = Callable[[Any, pathlib.Path, WriteRequest], list[pathlib.Path]]


@dataclasses.dataclass(frozen=True)
class Format:
    """A file format of models; the rows of `FORMATS` stand at the end of this file.

    Attributes:
        name: by which flags and `--list` know it.
        description: what it is, in a few words.
        read: opens the file.
        suffix: of its files; a destination that ends so is written in this format.
        recognises: whether a path or name is of this format, besides those with its suffix.
        kinds: of `content.KINDS` that it reads, whatever the file's name; if empty, its name alone
            decides, before any content.
        reads_folder: whether a folder of its files is one model.
        write: writes weights; None for a format that is only read.
        variable_name: role and its number in the order of the layers -> name of a variable that is
            written and that nobody named; None for a format that names its own.
        writes_folder: whether `write` adds a checkpoint to the folder that the destination names,
            in place of making a new file.
    """

    name: str
    description: str
    read: Reader
    suffix: str = ""
    recognises: Callable[[str], bool] | None = None
    kinds: tuple[str, ...] = ()
    reads_folder: bool = False
    write: Writer | None = None
    variable_name: Callable[[str, int], str] | None = None
    writes_folder: bool = False

    @property
    def is_one_file(self) -> bool:
        """Whether a model is one file, known by its suffix alone."""
        return bool(self.suffix) and self.recognises is None

    def matches(self, spec: str) -> bool:
        """Tell whether a path or name is of this format.

        Args:
            spec: a path, or "package.module:function".

        Returns:
            Whether it is.
        """
        named = bool(self.suffix) and spec.lower().endswith(self.suffix)
        return named or (self.recognises is not None and self.recognises(spec))


FORMATS: Registry[Format] = Registry("format")


def find_format(spec: str) -> Format:
    """Find the format of a file that is to be read, by its content where that is known.

    Args:
        spec: a path, or "package.module:function".

    Returns:
        The row that recognises the name, the last added first; for one that reads known kinds, and
        for all others, the row that reads the file's kind. TF1 if there is no such file, as a
        checkpoint may have any name.

    Raises:
        FileNotFoundError: no such file, or a folder that is no model.
        ValueError: a kind of file that no format reads, or that is not known.
    """
    path = pathlib.Path(spec)
    named = [row for row in reversed(list(FORMATS.values())) if row.matches(spec)]
    for row in named:
        if row.is_one_file and not path.is_file():
            raise FileNotFoundError(f"no file {spec}")
        if not row.kinds:
            return row
    if path.is_dir():
        return _of_folder(path)
    if not path.is_file() or pathlib.Path(f"{spec}.index").is_file():
        return named[0] if named else FORMATS["tf1"]
    kind = content.identify(path)
    if kind is not None:
        reading = _reading(kind)
        if reading is None:
            raise kind.refusal(spec)
        return reading
    if not named:
        raise ValueError(content.unknown(spec))
    return named[0]


def _reading(kind: content.Kind | None) -> Format | None:
    """Find the format that reads a kind of file, the last added first."""
    rows = reversed(list(FORMATS.values()))
    return next((row for row in rows if kind is not None and kind.name in row.kinds), None)


def _of_folder(folder: pathlib.Path) -> Format:
    """Find the format of a folder, or say what it holds."""
    entries = sorted(folder.iterdir())
    if not entries:
        raise FileNotFoundError(f"{folder} is an empty folder")
    if any(entry.name == "checkpoint" or entry.suffix == ".index" for entry in entries):
        return FORMATS["tf1"]
    models: dict[pathlib.Path, Format] = {}
    for entry in entries[:_MOST_LOOKED_AT]:
        row = _reading(content.identify(entry)) if entry.is_file() else None
        if (entry / "saved_model.pb").is_file():
            row = FORMATS["saved_model"]
        if row is not None and not content.is_checkpoint_part(entry):
            models[entry] = row
    rows = list(models.values())
    if rows and rows[0].reads_folder and set(rows) == {rows[0]}:
        return rows[0]
    if len(models) == 1:
        raise FileNotFoundError(
            f"{folder} is a folder that holds one model; name it: {next(iter(models))}"
        )
    held = [entry.name for entry in (models or entries)]
    more = len(held) - _MOST_LISTED
    listed = ", ".join(held[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")
    raise FileNotFoundError(
        f"{folder} holds several models; name one of them: {listed}"
        if models
        else f"{folder} holds no model, but {listed}"
    )


def is_function(spec: str) -> bool:
    """Tell "package.module:function" from a path.

    Args:
        spec: what the user wrote.

    Returns:
        Whether it has that form.
    """
    return _FUNCTION.fullmatch(spec) is not None


def split_files(spec: str) -> list[str]:
    """Split a list of .npy files.

    Args:
        spec: a path, or several .npy with commas.

    Returns:
        The paths; the whole as one where it is no such list.
    """
    parts = [part.strip() for part in spec.split(",")]
    return parts if all(part.lower().endswith(".npy") for part in parts) else [spec]


def with_absolute_paths(spec: str) -> str:
    """Make the paths of a model absolute.

    Args:
        spec: a path, several .npy with commas, or "package.module:function".

    Returns:
        The same with absolute paths; a function keeps its name.
    """
    if is_function(spec):
        return spec
    return ",".join(map(os.path.abspath, split_files(spec)))


def writable() -> list[Format]:
    """List the formats in which weights can be written.

    Returns:
        The rows of `FORMATS` that have a writer.
    """
    return [row for row in FORMATS.values() if row.write is not None]


def _lazily(module: str, function: str) -> Callable[..., Any]:
    """Make a function that imports its module when it is called: most import TensorFlow."""

    def call(*arguments: Any) -> Any:
        home = importlib.import_module(f"{__package__}.{module}")
        return getattr(home, function)(*arguments)

    return call


FORMATS.add(
    Format(
        "checkpoint",
        "the checkpoint folder of train.py",
        _lazily("tf1", "load"),
        write=_lazily("own_checkpoint", "write"),
        writes_folder=True,
    )
)
FORMATS.add(
    Format(
        "tf1",
        "a TF1 checkpoint (TF2's are read too)",
        _lazily("tf1", "load"),
        suffix=".ckpt",
        recognises=lambda spec: _CHECKPOINT.search(spec) is not None,
        kinds=("checkpoint_table", "checkpoint_part"),
        write=_lazily("tf1_writer", "write"),
        variable_name=lambda role, number: f"Variable_{number}" if number else "Variable",
    )
)
FORMATS.add(
    Format(
        "npz",
        "NumPy's .npz of weights and biases",
        _lazily("npz", "load"),
        suffix=".npz",
        kinds=("npz",),
        write=_lazily("npz", "write"),
        variable_name=lambda role, number: role,
    )
)
FORMATS.add(
    Format(
        "npy",
        "several .npy of weights and biases, with commas, or their folder",
        _lazily("npy", "load"),
        suffix=".npy",
        recognises=lambda spec: len(split_files(spec)) > 1,
        kinds=("npy",),
        reads_folder=True,
    )
)
FORMATS.add(
    Format(
        "keras",
        "Keras's .keras",
        _lazily("keras_file", "load"),
        suffix=".keras",
        kinds=("keras",),
        write=_lazily("keras_layers", "write"),
    )
)
FORMATS.add(
    Format(
        "hdf5",
        "Keras's HDF5 (.h5)",
        _lazily("hdf5", "load"),
        suffix=".h5",
        recognises=lambda spec: spec.lower().endswith(".hdf5"),
        kinds=("hdf5",),
    )
)
FORMATS.add(
    Format(
        "onnx",
        "ONNX (.onnx), with the extra [onnx]",
        _lazily("onnx_file", "load"),
        suffix=".onnx",
        kinds=("onnx",),
    )
)
FORMATS.add(
    Format(
        "saved_model",
        "a SavedModel folder of TF1 or TF2",
        _lazily("saved_model", "load"),
        recognises=lambda spec: (pathlib.Path(spec) / "saved_model.pb").is_file(),
    )
)
FORMATS.add(
    Format(
        "function",
        "package.module:function, in Python",
        _lazily("python_function", "load"),
        recognises=is_function,
    )
)
