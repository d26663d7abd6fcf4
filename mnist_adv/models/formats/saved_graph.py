"""Read a SavedModel's graph as data, and build what lies between two of its tensors.

Nothing is run as the file has it: functions are followed in place, operations are held to a list,
and every tensor's size is known before the next operation is added. The operations that restore
the variables are only read, as a table of the variables' names in the checkpoint.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mnist_adv.errors import first_line
from mnist_adv.models.formats.graph_cost import require_quick
from mnist_adv.tensors.lazy import tf

# What a classifier computes, with the random numbers of a dropout that was left on. None opens a
# file, runs Python, keeps a state, loops or waits.
_COMPUTING = """
    Const Placeholder PlaceholderWithDefault VarHandleOp ReadVariableOp Variable VariableV2
    Identity IdentityN StopGradient PreventGradient CheckNumerics EnsureShape Cast Bitcast
    MatMul BatchMatMul BatchMatMulV2 BatchMatMulV3 Einsum Conv2D Conv2DBackpropInput
    DepthwiseConv2dNative Conv3D BiasAdd BiasAddV1 MaxPool MaxPoolV2 AvgPool LRN FusedBatchNorm
    FusedBatchNormV2 FusedBatchNormV3 Relu Relu6 LeakyRelu Elu Selu Softplus Softsign Sigmoid
    Tanh Softmax LogSoftmax Erf Erfc Add AddV2 AddN Sub Mul MulNoNan Div DivNoNan RealDiv
    FloorDiv FloorMod Mod TruncateDiv Maximum Minimum Pow Square Sqrt Rsqrt Reciprocal Inv Neg
    Abs Sign Exp Expm1 Log Log1p Sin Cos Floor Ceil Round Rint SquaredDifference ClipByValue
    L2Loss Equal NotEqual Greater GreaterEqual Less LessEqual LogicalAnd LogicalOr LogicalNot
    Select SelectV2 IsFinite IsNan Sum Mean Max Min Prod All Any ArgMax ArgMin Cumsum Shape
    ShapeN Size Rank Reshape Squeeze ExpandDims Transpose Concat ConcatV2 ConcatOffset Pack
    Unpack Split SplitV Slice StridedSlice Gather GatherV2 GatherNd Pad PadV2 MirrorPad Tile
    BroadcastTo BroadcastArgs BroadcastGradientArgs Fill ZerosLike OnesLike Range OneHot
    ReverseV2 SpaceToBatchND BatchToSpaceND SpaceToDepth DepthToSpace ResizeBilinear
    ResizeNearestNeighbor InvertPermutation RandomUniform RandomStandardNormal TruncatedNormal
