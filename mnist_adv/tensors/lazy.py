"""TensorFlow, imported when it is first used.

TensorFlow takes seconds to import. Modules write `from mnist_adv.tensors.lazy import tf`, so that
`import mnist_adv`, `--help` and a mistyped flag are answered at once.
"""

from __future__ import annotations

import importlib
import types
from typing import Any


class _LazyModule(types.ModuleType):
    """Stand for a module until one of its attributes is read."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


tf: Any = _LazyModule("tensorflow")
