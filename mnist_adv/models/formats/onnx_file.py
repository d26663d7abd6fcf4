"""Load a model from an ONNX file: what its graph computes, built anew in TensorFlow."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from mnist_adv.errors import first_line
from mnist_adv.models.activation import Activation
from mnist_adv.models.formats.onnx_operators import OPERATORS, Call
from mnist_adv.models.formats.registry import ReadRequest
from mnist_adv.models.formats.shapes import Layout, find_layout
from mnist_adv.models.loaded import LoadedModel, digest
from mnist_adv.models.logits import as_logits, note_blank
from mnist_adv.models.perceptron import make_model

# Numbers of one tensor that the graph computes of one image.
_MOST_NUMBERS = 2**28
_FLOATS = ("FLOAT", "DOUBLE", "FLOAT16")
_ACTIVATIONS = {
    "Relu": Activation.RELU,
    "Sigmoid": Activation.SIGMOID,
    "Tanh": Activation.TANH,
    "Elu": Activation.ELU,
    "Selu": Activation.SELU,
    "Softplus": Activation.SOFTPLUS,
}
_PASSING = ("Flatten", "Reshape", "Identity", "Dropout")
_NUM_TRIED = 3


def load(path: str, request: ReadRequest) -> LoadedModel:
    """Load an ONNX file as a model that returns logits.

    Args:
        path: the file.
        request: images on which the outputs are tested, and their shape.

    Returns:
        The model, and what was changed. A chain of plain layers becomes a model of ours, which can
        be converted and for which the closed forms hold.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the package onnx is not installed; the file is damaged, holds an operator that
            is not read, refers to other files, or is no classifier of images; it returns neither
            logits nor probabilities.
    """
    graph = _Graph(path, _parse(path), request)
    layout, images = graph.layout, request.images(graph.layout.shape)
    notes = [f"took {' -> '.join(graph.kinds())}"]
    bare = graph.without_softmax()
    if bare:
        notes.append("its last softmax was taken off: the outputs are logits")
    model: Any = OnnxModel(graph)
    _require_each_alone(model, images, path)
    chain = graph.as_chain()
    if chain is not None and np.allclose(chain(images), model(images), rtol=1e-3, atol=1e-3):
        model = chain
    if not bare:
        model, said = as_logits(model, images, path)
        notes += said
    notes += note_blank(model, images)
    return LoadedModel(model, path, digest([pathlib.Path(path)]), layout.shape, tuple(notes))


def _parse(path: str) -> Any:
    try:
        import onnx
    except ImportError:
        raise ValueError(
            f"{path} is an ONNX file, which the package onnx reads: pip install 'mnist_adv[onnx]'"
        ) from None
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's DecodeError, whichever implementation runs
        raise ValueError(f"{path} is damaged ({first_line(error)}); use an intact copy") from error
    if not model.graph.node:
        raise ValueError(f"{path} is damaged (it holds no graph); use an intact copy")
    return model


class _Graph:
    """The nodes of a file, checked, with the arrays that they use.

    Args:
        path: for messages.
        model: the parsed file.
        request: the shape of the images at hand, where the model leaves a choice.

    Raises:
        ValueError: as `load`.
    """

    def __init__(self, path: str, model: Any, request: ReadRequest) -> None:
        import onnx

        self.path = path
        self.nodes = list(model.graph.node)
        opsets = [each.version for each in model.opset_import if each.domain in ("", "ai.onnx")]
        self.opset = max(opsets, default=1)
        self._require_known()
        self.arrays = {tensor.name: self._array(tensor) for tensor in model.graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant":
                self.arrays[node.output[0]] = self._constant(node)
        self.nodes = [node for node in self.nodes if node.op_type != "Constant"]
        inputs = [each for each in model.graph.input if each.name not in self.arrays]
        if len(inputs) != 1 or len(model.graph.output) != 1:
            raise ValueError(
                f"{path} must have one input, images, and one output, a number per class. "
                f"Received: {len(inputs)} and {len(model.graph.output)}"
            )
        form = inputs[0].type.tensor_type
        kind = onnx.TensorProto.DataType.Name(form.elem_type)
        if kind not in _FLOATS:
            raise ValueError(f"{path} must take images of floats. Received: {kind.lower()}")
        lengths = [each.dim_value or None for each in form.shape.dim]
        self.batch = lengths[0] if lengths else None
        self.layout: Layout = find_layout(lengths[1:], request.shape, path)
        self.start, self.end = inputs[0].name, model.graph.output[0].name

    def kinds(self) -> list[str]:
        """List the operators, for a note.

        Returns:
            Their names in order; of many the first and the last.
        """
        names = [node.op_type for node in self.nodes]
        return names if len(names) <= 12 else [*names[:11], f"{len(names) - 12} more", names[-1]]

    def without_softmax(self) -> bool:
        """End before the softmax.

        Returns:
            Whether there is one at the end.
        """
        producers = {name: node for node in self.nodes for name in node.output}
        node = producers.get(self.end)
        while node is not None and node.op_type == "Identity":
            node = producers.get(node.input[0])
        if node is None or node.op_type != "Softmax":
            return False
        self.end = node.input[0]
        return True

    def run(self, images: Any, arrays: Mapping[str, Any]) -> Any:
        """Compute the output.

        Args:
            images: as the file takes them.
            arrays: name -> array; those that decide shapes are NumPy's.

        Returns:
            `[n, ...]`.

        Raises:
            ValueError: an operator cannot be computed, or asks for too much memory.
        """
        values: dict[str, Any] = {**arrays, self.start: images, "": None}
        for node in self.nodes:
            call = Call(_attributes(node), self.opset, self.batch)
            try:
                given = [values[name] for name in node.input]
                found = OPERATORS[node.op_type](call, *given)
            except (KeyError, IndexError, TypeError, ValueError, tf.errors.OpError) as error:
                raise ValueError(
                    f"{self.path} cannot be computed at {node.op_type} ({first_line(error)})"
                ) from error
            if isinstance(found, tf.Tensor) and _numbers_of(found) > _MOST_NUMBERS:
                raise ValueError(
                    f"{self.path} asks for {_numbers_of(found):,} numbers at {node.op_type}, for "
                    f"one image; at most {_MOST_NUMBERS:,} are computed"
                )
            values[node.output[0]] = found
            if node.output[0] == self.end:
                break
        if self.end not in values:
            raise ValueError(f"{self.path} is damaged (nothing computes its output)")
        return values[self.end]

    def as_chain(self) -> Any:
        """Make a model of ours of affine layers with one activation between them.

        Returns:
            The model; None if the graph is more than that.
        """
        layers: list[tuple[np.ndarray, np.ndarray]] = []
        between: list[str] = []
        now = self.start
        for node in self.nodes:
            kind, names = node.op_type, list(node.input)
            constants = [self.arrays[name] for name in names if name in self.arrays]
            if now not in names or (layers and len(between) not in (len(layers), len(layers) - 1)):
                return None
            if kind in ("Gemm", "MatMul") and names[0] == now and constants:
                if not layers or len(between) == len(layers):
                    affine = _affine(node, constants)
                    if affine is None:
                        return None
                    layers.append(affine)
                else:
                    return None
            elif kind == "Add" and layers and len(between) < len(layers) and len(constants) == 1:
                weights, bias = layers[-1]
                if constants[0].size != bias.size:
                    return None
                layers[-1] = weights, bias + constants[0].reshape(-1)
            elif kind in _ACTIVATIONS and layers and len(between) < len(layers):
                if kind == "Elu" and _attributes(node).get("alpha", 1.0) != 1.0:
                    return None
                between.append(kind)
            elif kind not in _PASSING:
                return None
            now = node.output[0]
            if now == self.end:
                break
        if not layers or len(between) != len(layers) - 1 or len(set(between)) > 1:
            return None
        weights, bias = layers[0]
        if self.layout.channels_first and weights.shape[0] == np.prod(self.layout.inputs):
            by_channel = weights.reshape(*self.layout.inputs, -1)
            layers[0] = by_channel.transpose(1, 2, 0, 3).reshape(weights.shape), bias
        return make_model(
            [(weights.astype(np.float32), bias.astype(np.float32)) for weights, bias in layers],
            _ACTIVATIONS[between[0]] if between else None,
        )

    def _require_known(self) -> None:
        unknown = {
            node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
            for node in self.nodes
            if node.domain not in ("", "ai.onnx") or node.op_type not in (*OPERATORS, "Constant")
        }
        if unknown:
            shown = ", ".join(ascii(name)[1:-1] for name in sorted(unknown)[:5])
            raise ValueError(
                f"{self.path} holds operators that are not read: {shown}. Read are "
                f"{', '.join(OPERATORS)}"
            )

    def _array(self, tensor: Any) -> np.ndarray:
        from onnx import TensorProto, numpy_helper

        name = ascii(tensor.name)[1:-1]
        if tensor.data_location == TensorProto.EXTERNAL:
            raise ValueError(
                f"{self.path} holds {name} in another file, which is not opened; save it as one "
                "file: torch.onnx.export(..., external_data=False)"
            )
        try:
            values = np.array(numpy_helper.to_array(tensor))
        except Exception as error:  # of bytes that do not fit their shape
            raise ValueError(
                f"{self.path} is damaged ({name}: {first_line(error)}); use an intact copy"
            ) from error
        if values.dtype.kind not in "fiub":
            raise ValueError(f"{self.path} holds {name}, which is not of numbers")
        if values.dtype.kind == "f":
            values = values.astype(np.float32)
            if not np.isfinite(values).all() and values.ndim:
                raise ValueError(f"{self.path} holds weights that are not finite: {name}")
        return values

    def _constant(self, node: Any) -> np.ndarray:
        given = _attributes(node)
        if "value" in given:
            return self._array(given["value"])
        for name in ("value_float", "value_floats", "value_int", "value_ints"):
            if name in given:
                return np.asarray(given[name], np.float32 if "float" in name else np.int64)
        raise ValueError(f"{self.path} holds a Constant that is not of numbers")


class OnnxModel:
    """What a graph computes, as images `[n, h, w, c]` -> outputs `[n, k]`.

    Args:
        graph: of the file.

    Raises:
        ValueError: the graph cannot be built, or does not return a number per class.
    """

    def __init__(self, graph: _Graph) -> None:
        self._graph = graph
        self._compiled: dict[Any, Any] = {}
        one = tf.TensorSpec([1, *graph.layout.shape], tf.float32)
        shape = tf.function(self._compute, autograph=False).get_concrete_function(one).output_shapes
        if not shape.is_fully_defined() or shape.rank < 2 or shape.num_elements() < 2:
            raise ValueError(
                f"{graph.path} must return one number per class for each image, at least two. "
                f"Received: {shape} for one image"
            )
        self._num_classes = shape.num_elements()

    def __call__(self, images: Any) -> Any:
        """Compute the outputs.

        Args:
            images: `[n, h, w, c]`, float32 or float64.

        Returns:
            `[n, k]` in the dtype of the images.
        """
        images = tf.convert_to_tensor(images)
        if images.dtype not in self._compiled:
            shape = [None, *self._graph.layout.shape]
            # Compiled once for all batch sizes.
            self._compiled[images.dtype] = tf.function(
                lambda images: tf.reshape(self._compute(images), [-1, self._num_classes]),
                input_signature=[tf.TensorSpec(shape, images.dtype)],
                autograph=False,
            )
        return tf.ensure_shape(
            self._compiled[images.dtype](images), [images.shape[0], self._num_classes]
        )

    def __repr__(self) -> str:
        return f"ONNX {self._graph.path!r}"

    def _compute(self, images: Any) -> Any:
        arrays = {
            name: tf.constant(values, images.dtype) if values.dtype.kind == "f" else values
            for name, values in self._graph.arrays.items()
        }
        return self._graph.run(self._graph.layout.arrange(images), arrays)


def _require_each_alone(model: OnnxModel, images: np.ndarray, path: str) -> None:
    """Refuse a graph in which the images of a batch influence one another."""
    some = images[:_NUM_TRIED]
    try:
        together = np.asarray(model(some))
        alone = np.concatenate([np.asarray(model(some[at : at + 1])) for at in range(len(some))])
    except tf.errors.OpError as error:
        raise ValueError(
            f"{path} fails on {len(some)} images ({first_line(error)}); export it with a free "
            "batch size (dynamic_axes or dynamic_shapes)"
        ) from error
    if together.shape != alone.shape or not np.allclose(together, alone, rtol=1e-3, atol=1e-3):
        raise ValueError(
            f"{path} computes other outputs for images together than for each alone; export it "
            "in eval mode and with a free batch size"
        )


def _affine(node: Any, constants: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    given = _attributes(node)
    weights = constants[0].astype(np.float64)
    if weights.ndim != 2 or given.get("transA"):
        return None
    weights = given.get("alpha", 1.0) * (weights.T if given.get("transB") else weights)
    bias = np.zeros(weights.shape[1])
    if len(constants) > 1:
        if constants[1].size not in (1, bias.size):
            return None
        bias = bias + given.get("beta", 1.0) * constants[1].reshape(-1)
    return weights, bias


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def _numbers_of(tensor: Any) -> int:
    return int(np.prod([length or 1 for length in tensor.shape.as_list()], dtype=float))
