"""TensorFlow, imported when it is first used.

TensorFlow takes seconds to import. Modules write `from mnist_adv.tensors.lazy import tf`, so that
`import mnist_adv`, `--help` and a mistyped flag are answered at once.
"""

from __future__ import annotations

import importlib
import types
from typing import TYPE_CHECKING, Any

from mnist_adv.tensors.startup import import_tensorflow, start_devices

__all__ = ["tf"]

# What classes and functions are defined with, when modules are imported.
_BEFORE_DEVICES = ("Module", "function")

if TYPE_CHECKING:
    import tensorflow as tf
else:

    class _LazyModule(types.ModuleType):
        """Stand for a module until one of its attributes is read."""

        def __getattr__(self, name: str) -> Any:
            import_tensorflow()
            if name not in _BEFORE_DEVICES:
                start_devices()
            return getattr(importlib.import_module(self.__name__), name)

    tf = _LazyModule("tensorflow")
