"""How many images a compiled attack changes at once: as many as stay in a processor's cache."""

from __future__ import annotations

import functools
import math
from typing import Any

from mnist_adv.attacks.base import Attack
from mnist_adv.attacks.blocks import SIZE
from mnist_adv.attacks.task import Task
from mnist_adv.tensors.lazy import tf

# Floats of all images of a step together: 20 MB, about what a third-level cache holds.
_WORKING_SET = 5_000_000
# More would no longer be faster, and an attack on one image pays for every lane.
_MOST = 1000
# Fewer would lose more to what a step costs besides its images than to empty lanes at the end.
_FEW = 128
# Multiplications of a step beside which the same cost is small.
_MULTIPLICATIONS = 16_000_000
# Where the model is evaluated in blocks, lanes only keep what the attack carries.
_MOST_BLOCKED = 64
# Parts of the names of operations that make a model go in blocks.
_IN_BLOCKS = ("Conv2D", "DepthwiseConv", "PyFunc")
# Operations whose results do not grow with the images; those that hold no weights have no size.
_FIXED = ("Const", "Placeholder", "ReadVariableOp", "VarHandleOp", "NoOp")


def num_lanes(task: Task, attack: Attack) -> int:
    """Choose the batch's size, from attack and model alone and never from the number of images.

    Args:
        task: what all images share.
        attack: its settings.

    Returns:
        A multiple of 4, smaller if the model is large or a step asks it often.
    """
    kept = attack.images_kept * task.num_pixels
    if task.blocked:
        return max(SIZE, min(_MOST_BLOCKED, _WORKING_SET // kept) // SIZE * SIZE)
    fitting = _WORKING_SET // (
        kept + attack.images_at_once(task) * (task.num_pixels + num_values(task))
    )
    enough = max(_FEW, _MULTIPLICATIONS // max(1, num_weights(task)))
    return max(4, min(_MOST, fitting, enough) // 4 * 4)


def goes_in_blocks(task: Task) -> bool:
    """Tell whether the model is evaluated in blocks, and not compiled by XLA.

    Args:
        task: holds the model.

    Returns:
        Whether an operation of its graph is a convolution, which is slower compiled by XLA for a
        CPU, or a Python function, which cannot be compiled.
    """
    return any(part in node.op for node in _nodes(task) for part in _IN_BLOCKS)


def num_values(task: Task) -> int:
    """Count the floats that the model computes on the way from one image to its logits.

    Args:
        task: holds the model; it is traced once.

    Returns:
        The sum over the operations of its graph, functions that it calls included.
    """
    return sum(_size(node) for node in _nodes(task) if node.op not in _FIXED)


def num_weights(task: Task) -> int:
    """Count the floats that the model has by itself: as many multiplications, where it is dense.

    Args:
        task: holds the model; it is traced once.

    Returns:
        The sum over the constants and variables of its graph, the image counted with them.
    """
    return sum(_size(node) for node in _nodes(task) if node.op in _FIXED)


@functools.lru_cache(maxsize=64)
def _nodes(task: Task) -> list[Any]:
    image = tf.TensorSpec([1, *task.shape], tf.float32)
    # The model is taken as a plain function: `tf.function` would want its arguments' names.
    traced = tf.function(lambda images: task.model(images), autograph=False)
    graph = traced.get_concrete_function(image).graph.as_graph_def(add_shapes=True)
    functions = [function.node_def for function in graph.library.function]
    return [node for nodes in (graph.node, *functions) for node in nodes]


def _size(node: tf.compat.v1.NodeDef) -> int:
    shapes = node.attr["_output_shapes"].list.shape
    return sum(
        math.prod(max(1, dimension.size) for dimension in shape.dim)
        for shape in shapes
        if not shape.unknown_rank
    )
