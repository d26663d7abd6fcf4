"""The campaigns: one row each."""

from __future__ import annotations

from tests.faults import arrays, command_flags, damage, hostile_models, kills
from tests.faults.campaign import Campaign

CAMPAIGNS: tuple[Campaign, ...] = (
    arrays.CAMPAIGN,
    command_flags.CAMPAIGN,
    hostile_models.CAMPAIGN,
    *damage.CAMPAIGNS,
    *kills.CAMPAIGNS,
)
