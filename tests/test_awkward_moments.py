"""Moments that are easily overlooked: each was a defect once."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from trio_tls import PeerMisbehaved, TLSStream, TransportError
from trio_tls.machine.bio import MemoryBIO
from trio_tls.machine.interface import Want
from trio_tls.pump import Pump
from trio_tls.transport import choose

from .blocking import blocked, cancel_once_blocked, concurrently
from .support import HOST, ForeignStream, Machines, machines_named, pattern, receive_exactly, tcp_pair, tls_pair

DATA = pattern(1_000_000)


class GroupingStream(ForeignStream):
    """A transport whose ``send_all`` has a nursery, so that a cancel comes out of it in a group."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.wrapped.send_all, bytes(data))


async def test_what_a_cancelled_wait_has_held_up_leaves_while_only_a_reader_runs(machines: Machines) -> None:
    async with tls_pair(machines, buffer=4096) as (client, server):
        await cancel_once_blocked(lambda: client.send_all(DATA))
        accepted = client.plaintext_sent
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.wait_send_all_might_not_block)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(client.receive_some)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        async with blocked(client.receive_some):
            with trio.fail_after(10):
                assert await receive_exactly(server, accepted) == DATA[:accepted]


async def test_what_send_nowait_has_queued_leaves_while_a_reader_sleeps_already(machines: Machines) -> None:
    async with tls_pair(machines, buffer=4096) as (client, server), blocked(client.receive_some):
        accepted = client.send_nowait(DATA)
        assert accepted > 4096
        with trio.fail_after(10):
            assert await receive_exactly(server, accepted) == DATA[:accepted]


@pytest.mark.parametrize("kind", [ForeignStream, GroupingStream])
async def test_a_cancelled_send_on_a_stream_not_entered_says_so_to_the_next(
    machines: Machines, kind: type[ForeignStream]
) -> None:
    async with tls_pair(machines, buffer=4096, wrap=kind) as (client, server):
        await cancel_once_blocked(lambda: client.send_all(DATA))
        with pytest.raises(TransportError, match="async with TLSStream"):
            await client.send_all(b"more")
        await server.send_all(b"receiving goes on")
        assert await client.receive_some() == b"receiving goes on"


class QuittingStream(ForeignStream):
    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        raise SystemExit(3)


async def test_a_transport_that_quits_in_the_handshake_hangs_nobody(autojump_clock: MockClock) -> None:
    ends = trio.testing.memory_stream_pair()
    client = TLSStream(QuittingStream(ends[0]), machines_named("ssl-1.3").client, server_hostname=HOST)
    with trio.fail_after(5), pytest.raises(BaseException) as caught:  # noqa: PT011  # in a group or not
        await client.do_handshake()
    assert caught.group_contains(SystemExit) or isinstance(caught.value, SystemExit)


async def reset(stream: TLSStream[trio.SocketStream]) -> None:
    assert stream.transport_stream is not None
    sock = stream.transport_stream.socket
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await trio.aclose_forcefully(stream.transport_stream)


@pytest.mark.parametrize("https_compatible", [True, False])
@pytest.mark.parametrize("queued", [True, False])
async def test_a_reset_is_never_an_ordinary_end(machines: Machines, https_compatible: bool, queued: bool) -> None:
    ends = await tcp_pair(buffer=4096)
    client = TLSStream(ends[0], machines.client, server_hostname=HOST, https_compatible=https_compatible)
    server = TLSStream(ends[1], machines.server, server_side=True)
    await concurrently(client.do_handshake, server.do_handshake)
    if queued:
        await cancel_once_blocked(lambda: client.send_all(DATA * 10))
    await reset(server)
    for _ in range(2):
        with pytest.raises(TransportError, match="reset"):
            await client.receive_some()
    assert [client.is_readable() for _ in range(3)] == [True, True, True]
    with pytest.raises(TransportError, match="reset"):
        client.receive_nowait()
    await trio.aclose_forcefully(client)


@pytest.mark.parametrize("tier", ["2-nested", "4-memory", "5-memory"])
async def test_close_wakes_who_waits_until_a_send_might_not_block(machines: Machines, tier: str) -> None:
    async with tls_pair(machines, tier) as (client, server):
        transport = client.transport_stream
        assert transport is not None

        async def wait_for_ever() -> None:
            await trio.sleep_forever()

        getattr(transport, "send_stream", transport).wait_send_all_might_not_block = wait_for_ever
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await client.wait_send_all_might_not_block()

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            with trio.fail_after(0.9):  # less than the grace period
                await client.aclose()
        assert await server.receive_some() == b""  # close_notify has left


async def test_after_unwrap_only_the_late_data_is_left_to_ask_for(machines: Machines) -> None:
    async with tls_pair(machines) as (client, server):
        await server.send_all(b"late")
        transports = [client.transport_stream, server.transport_stream]
        await concurrently(client.unwrap, server.unwrap)
        assert client.pending() == 4
        for operation in (client.unwrap, client.send_eof, client.do_handshake):
            with pytest.raises(trio.ClosedResourceError):
                await operation()
        assert await client.receive_some() == b"late"
        for transport in transports:
            assert transport is not None
            await trio.aclose_forcefully(transport)


async def test_send_eof_on_a_failed_connection_raises_its_error(machines: Machines) -> None:
    async with tls_pair(machines) as (client, server):
        assert server.transport_stream is not None
        await server.transport_stream.send_all(b"this is no record, but it is long enough to be read as one")
        for operation in (client.receive_some, client.send_eof, client.flush):
            with pytest.raises(PeerMisbehaved):
                await operation()


