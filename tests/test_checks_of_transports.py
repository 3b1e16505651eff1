"""Checks of the transports that only these tests would miss (`tests.mutants`)."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from trio_tls import TLSStream, TransportError
from trio_tls.machine.bio import MemoryBIO
from trio_tls.transport.socket import SocketSender

from .support import HOST, ForeignStream, Machines, tls_pair
from .test_checkpoints import steps_of


async def test_a_descriptor_that_is_somebody_elses_by_now_is_left_alone(machines: Machines) -> None:
    async with tls_pair(machines) as (client, _server):
        transport = client.transport_stream
        assert isinstance(transport, trio.SocketStream)
        number = transport.socket.fileno()
        await trio.aclose_forcefully(transport)
        theirs, beyond = sorted(socket.socketpair(), key=lambda end: end.fileno() != number)
        taken = theirs.fileno() != number
        with theirs, beyond:
            if taken:
                os.dup2(theirs.fileno(), number)  # what the kernel does with the next socket
            try:
                beyond.send(b"for them")
                uses: list[Callable[[], Awaitable[object]]] = [lambda: client.send_all(b"x"), client.receive_some]
                for use in uses:
                    with pytest.raises((trio.ClosedResourceError, TransportError), match="socket was closed"):
                        await use()
                await client.aclose()
                assert theirs.recv(100) == b"for them"
                beyond.setblocking(False)
                with pytest.raises(BlockingIOError):
                    beyond.recv(100)
            finally:
                if taken:
                    os.close(number)


async def test_a_send_over_a_socket_whose_eof_was_sent_is_told_in_trios_words(machines: Machines) -> None:
    async with tls_pair(machines) as (client, server):
        assert isinstance(client.transport_stream, trio.SocketStream)
        await client.transport_stream.send_eof()
        with pytest.raises(TransportError, match="can't send data after sending EOF"):
            await client.send_all(b"x")
        await server.send_all(b"receiving goes on")
        assert await client.receive_some() == b"receiving goes on"


async def test_who_waits_for_room_on_a_socket_that_is_closed_is_told(machines: Machines) -> None:
    async with tls_pair(machines, buffer=4096) as (client, _server):
        transport = client.transport_stream
        assert isinstance(transport, trio.SocketStream)
        with trio.move_on_after(0.05):
            await transport.send_all(bytes(2**20))  # the kernel has no room now; the stream has nothing queued

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await client.wait_send_all_might_not_block()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            await trio.aclose_forcefully(transport)


async def test_a_long_send_to_a_transport_that_takes_all_of_it_lets_other_tasks_run(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tls_pair(machines) as (client, _server):

        def take_all(_sender: SocketSender, outgoing: MemoryBIO) -> None:
            outgoing.consume(outgoing.pending)

        monkeypatch.setattr(SocketSender, "send_nowait", take_all)
        assert await steps_of(lambda: client.send_all(bytes(2**22))) > 4


class Failing(ForeignStream):
    """A transport that is gone by the first send."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        raise trio.BrokenResourceError("it is gone")


class Stuck(ForeignStream):
    """A transport whose sends take for ever."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.sleep_forever()


async def test_a_flight_that_fails_on_a_transport_that_is_not_counted_is_told(machines: Machines) -> None:
    near, _far = trio.testing.memory_stream_pair()
    client = TLSStream(Failing(near), machines.client, server_hostname=HOST)
    with trio.fail_after(10), pytest.raises(TransportError, match="it is gone"):
        await client.do_handshake()


async def test_a_cancel_that_cuts_a_flight_off_stays_a_cancel_and_the_next_call_tells(
    machines: Machines, autojump_clock: trio.testing.MockClock
) -> None:
    near, _far = trio.testing.memory_stream_pair()
    client = TLSStream(Stuck(near), machines.client, server_hostname=HOST)
    begin = trio.current_time()
    with trio.move_on_after(5) as scope:
        await client.do_handshake()
    assert scope.cancelled_caught
    assert trio.current_time() == begin + 5 + 1, "it had its grace period"
    with pytest.raises(TransportError, match="a send was cancelled while Stuck"):
        await client.do_handshake()
