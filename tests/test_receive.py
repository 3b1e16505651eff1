"""Receiving: how much at once, into what, without waiting, and from bytes that were read before the wrap."""

from __future__ import annotations

import array
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from trio_tls import PeerMisbehaved, TLSStream, Want

from .blocking import blocked, cancel_once_blocked, concurrently
from .peers import RecordingStream, peer_by_hand
from .support import HOST, TIERS, Machines, pattern, receive_exactly, socket_pair, tls_pair

# -- how much ------------------------------------------------------------------------------------------------


async def test_many_small_records_come_as_one(machines: Machines) -> None:
    async with tls_pair(machines) as (client, server):
        for _ in range(100):
            await server.send_all(b"x" * 50)
        assert await client.receive_some() == b"x" * 5000


async def test_large_records_come_as_one_as_soon_as_they_are_here(machines: Machines) -> None:
    data = pattern(120_000)
    async with tls_pair(machines) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(server.send_all, data)
        await trio.testing.wait_all_tasks_blocked()
        first = await client.receive_some(1)  # reads ahead as far as it has to
        while client.is_readable() and len(first) < len(data):
            before = len(first)
            first += await client.receive_some(100_000)
            assert len(first) - before <= 100_000
        assert first == data


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("limit", [1, 2, 16383, 16384, 16385, 100_000])
async def test_max_bytes_is_honoured(autojump_clock: MockClock, machines: Machines, tier: str, limit: int) -> None:
    data = pattern(200 if limit < 10 else 60_000)
    async with tls_pair(machines, tier) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(server.send_all, data)
        received = b""
        while len(received) < len(data):
            part = await client.receive_some(max_bytes=limit)
            assert 1 <= len(part) <= limit
            received += part
        assert received == data


async def test_what_was_received_before_the_end_comes_before_the_end(machines: Machines) -> None:
    async with tls_pair(machines) as (client, server):
        await server.send_all(b"the last words")
        await server.send_eof()
        assert await client.receive_some() == b"the last words"
        assert await client.receive_some() == b""


async def test_what_was_received_before_an_error_comes_before_the_error(tmp_path: Path) -> None:
    async with peer_by_hand(tmp_path) as (stream, peer):
        good, bad = peer.record(23, b"good"), bytearray(peer.record(23, b"bad"))
        bad[-1] ^= 1
        await peer.transport.send_all(good + bad)
        assert await stream.receive_some() == b"good"
        for _ in range(2):
            with pytest.raises(PeerMisbehaved, match="failed authentication"):
                await stream.receive_some()


@pytest.mark.parametrize(
    ("max_bytes", "kind"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("10", TypeError)]
)
async def test_a_senseless_max_bytes_is_misuse(machines: Machines, max_bytes: int, kind: type[Exception]) -> None:
    async with tls_pair(machines) as (client, server):
        with pytest.raises(kind, match="max_bytes"):
            await client.receive_some(max_bytes)
        with pytest.raises(kind, match="max_bytes"):
            client.receive_nowait(max_bytes)
        await server.send_all(b"unharmed")
        assert await client.receive_some() == b"unharmed"


async def test_two_receivers_are_one_too_many(machines: Machines) -> None:
    async with tls_pair(machines) as (client, server):
        async with blocked(client.receive_some) as (first,):
            with pytest.raises(trio.BusyResourceError, match="another task"):
                await client.receive_some()
            with pytest.raises(trio.BusyResourceError, match="another task"):
                await client.receive_some_into(bytearray(1))
            with pytest.raises(trio.BusyResourceError, match="another task"):
                client.receive_nowait()
            await server.send_all(b"for the first")
            assert await first.result() == b"for the first"


# -- into a buffer -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tier", TIERS)
async def test_receiving_into_a_buffer(autojump_clock: MockClock, machines: Machines, tier: str) -> None:
    data = pattern(100_000)
    buffer = bytearray(len(data))
    async with tls_pair(machines, tier) as (client, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send_all, data)
            position = 0
            while position < len(buffer):
                with memoryview(buffer) as view, view[position:] as rest:
                    count = await client.receive_some_into(rest)
                assert count > 0
                position += count
        assert buffer == data
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send_eof)
            assert await client.receive_some_into(buffer) == 0


