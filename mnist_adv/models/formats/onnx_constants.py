"""What an ONNX graph computes of shapes and small constants, before it is given images.

Exporters write the shape of a tensor as a computation: take its shape, pick lengths, join them. All
of it is done once, by ONNX's own reference on NumPy arrays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

# Stands for the number of images in a shape. It is prime and no length in a file, so that a length
# which it divides is one that grows with the number of images.
BATCH = 1_000_003
# Numbers in all inputs of one operator. Two of this size broadcast to a few million at most.
_MOST_NUMBERS = 4096
# Their results are not larger than their inputs broadcast against one another.
_NAMES = """
    Abs Add And Cast Ceil Concat Div Equal Floor Gather Greater GreaterOrEqual Identity Less
    LessOrEqual Max Min Mod Mul Neg Not Or Reciprocal ReduceL2 ReduceMax ReduceMin ReduceProd
    ReduceSum Reshape Shape Size Slice Sqrt Squeeze Sub Transpose Unsqueeze Where
"""
FOLDED = frozenset(_NAMES.split())


def lengths_of(x: Any) -> list[int]:
    """List the lengths of a tensor or array.

    Args:
        x: of known rank.

    Returns:
        Its lengths, with `BATCH` for one that is not known.
    """
    return [BATCH if length is None else int(length) for length in x.shape]


def grows(length: int) -> bool:
    """Tell whether a length grows with the number of images.

    Args:
        length: as computed from `lengths_of`.

    Returns:
        Whether it is a multiple of `BATCH`.
    """
    return length != 0 and length % BATCH == 0


def fold(node: Any, opset: int, inputs: Sequence[Any]) -> np.ndarray | None:
    """Compute a node whose inputs are small constants.

    Args:
        node: of the file.
        opset: the version of the operators' definitions.
        inputs: arrays, tensors, None for one left out.

    Returns:
        Its output, floats as float32; None if it is not one to be computed here.

    Raises:
        ValueError: the number of images becomes a number that is computed with.
    """
    arrays = [value for value in inputs if value is not None]
    if node.op_type not in FOLDED or len(node.output) != 1 or not arrays:
        return None
    if not all(isinstance(value, np.ndarray) for value in arrays):
        return None
    if sum(value.size for value in arrays) > _MOST_NUMBERS:
        return None
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    given = {name: value for name, value in zip(node.input, inputs) if name}
    function = helper.make_function(
        "", "fold", list(given), [node.output[0]], [node], [helper.make_opsetid("", opset)]
    )
    found = np.asarray(ReferenceEvaluator(function).run(None, given, attributes={})[0])
    if found.dtype.kind != "f":
        return found
    if any(
        grows(int(length)) for value in arrays if value.dtype.kind == "i" for length in value.flat
    ):
        raise ValueError("the number of images must not enter what is computed of them")
    return found.astype(np.float32)


def new_lengths(x: Any, wanted: Sequence[int], batch: int | None, zero_is_kept: bool) -> list[int]:
    """Resolve the shape that `Reshape` asks for.

    Args:
        x: tensor to be reshaped.
        wanted: as the file says: 0 keeps a length, -1 is what remains.
        batch: the number of images that the file was written for; None: any.
        zero_is_kept: False where 0 is a length.

    Returns:
        Lengths, at most one of which is -1: the one that grows with the number of images.

    Raises:
        ValueError: they are not as many numbers.
    """
    have = lengths_of(x)
    lengths = [
        have[at] if not length and zero_is_kept and at < len(have) else int(length)
        for at, length in enumerate(wanted)
    ]
    if lengths and have and grows(have[0]) and lengths[0] == batch:
        lengths[0] = have[0]
    total = math.prod(have)
    if lengths.count(-1) == 1:
        rest = math.prod(length for length in lengths if length != -1)
        lengths[lengths.index(-1)] = total // rest if rest else 0
    if math.prod(lengths) != total or min(lengths, default=0) < 0:
        raise ValueError(
            f"{_listed(have)} numbers cannot be given the shape {_listed(wanted)} for any number "
            "of images; export it with a free batch size"
        )
    return [-1 if grows(length) else length for length in lengths]


def _listed(lengths: Sequence[int]) -> str:
    return " x ".join("n" if grows(int(length)) else str(int(length)) for length in lengths)
