"""Compile with XLA what it can compile, and run the rest all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mnist_adv._lazy import tf

# What tracing raises for a model that is Python or NumPy inside.
_UNTRACEABLE = (AttributeError, NotImplementedError, TypeError)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function; run it as a plain graph, or eagerly, where that is not possible.

    Args:
        function: of tensors, to tensors, without side effects.

    Returns:
        The same function. An error of its own comes again from the slower way.
    """
    ways = [
        tf.function(function, jit_compile=True, autograph=False),
        tf.function(function, autograph=False),
        function,
    ]

    def call(*arguments: Any) -> Any:
        while len(ways) > 1:
            try:
                return ways[0](*arguments)
            except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, *_UNTRACEABLE):
                ways.pop(0)
        return ways[0](*arguments)

    return call
