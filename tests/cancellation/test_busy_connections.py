"""Two busy connections in one process: buffers are never shared across an await, so no byte crosses over."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import trio

from trio_tls.testing import CancelMode, Interrupter

from ..support import Machines, pattern
from .connections import Cell, connect
from .operations import CANCELLABLE, PATIENCE

AMOUNT = 150_000


async def receive_while_cancelled(stream: trio.abc.ReceiveStream, data: bytes, limit: int) -> None:
    """Receive ``data`` in a storm of cancels, ``limit`` bytes at a time."""
    received = bytearray()
    while len(received) < len(data):
        part = await Interrupter(CancelMode.STORM).call(partial(stream.receive_some, limit))
        assert part
        received += part
        assert data.startswith(received[-len(part) :], len(received) - len(part))


@pytest.mark.parametrize("tier", CANCELLABLE)
def test_two_connections_keep_their_bytes_apart(machines: Machines, tier: str) -> None:
    cell = Cell(machines, tier)

    async def main() -> None:
        with trio.fail_after(PATIENCE):
            async with (
                connect(cell, handshake=True) as one,
                connect(cell, handshake=True) as other,
                trio.open_nursery() as nursery,
            ):
                for number, link in enumerate((one, other)):
                    for turn, (sender, receiver) in enumerate(((link.subject, link.peer), (link.peer, link.subject))):
                        data = pattern(AMOUNT, seed=(2 * number + turn) * 1_000_000)
                        nursery.start_soon(sender.send_all, data)
                        nursery.start_soon(receive_while_cancelled, receiver, data, 1_000 + 7_000 * number)

    cell.run(main)


@pytest.mark.parametrize("tier", ["1-socket", "4-memory"])
def test_two_connections_under_a_storm_of_cancelled_sends(machines: Machines, tier: str) -> None:
    cell = Cell(machines, tier)

    async def send(make_sender: Callable[[bytes], trio.abc.SendStream], data: bytes) -> None:
        await Interrupter(CancelMode.STORM).call(make_sender(data).send)  # type: ignore[attr-defined]

    async def main() -> None:
        with trio.fail_after(PATIENCE):
            async with (
                connect(cell, handshake=True) as one,
                connect(cell, handshake=True) as other,
                trio.open_nursery() as nursery,
            ):
                for number, link in enumerate((one, other)):
                    data = pattern(AMOUNT, seed=number * 1_000_000)
                    nursery.start_soon(send, link.subject.sender, data)
                    nursery.start_soon(receive_while_cancelled, link.peer, data, 5_000)

    cell.run(main)
