"""The scenarios of the sweep: each interrupts one operation, compares every byte, and uses the connection after it.

They use no more than the operation's own interface, so that `trio.SSLStream` can be put to the same test where it has
the operation too (`Operation.upstream`).
"""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import trio
import trio.testing

from trio_tls import TLSStream
from trio_tls.testing import CancelMode, Interrupter

from ..support import TIERS, pattern
from .connections import PIECES, Cell, Link, MakeEnd, connect, expect, expect_end, tls_end

#: Seconds after which a scenario counts as hung: virtual ones where no kernel is involved.
PATIENCE = 60

#: Tiers on which any operation may be cancelled; on tier 5 that is promised for the handshake alone.
CANCELLABLE = tuple(tier for tier in TIERS if not tier.startswith("5"))


@dataclass(frozen=True)
class Operation:
    """One row of the table.

    Attributes:
      name: as it is called in the report.
      run: interrupts the operation on a `Link`.
      handshake: whether the handshake is part of what is interrupted.
      tiers: where being cancelled is promised.
      pieces: how the bytes may come and go; a lot of them does not go one by one.
      steps: where it is cancelled, if it has too many steps for all.
      absorbs: whether a cancel that comes while it sleeps does not strike: it returns its count.
      upstream: whether `trio.SSLStream` has it, so that the same scenario says something about it.
    """

    name: str
    run: Callable[[Link, Interrupter], Awaitable[None]]
    handshake: bool = False
    tiers: tuple[str, ...] = CANCELLABLE
    pieces: tuple[str, ...] = PIECES
    steps: tuple[int, ...] | None = None
    absorbs: bool = False
    upstream: bool = True

    def steps_on(self, cell: Cell) -> tuple[int, ...] | None:
        """Where to cancel it on ``cell``. Among single bytes that is a sample: a different one in each cell."""
        if cell.pieces == "flights":
            return self.steps
        sample = 3 + zlib.crc32(f"{self.name} {cell}".encode()) % (200 if self.handshake else 40)
        return (sample,) if self.handshake else (1, sample)

    async def play(self, cell: Cell, interrupter: Interrupter, *, make: MakeEnd = tls_end) -> None:
        """The whole scenario, once: a new connection, the interrupted operation, and a conversation after it."""
        with trio.fail_after(PATIENCE):
            async with connect(cell, handshake=not self.handshake, make=make) as link:
                await self.run(link, interrupter)


async def converse(link: Link) -> None:
    """Use the connection in both directions at once."""
    link.stop_chaos()
    there, back = pattern(200, seed=1_000_000), pattern(150, seed=2_000_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.subject.send_all, there)
        nursery.start_soon(link.peer.send_all, back)
        nursery.start_soon(expect, link.peer, there)
        nursery.start_soon(expect, link.subject, back)


def to_receive(link: Link) -> bytes:
    """What the peer sends: several times the kernel's buffer, or little if it goes byte by byte."""
    return pattern(40 if link.cell.pieces == "bytes" else 12_000)


def to_send(link: Link) -> bytes:
    """What the end under test sends: the same; but on a socket the kernel decides what goes at once."""
    return pattern(40 if link.cell.pieces == "bytes" and link.cell.tier != "1-socket" else 12_000, seed=500_000)


def resumable(stream: trio.abc.Stream, data: bytes) -> Callable[[], Awaitable[None]]:
    """A send that may be called again. `trio.SSLStream` cannot say what it has sent, so it gets all of it again."""
    return stream.sender(data).send if isinstance(stream, TLSStream) else partial(stream.send_all, data)


async def send_in_parts(stream: trio.abc.SendStream, data: bytes) -> None:
    """Send ``data`` in five parts, such that the receiver falls asleep between them."""
    size = -(-len(data) // 5)
    for start in range(0, len(data), size):
        await stream.send_all(data[start : start + size])
        await trio.testing.wait_all_tasks_blocked()


async def do_handshake(link: Link, interrupter: Interrupter) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.peer.do_handshake)
        await interrupter.call(link.subject.do_handshake)
    await converse(link)


async def send_all(link: Link, interrupter: Interrupter) -> None:
    data = to_send(link)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect, link.peer, data)
        await interrupter.call(resumable(link.subject, data))
    await converse(link)


async def send_some(link: Link, interrupter: Interrupter) -> None:
    data = to_send(link)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect, link.peer, data)
        with memoryview(data) as view:
            position = 0
            while position < len(data):
                # at most 2500 at a time, for otherwise the first call accepts everything
                position += await interrupter.call(partial(link.subject.send_some, view[position : position + 2500]))
        await link.subject.flush()
    await converse(link)


async def send_some_without_room(link: Link, interrupter: Interrupter) -> None:
    """The stream is full, so the call has to wait before it accepts anything."""
    data = pattern(600_000)
    with memoryview(data) as view:
        position = 0
        while True:
            try:
                position += link.subject.send_nowait(view[position:])
            except trio.WouldBlock:
                break
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect, link.peer, data)
            position += await interrupter.call(partial(link.subject.send_some, view[position:]))
            await link.subject.send_all(view[position:])
    await converse(link)


