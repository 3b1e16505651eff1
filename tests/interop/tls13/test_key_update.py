"""KeyUpdate from either end."""

from __future__ import annotations

from .identities import Files
from .matrix import Cell, cells
from .peer import Setup, Trace, config_for, connected

DATA = b"0123456789 there and back\n"


async def updated(cell: Cell, files: Files, *, request: bool) -> None:
    """The peer changes its key three times, with data in between."""
    trace = Trace()
    config = config_for(cell.role, tracer=trace)
    async with connected(cell.peer, cell.role, Setup(files), config) as (ours, theirs):
        await theirs.exchange(ours, DATA)
        for number in range(1, 4):
            await theirs.update_keys(ours, request=request)
            await theirs.exchange(ours, b"%d" % number + DATA)
            assert trace.count("key_update", sent=False) == number
            assert trace.count("key_update", sent=True) == (number if request else 0)


@cells("key update by the peer")
async def test_the_peer_changes_its_key(cell: Cell, files: Files) -> None:
    await updated(cell, files, request=False)


@cells("key update by the peer, asking for ours")
async def test_the_peer_changes_its_key_and_asks_for_ours(cell: Cell, files: Files) -> None:
    await updated(cell, files, request=True)


@cells("key update by us, asking for the peer's")
async def test_we_change_our_key_and_ask_for_the_peers(cell: Cell, files: Files) -> None:
    trace, once = Trace(), cell.role in cell.peer.talks_once
    config = config_for(cell.role, tracer=trace)
    async with connected(cell.peer, cell.role, Setup(files), config) as (ours, theirs):
        await ours.do_handshake()
        for number in range(1, 2 if once else 4):
            await ours.update_keys(request_update=True)
            for _ in range(1 if once else 2):  # the peer's may come only with what it sends next
                await theirs.exchange(ours, b"%d" % number + DATA)
            assert trace.count("key_update", sent=True) == number
            assert trace.count("key_update", sent=False) == number
