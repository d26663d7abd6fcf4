"""What a campaign of faults is: many trials of one kind, each with one outcome."""

from __future__ import annotations

import dataclasses
import enum
import pathlib
from collections.abc import Callable
from typing import NamedTuple


class Outcome(enum.Enum):
    """How a trial ended; the values are the columns of the table."""

    UNHARMED = "unharmed"
    REFUSED = "refused"
    UNTOLD = "changed, which the format cannot tell"
    SILENT = "silently wrong"
    TRACEBACK = "traceback"
    LOST = "lost"
    CRASHED = "crashed or hung"

    @property
    def is_defect(self) -> bool:
        """Tell whether this must never happen."""
        return self in (Outcome.SILENT, Outcome.TRACEBACK, Outcome.LOST, Outcome.CRASHED)


class Ended(NamedTuple):
    """What came of one trial.

    Attributes:
        outcome: how it ended.
        description: the fault that was made, and what was answered: enough to make it again.
    """

    outcome: Outcome
    description: str


@dataclasses.dataclass(frozen=True)
class Campaign:
    """Trials of one kind.

    Attributes:
        name: of its row in the table, such as "bit flips in model files".
        promise: what must hold, one sentence.
        count: how many trials `make torture` makes.
        prepare: fills an empty folder with what all trials need; called once in each process.
        trial: number of the trial, that folder, which is only read, and an empty folder of its own
            -> how it ended. The number alone decides what it does. It raises only where the trial
            itself is wrong.
        quick: how many trials `make test` makes: the first ones; 0: none, as they take too long.
    """

    name: str
    promise: str
    count: int
    prepare: Callable[[pathlib.Path], None]
    trial: Callable[[int, pathlib.Path, pathlib.Path], Ended]
    quick: int = 8
