"""The stream's behaviour on every machine and tier."""

from __future__ import annotations

import pytest
import trio

from .support import TIERS, Machines, pattern, receive_exactly, tls_pair


@pytest.mark.parametrize("tier", TIERS)
async def test_data_goes_both_ways_at_once_on_every_tier(machines: Machines, tier: str) -> None:
    there, back = pattern(300_000), pattern(200_000, seed=7)
    async with tls_pair(machines, tier) as (client, server):
        got: dict[str, bytes] = {}

        async def receive(name: str, end: trio.abc.ReceiveStream, count: int) -> None:
            got[name] = await receive_exactly(end, count)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, there)
            nursery.start_soon(server.send_all, back)
            nursery.start_soon(receive, "server", server, len(there))
            nursery.start_soon(receive, "client", client, len(back))
        assert got == {"server": there, "client": back}
