"""Checks of the stream that only these tests would miss: mutants that all others let live (`tests.mutants`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from trio_tls import TLSError, TLSStream, TransportError, UnexpectedEOF
from trio_tls.machine.bio import MemoryBIO
from trio_tls.transport.socket import SocketSender

from .blocking import cancel_once_blocked
from .support import ForeignStream, Machines, machines_named, tls_pair


async def test_nothing_is_sent_at_once_even_where_there_is_no_room(machines: Machines) -> None:
    async with tls_pair(machines, buffer=1) as (client, _server):
        with pytest.raises(trio.WouldBlock):
            while True:
                client.send_nowait(bytes(2**16))
        assert client.send_nowait(b"") == 0


@pytest.mark.parametrize("method", ["flush", "send_eof"])
async def test_a_cancelled_flush_or_eof_says_so(machines: Machines, method: str) -> None:
    async with tls_pair(machines, buffer=1) as (client, _server):
        with pytest.raises(trio.WouldBlock):
            while True:
                client.send_nowait(bytes(2**16))
        scope = trio.CancelScope()
        returned = False

        async def leave() -> None:
            nonlocal returned
            with scope:
                await getattr(client, method)()
                returned = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
        assert scope.cancelled_caught
        assert not returned


async def test_a_cancelled_end_of_a_block_does_not_go_on_behind_it(machines: Machines) -> None:
    async with tls_pair(machines, "4-memory") as (client, _server):
        with trio.CancelScope() as scope:
            async with client:
                scope.cancel()
            pytest.fail("the end of the block was cancelled, and said nothing")
        assert scope.cancelled_caught


async def test_a_send_after_a_failure_of_the_connection_tells_it(machines: Machines) -> None:
    async with tls_pair(machines) as (client, server):
        assert isinstance(server.transport_stream, trio.SocketStream)
        await server.transport_stream.send_all(b"\x17\x03\x03\0\x20" + bytes(32))
        with pytest.raises(TLSError) as received:
            await client.receive_some()
        with pytest.raises(TLSError) as sent:
            await client.send_some(b"x")
        assert sent.value.alert == received.value.alert


async def test_waiting_for_room_on_a_transport_that_was_closed_is_told(machines: Machines) -> None:
    async with tls_pair(machines, "5-memory") as (client, _server):
        await trio.aclose_forcefully(client.transport_stream)  # type: ignore[arg-type]
        with pytest.raises(trio.ClosedResourceError):
            await client.wait_send_all_might_not_block()
        with pytest.raises(TransportError, match="sending"):
            await client.wait_send_all_might_not_block()


async def test_a_send_that_has_failed_once_is_not_tried_again(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tls_pair(machines) as (client, server):
        working = SocketSender.send_nowait

        def failing(sender: SocketSender, outgoing: MemoryBIO) -> None:
            raise OSError("the network is down")

        monkeypatch.setattr(SocketSender, "send_nowait", failing)
        with pytest.raises(TransportError, match="the network is down"):
            await client.send_all(b"lost")
        monkeypatch.setattr(SocketSender, "send_nowait", working)  # it would work now, and leave a hole
        again: list[Callable[[], object]] = [lambda: client.send_all(b"more"), client.flush]
        for attempt in again:
            with pytest.raises(TransportError, match="the network is down"):
                await attempt()  # type: ignore[misc]
        await client.aclose()  # this does not try either
        with pytest.raises(UnexpectedEOF):
            await server.receive_some()


async def test_a_send_that_was_torn_is_not_gone_on_with_when_the_stream_is_closed(machines: Machines) -> None:
    async with tls_pair(machines, buffer=4096, wrap=ForeignStream) as (client, server):
        await cancel_once_blocked(lambda: client.send_all(bytes(2**20)))
        assert isinstance(client.transport_stream, ForeignStream)
        client.transport_stream.send_all = _never  # type: ignore[method-assign]
        await client.aclose()
        with pytest.raises(UnexpectedEOF):
            while True:
                await server.receive_some()


async def _never(data: bytes | bytearray | memoryview) -> None:
    raise AssertionError("nobody may send")


async def test_keys_are_not_updated_by_whom_a_close_has_overtaken() -> None:
    machines = machines_named("own")
    overtaken = 0
    for _ in range(30):  # the close comes at the only step between the end of the handshake and the update, or not
        async with tls_pair(machines, handshake=False) as (client, server):
            await cancel_once_blocked(client.do_handshake)
            await cancel_once_blocked(server.do_handshake)

            async def close_as_soon_as_it_is_done(client: TLSStream[Any]) -> None:
                while client.info is None:
                    await trio.lowlevel.checkpoint()
                await client.aclose()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(close_as_soon_as_it_is_done, client)
                try:
                    await client.update_keys()
                except trio.ClosedResourceError:
                    overtaken += 1
    assert overtaken


class Slow(ForeignStream):
    """A stream that counts, and whose last send takes as long as it takes somebody else to begin a close."""

    closing: trio.Event | None = None

    async def send_some(self, data: bytes | bytearray | memoryview) -> int:
        if self.closing is not None:
            with trio.CancelScope(shield=True):
                self.closing.set()
                await trio.testing.wait_all_tasks_blocked()
        await self.wrapped.send_all(data)
        return len(data)


async def test_unwrap_gives_no_transport_back_that_is_being_closed(machines: Machines) -> None:
    async with tls_pair(machines, wrap=Slow) as (client, server):
        await server.send_eof()
        assert await client.receive_some() == b""
        assert isinstance(client.transport_stream, Slow)
        closing = client.transport_stream.closing = trio.Event()

        async def close() -> None:
            await closing.wait()
            await client.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(close)
            with pytest.raises(trio.ClosedResourceError):
                await client.unwrap()


async def test_a_reset_is_told_each_time_that_something_is_received_at_once(machines: Machines) -> None:
    async with tls_pair(machines) as (client, server):
        await client.send_all(b"nobody reads this")
        await trio.aclose_forcefully(server.transport_stream)  # type: ignore[arg-type]
        for _ in range(3):
            with pytest.raises(TransportError, match="receiving"):
                client.receive_nowait()


@pytest.mark.parametrize("method", ["receive_some", "receive_some_into"])
async def test_a_receive_is_over_as_soon_as_a_close_begins_however_long_that_takes(
    machines: Machines, method: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with tls_pair(machines, buffer=4096) as (client, _server):
        await cancel_once_blocked(lambda: client.send_all(bytes(2**20)))
        over: list[float] = []

        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await getattr(client, method)(*([bytearray(10)] if method == "receive_some_into" else []))
            over.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
            begin = trio.current_time()
            await client.aclose()
            assert trio.current_time() >= begin + 1  # the grace period: nobody reads what is queued
        assert over == [begin]


async def test_a_stream_has_one_configuration_and_a_grace_that_is_a_time(machines: Machines) -> None:
    near, _far = trio.testing.memory_stream_pair()
    configurations: list[dict[str, Any]] = [{}, {"config": machines.server, "ssl_context": machines.server}]
    for given in configurations:
        with pytest.raises(TypeError, match="one configuration"):
            TLSStream(near, server_side=True, **given)
    for grace in (-0.1, float("nan")):
        with pytest.raises(ValueError, match="grace must be a number of seconds, 0 or more"):
            TLSStream(near, machines.server, server_side=True, grace=grace)
