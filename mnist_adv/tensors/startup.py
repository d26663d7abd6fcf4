"""Import TensorFlow and start its devices without the lines that both print.

`TF_CPP_MIN_LOG_LEVEL` alone does not silence them: they are written to file descriptor 2 before
that variable is read. Errors show what was withheld.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_LOUD = ("0", "1")  # levels that ask for such lines


class _Startup:
    """Whether the devices of a quietly imported TensorFlow are still to be started."""

    waiting = False


def import_tensorflow(*, quiet: bool = True) -> None:
    """Import TensorFlow, and keep what it prints away, unless it has been imported already.

    Its logger then shows errors only, no warning that a function is traced again. A user who has
    set `TF_CPP_MIN_LOG_LEVEL` to 0 or 1 gets everything.

    Args:
        quiet: False leaves everything as TensorFlow has it.
    """
    if "tensorflow" in sys.modules:
        return
    if not quiet or os.environ.get(_LEVEL) in _LOUD:
        importlib.import_module("tensorflow")
        return
    os.environ.setdefault(_LEVEL, "2")
    with _stderr_withheld():
        importlib.import_module("tensorflow")
    sys.modules["tensorflow"].get_logger().setLevel("ERROR")
    _Startup.waiting = True


def start_devices() -> None:
    """Start the devices of a TensorFlow that was imported quietly: they print at the first tensor.

    Programs that import a model's class and then choose devices find them not yet started.
    """
    if _Startup.waiting:
        _Startup.waiting = False
        with _stderr_withheld():
            sys.modules["tensorflow"].zeros([])


@contextlib.contextmanager
def _stderr_withheld() -> Iterator[None]:
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # closed, as in programs without a console: nothing is shown there
        yield
        return
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(saved, 2)
            kept.seek(0)
            os.write(2, kept.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
