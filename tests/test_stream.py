"""The stream's behaviour on every machine and tier."""

from __future__ import annotations

import pytest

from .support import TIERS, Machines, exchange, pattern, tls_pair


@pytest.mark.parametrize("tier", TIERS)
async def test_data_goes_both_ways_at_once_on_every_tier(machines: Machines, tier: str) -> None:
    there, back = pattern(300_000), pattern(200_000, seed=7)
    async with tls_pair(machines, tier) as (client, server):
        assert await exchange(client, server, there, back) == (there, back)
