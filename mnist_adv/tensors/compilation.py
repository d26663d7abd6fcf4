"""Compile with XLA what it can compile, and run the rest all the same."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

from mnist_adv.errors import first_line
from mnist_adv.tensors.lazy import tf

# What tracing raises for a model that is Python or NumPy inside.
_UNTRACEABLE = (AttributeError, NotImplementedError, TypeError)

# False: plain graphs only, which are built in a third of the time and run more slowly.
XLA = True


class NotCompiledWarning(RuntimeWarning):
    """A function runs without XLA, and so more slowly."""


def compiled(function: Callable[..., Any], *, xla: bool = True) -> Callable[..., Any]:
    """Compile a function; run it as a plain graph, or eagerly, where that is not possible.

    A slower way is kept only once it has worked where the faster one failed, and a
    `NotCompiledWarning` says so: an error of the function's own comes again from the slowest way
    and changes nothing.

    Args:
        function: of tensors, to tensors, without side effects.
        xla: whether to compile; False starts with a plain graph.

    Returns:
        The same function.
    """
    # TensorFlow counts retracings by code object: many programs of one would look like one program
    # that is traced again and again, and be warned of. A partial has none.
    function = functools.partial(function)
    ways = [
        *([tf.function(function, jit_compile=True, autograph=False)] if xla and XLA else []),
        tf.function(function, autograph=False),
        function,
    ]

    def call(*arguments: Any) -> Any:
        failed: list[Exception] = []
        for way in ways[:-1]:
            try:
                result = way(*arguments)
                break
            except (
                tf.errors.InvalidArgumentError,
                tf.errors.UnimplementedError,
                *_UNTRACEABLE,
            ) as error:
                failed.append(error)
        else:
            result = ways[-1](*arguments)
        if failed:
            del ways[: len(failed)]
            warnings.warn(
                f"the model runs {'eagerly' if len(ways) == 1 else 'without XLA'}, and so more "
                f"slowly ({first_line(failed[-1])})",
                NotCompiledWarning,
                stacklevel=2,
            )
        return result

    return call