"""
# They return no tensor, so that none of them is ever built.
_WITHOUT_OUTPUT = ("NoOp", "Assert")
# Choices that are made when the graph is read, as that between training and inference.
_CONDITIONS = frozenset(["If", "StatelessIf"])
_SWITCHES = frozenset(["Switch", "RefSwitch"])
_MERGES = frozenset(["Merge", "RefMerge"])
_KNOWN = frozenset([
    *_COMPUTING.split(),
    *_WITHOUT_OUTPUT,
    *_CONDITIONS,
    *_SWITCHES,
    *_MERGES,
])
_CALLS = frozenset(["PartitionedCall", "StatefulPartitionedCall"])
_VARIABLES = frozenset(["VarHandleOp", "Variable", "VariableV2"])
_CHANGES = frozenset(["AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp"])
_ASSIGNMENTS = frozenset(["Assign", "AssignVariableOp"])
# They give their input another name or shape, or lie in the file.
_NEEDING_NOTHING = frozenset(["Identity", "IdentityN", "Reshape", "Squeeze", "ExpandDims", "Const"])
# Functions that call functions can ask for any amount of work. A residual net of a hundred layers
# takes some 20,000 steps from one node to another.
_MOST_STEPS = 500_000
_DEEPEST_CALL = 100
# Of two images, in numbers. The largest nets for images of this size need a tenth.
_LARGEST_TENSOR = 2**23
_LARGEST_SUM = 2**27
_MOST_LISTED = 5
_MOST_OUTPUTS = 4096  # of one operation


@dataclasses.dataclass(frozen=True, eq=False)
class _Scope:
    """The graph, or the body of one call of one of its functions.

    Attributes:
        nodes: name -> node.
        arguments: name -> the tensor that the caller gives.
        depth: how many calls lie above it.
        children: name of a calling node -> the body that it calls.
    """

    nodes: Mapping[str, Any]
    arguments: Mapping[str, tuple[_Scope, str]] = dataclasses.field(default_factory=dict)
    depth: int = 0
    children: dict[str, tuple[_Scope, Any]] = dataclasses.field(default_factory=dict)


class GraphTensor(NamedTuple):
    """An output of a node that is no call.

    Attributes:
        scope: where the node stands.
        node: the node.
        part: which of its named outputs; empty where all are counted in one row.
        number: which of them.
    """

    scope: _Scope
    node: Any
    part: str
    number: int

    @property
    def key(self) -> tuple[_Scope, str]:
        """What identifies its node."""
        return self.scope, self.node.name


class SavedGraph:
    """A graph from a file, whose functions are followed in place.

    Args:
        where: the folder, for messages.
        meta_graph: a `MetaGraphDef`.
    """

    def __init__(self, where: str, meta_graph: Any) -> None:
        self._where = where
        self._functions = {
            function.signature.name: function for function in meta_graph.graph_def.library.function
        }
        self._restoring = meta_graph.saver_def.restore_op_name
        self._top = _Scope(_by_name(meta_graph.graph_def.node))
        self._sources: dict[tuple[_Scope, str], list[GraphTensor]] = {}
        self._steps = 0

    def find(self, name: str) -> GraphTensor:
        """Find a tensor of the graph.

        Args:
            name: "node:0", as signatures have it.

        Returns:
            The tensor, through the functions that it comes out of.

        Raises:
            ValueError: there is none, or calls do not end.
        """
        return self._find(self._top, name)

    def require_known(self, name: str, read: Sequence[GraphTensor]) -> None:
        """Refuse a tensor on whose way there are operations that no classifier computes.

        Functions on the way are checked whole, as they run whole.

        Args:
            name: "node:0", as signatures have it.
            read: the variables that it depends on. Changes of others, as random layers count their
                calls, are left out.

        Raises:
            ValueError: there is such an operation; it is named.
        """
        kept = {tensor.key for tensor in read}
        unknown: dict[str, str] = {}
        for scope, node in self._run_for(name):
            if self._is_call(node) or node.op in _KNOWN:
                continue
            if node.op in _CHANGES:
                if self._find(scope, node.input[0]).key not in kept:
                    continue
                raise ValueError(
                    f"{self._where} holds the operation {plain(node.op)} ({plain(node.name)}), "
                    "which changes a variable that the outputs depend on; nothing of it was run"
                )
            unknown.setdefault(node.op, node.name)
        if unknown:
            (first, where), *others = unknown.items()
            also = ", ".join(plain(operation) for operation, _ in others[:_MOST_LISTED])
            raise ValueError(
                f"{self._where} holds the operation {plain(first)} ({plain(where)}), which is none "
                f"that a classifier computes{also and f', nor is {also}'}; nothing of it was run"
            )

    def checkpoint_keys(self) -> dict[tuple[_Scope, str], str]:
        """Read which variable is restored from which name in the checkpoint.

        Returns:
            key of the variable's node -> name; empty if the graph does not say.
        """
        found = {}
        if self._restoring:
            for scope, node in self._run_for(self._restoring):
                if node.op in _ASSIGNMENTS:
                    variable = self._find(scope, node.input[0])
                    stored = self._unwrapped(self._find(scope, node.input[1]))
                    if stored.node.op == "RestoreV2":
                        names = self._find(stored.scope, stored.node.input[1]).node
                        key = names.attr["value"].tensor.string_val[stored.number]
                        found[variable.key] = key.decode(errors="replace")
        return found

    def before_softmax(self, tensor: GraphTensor) -> GraphTensor | None:
        """Find the logits of a tensor that is the output of a softmax.

        Args:
            tensor: as `find` returns it.

        Returns:
            The softmax's input; None if the last operation is not a softmax.
        """
        last = self._unwrapped(tensor)
        return self._inputs(last)[0] if last.node.op == "Softmax" else None

    def order(self, tensor: GraphTensor, start: GraphTensor) -> list[GraphTensor]:
        """List what must be computed for a tensor.

        Args:
            tensor: as `find` returns it.
            start: the images; what they come from is left out.

        Returns:
            One tensor of each node, inputs before what uses them.

        Raises:
            ValueError: a node that is missing or depends on itself; an input beside the images.
        """
        finished: dict[tuple[_Scope, str], bool] = {start.key: True}
        ordered = []
        waiting = [(tensor, False)]
        while waiting:
            current, is_left = waiting.pop()
            if is_left:
                finished[current.key] = True
                ordered.append(current)
            elif current.key not in finished:
                self._count()
                if current.node.op == "Placeholder":
                    raise ValueError(
                        f"{self._where} needs the input {plain(current.node.name)} beside the "
                        "images; its signature has none"
                    )
                finished[current.key] = False
                waiting.append((current, True))
                waiting += [(source, False) for source in self._inputs(current)]
            elif not finished[current.key]:
                raise self._damaged(f"{plain(current.node.name)} depends on itself")
        return ordered

    def build(
        self,
        order: Sequence[GraphTensor],
        wanted: GraphTensor,
        start: GraphTensor,
        pixels: Any,
        variables: Mapping[tuple[_Scope, str], Any],
    ) -> Any:
        """Add the operations between two tensors to the graph that is being traced.

        Args:
            order: of `order`.
            wanted: the output.
            start: the images' node.
            pixels: the tensor that takes its place. In float64, so is all that was float32.
            variables: key of a variable's node -> its value, in the same width.

        Returns:
            The output's tensor.

        Raises:
            ValueError: where the batch size is known: a tensor whose shape depends on the values
                of the pixels, or tensors that are too large.
        """
        is_wide = pixels.dtype == tf.float64
        graph = tf.compat.v1.get_default_graph()
        made: dict[tuple[_Scope, str], tuple[Any, Sequence[Any]]] = {start.key: (None, [pixels])}
        is_counted = pixels.shape[0] is not None
        first = len(graph.get_operations())
        numbers = 0
        for current in order:
            node = current.node
            inputs = [_output(made[source.key], source) for source in self._inputs(current)]
            if is_counted:
                self._require_known_shapes(node, inputs)
            if node.op in _VARIABLES:
                made[current.key] = None, [variables[current.key]]
            elif node.op in ("ReadVariableOp", "PlaceholderWithDefault"):
                made[current.key] = None, inputs
            elif is_wide and node.op.startswith("FusedBatchNorm"):
                made[current.key] = None, [_batch_norm(node, *inputs)]
            else:
                if node.op == "Const":
                    numbers = self._require_small(node, numbers, _declared(node))
                attributes = {
                    name: _widened(value) if is_wide else value
                    for name, value in node.attr.items()
                    # Placement, and gradients that the file's program had registered.
                    if not name.startswith("_")
                }
                self._require_few_outputs(node)
                try:
                    operation = graph.create_op(node.op, inputs, attrs=attributes)
                except Exception as error:  # TensorFlow raises many kinds
                    raise ValueError(
                        f"{self._where} cannot be computed at {plain(node.op)} "
                        f"({plain(node.name)}): {first_line(error)}"
                    ) from error
                made[current.key] = operation, operation.outputs
                if is_counted and node.op not in _NEEDING_NOTHING:
                    for output in operation.outputs:
                        numbers = self._require_small(node, numbers, output.shape)
        if is_counted:
            require_quick(graph.get_operations()[first:], pixels.shape[0], self._where)
        return _output(made[wanted.key], wanted)

    def variables(self, order: Sequence[GraphTensor]) -> list[GraphTensor]:
        """List the variables among tensors.

        Args:
            order: of `order`.

        Returns:
            Those that are variables.
        """
        return [tensor for tensor in order if tensor.node.op in _VARIABLES]

    def _require_few_outputs(self, node: Any) -> None:
        attributes = dict(node.attr)
        for name in ("num", "num_split"):
            count = attributes[name].i if name in attributes else 0
            if count > _MOST_OUTPUTS:
                raise ValueError(
                    f"{self._where} must split a tensor into at most {_MOST_OUTPUTS:,} parts. "
                    f"Received: {count:,} for {plain(node.op)} ({plain(node.name)})"
                )

    def _require_known_shapes(self, node: Any, inputs: Sequence[Any]) -> None:
        for source in inputs:
            if not source.shape.is_fully_defined():
                raise ValueError(
                    f"{self._where} gives {plain(node.op)} ({plain(node.name)}) a tensor whose "
                    f"shape depends on the values of the pixels: {source.shape}"
                )

    def _require_small(self, node: Any, numbers: int, shape: tf.TensorShape) -> int:
        """Add the size of a tensor, where it is known, to that of those before it."""
        size = shape.num_elements() or 0
        if size > _LARGEST_TENSOR or numbers + size > _LARGEST_SUM:
            raise ValueError(
                f"{self._where} must need at most {_LARGEST_TENSOR:,} numbers for a tensor of two "
                f"images, and {_LARGEST_SUM:,} for all. Received: {size:,} for {plain(node.op)} "
                f"({plain(node.name)}), {numbers:,} before it"
            )
        return numbers + size

    def _unwrapped(self, tensor: GraphTensor) -> GraphTensor:
        """Go back over what passes values on as they are."""
        while tensor.node.op in ("Identity", "Reshape", "Squeeze") or (
            tensor.node.op == "Cast"
            and all(tf.as_dtype(tensor.node.attr[end].type).is_floating for end in ("SrcT", "DstT"))
        ):
            self._count()
            tensor = self._inputs(tensor)[0]
        return tensor

    def _inputs(self, tensor: GraphTensor) -> list[GraphTensor]:
        if tensor.key not in self._sources:
            self._sources[tensor.key] = [
                self._find(tensor.scope, name)
                for name in tensor.node.input
                if not name.startswith("^")
            ]
        return self._sources[tensor.key]

    def _find(self, scope: _Scope, name: str) -> GraphTensor:
        while True:
            node_name, part, number = self._parse(name)
            if node_name in scope.arguments:
                self._count()
                scope, name = scope.arguments[node_name]
                continue
            node = scope.nodes.get(node_name)
            if node is None:
                raise self._damaged(f"no node {plain(node_name)}")
            if node.op in _SWITCHES or node.op in _MERGES:
                self._count()
                name = node.input[0] if node.op in _SWITCHES else self._taken(scope, node)
                continue
            if not self._is_call(node):
                return GraphTensor(scope, node, part, number)
            scope, function = self._enter(scope, node)
            outputs = [argument.name for argument in function.signature.output_arg]
            if part in outputs:  # of a call by the function's own name
                number = outputs.index(part)
            if number >= len(outputs) or outputs[number] not in function.ret:
                raise self._damaged(f"{plain(node_name)} has no output {number}")
            name = function.ret[outputs[number]]

    def _enter(self, scope: _Scope, node: Any) -> tuple[_Scope, Any]:
        self._count()
        if node.name not in scope.children:
            given = [(scope, source) for source in node.input if not source.startswith("^")]
            name = node.attr["f"].func.name if node.op in _CALLS else node.op
            if node.op in _CONDITIONS:
                branch = "then_branch" if self._decision(*given.pop(0)) else "else_branch"
                name = node.attr[branch].func.name
            function = self._functions.get(name)
            if function is None:
                raise self._damaged(f"no function {plain(name)}")
            if scope.depth == _DEEPEST_CALL:
                raise ValueError(
                    f"{self._where} must call functions at most {_DEEPEST_CALL} deep; "
                    f"{plain(name)} is deeper, or calls itself"
                )
            wanted = [argument.name for argument in function.signature.input_arg]
            if len(given) != len(wanted):
                raise self._damaged(
                    f"{plain(name)} takes {len(wanted)} arguments and gets {len(given)}"
                )
            body = _Scope(_by_name(function.node_def), dict(zip(wanted, given)), scope.depth + 1)
            scope.children[node.name] = body, function
        return scope.children[node.name]

    def _decision(self, scope: _Scope, name: str) -> bool:
        """Tell what a condition is, if that stands in the file."""
        tensor, is_negated = self._find(scope, name), False
        while tensor.node.op in ("Identity", "PlaceholderWithDefault", "LogicalNot"):
            self._count()
            is_negated ^= tensor.node.op == "LogicalNot"
            tensor = self._inputs(tensor)[0]
        stored = dict(tensor.node.attr).get("value")
        if tensor.node.op != "Const" or stored is None or stored.tensor.tensor_shape.dim:
            raise ValueError(
                f"{self._where} chooses by {plain(tensor.node.op)} ({plain(tensor.node.name)}) "
                "what it computes; only choices that stand in the file are read"
            )
        return bool(tf.make_ndarray(stored.tensor)) != is_negated

    def _taken(self, scope: _Scope, merge: Any) -> str:
        """Name the input of a merge that comes from the branch which is taken."""
        for name in merge.input:
            if not name.startswith("^") and self._is_taken(scope, name):
                return name
        raise self._damaged(f"{plain(merge.name)} has no input")

    def _is_taken(self, scope: _Scope, name: str) -> bool:
        """Tell whether all switches that a tensor hangs on, by data or order, let it pass."""
        seen = set()
        waiting = [name]
        while waiting:
            node_name, _, number = self._parse(waiting.pop().lstrip("^"))
            node = scope.nodes.get(node_name)
            if node is None or (node_name, number) in seen:
                continue
            seen.add((node_name, number))
            self._count()
            if node.op in _SWITCHES:
                if self._decision(scope, node.input[1]) != (number == 1):
                    return False
            elif node.op not in _MERGES:
                waiting += node.input
        return True

    def _run_for(self, name: str) -> Iterator[tuple[_Scope, Any]]:
        """Yield the nodes that a session would run for a tensor, with their scopes."""
        seen = set()
        waiting = [(self._top, self._parse(name)[0])]
        while waiting:
            scope, name = waiting.pop()
            node = scope.nodes.get(name)
            if (scope, name) in seen or node is None:
                continue
            seen.add((scope, name))
            self._count()
            yield scope, node
            waiting += [(scope, self._parse(source.lstrip("^"))[0]) for source in node.input]
            if self._is_call(node):
                body, _ = self._enter(scope, node)
                waiting += [(body, inner) for inner in body.nodes]

    def _is_call(self, node: Any) -> bool:
        return node.op in _CALLS or node.op in _CONDITIONS or node.op in self._functions

    def _parse(self, name: str) -> tuple[str, str, int]:
        """Split "node", "node:0" or, in a function, "node:output:0"."""
        node, _, rest = name.partition(":")
        part, _, number = rest.rpartition(":")
        if not (number or "0").isdecimal():
            raise self._damaged(f"no tensor {plain(name)}")
        return node, part, int(number or 0)

    def _count(self) -> None:
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise ValueError(
                f"{self._where} must lead from the images to the outputs in at most "
                f"{_MOST_STEPS:,} steps, functions that it calls included; it has more"
            )

    def _damaged(self, reason: str) -> ValueError:
        return ValueError(f"{self._where}/saved_model.pb is damaged ({reason}); use an intact copy")


def plain(text: str) -> str:
    """Make a name from a file fit for a message.

    Args:
        text: may hold anything, control characters for the terminal among it.

    Returns:
        The name in one line, cut if it is long.
    """
    shown = text if text.isprintable() else ascii(text)
    return shown if len(shown) <= 80 else f"{shown[:80]}..."


def _by_name(nodes: Sequence[Any]) -> dict[str, Any]:
    return {node.name: node for node in nodes}


def _output(made: tuple[Any, Sequence[Any]], tensor: GraphTensor) -> Any:
    """Pick a tensor of an operation, which is None where there is but one."""
    operation, outputs = made
    number = tensor.number
    if tensor.part and operation is not None:
        # No operation of the list has several tensors under one name and others after them.
        names = {output.name: place for place, output in enumerate(operation.op_def.output_arg)}
        number += names[tensor.part]
    if number >= len(outputs):
        raise IndexError(f"{plain(tensor.node.name)} has no output {tensor.number}")
    return outputs[number]


def _declared(node: Any) -> tf.TensorShape:
    """Give the shape of a constant that a few bytes may declare, [] of one that is all there."""
    stored = node.attr["value"].tensor
    shape = tf.TensorShape(stored.tensor_shape)
    stored_bytes = (shape.num_elements() or 0) * tf.as_dtype(stored.dtype).size
    is_there = 0 < stored_bytes == len(stored.tensor_content)
    return tf.TensorShape([]) if is_there else shape


def _widened(attribute: Any) -> Any:
    """Turn float32 into float64 in an attribute: a type, a list of types or a constant."""
    single, double = tf.float32.as_datatype_enum, tf.float64.as_datatype_enum
    wide = type(attribute)()
    wide.CopyFrom(attribute)
    if attribute.type == single:
        wide.type = double
    elif single in attribute.list.type:
        wide.list.type[:] = [double if one == single else one for one in attribute.list.type]
    elif attribute.tensor.dtype == single:
        values = tf.make_ndarray(attribute.tensor).astype(np.float64)
        wide.tensor.CopyFrom(tf.make_tensor_proto(values))
    return wide


def _batch_norm(node: Any, x: Any, scale: Any, offset: Any, mean: Any, variance: Any) -> Any:
    """Do what the fused operation, which has no float64, does in inference."""
    attributes = dict(node.attr)  # asked for a name that it lacks, the original adds it
    if "is_training" not in attributes or attributes["is_training"].b:
        raise ValueError(f"{plain(node.name)} has no float64 in training")
    if "data_format" in attributes and attributes["data_format"].s != b"NHWC":
        raise ValueError(f"{plain(node.name)} has no float64 with channels first")
    epsilon = attributes["epsilon"].f if "epsilon" in attributes else 1e-4
    return (x - mean) * scale * tf.math.rsqrt(variance + epsilon) + offset
