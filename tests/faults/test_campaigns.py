"""The first trials of every campaign; `make torture` makes them all."""

from __future__ import annotations

import collections
import pathlib

import pytest

from tests.faults.__main__ import write_rows
from tests.faults.campaign import Campaign, Outcome
from tests.faults.campaigns import CAMPAIGNS


@pytest.mark.slow
@pytest.mark.parametrize(
    "campaign",
    [campaign for campaign in CAMPAIGNS if campaign.quick],
    ids=lambda campaign: campaign.name,
)
def test_first_trials(campaign: Campaign, tmp_path: pathlib.Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    campaign.prepare(made)
    for number in range(campaign.quick):
        work = tmp_path / f"{number}"
        work.mkdir()
        ended = campaign.trial(number, made, work)
        assert not ended.outcome.is_defect, (number, *ended)


def test_a_row_that_is_written_leaves_the_others_and_counts_all() -> None:
    first, second = CAMPAIGNS[0].name, CAMPAIGNS[-1].name
    page = write_rows(
        "before\n<!-- begin: make torture --><!-- end: make torture -->\nafter",
        {second: collections.Counter({Outcome.REFUSED: 3})},
    )
    rows = {first: collections.Counter({Outcome.UNHARMED: 2, Outcome.SILENT: 1})}
    page = write_rows(page, rows)
    assert f"| {first} | 3 | 2 | 0 | 0 | 1 | 0 | 0 | 0 |\n| {second} | 3 | 0 | 3 |" in page
    assert "| **all** | **6** | **2** | **3** | **0** | **1** |" in page
    assert page.startswith("before\n") and page.endswith("\nafter")
    assert write_rows(page, rows) == page