async def test_any_writable_buffer_will_do(machines: Machines) -> None:
    async with tls_pair(machines) as (client, server):
        await server.send_all(array.array("I", [1, 2, 3]).tobytes())
        words = array.array("I", [0] * 4)
        assert await client.receive_some_into(words) == 3 * words.itemsize
        assert words[:3] == array.array("I", [1, 2, 3])


async def test_a_buffer_that_takes_nothing_is_misuse(machines: Machines) -> None:
    async with tls_pair(machines) as (client, server):
        with pytest.raises(TypeError, match="writable"):
            await client.receive_some_into(b"read-only")
        with pytest.raises(TypeError):
            await client.receive_some_into("no buffer")  # type: ignore[arg-type]
        for empty in (bytearray(), array.array("I"), memoryview(bytearray(8))[:0]):
            with pytest.raises(ValueError, match="at least one byte"):
                await client.receive_some_into(empty)
        await server.send_all(b"unharmed")
        assert await client.receive_some() == b"unharmed"


async def test_a_buffer_is_free_again_once_the_receive_is_over(machines: Machines) -> None:
    async with tls_pair(machines) as (client, _server):
        buffer = bytearray(10)
        await cancel_once_blocked(lambda: client.receive_some_into(buffer))
        buffer.extend(b"it can be resized: nobody holds a view of it")


# -- without waiting -----------------------------------------------------------------------------------------


async def test_receiving_without_waiting(machines: Machines) -> None:
    async with tls_pair(machines) as (client, server):
        with pytest.raises(trio.WouldBlock):
            client.receive_nowait()
        await server.send_all(b"now")
        assert client.receive_nowait(2) == b"no"
        assert client.pending() == 1
        assert client.receive_nowait() == b"w"
        assert client.pending() == 0
        with pytest.raises(trio.WouldBlock):
            client.receive_nowait()
        await server.send_eof()
        assert client.receive_nowait() == client.receive_nowait() == b""


async def test_receiving_without_waiting_needs_the_handshake(machines: Machines) -> None:
    async with tls_pair(machines, handshake=False) as (client, _server):
        with pytest.raises(trio.NeedHandshakeError):
            client.receive_nowait()


async def test_a_transport_that_can_only_be_awaited_gives_what_it_has_given(machines: Machines) -> None:
    async with tls_pair(machines, "4-memory") as (client, server):
        await server.send_all(b"not received yet")
        with pytest.raises(trio.WouldBlock):
            client.receive_nowait()
        assert await client.receive_some(3) == b"not"
        assert client.receive_nowait() == b" received yet"


async def test_what_it_waits_for_is_told(machines: Machines) -> None:
    async with tls_pair(machines, handshake=False) as (client, server):
        assert client.want is None
        async with blocked(client.do_handshake):
            assert client.want is Want.READ
        assert client.want is None
        await concurrently(client.do_handshake, server.do_handshake)
        async with blocked(client.receive_some):
            assert client.want is Want.READ
        assert client.want is None


# -- initial data --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 5, 6, 100, None])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_bytes_that_were_read_before_the_wrap_are_given_to_it(
    machines: Machines, count: int | None, kind: type[bytes]
) -> None:
    """A server that looks at the first bytes to tell TLS from plain text has then read them."""
    a, b = socket_pair()
    async with TLSStream(a, machines.client, server_hostname=HOST) as client, b:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, b"hello")
            start = await b.receive_some(count)
            assert start[0] == 22  # a handshake record
            async with TLSStream(b, machines.server, server_side=True, initial_data=kind(start)) as server:
                assert await receive_exactly(server, 5) == b"hello"


async def test_initial_data_is_copied(machines: Machines) -> None:
    a, b = socket_pair()
    async with TLSStream(a, machines.client, server_hostname=HOST) as client, b, trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        start = bytearray(await b.receive_some())
        async with TLSStream(b, machines.server, server_side=True, initial_data=start) as server:
            start[:] = bytes(len(start))
            await server.do_handshake()


async def test_receiving_sends_nothing_that_need_not_be_sent(machines: Machines) -> None:
    transport, peer = trio.testing.memory_stream_pair()
    recording = RecordingStream(transport)
    client = TLSStream(recording, machines.client, server_hostname=HOST)
    async with TLSStream(peer, machines.server, server_side=True) as server, client:
        await concurrently(client.do_handshake, server.do_handshake)
        recording.sent.clear()
        await server.send_all(b"x")
        assert await client.receive_some() == b"x"
        assert recording.sent == []
