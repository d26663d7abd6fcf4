"""Load a model from a SavedModel folder: what its serving signature computes, and nothing else.

A SavedModel is a program, and Keras 2's also needs Keras 2's classes to be loaded as one. So it is
read as data: the operations between the signature's input and its output are built anew, after a
check, and the variables' values come from the checkpoint in the folder.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mnist_adv.errors import first_line
from mnist_adv.models.digests import digest_parts
from mnist_adv.models.formats import content, saved_fingerprint, tf1
from mnist_adv.models.formats.registry import ReadRequest
from mnist_adv.models.formats.saved_graph import GraphTensor, SavedGraph, plain
from mnist_adv.models.formats.shapes import Layout, find_layout
from mnist_adv.models.loaded import LoadedModel
from mnist_adv.models.logits import as_logits, note_blank
from mnist_adv.tensors.lazy import tf

_TAG = "serve"
_SERVING = "serving_default"
# Of the operation that initializes a TF1 graph.
_INTERNAL = "__saved_model"
# As many as tell a batch of images from one of them.
_NUM_TRIED = 2
_TF2_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


def load(path: str, request: ReadRequest) -> LoadedModel:
    """Load a SavedModel, of TF1 or TF2, as a model that returns logits.

    Args:
        path: the folder.
        request: how to read it.

    Returns:
        The model, and what was taken.

    Raises:
        FileNotFoundError: a file of its variables is missing; it is named.
        ValueError: a file in the folder is damaged; the graph holds operations that no classifier
            computes; no signature maps images to classes; it returns neither logits nor
            probabilities.
    """
    try:
        return _load(path, request)
    # What a graph is bound to give whose nodes are not whole.
    except (IndexError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path}/saved_model.pb is damaged ({first_line(error)}); use an intact copy"
        ) from error


def _load(path: str, request: ReadRequest) -> LoadedModel:
    meta_graph = _parse(path)
    name, signature = _signature(path, meta_graph)
    (start, spec, layout), end = _ends(path, signature, request)
    graph = SavedGraph(path, meta_graph)
    images = _Images(graph.find(signature.inputs[start].name), spec.dtype, layout)
    probes = request.images(layout.shape)
    outputs = graph.find(signature.outputs[end].name)
    notes = [f"took signature {name}: {plain(start)} to {plain(end)}"]
    variables = graph.variables(graph.order(outputs, images.tensor))
    graph.require_known(signature.outputs[end].name, variables)
    values = _values(path, graph, variables)
    model: Any = None
    logits = graph.before_softmax(outputs)
    if logits is not None:
        model = _Function(path, graph, images, logits, values)
    if model is not None and model.has_one_row_per_image():
        notes.append("its last softmax was taken off: the outputs are logits")
        model.require_finite(probes)
    else:
        model = _Function(path, graph, images, outputs, values)
        if not model.has_one_row_per_image():
            raise ValueError(
                f"{path} must return one number per class for each image, at least two. Received: "
                f"{model.shape} for {_NUM_TRIED} images"
            )
        model.require_finite(probes)
        model, said = as_logits(model, probes, path)
        notes += said
    notes += note_blank(model, probes)
    used = graph.order(outputs, images.tensor)
    content = digest_parts(
        [
            str(list(layout.shape)).encode(),
            *(part.node.SerializeToString(deterministic=True) for part in used),
        ],
        (values[variable.key].numpy() for variable in variables),
    )
    return LoadedModel(model, path, content, layout.shape, tuple(notes))


class _Images(NamedTuple):
    """Where images enter a graph.

    Attributes:
        tensor: that they take the place of.
        dtype: of that tensor.
        layout: how images become it.
    """

    tensor: GraphTensor
    dtype: Any
    layout: Layout


class _Function:
    """What a graph computes, as images `[n, h, w, c]` -> outputs `[n, k]`.

    float64 images are computed with in float64 where every operation has it.

    Args:
        path: for messages.
        graph: the graph.
        images: where they enter it.
        wanted: the output.
        values: of the variables.

    Raises:
        ValueError: the graph cannot be built, or asks for too much memory.
    """

    def __init__(
        self,
        path: str,
        graph: SavedGraph,
        images: _Images,
        wanted: GraphTensor,
        values: Mapping[Any, Any],
    ) -> None:
        self._path = path
        self._graph, self._images, self._wanted = graph, images, wanted
        self._order = graph.order(wanted, images.tensor)
        self._values = {tf.float32: values}
        self._compiled: dict[Any, Any] = {}
        few = tf.TensorSpec([_NUM_TRIED, *images.layout.shape], tf.float32)
        traced = tf.function(self._compute, autograph=False).get_concrete_function(few)
        self.shape = traced.output_shapes

    def __call__(self, images: Any) -> Any:
        images = tf.convert_to_tensor(images)
        dtype = tf.float64 if images.dtype == tf.float64 else tf.float32
        if dtype not in self._compiled:
            with tf.init_scope():
                self._compiled[dtype] = self._compile(dtype)
        outputs = self._compiled[dtype](tf.cast(images, dtype))
        # Compiled for any number of images, it does not say how many come out.
        return tf.ensure_shape(outputs, [images.shape[0], self.shape[-1]])

    def __repr__(self) -> str:
        return f"SavedModel {self._path!r}"

    def has_one_row_per_image(self) -> bool:
        """Tell whether the output is `[n, k]`, or `[n, 1, 1, k]` as some nets have it.

        Returns:
            Whether it is.
        """
        shape = self.shape
        return bool(
            shape.rank is not None
            and shape.rank >= 2
            and shape[0] == _NUM_TRIED
            and (shape[-1] or 0) >= 2
            and shape.num_elements() == _NUM_TRIED * shape[-1]
        )

    def require_finite(self, images: Any) -> None:
        """Run it once, and refuse a model that fails or returns what is not finite.

        Args:
            images: `[n, h, w, c]`.

        Raises:
            ValueError: it is such a model.
        """
        try:
            outputs = np.asarray(self(images))
        except tf.errors.OpError as error:
            raise ValueError(
                f"{self._path} fails on images {np.shape(images)} ({first_line(error)})"
            ) from error
        if not np.isfinite(outputs).all():
            raise ValueError(
                f"{self._path} returns values that are not finite for "
                f"{np.count_nonzero(~np.isfinite(outputs).all(axis=1))} of {len(outputs)} images"
            )

    def _compile(self, dtype: Any) -> Any:
        if dtype == tf.float64:
            self._values[dtype] = {
                key: tf.cast(value, dtype) if value.dtype == tf.float32 else value
                for key, value in self._values[tf.float32].items()
            }

        def call(images: Any) -> Any:
            outputs = self._compute(images)
            return tf.cast(tf.reshape(outputs, [-1, self.shape[-1]]), dtype)

        # Compiled once for all batch sizes.
        shape = self._images.layout.shape
        any_number = [tf.TensorSpec([None, *shape], dtype)]
        compiled = tf.function(call, input_signature=any_number, autograph=False)
        if dtype == tf.float64:
            try:
                compiled(tf.zeros([1, *shape], dtype))
            except (ValueError, tf.errors.OpError):  # an operation that has no float64
                narrow = self._compile(tf.float32)
                return lambda images: tf.cast(narrow(tf.cast(images, tf.float32)), dtype)
        return compiled

    def _compute(self, images: Any) -> Any:
        _, dtype, layout = self._images
        is_wide = images.dtype == tf.float64 and dtype == tf.float32
        pixels = layout.arrange(tf.cast(images, tf.float64 if is_wide else dtype))
        # Of a batch as large as the caller's, where that is known.
        pixels.set_shape([images.shape[0], *layout.inputs])
        values = self._values[tf.float64 if is_wide else tf.float32]
        return self._graph.build(self._order, self._wanted, self._images.tensor, pixels, values)


def _parse(path: str) -> Any:
    """Return the graph for serving."""
    from tensorflow.core.protobuf import saved_model_pb2

    file = pathlib.Path(path) / "saved_model.pb"
    content.require(file, {"saved_model_graph"})
    try:
        saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    except Exception as error:  # protobuf's DecodeError, whichever implementation runs
        raise ValueError(f"{file} is damaged ({first_line(error)}); use an intact copy") from error
    graphs = saved.meta_graphs
    if not graphs:
        raise ValueError(f"{file} is damaged (it holds no graph); use an intact copy")
    saved_fingerprint.require_same(pathlib.Path(path), saved)
    # The plainest first: a graph may have other tags beside this one.
    for graph in sorted(graphs, key=lambda graph: len(graph.meta_info_def.tags)):
        if _TAG in graph.meta_info_def.tags:
            return graph
    tags = "; ".join(plain(", ".join(graph.meta_info_def.tags)) or "none" for graph in graphs)
    raise ValueError(f"{path} must hold a graph with the tag {_TAG}. Received: tags {tags}")


def _signature(path: str, meta_graph: Any) -> tuple[str, Any]:
    signatures = {
        name: signature
        for name, signature in sorted(meta_graph.signature_def.items())
        if not name.startswith(_INTERNAL)
    }
    if not signatures:
        raise ValueError(f"{path} has no signature; export it with model.export(folder)")
    name = _SERVING if _SERVING in signatures else next(iter(signatures))
    return plain(name), signatures[name]


def _ends(
    path: str, signature: Any, request: ReadRequest
) -> tuple[tuple[str, tf.TensorSpec, Layout], str]:
    """Choose the input and the output of a signature, by name."""
    inputs, outputs = _specs(signature.inputs), _specs(signature.outputs)
    scores = [item for item in outputs.items() if _may_be_scores(item[1], None)]
    if len(scores) > 1:
        scores = [item for item in scores if _may_be_scores(item[1], request.num_classes)]
    # A signature need not say every shape; it is known when the graph is built.
    found = [item for item in scores if item[1].shape.rank and item[1].shape[-1]] or scores
    if len(found) > 1:
        found = [item for item in found if "logit" in item[0].lower()] or found
    ((start, spec), *more) = inputs.items() or [("", tf.TensorSpec(None, tf.string))]
    if more or not spec.dtype.is_floating or len(found) != 1:
        raise ValueError(
            f"{path} must have one signature from images, in floats, to one output of a number "
            f"per class. Received: {_listing(inputs)} to {_listing(outputs)}"
        )
    lengths = None if spec.shape.rank is None else spec.shape.as_list()[1:]
    return (start, spec, find_layout(lengths, request.shape, path)), found[0][0]


def _specs(infos: Any) -> dict[str, tf.TensorSpec]:
    # A sparse tensor, or one of several parts, has no name of its own.
    return {
        name: tf.TensorSpec(info.tensor_shape, info.dtype if info.name else tf.string)
        for name, info in sorted(infos.items())
    }


def _may_be_scores(spec: tf.TensorSpec, num_classes: int | None) -> bool:
    return bool(spec.dtype.is_floating and spec.shape.is_compatible_with([None, num_classes]))


def _listing(specs: Mapping[str, tf.TensorSpec]) -> str:
    listed = (f"{plain(name)} {spec.dtype.name} {spec.shape}" for name, spec in specs.items())
    return ", ".join(listed) or "nothing"


def _values(path: str, graph: SavedGraph, variables: Sequence[GraphTensor]) -> dict[Any, Any]:
    """Read the values of variables from the checkpoint in the folder; the graph may have none."""
    if not variables:
        return {}
    arrays = tf1.read(tf1.find_prefix(f"{path}/variables/variables"))
    keys = graph.checkpoint_keys()
    values = {}
    for variable in variables:
        node = variable.node
        key = keys.get(variable.key, node.name).removesuffix(_TF2_SUFFIX)
        if key not in arrays.shapes:
            raise ValueError(
                f"{path} holds the variable {plain(node.name)}, of which {arrays.where} has no "
                f"values as {plain(key)}"
            )
        declared = tf.TensorShape(node.attr["shape"].shape)
        dtype = tf.as_dtype(node.attr["dtype"].type)
        if not declared.is_compatible_with(arrays.shapes[key]):
            raise ValueError(
                f"{path} holds the variable {plain(node.name)} of shape {declared}, and values "
                f"for it of shape {tuple(arrays.shapes[key])}"
            )
        values[variable.key] = tf.constant(arrays.read(key), dtype)
    return values
