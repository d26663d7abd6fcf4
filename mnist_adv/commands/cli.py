"""What all commands share: flags of their own, output, one line per mistake.

Exit status: 0 done, 1 the goal was not reached (or a check failed), 2 the request cannot be
carried out, 70 a defect (of this package, or of a function that is the model).
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import enum
import gc
import json
import os
import re
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from absl import flags

from mnist_adv import files
from mnist_adv.arguments import as_folder_name, as_path, as_utf8
from mnist_adv.errors import first_line, printable, shortened
from mnist_adv.tensors import startup

DONE, NOT_REACHED, BAD_REQUEST, DEFECT = 0, 1, 2, 70
# As shells have them: 128 and the number of the signal.
INTERRUPTED, CLOSED_PIPE = 130, 141


@dataclasses.dataclass(frozen=True)
class Group:
    """Flags that belong together in the help.

    Attributes:
        title: one line.
        example: the flags of an example.
        names: the flags, in the order shown.
    """

    title: str
    example: str
    names: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Command:
    """A command line.

    Attributes:
        summary: what it does, one line.
        define_flags: defines its flags on a fresh holder, so that commands never clash.
        groups: how the help shows them.
        body: carries the parsed flags out and returns the exit status.
        interrupted: how to go on after an interruption, if more is to be done than to start anew.
    """

    summary: str
    define_flags: Callable[[flags.FlagValues], None]
    groups: tuple[Group, ...]
    body: Callable[[flags.FlagValues], int]
    interrupted: str = ""

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        """Run the command; see `run`.

        Args:
            argv: the arguments, program name first; those of the process if None.

        Returns:
            The exit status.
        """
        return run(self, argv)


class Output:
    """What a command prints: lines, or with --json one JSON record instead.

    Args:
        values: the parsed flags.
    """

    def __init__(self, values: flags.FlagValues) -> None:
        self._json = bool(values["json"].value)

    def lines(self, *lines: str) -> None:
        """Print lines, unless --json is given.

        Args:
            *lines: without line ends.
        """
        if not self._json:
            for line in lines:
                print(printable(line), flush=True)

    def outcome(self, line: str, *, good: bool) -> None:
        """Print the outcome, in colour on a terminal.

        Args:
            line: without line end.
            good: green if so, else red.
        """
        if self._json:
            return
        coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        shown = printable(line)
        print(f"\x1b[{32 if good else 31}m{shown}\x1b[0m" if coloured else shown, flush=True)

    def record(self, record: Mapping[str, Any]) -> None:
        """Print the record, if --json is given.

        Args:
            record: JSON-serialisable.
        """
        if self._json:
            print(json.dumps(record, indent=2, allow_nan=False))


_DEFINITIONS: dict[type, Callable[..., Any]] = {
    str: flags.DEFINE_string,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    bool: flags.DEFINE_boolean,
    list: flags.DEFINE_list,
}
_LONGEST_RUN = "evaluate-{}-9999"
_GENERAL = Group(
    "General", "--flagfile=settings.txt", ("json", "help", "helpfull", "verbosity", "flagfile")
)
_UMBRELLA = "mnist-adv"
# As the user called it.
_program = contextvars.ContextVar("program", default=_UMBRELLA)


def run(command: Command, argv: Sequence[str] | None = None) -> int:
    """Parse flags, run a command, and turn a user's mistake into one line.

    Args:
        command: the command.
        argv: the arguments, program name first; those of the process if None.

    Returns:
        The exit status.
    """
    argv = list(sys.argv if argv is None else argv)
    program = os.path.basename(argv[0])
    values = flags_of(command)
    before = _program.set(program)
    try:
        return guarded(
            program,
            lambda: _parse_and_run(command, argv, values),
            verbose=lambda: values["verbosity"].value > 0,
            interrupted=command.interrupted,
        )
    finally:
        _program.reset(before)


def flags_of(command: Command) -> flags.FlagValues:
    """Define the flags of a command, with those that all have.

    Args:
        command: the command.

    Returns:
        The flags, not yet parsed.
    """
    values = flags.FlagValues()
    command.define_flags(values)
    _define_general(values)
    return values


def _parse_and_run(command: Command, argv: list[str], values: flags.FlagValues) -> int:
    stray = _parse(values, argv)
    if values["help"].value:
        print(_help(command, values))
        return DONE
    if values["helpfull"].value:
        print(command.summary, values.get_help(), sep="\n")
        return DONE
    if stray:
        raise ValueError(f"unknown argument {stray[0]!r}; flags start with --")
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        return command.body(values)


def guarded(
    program: str,
    body: Callable[[], int],
    *,
    verbose: Callable[[], bool] = lambda: False,
    interrupted: str = "",
) -> int:
    """Run what a command does, and turn whatever ends it early into one line.

    Args:
        program: its name.
        body: returns the exit status.
        verbose: whether to show the traceback of an error.
        interrupted: how to go on after an interruption.

    Returns:
        The exit status.
    """
    try:
        status = body()
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Whoever reads has seen enough. Python would complain when it flushes at its end.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except (ValueError, OSError, flags.Error) as error:
        return _refused(program, error, verbose())
    except KeyboardInterrupt:
        print("; ".join(filter(None, (f"{program}: interrupted", interrupted))), file=sys.stderr)
        return INTERRUPTED
    except MemoryError as error:
        return _refused(program, ValueError(f"not enough memory ({first_line(error)})"), verbose())
    except Exception as error:
        if _is_tensorflows(error):
            failed = ValueError(f"the model fails ({first_line(error)})")
            return _refused(program, failed, verbose())
        if verbose():
            traceback.print_exc()
        print(
            f"{program}: {type(error).__name__}: {_one_line(error)}; this is a defect of "
            "mnist_adv: please report it, with what --verbosity=1 shows",
            file=sys.stderr,
        )
        return DEFECT


def _parse(values: flags.FlagValues, argv: list[str]) -> list[str]:
    """Parse the flags; return what is none."""
    try:
        stray: list[str] = values(argv)[1:]
    except RecursionError:  # absl compares a flag that it does not know with those that it knows
        longest = max(argv[1:], key=len)
        raise ValueError(f"unknown flag among the arguments, such as {longest!r}") from None
    return stray


def _refused(program: str, error: Exception, verbose: bool) -> int:
    if verbose:
        traceback.print_exc()
    print(f"{program}: error: {_one_line(error)}", file=sys.stderr)
    return BAD_REQUEST


def invocation(name: str) -> str:
    """Say how to call a command, in the way in which the running one was called.

    Args:
        name: of the command: "train".

    Returns:
        "python train.py", "mnist-adv-train" or "mnist-adv train".
    """
    program = _program.get()
    if program.endswith(".py"):
        return f"python {name}.py"
    return f"{_UMBRELLA}-{name}" if program.startswith(f"{_UMBRELLA}-") else f"{_UMBRELLA} {name}"


def _is_tensorflows(error: Exception) -> bool:
    tf = sys.modules.get("tensorflow")
    return tf is not None and isinstance(error, tf.errors.OpError)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"warning: {_in_one_line(str(message))}", file=sys.stderr)


def define(values: flags.FlagValues, name: str, kind: Any, default: object, help_text: str) -> None:
    """Define one flag of a command.

    Args:
        values: the command's flags.
        name: of the flag.
        kind: `str`, `int`, `float`, `bool`, `list` (texts with commas), an enumeration, or a tuple
            of the words allowed.
        default: its value if it is not given; None: none.
        help_text: what it is, one sentence.
    """
    if isinstance(kind, tuple):
        flags.DEFINE_enum(name, default, kind, help_text, flag_values=values)
    elif issubclass(kind, enum.Enum):
        flags.DEFINE_enum_class(name, default, kind, help_text, flag_values=values)
    else:
        _DEFINITIONS[kind](name, default, help_text, flag_values=values)


def load_tensorflow(values: flags.FlagValues) -> None:
    """Import TensorFlow, hiding what its start-up prints unless it fails or --verbosity is given.

    Args:
        values: the parsed flags, for the verbosity.
    """
    # Collecting garbage among a million new objects of which none ever dies costs half a second.
    gc.disable()
    startup.import_tensorflow(quiet=not values["verbosity"].value)
    startup.start_devices()
    gc.freeze()
    gc.enable()


@contextlib.contextmanager
def stage(description: str) -> Iterator[None]:
    """Show on a terminal what is being done, until it is done.

    Args:
        description: "reading the model".

    Yields:
        Nothing.
    """
    from tqdm import tqdm

    with tqdm(desc=description, bar_format="{desc} ...", leave=False, disable=None):
        yield


def require_destinations(values: flags.FlagValues, *others: str) -> None:
    """Refuse before the work what its results could not be written into after it.

    Args:
        values: the parsed flags; of `results_dir`, `name` and `logdir` those that there are.
        *others: more flags that name a folder to be written.

    Raises:
        ValueError: one is no text in UTF-8; a name that is no plain folder name.
        OSError: a folder that cannot be made or written.
    """
    for name in ("results_dir", "logdir", *others):
        if name in values:
            files.require_writable(as_utf8(as_path(values[name].value, name), name))
    if "name" in values and values["name"].value is not None:
        require_name(values, values["name"].value)


def require_name(values: flags.FlagValues, name: str) -> None:
    """Check the name of a result, whose folder lies in --results_dir and whose run in --logdir.

    Args:
        values: the parsed flags.
        name: of the result.

    Raises:
        ValueError: it is no plain folder name.
        OSError: it is too long for the disk.
    """
    as_folder_name(name, "name")
    for folder in (values["results_dir"].value, values["logdir"].value):
        with contextlib.suppress(FileNotFoundError):
            os.lstat(os.path.join(folder, _LONGEST_RUN.format(name)))


def given_flags(values: flags.FlagValues) -> dict[str, object]:
    """List the flags that the user set.

    Args:
        values: the parsed flags.

    Returns:
        name -> value.
    """
    return {name: values[name].value for name in values if values[name].present}


def settings(values: flags.FlagValues) -> dict[str, object]:
    """List the flags of the command itself, given or not.

    Args:
        values: the parsed flags.

    Returns:
        name -> value.
    """
    general = {"h", "v", *_GENERAL.names}
    return {name: values[name].value for name in values if name not in general}


def command_line(values: flags.FlagValues) -> str:
    """Write the command line that would run this again.

    Args:
        values: the parsed flags.

    Returns:
        The program and the flags that were given.
    """
    given = [values[name].serialize() for name in settings(values) if values[name].present]
    return shlex.join([*_program.get().split(), *given])


def _define_general(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "flagfile", None, "A file of flags, one a line, as if they stood here.", flag_values=values
    )
    flags.DEFINE_boolean("json", False, "Print one JSON record, no lines.", flag_values=values)
    flags.DEFINE_boolean("help", False, "Show this.", short_name="h", flag_values=values)
    flags.DEFINE_boolean("helpfull", False, "Show every flag as absl does.", flag_values=values)
    flags.DEFINE_integer(
        "verbosity",
        0,
        "1 shows TensorFlow's own messages, and the traceback behind an error.",
        short_name="v",
        lower_bound=0,
        flag_values=values,
    )


def _help(command: Command, values: flags.FlagValues) -> str:
    program = _program.get()
    called = f"python {program}" if program.endswith(".py") else program
    lines = [command.summary]
    for group in (*command.groups, _GENERAL):
        lines += [
            "",
            f"{group.title}:" + (f"    {called} {group.example}" if group.example else ""),
        ]
        for name in group.names:
            flag = values[name]
            shown = flag.default is not None and not flag.boolean
            default = f" [{flag.default_as_str.strip(chr(39))}]" if shown else ""
            # absl writes the choices first: <a|b>: Text.
            text = re.sub(r"^<(.*?)>: (.*?)\.?$", r"\2: \1", flag.help)
            lines.append(f"  --{name:<17} {text}{default}")
    return "\n".join(lines)


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        denied = isinstance(error, PermissionError)
        remedy = "; make it writable, or name another folder by flag" if denied else ""
        return _in_one_line(f"{os.fsdecode(error.filename)}: {error.strerror}{remedy}")
    return _in_one_line(str(error) or type(error).__name__)


def _in_one_line(text: str) -> str:
    return printable(shortened(" ".join(text.split())))
