"""Take a model from Python code that the user names: `package.module:function`."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from mnist_adv.tensors.lazy import tf
from mnist_adv.errors import first_line

_SPEC = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_spec(text: str) -> bool:
    """Tell `package.module:function` from a path.

    Args:
        text: what the user wrote.

    Returns:
        Whether it has that form.
    """
    return _SPEC.fullmatch(text) is not None


def load(spec: str) -> Function:
    """Import a callable by name; the current folder is searched too.

    Args:
        spec: "package.module:function".

    Returns:
        The callable: images -> logits.

    Raises:
        ValueError: the module cannot be imported, or has no such callable.
    """
    module_name, _, attribute = spec.partition(":")
    with _current_folder_searched():
        try:
            found: Any = importlib.import_module(module_name)
        except Exception as error:  # whatever the user's module raises
            raise ValueError(
                f"cannot import {module_name} ({type(error).__name__}: {first_line(error)})"
            ) from error
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise ValueError(f"{module_name} has no {attribute!r}; give package.module:function")
        found = getattr(found, name)
    if not callable(found) or isinstance(found, type):
        raise ValueError(
            f"{spec} must be a function from images [n, 28, 28, 1] to logits. "
            f"Received: {type(found).__name__}"
        )
    return Function(found, spec)


@dataclasses.dataclass(frozen=True)
class Function:
    """A user's function that is handed tensors and hands tensors back.

    Attributes:
        function: images -> logits.
        spec: its name.
    """

    function: Callable[[Any], Any]
    spec: str

    def __call__(self, images: Any) -> Any:
        """Compute what the function returns, as a tensor."""
        images = tf.convert_to_tensor(images)
        try:
            return tf.convert_to_tensor(self.function(images))
        except Exception as error:  # whatever the user's function raises
            raise ValueError(
                f"{self.spec} fails on images {images.shape} of {images.dtype.name} "
                f"({type(error).__name__}: {first_line(error)})"
            ) from error


@contextlib.contextmanager
def _current_folder_searched() -> Iterator[None]:
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
