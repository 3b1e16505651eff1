"""The connections that the sweep runs on: one `Cell` of the big table, and the two ends that it describes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio
import trio.testing

from trio_tls import TLSStream
from trio_tls.testing import Chaos, ChaosStream, CountedChaosStream

from ..support import HOST, Machines, receive_exactly, transport_pair

ROLES = ("client", "server")

#: How ciphertext comes to the end under test, and leaves it: as it is sent, or one byte at a time.
PIECES = ("flights", "bytes")

#: Asks the kernel for the smallest buffers that it gives, so that sends block.
TINY = 1

#: Makes an end: ``make(transport, machines, server_side)``.
MakeEnd = Callable[[trio.abc.Stream, Machines, bool], Any]


def tls_end(transport: trio.abc.Stream, machines: Machines, server_side: bool) -> TLSStream[Any]:
    if server_side:
        return TLSStream(transport, machines.server, server_side=True)
    return TLSStream(transport, machines.client, server_hostname=HOST)


def upstream_end(transport: trio.abc.Stream, machines: Machines, server_side: bool) -> trio.SSLStream[Any]:
    """The same end as Trio itself has it."""
    if server_side:
        return trio.SSLStream(transport, machines.server, server_side=True)
    return trio.SSLStream(transport, machines.client, server_hostname=HOST)


@dataclass(frozen=True)
class Cell:
    """Where an operation is swept.

    Attributes:
      machines: of both ends.
      tier: the transport, one of `tests.support.TIERS`.
      role: which end is under test.
      pieces: one of `PIECES`.
    """

    machines: Machines
    tier: str
    role: str = "client"
    pieces: str = "flights"

    def __str__(self) -> str:
        return f"{self.tier} {self.pieces} {self.machines.name} {self.role}"

    @property
    def on_sockets(self) -> bool:
        return self.tier.partition("-")[2] not in ("memory", "lockstep")

    def run(self, main: Callable[[], Any]) -> Any:
        """`trio.run`, with time that jumps where no kernel is involved: a hang is then found at once."""
        clock = None if self.on_sockets else trio.testing.MockClock(autojump_threshold=0)
        return trio.run(main, clock=clock)


@dataclass
class Link:
    """Two connected ends.

    Attributes:
      subject: the end under test.
      peer: the other one, always a TLSStream, which is never cancelled.
    """

    cell: Cell
    subject: Any
    peer: Any
    _chaos: list[ChaosStream] = field(default_factory=list)

    def start_chaos(self) -> None:
        """From now on bytes go one at a time, if the cell wants that."""
        self._set_chaos(Chaos(split=1))

    def stop_chaos(self) -> None:
        self._set_chaos(Chaos())

    def _set_chaos(self, chaos: Chaos) -> None:
        for stream in self._chaos:
            stream.sending.chaos = chaos
            if self.cell.tier != "1-socket":  # there the wrapper is the peer's, whose receiving is not the point
                stream.receiving.chaos = chaos


@asynccontextmanager
async def connect(cell: Cell, *, handshake: bool, make: MakeEnd = tls_end) -> AsyncIterator[Link]:
    """A fresh connection; its handshake is done first, in whole flights, if asked.

    Single bytes are made right below the end under test, in a wrapper that keeps the tier. A socket cannot be
    wrapped: there it is the peer that sends single bytes, and tiny buffers make the sends partial.
    """
    chaos: list[ChaosStream] = []

    def cut(stream: trio.abc.Stream, kind: type[ChaosStream]) -> ChaosStream:
        chaos.append(kind(stream))
        return chaos[-1]

    async with transport_pair(cell.tier, cell.machines, buffer=TINY) as ends, AsyncExitStack() as stack:
        client_end, server_end = ends
        for end in ends:  # an end that unwraps leaves its transport open
            stack.push_async_callback(trio.aclose_forcefully, end)
        below, far = (client_end, server_end) if cell.role == "client" else (server_end, client_end)
        if cell.pieces == "bytes":
            if cell.tier == "1-socket":
                far = cut(far, ChaosStream)
            elif cell.tier == "2-nested":
                below = cut(below, CountedChaosStream)
            elif cell.tier == "3-stapled":
                both = cut(below, CountedChaosStream)
                below = trio.StapledStream(both, both)
            else:
                below = cut(below, ChaosStream)
        subject = make(below, cell.machines, cell.role == "server")
        peer = tls_end(far, cell.machines, cell.role == "client")
        for stream in (subject, peer):
            if cell.tier.startswith("4") and isinstance(stream, TLSStream):
                await stack.enter_async_context(stream)
            else:
                stack.push_async_callback(trio.aclose_forcefully, stream)
        if handshake:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(subject.do_handshake)
                nursery.start_soon(peer.do_handshake)
        link = Link(cell, subject, peer, chaos)
        link.start_chaos()
        yield link


async def expect(stream: trio.abc.ReceiveStream, data: bytes) -> None:
    """Receive as many bytes as ``data`` has, which must be these."""
    received = await receive_exactly(stream, len(data))
    assert received == data, _difference(received, data)


async def expect_end(stream: trio.abc.ReceiveStream) -> None:
    surplus = await stream.receive_some()
    assert surplus == b"", f"{len(surplus)} bytes where the end should be"


def _difference(received: bytes, sent: bytes) -> str:
    differing = (index for index, (a, b) in enumerate(zip(received, sent, strict=False)) if a != b)
    same = next(differing, min(len(received), len(sent)))
    return f"received {len(received)} of {len(sent)} bytes, the first {same} of them right"
