"""Commands in processes of their own, which can be killed, or write to a disk that is too small."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import pathlib
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

# Every change of a folder that Python announces before it is made.
_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link"}
# TensorFlow's changes are not announced.
_OF_TENSORFLOW = {
    "tensorflow.python.lib.io.file_io": ("rename", "rename_v2", "delete_file", "delete_file_v2"),
    "tensorflow.python.ops.gen_io_ops": ("save_v2", "merge_v2_checkpoints"),
    "tensorflow.python.ops.io_ops": ("save_v2",),
}
_OUT, _ERRORS, _COUNT = ".out", ".errors", ".count"
_SECONDS = 120


class Ran(NamedTuple):
    """What came of a command.

    Attributes:
        status: of the exit; below 0: the signal that ended it.
        out: what it printed.
        errors: what it printed as errors.
        changes: how many changes of folders it made or was about to make.
        seconds: how long it took.
    """

    status: int
    out: str
    errors: str
    changes: int
    seconds: float

    def is_refusal(self) -> bool:
        """Tell exit status 2 with one line that says why."""
        lines = self.errors.strip().splitlines()
        return self.status == 2 and ": error: " in (lines or [""])[-1]


def start(
    name: str, folder: pathlib.Path, arguments: Sequence[str], stop: int = 0, limit: int = 0
) -> Callable[[float], Ran]:
    """Start a command inside a folder.

    Args:
        name: of the command.
        folder: it runs in it.
        arguments: its flags.
        stop: the change of a folder, counted from 1, before which it kills itself; 0: none.
        limit: the most bytes that a file can have; 0: any number.

    Returns:
        A function that waits so many seconds, kills the command if it still runs, and says what
        came of it.
    """
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tensorflow", "mnist_adv", "tests.faults.processes"])
    notes = folder.with_name(f"{folder.name}-{name}-{time.monotonic_ns()}")
    process = context.Process(
        target=_command, args=(name, str(folder), str(notes), list(arguments), stop, limit)
    )
    began = time.monotonic()
    process.start()

    def wait(seconds: float = _SECONDS) -> Ran:
        process.join(seconds)
        process.kill()
        process.join()
        out, errors, changes = (_read(f"{notes}{suffix}") for suffix in (_OUT, _ERRORS, _COUNT))
        return Ran(process.exitcode, out, errors, len(changes), time.monotonic() - began)

    return wait


def run(name: str, folder: pathlib.Path, arguments: Sequence[str], **how: int) -> Ran:
    """Run a command to its end; see `start`.

    Args:
        name: of the command.
        folder: it runs in it.
        arguments: its flags.
        **how: `stop` and `limit`.

    Returns:
        What came of it.
    """
    return start(name, folder, arguments, **how)(_SECONDS)


def _read(path: str) -> str:
    there = pathlib.Path(path)
    return there.read_text(errors="replace") if there.exists() else ""


def _command(
    name: str, folder: str, notes: str, arguments: list[str], stop: int, limit: int
) -> None:
    os.chdir(folder)
    for number, suffix in ((1, _OUT), (2, _ERRORS)):
        descriptor = os.open(f"{notes}{suffix}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, number)
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", TF_NUM_INTRAOP_THREADS="1")
    _count_changes(f"{notes}{_COUNT}", folder, stop)
    if limit:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    command = importlib.import_module(f"mnist_adv.commands.{name}")
    os._exit(command.main([f"{name}.py", *arguments]))


def _count_changes(path: str, folder: str, stop: int) -> None:
    """Note every change of the folder as one byte of a file, and end before the given one."""
    notes = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    count = 0

    def change() -> None:
        nonlocal count
        count += 1
        os.write(notes, b".")
        if count == stop:
            os.kill(os.getpid(), signal.SIGKILL)

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CHANGES and _inside(folder, arguments[0]):
            change()

    def noted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **settings: Any) -> Any:
            change()
            return real(*arguments, **settings)

        return call

    for module_name, names in _OF_TENSORFLOW.items():
        module = importlib.import_module(module_name)
        for each in names:
            setattr(module, each, noted(getattr(module, each)))
    sys.addaudithook(heard)


def _inside(folder: str, path: Any) -> bool:
    return os.path.abspath(os.fsdecode(path)).startswith(folder + os.sep)


def left_over(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """List what is temporary in a folder and those below it.

    Args:
        folder: any.

    Yields:
        The paths.
    """
    for path in folder.rglob("*"):
        if path.name.startswith((".", "checkpoint.tmp")) or "_temp" in path.name:
            yield path