async def test_pending_counts_the_byte_that_a_probe_has_taken(machines: Machines) -> None:
    async with tls_pair(machines) as (client, server):
        await server.send_all(b"Z")
        await trio.testing.wait_all_tasks_blocked()
        assert client.is_readable()
        assert client.pending() == 1


async def test_two_tasks_may_enter_the_same_stream(machines: Machines) -> None:
    async with tls_pair(machines, "5-memory") as (client, _server):
        inside = trio.Event()

        async def first() -> None:
            async with client:
                await inside.wait()

        async def second() -> None:
            async with client:
                inside.set()
                await trio.testing.wait_all_tasks_blocked()

        await concurrently(first, second)


async def test_the_grace_period_is_paid_once(machines: Machines, autojump_clock: MockClock) -> None:
    async with tls_pair(machines, "4-lockstep") as (client, server):
        assert server.transport_stream is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                server.transport_stream.send_all, b"this is no record, but long enough to be read as one"
            )
            begin = trio.current_time()
            for operation in (client.receive_some, client.receive_some, client.flush):
                with pytest.raises(PeerMisbehaved):
                    await operation()
            assert trio.current_time() - begin <= 1.001


@pytest.mark.parametrize("tier", ["1-socket", "2-nested", "4-lockstep", "4-foreign"])
@pytest.mark.parametrize("first", ["client", "server"])
async def test_a_receive_does_not_wait_for_a_flight_that_is_stuck_among_data_which_the_peer_reads_later(
    machines: Machines, tier: str, first: str, autojump_clock: MockClock
) -> None:
    async with tls_pair(machines, tier, buffer=1, handshake=False) as ends:
        early, late = ends if first == "client" else ends[::-1]
        answers: list[bytes] = []

        async def receive() -> None:
            answers.append(await receive_exactly(early, 5000))

        async def answer_before_reading() -> None:
            await late.send_all(DATA[:5000])
            assert await receive_exactly(late, len(DATA)) == DATA

        with trio.fail_after(1000):
            await concurrently(lambda: early.send_all(DATA), receive, answer_before_reading)
        assert answers == [DATA[:5000]]


class Gate(ForeignStream):
    """A transport that counts what it sends, and lets a client's ClientHello through, but not what follows."""

    def __init__(self, wrapped: trio.abc.Stream) -> None:
        super().__init__(wrapped)
        self.sends = 0
        self.blocked, self.open = trio.Event(), trio.Event()

    async def send_some(self, data: bytes | bytearray | memoryview) -> int:
        self.sends += 1
        if self.sends > 1 and not self.open.is_set():
            self.blocked.set()
            await self.open.wait()
        await self.wrapped.send_all(bytes(data))
        return len(data)


@pytest.mark.parametrize("name", ["ssl-1.3", "own", "own-client", "own-server"])
@pytest.mark.parametrize("then", ["aclose", "send_nowait"])
async def test_who_is_cancelled_in_its_last_flight_is_done_and_can_close_or_send(
    name: str, autojump_clock: MockClock, then: str
) -> None:
    """The machine has all that it needs: to wait for the flight to leave is a courtesy."""
    machines = machines_named(name)
    ours, theirs = trio.testing.memory_stream_pair()
    gate = Gate(ours)
    client = TLSStream(gate, machines.client, server_hostname=HOST)
    server = TLSStream(theirs, machines.server, server_side=True)
    received: list[bytes] = []

    async def serve() -> None:
        await server.do_handshake()
        received.append(await server.receive_some())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as waiting:
                waiting.start_soon(client.do_handshake)
                await gate.blocked.wait()
                scope.cancel()
        gate.open.set()
        if then == "send_nowait":
            assert client.send_nowait(b"x") == 1
        await client.aclose()
    assert received == [b"x" if then == "send_nowait" else b""]
    await server.aclose()


class Stubborn:
    """As much of a machine as a handshake needs: it is done when its flight has left, and not before."""

    def __init__(self) -> None:
        self.incoming, self.outgoing = MemoryBIO(), MemoryBIO()
        self.outgoing.write(b"flight")
        self.steps = 0

    def do_handshake(self) -> Want | None:
        self.steps += 1
        assert self.steps < 100, "a busy loop"
        return Want.WRITE if self.outgoing.pending else None

    def rest(self) -> None:
        pass


@pytest.mark.parametrize("finish", [False, True])
async def test_a_machine_that_insists_on_its_flight_leaving_is_not_stepped_in_vain(finish: bool) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    machine: Any = Stubborn()
    await Pump(machine, *choose(ours, grace=1), grace=1).handshake(finish=finish)
    assert await theirs.receive_some() == b"flight"


class Hesitating(Stubborn):
    """A machine that pauses twice, the second time with nothing queued."""

    def do_handshake(self) -> Want | None:
        self.steps += 1
        return Want.WRITE if self.steps < 3 else None


@pytest.mark.parametrize("finish", [False, True])
async def test_a_machine_that_pauses_with_nothing_queued_is_stepped_again(finish: bool) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    machine: Any = Hesitating()
    pump = Pump(machine, *choose(ours, grace=1), grace=1)
    if not finish:
        machine.outgoing.read()
    with trio.testing.assert_checkpoints():
        await pump.handshake(finish=finish)
    if finish:
        assert await theirs.receive_some() == b"flight"
