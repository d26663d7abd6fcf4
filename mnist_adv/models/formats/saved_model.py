"""Load a model from a SavedModel folder: its serving signature, after a check of operations."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from mnist_adv.errors import first_line
from mnist_adv.models.formats.registry import ReadRequest
from mnist_adv.models.formats.shapes import IMAGE_SHAPE, NUM_PIXELS
from mnist_adv.models.loaded import LoadedModel, digest
from mnist_adv.models.logits import as_logits

# A SavedModel is a program. These operations open files or run Python.
_REFUSED = frozenset([
    "ReadFile",
    "WriteFile",
    "MatchingFiles",
    "PyFunc",
    "PyFuncStateless",
    "EagerPyFunc",
    "WholeFileReader",
    "WholeFileReaderV2",
    "FixedLengthRecordReader",
    "TFRecordReader",
    "TextLineReader",
    "PrintV2",
    "Print",
    "LoadLibrary",
    "DebugNumericSummary",
    "Copy",
    "WriteSummary",
    "WriteImageSummary",
])
_SAVING = frozenset(["Save", "SaveSlices", "SaveV2", "MergeV2Checkpoints"])


def load(path: str, request: ReadRequest) -> LoadedModel:
    """Load a SavedModel, of TF1 or TF2, as a model that returns logits.

    Args:
        path: the folder.
        request: how to read it.

    Returns:
        The model, and what was taken.

    Raises:
        ValueError: the folder is damaged; its graph opens files or runs Python; no signature maps
            images of 784 pixels to the classes; it returns neither logits nor probabilities.
    """
    _check(path)
    try:
        loaded = tf.saved_model.load(path)
    except Exception as error:  # the loader raises many kinds
        raise ValueError(f"{path} is damaged ({first_line(error)}); use an intact copy") from error
    signatures = dict(loaded.signatures)
    name = "serving_default" if "serving_default" in signatures else next(iter(signatures), None)
    if name is None:
        raise ValueError(f"{path} has no signature; export it with model.export(folder)")
    _require_reading_only(path, signatures[name].graph.as_graph_def())
    model = _Callable(loaded, signatures[name], path, request.num_classes)
    logits, said = as_logits(model, request.images, path)
    taken = f"took signature {name}: {model.input_name} to {model.output_name}"
    files = sorted(file for file in pathlib.Path(path).rglob("*") if file.is_file())
    return LoadedModel(logits, path, digest(files), (taken, *said))


class _Callable:
    """A signature as images `[n, 28, 28, 1]` -> outputs.

    Args:
        loaded: what TensorFlow loaded; it owns the variables.
        signature: one of its signatures.
        path: for messages.
        num_classes: how many outputs there must be.

    Raises:
        ValueError: the signature has other inputs or outputs.
    """

    def __init__(self, loaded: Any, signature: Any, path: str, num_classes: int) -> None:
        self._loaded = loaded  # owns the variables, which would be freed with it
        self._signature = signature
        inputs = signature.structured_input_signature[1]
        outputs = signature.structured_outputs
        self._inputs = [name for name, spec in inputs.items() if _pixels(spec)]
        self._outputs = [
            name
            for name, spec in outputs.items()
            if spec.dtype.is_floating and spec.shape.rank == 2 and spec.shape[1] == num_classes
        ]
        if len(self._outputs) > 1:
            preferred = [name for name in self._outputs if "logit" in name.lower()]
            self._outputs = preferred or self._outputs
        if len(inputs) != 1 or len(self._inputs) != 1 or len(self._outputs) != 1:
            raise ValueError(
                f"{path} must have one signature from images of {NUM_PIXELS} pixels to "
                f"{num_classes} outputs. Received: {_listing(inputs)} to {_listing(outputs)}"
            )
        self.input_name, self.output_name = self._inputs[0], self._outputs[0]
        self._spec = inputs[self.input_name]

    def __call__(self, images: Any) -> Any:
        shape = self._spec.shape[1:] if self._spec.shape.rank else IMAGE_SHAPE
        pixels = tf.reshape(tf.cast(images, self._spec.dtype), [-1, *shape])
        return self._signature(**{self.input_name: pixels})[self.output_name]


def _pixels(spec: Any) -> bool:
    shape = spec.shape
    if not spec.dtype.is_floating or shape.rank is None or None in shape[1:]:
        return False
    return bool(shape.rank >= 2 and np.prod(shape[1:]) == NUM_PIXELS)


def _check(path: str) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    content = (pathlib.Path(path) / "saved_model.pb").read_bytes()
    try:
        saved = saved_model_pb2.SavedModel.FromString(content)
    except Exception as error:  # protobuf's DecodeError, whichever implementation runs
        raise ValueError(
            f"{path}/saved_model.pb is damaged ({first_line(error)}); use an intact copy"
        ) from error
    for meta_graph in saved.meta_graphs:
        for node in _nodes(meta_graph.graph_def):
            if node.op in _REFUSED:
                raise ValueError(
                    f"{path} holds the operation {node.op}, which reaches files or code outside "
                    "the model; nothing of it was run"
                )


def _require_reading_only(path: str, graph: Any) -> None:
    """Refuse a signature that writes: every SavedModel holds these operations, for its saver."""
    for node in _nodes(graph):
        if node.op in _SAVING:
            raise ValueError(
                f"{path} writes files when it is called ({node.op}); it was not called"
            )


def _nodes(graph: Any) -> Iterator[Any]:
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def


def _listing(specs: Any) -> str:
    return ", ".join(f"{name} {spec.dtype.name} {spec.shape}" for name, spec in specs.items())