async def send_all_without_room(link: Link, interrupter: Interrupter) -> None:
    """More than the stream takes at once."""
    data = pattern(600_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect, link.peer, data)
        await interrupter.call(resumable(link.subject, data))
    await converse(link)


async def receive_some(link: Link, interrupter: Interrupter) -> None:
    data = to_receive(link)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_in_parts, link.peer, data)
        received = b""
        while len(received) < len(data):
            part = await interrupter.call(link.subject.receive_some)
            assert part, "the stream ended early"
            received += part
        assert received == data
    await converse(link)


async def receive_some_into(link: Link, interrupter: Interrupter) -> None:
    data = to_receive(link)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_in_parts, link.peer, data)
        received = bytearray(len(data))
        with memoryview(received) as view:
            position = 0
            while position < len(data):
                count = await interrupter.call(partial(link.subject.receive_some_into, view[position:]))
                assert count, "the stream ended early"
                position += count
        assert received == data
    await converse(link)


async def clog(link: Link, data: bytes) -> Callable[[], Awaitable[None]]:
    """Begin to send ``data`` to a peer that does not read, and be cancelled there; what sends the rest."""
    rest = resumable(link.subject, data)
    await Interrupter(CancelMode.BLOCKED).attempt(rest)
    return rest


async def flush(link: Link, interrupter: Interrupter) -> None:
    data = to_send(link)
    rest = await clog(link, data)
    accepted = link.subject.plaintext_sent
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect, link.peer, data[:accepted])
        await interrupter.call(link.subject.flush)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect, link.peer, data[accepted:])
        await rest()
    await converse(link)


async def wait_send_all_might_not_block(link: Link, interrupter: Interrupter) -> None:
    data, more = to_send(link), b"it might not"
    rest = await clog(link, data)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect, link.peer, data + more)
        await interrupter.call(link.subject.wait_send_all_might_not_block)
        await rest()
        await link.subject.send_all(more)
    await converse(link)


async def wait_on_an_idle_stream(link: Link, interrupter: Interrupter) -> None:
    word = b"it might not"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect, link.peer, word)
        await interrupter.call(link.subject.wait_send_all_might_not_block)
        await link.subject.send_all(word)
    await converse(link)


async def send_eof(link: Link, interrupter: Interrupter) -> None:
    """The peer gets all that was sent before, then the end; and can answer."""
    data, answer = to_send(link), pattern(150, seed=3_000_000)
    await clog(link, data[:4000])
    accepted = link.subject.plaintext_sent

    async def peer() -> None:
        await expect(link.peer, data[:accepted])
        await expect_end(link.peer)
        await link.peer.send_all(answer)
        await link.peer.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer)
        await interrupter.call(link.subject.send_eof)
        await expect(link.subject, answer)
        await expect_end(link.subject)


async def unwrap(link: Link, interrupter: Interrupter) -> None:
    await _unwrap(link, interrupter, late=b"")


async def unwrap_past_late_data(link: Link, interrupter: Interrupter) -> None:
    await _unwrap(link, interrupter, late=pattern(40, seed=4_000_000))


async def _unwrap(link: Link, interrupter: Interrupter, *, late: bytes) -> None:
    """Application data of the peer is under way; after it, both ends talk in plain text."""
    question, answer = b"in plain text: can you read me?", b"in plain text: yes"

    async def peer() -> None:
        if late:
            await link.peer.send_all(late)
        transport, begun = await link.peer.unwrap()
        await expect(transport, question[len(begun) :])
        assert question.startswith(begun)
        await transport.send_all(answer)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer)
        transport, begun = await interrupter.call(link.subject.unwrap)
        if late:
            assert link.subject.receive_nowait() == late
        await transport.send_all(question)
        await expect(transport, answer[len(begun) :])
        assert answer.startswith(begun)
    await transport.aclose()


OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation("do_handshake", do_handshake, handshake=True, tiers=TIERS),
        Operation("send_all, with the handshake", send_all, handshake=True),
        Operation("receive_some, with the handshake", receive_some, handshake=True, tiers=TIERS),
        Operation("receive_some", receive_some, tiers=TIERS),
        Operation("receive_some_into", receive_some_into, tiers=TIERS, upstream=False),
        Operation("send_some", send_some, absorbs=True, upstream=False),
        Operation(
            "send_some, without room",
            send_some_without_room,
            pieces=("flights",),
            steps=(1, 2, 5, 12),
            upstream=False,
        ),
        Operation("send_all", send_all),
        Operation("send_all, without room", send_all_without_room, pieces=("flights",), steps=(1, 2, 12, 29)),
        Operation("flush", flush, upstream=False),
        Operation("wait_send_all_might_not_block", wait_send_all_might_not_block, upstream=False),
        Operation("wait on an idle stream", wait_on_an_idle_stream, tiers=TIERS),
        Operation("send_eof", send_eof, upstream=False),
        Operation("unwrap", unwrap),
        Operation("unwrap past late data", unwrap_past_late_data, upstream=False),
    )
}
