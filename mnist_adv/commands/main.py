"""`mnist-adv`: every command under one name."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Sequence
from typing import cast

import mnist_adv
from mnist_adv.arguments import shown
from mnist_adv.commands import cli
from mnist_adv.registry import Registry

PROGRAM = "mnist-adv"


@dataclasses.dataclass(frozen=True)
class NamedCommand:
    """A row of the table.

    Attributes:
        name: what follows `mnist-adv`.
        module: in this package; its `main` is the command. Imported when it is needed.
    """

    name: str
    module: str

    def load(self) -> cli.Command:
        """Import the command.

        Returns:
            The command.
        """
        module = importlib.import_module(f"mnist_adv.commands.{self.module}")
        return cast(cli.Command, module.main)


COMMANDS: Registry[NamedCommand] = Registry("command")

for _row in (
    NamedCommand("train", "train"),
    NamedCommand("attack", "attack"),
    NamedCommand("evaluate", "evaluate"),
    NamedCommand("convert", "convert"),
    NamedCommand("doctor", "doctor"),
    NamedCommand("playground", "playground"),
    NamedCommand("list", "choices"),
    NamedCommand("completion", "completion"),
):
    COMMANDS.add(_row)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names.

    Args:
        argv: the arguments, program name first; those of the process if None.

    Returns:
        The exit status.
    """
    arguments = list(sys.argv if argv is None else argv)[1:]
    first = arguments[0] if arguments else "--help"
    if first in ("--help", "-h", "help"):
        return cli.guarded(PROGRAM, lambda: _print(_help()))
    if first == "--version":
        return cli.guarded(PROGRAM, lambda: _print(f"{PROGRAM} {mnist_adv.__version__}"))
    if first not in COMMANDS:
        return cli.guarded(PROGRAM, lambda: _unknown(first))
    return COMMANDS[first].load()([f"{PROGRAM} {first}", *arguments[1:]])


def _print(text: str) -> int:
    print(text)
    return cli.DONE


def _unknown(first: str) -> int:
    if first.startswith("-"):
        raise ValueError(f"a command comes first: {', '.join(COMMANDS)}. Received: {shown(first)}")
    COMMANDS.find(first)
    return cli.DONE


def _help() -> str:
    return "\n".join((
        str(mnist_adv.__doc__),
        "",
        f"{PROGRAM} COMMAND --help shows the flags of a command, in groups, with examples:",
        *(f"  {row.name:<12} {row.load().summary}" for row in COMMANDS.values()),
        "",
        f"To begin:    {PROGRAM} train; {PROGRAM} attack --target 2",
    ))
