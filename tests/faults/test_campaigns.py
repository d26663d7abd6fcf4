"""The first trials of every campaign; `make torture` makes them all."""

from __future__ import annotations

import pathlib

import pytest

from tests.faults.campaign import Campaign
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
