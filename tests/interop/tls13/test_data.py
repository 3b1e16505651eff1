"""A handshake, much data, and each order of ending."""

from __future__ import annotations

from functools import partial

import pytest
import trio.testing

from trio_tls import UnexpectedEOF

from ...blocking import concurrently
from ...support import receive_exactly
from .identities import Files
from .matrix import Cell, cells
from .peer import Setup, connected, server_config

MEGABYTE = 1_000_000


def lines_of(count: int) -> bytes:
    """``count`` bytes in lines of 100, of which no two are alike."""
    return b"".join(f"{number:099}\n".encode() for number in range(count // 100))


@cells("handshake", slow=False)
async def test_we_shake_hands_and_exchange_data(cell: Cell, files: Files) -> None:
    async with connected(cell.peer, cell.role, Setup(files)) as (ours, theirs):
        await theirs.exchange(ours, lines_of(2000))
        assert ours.info is not None and not ours.info.session_reused


@cells("a megabyte each way")
async def test_a_megabyte_goes_each_way(cell: Cell, files: Files) -> None:
    async with connected(cell.peer, cell.role, Setup(files)) as (ours, theirs):
        await theirs.exchange(ours, lines_of(MEGABYTE))


@cells("our end first")
async def test_our_end_comes_first(cell: Cell, files: Files) -> None:
    async with connected(cell.peer, cell.role, Setup(files)) as (ours, theirs):
        await ours.send_eof()
        await theirs.saw_end()
        if cell.role in cell.peer.cuts_after_our_end:
            with pytest.raises(UnexpectedEOF):
                await ours.receive_some()
        elif cell.role in cell.peer.sends_after_our_end:
            await theirs.send_after_end(b"after your end\n")
            assert await receive_exactly(ours, 15) == b"after your end\n"
        else:
            assert await ours.receive_some() == b"", "close_notify: no UnexpectedEOF"


@cells("the peer's end first")
async def test_the_end_of_the_peer_comes_first(cell: Cell, files: Files) -> None:
    config = None if cell.role == "server" or cell.peer.takes_late_tickets else server_config(tickets=0)
    async with connected(cell.peer, cell.role, Setup(files, closes=True), config) as (ours, theirs):

        async def end_after_it() -> None:
            await ours.do_handshake()
            while await ours.receive_some():
                pass  # to close_notify: no UnexpectedEOF
            await trio.testing.wait_all_tasks_blocked()  # if a line of ours told the peer to end, it has left
            if cell.role in cell.peer.receives_after_its_end:
                await ours.send_all(b"after your end\n")
            await ours.send_eof()

        await concurrently(partial(theirs.finish, ours), end_after_it)
        if cell.role in cell.peer.receives_after_its_end:
            await theirs.receive_after_finish(b"after your end\n")
