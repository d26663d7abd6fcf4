"""The graph of an ONNX file: checked, and computed by TensorFlow."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from mnist_adv.errors import first_line
from mnist_adv.models.formats.graph_cost import require_quick
from mnist_adv.models.formats.keras_sizes import LARGEST_SUM
from mnist_adv.models.formats.onnx_constants import FOLDED, fold
from mnist_adv.models.formats.onnx_layout import Call
from mnist_adv.models.formats.onnx_operators import OPERATORS
from mnist_adv.models.formats.registry import ReadRequest
from mnist_adv.models.formats.shapes import Layout, find_layout
from mnist_adv.tensors.lazy import tf

_FLOATS = ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16")
_DOMAINS = ("", "ai.onnx")
# A residual net of a hundred layers has a few hundred.
_MOST_NODES = 10_000


class OnnxGraph:
    """The nodes of a file, checked, with the arrays that they use.

    Args:
        path: for messages.
        model: the parsed file.
        request: the shape of the images at hand, where the model leaves a choice.

    Raises:
        ValueError: the file is damaged, holds an operator that is not read, refers to other files,
            or is no classifier of images.
    """

    def __init__(self, path: str, model: Any, request: ReadRequest) -> None:
        self.path = path
        self.nodes = list(model.graph.node)
        opsets = [each.version for each in model.opset_import if each.domain in _DOMAINS]
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
        self.start, self.end = inputs[0].name, model.graph.output[0].name
        self.batch, self.layout = self._find_layout(inputs[0].type.tensor_type, request)

    def kinds(self) -> list[str]:
        """List the operators, for a note.

        Returns:
            Their names in order; of many the first and the last.
        """
        names = [node.op_type for node in self.nodes]
        return names if len(names) <= 12 else [*names[:11], f"{len(names) - 12} more", names[-1]]

    def attributes(self, node: Any) -> dict[str, Any]:
        """Read the attributes of a node.

        Args:
            node: of the graph.

        Returns:
            name -> value.
        """
        from onnx import helper

        return {each.name: helper.get_attribute_value(each) for each in node.attribute}

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

    def run(self, images: Any) -> Any:
        """Compute the output.

        Args:
            images: `[n, ...]` as the file takes them, float32 or float64, in a graph that
                TensorFlow builds.

        Returns:
            `[n, ...]`.

        Raises:
            ValueError: an operator cannot be computed, or asks for too much memory.
        """
        values: dict[str, Any] = {**self.arrays, self.start: images, "": None}
        count, numbers = tf.shape(images)[0], 0
        constant = functools.cache(lambda name: _as_tensor(values[name], images.dtype))
        for node in self.nodes:
            if self.end in values:
                break
            self._require_inputs(node, values)
            call = Call(
                self.attributes(node), self.opset, len(node.output), self.batch, count, images.dtype
            )
            try:
                found: Any = fold(node, self.opset, [values[name] for name in node.input])
                if found is None and node.op_type not in OPERATORS:
                    raise ValueError("it is read of small constants alone")
                if found is None:
                    found = OPERATORS[node.op_type](call, *map(constant, node.input))
            except Exception as error:  # whatever a wrong attribute or shape makes them raise
                raise ValueError(
                    f"{self.path} cannot be computed at {_plain(node.op_type)} "
                    f"({first_line(error)})"
                ) from error
            numbers = self._require_room(node, found, numbers)
            several = isinstance(found, list | tuple)
            values.update(zip(node.output, found if several else [found]))
        if self.end not in values:
            raise ValueError(f"{self.path} is damaged (nothing computes its output)")
        return values[self.end]

    def _require_inputs(self, node: Any, values: Mapping[str, Any]) -> None:
        missing = [name for name in node.input if name not in values]
        if missing:
            raise ValueError(
                f"{self.path} is damaged ({_plain(node.op_type)} takes {_plain(missing[0])}, which "
                "nothing before it computes); use an intact copy"
            )

    def _require_room(self, node: Any, found: Any, numbers: int) -> int:
        """Add the numbers of an output, for one image, to those of the nodes before."""
        for tensor in found if isinstance(found, list | tuple) else [found]:
            numbers += int(np.prod([length or 1 for length in tensor.shape], dtype=float))
        if numbers > LARGEST_SUM:
            raise ValueError(
                f"{self.path} must need at most {LARGEST_SUM:,} numbers for one image. Received: "
                f"{numbers:,} up to {_plain(node.op_type)}"
            )
        return numbers

    def _find_layout(self, form: Any, request: ReadRequest) -> tuple[int | None, Layout]:
        """Find the number of images that the file was written for, and how they are its input."""
        import onnx

        kind = onnx.TensorProto.DataType.Name(form.elem_type)
        if kind not in _FLOATS:
            raise ValueError(f"{self.path} must take images of floats. Received: {kind.lower()}")
        if not form.HasField("shape"):
            return None, find_layout(None, request.shape, self.path)
        lengths = [each.dim_value or None for each in form.shape.dim]
        return (lengths or [None])[0], find_layout(lengths[1:], request.shape, self.path)

    def _require_known(self) -> None:
        if len(self.nodes) > _MOST_NODES:
            raise ValueError(
                f"{self.path} must have at most {_MOST_NODES:,} operators. Received: "
                f"{len(self.nodes):,}"
            )
        known = {*OPERATORS, *FOLDED, "Constant"}
        unknown = {
            node.op_type if node.domain in _DOMAINS else f"{node.domain}.{node.op_type}"
            for node in self.nodes
            if node.domain not in _DOMAINS or node.op_type not in known
        }
        if unknown:
            raise ValueError(
                f"{self.path} holds operators that are not read: "
                f"{', '.join(_plain(name) for name in sorted(unknown)[:5])}. Read are "
                f"{', '.join(OPERATORS)}"
            )

    def _array(self, tensor: Any) -> np.ndarray:
        from onnx import TensorProto, numpy_helper

        name = _plain(tensor.name)
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
        if TensorProto.DataType.Name(tensor.data_type) in _FLOATS:
            values = values.astype(np.float32)
            if not np.isfinite(values).all() and values.ndim:
                raise ValueError(f"{self.path} holds weights that are not finite: {name}")
        if values.dtype.kind not in "fiub":
            raise ValueError(f"{self.path} holds {name}, which is not of numbers")
        return values

    def _constant(self, node: Any) -> np.ndarray:
        given = self.attributes(node)
        if getattr(given.get("value"), "dims", None) is not None:
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
        ValueError: the graph cannot be built, needs more than 2**35 multiplications for one image,
            or does not return a number per class.
    """

    def __init__(self, graph: OnnxGraph) -> None:
        self._graph = graph
        self._compiled: dict[Any, Any] = {}
        compiled = self._compile(tf.float32, self._compute)
        require_quick(compiled.graph.get_operations(), 1, graph.path)
        shape = compiled.output_shapes
        rest = shape[1:] if shape.rank else None
        if rest is None or not rest.is_fully_defined() or (rest.num_elements() or 0) < 2:
            raise ValueError(
                f"{graph.path} must return one number per class for each image, at least two. "
                f"Received: {shape} for images"
            )
        self._num_classes = int(rest.num_elements())

    def __call__(self, images: Any) -> Any:
        """Compute the outputs.

        Args:
            images: `[n, h, w, c]`, float32 or float64.

        Returns:
            `[n, k]` in the dtype of the images.
        """
        images = tf.convert_to_tensor(images)
        if images.dtype not in self._compiled:
            self._compiled[images.dtype] = self._compile(
                images.dtype,
                lambda images: tf.reshape(self._compute(images), [-1, self._num_classes]),
            )
        return tf.ensure_shape(
            self._compiled[images.dtype](images), [images.shape[0], self._num_classes]
        )

    def __repr__(self) -> str:
        return f"ONNX {self._graph.path!r}"

    def _compile(self, dtype: Any, function: Any) -> Any:
        """Compile once for all batch sizes."""
        spec = tf.TensorSpec([None, *self._graph.layout.shape], dtype)
        return tf.function(function, autograph=False).get_concrete_function(spec)

    def _compute(self, images: Any) -> Any:
        return self._graph.run(self._graph.layout.arrange(images))


def _as_tensor(value: Any, dtype: Any) -> Any:
    """Give weights to TensorFlow; numbers that decide shapes stay NumPy's."""
    floats = isinstance(value, np.ndarray) and value.dtype.kind == "f"
    return tf.constant(value, dtype) if floats else value


def _plain(name: str) -> str:
    return ascii(name)[1:-1]
