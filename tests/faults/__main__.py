"""Make all trials of all campaigns, and print what came of them as a table: `make torture`.

    python -m tests.faults --only "bit flips" --count 100

Trials run in a process of their own, so that a crash or an endless loop of it is an outcome too. A
defect is printed with the number of its trial, which makes it again: `--only NAME --trial 17`.
"""

from __future__ import annotations

import argparse
import collections
import importlib
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import shutil
import sys
import tempfile
from typing import Any

from tqdm import tqdm

from tests.faults.campaign import Campaign, Ended, Outcome
from tests.faults.campaigns import CAMPAIGNS

_SECONDS = 180  # of the longest trial: a whole command, killed and run again
_BEGIN, _END = "<!-- begin: make torture -->", "<!-- end: make torture -->"
_PAGE = pathlib.Path(__file__).parents[2] / "docs" / "reliability.md"


class _Worker:
    """A process that makes the trials of one campaign, one after the other."""

    def __init__(self, campaign: Campaign) -> None:
        self._campaign = campaign
        self._start()

    def trial(self, number: int) -> Ended:
        """Make one trial; a process that does not answer is replaced."""
        self._pipe.send(number)
        try:
            if self._pipe.poll(_SECONDS):
                ended: Ended = self._pipe.recv()
                return ended
            why = f"no answer in {_SECONDS} s"
        except EOFError:
            self._process.join()
            why = f"exit status {self._process.exitcode}"
        self.close()
        self._start()
        return Ended(Outcome.CRASHED, why)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        # By its module's own name: `__main__` is another module in the new process.
        serve = importlib.import_module("tests.faults.__main__")._serve
        self._process = context.Process(target=serve, args=(self._campaign.name, theirs))
        self._process.start()
        theirs.close()


def _serve(name: str, pipe: multiprocessing.connection.Connection) -> None:
    campaign = next(campaign for campaign in CAMPAIGNS if campaign.name == name)
    with tempfile.TemporaryDirectory() as folder:
        made = pathlib.Path(folder) / "made"
        made.mkdir()
        campaign.prepare(made)
        while True:
            try:
                number = pipe.recv()
            except EOFError:
                return
            work = pathlib.Path(folder) / f"{number}"
            work.mkdir()
            pipe.send(campaign.trial(number, made, work))
            shutil.rmtree(work, ignore_errors=True)


def _run(campaign: Campaign, numbers: range) -> collections.Counter[Outcome]:
    counted: collections.Counter[Outcome] = collections.Counter()
    worker = _Worker(campaign)
    for number in tqdm(numbers, desc=campaign.name, disable=None):
        ended = worker.trial(number)
        counted[ended.outcome] += 1
        if ended.outcome.is_defect:
            tqdm.write(f"{campaign.name}, trial {number}: {ended.outcome.value}: {ended[1]}")
    worker.close()
    return counted


def _table(rows: dict[str, collections.Counter[Outcome]]) -> list[str]:
    columns = list(Outcome)
    lines = [
        f"| trials of | number | {' | '.join(column.value for column in columns)} |",
        "|---|" + "---:|" * (1 + len(columns)),
    ]
    for name, counted in rows.items():
        cells = (str(counted[column]) for column in columns)
        lines.append(f"| {name} | {counted.total()} | {' | '.join(cells)} |")
    total = sum(rows.values(), collections.Counter[Outcome]())
    cells = (f"**{total[column]}**" for column in columns)
    return [*lines, f"| **all** | **{total.total()}** | {' | '.join(cells)} |"]


def write_rows(page: str, rows: dict[str, collections.Counter[Outcome]]) -> str:
    """Put the rows of campaigns into a page's table, in place of their earlier ones.

    Args:
        page: the text with the table.
        rows: of campaigns whose trials were all made.

    Returns:
        The text with the rows of both, in the order of the campaigns.
    """
    before, _, rest = page.partition(_BEGIN)
    table, _, after = rest.partition(_END)
    merged = {**_read_rows(table), **rows}
    ordered = {each.name: merged[each.name] for each in CAMPAIGNS if each.name in merged}
    return f"{before}{_BEGIN}\n\n" + "\n".join(_table(ordered)) + f"\n\n{_END}{after}"


def _read_rows(table: str) -> dict[str, collections.Counter[Outcome]]:
    found = {}
    for line in table.splitlines():
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        if len(cells) == 1 + len(Outcome) and all(cell.isdecimal() for cell in cells):
            found[name] = collections.Counter(dict(zip(Outcome, map(int, cells[1:]))))
    return found


def main(arguments: Any = None) -> int:
    """Run the campaigns.

    Args:
        arguments: of the command line; those of the process if None.

    Returns:
        1 if a defect was met, else 0.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", action="append", help="a part of a campaign's name")
    parser.add_argument("--count", type=int, help="most trials of a campaign")
    parser.add_argument("--trial", type=int, help="this one alone")
    parser.add_argument("--write", action="store_true", help="whole rows into docs/reliability.md")
    given = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    rows = {}
    for campaign in CAMPAIGNS:
        if given.only is None or any(part in campaign.name for part in given.only):
            numbers = range(min(campaign.count, given.count or campaign.count))
            if given.trial is not None:
                numbers = range(given.trial, given.trial + 1)
            rows[campaign.name] = _run(campaign, numbers)
    print(*_table(rows), sep="\n")
    if given.write:
        whole = {
            campaign.name: rows[campaign.name]
            for campaign in CAMPAIGNS
            if campaign.name in rows and rows[campaign.name].total() == campaign.count
        }
        _PAGE.write_text(write_rows(_PAGE.read_text(), whole))
    return int(any(outcome.is_defect for counted in rows.values() for outcome in counted))


if __name__ == "__main__":
    sys.exit(main())
