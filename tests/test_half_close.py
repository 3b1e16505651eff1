"""Half-close: `send_eof` ends one direction and leaves the other alone, on TLS 1.2 and 1.3 alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_tls import TLSError, TLSStream

from .blocking import cancel_once_blocked, concurrently, unwrap_both
from .peers import strict_server
from .support import HOST, TIERS, Machines, pattern, receive_exactly, socket_pair, tls_pair


async def receive_to_the_end(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([bytes(part) async for part in stream])


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("role", ["client", "server"])
async def test_one_end_stops_sending_and_the_other_goes_on(
    autojump_clock: MockClock, machines: Machines, tier: str, role: str
) -> None:
    data = pattern(300_000)
    async with tls_pair(machines, tier) as ends:
        here, there = ends if role == "client" else ends[::-1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.send_eof)
            assert await there.receive_some() == b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(there.send_all, data)
            assert await receive_exactly(here, len(data)) == data
        async with trio.open_nursery() as nursery:
            nursery.start_soon(there.send_eof)
            assert await here.receive_some() == b""


@pytest.mark.parametrize("tier", TIERS)
async def test_a_request_that_ends_with_eof_is_answered(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    request, answer = pattern(100_000), pattern(200_000, seed=3)
    async with tls_pair(machines, tier, handshake=False) as (client, server):

        async def serve() -> None:
            assert await receive_to_the_end(server) == request
            await server.send_all(answer)
            await server.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await client.send_all(request)
            await client.send_eof()
            assert await receive_to_the_end(client) == answer


async def test_a_strict_peer_sees_an_orderly_end(machines: Machines) -> None:
    a, b = socket_pair()
    client = TLSStream(a, machines.client, server_hostname=HOST)
    strict = strict_server(machines, b)
    async with client, strict:
        await concurrently(client.do_handshake, strict.do_handshake)
        await client.send_eof()
        assert await strict.receive_some() == b""
        await strict.send_all(b"still sending")
        assert await client.receive_some() == b"still sending"


async def test_data_that_was_not_read_before_our_eof_is_kept(machines: Machines) -> None:
    data = pattern(100_000)
    async with tls_pair(machines) as (client, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send_all, data)
            start = await receive_exactly(client, 10)  # the rest of that record is decrypted and waits
            await client.send_eof()
            assert start + await receive_exactly(client, len(data) - 10) == data


@pytest.mark.parametrize("tier", TIERS)
async def test_calling_it_twice_is_harmless(autojump_clock: MockClock, machines: Machines, tier: str) -> None:
    async with tls_pair(machines, tier) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(server.receive_some)
        for _ in range(3):
            await client.send_eof()
        nursery.start_soon(server.send_all, b"unharmed")
        assert await receive_exactly(client, 8) == b"unharmed"


async def test_it_does_the_handshake_if_that_has_not_happened(machines: Machines) -> None:
    async with tls_pair(machines, handshake=False) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(client.send_eof)
        assert await server.receive_some() == b""


async def test_a_cancelled_one_is_called_again(machines: Machines) -> None:
    async with tls_pair(machines, handshake=False) as (client, server):
        for _ in range(3):
            await cancel_once_blocked(client.send_eof)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_eof)
            assert await server.receive_some() == b""


@pytest.mark.parametrize(
    "send",
    [
        lambda stream: stream.send_all(b"x"),
        lambda stream: stream.send_all(b""),
        lambda stream: stream.send_some(b"x"),
        lambda stream: stream.wait_send_all_might_not_block(),
        lambda stream: stream.sender(b"x").send(),
    ],
    ids=["send_all", "send_all of nothing", "send_some", "wait_send_all_might_not_block", "sender"],
)
async def test_sending_after_it_is_closed_resource_error(
    machines: Machines, send: Callable[[TLSStream[Any]], Any]
) -> None:
    async with tls_pair(machines) as (client, _server):
        await client.send_eof()
        with pytest.raises(trio.ClosedResourceError):
            await send(client)
        with pytest.raises(trio.ClosedResourceError):
            client.send_nowait(b"x")
        assert client.plaintext_sent == 0


@pytest.mark.parametrize("state", ["open", "twice", "peer gone", "failed", "closed", "unwrapped", "busy"])
async def test_it_raises_nothing_that_hypercorn_does_not_expect(
    autojump_clock: MockClock, machines: Machines, state: str
) -> None:
    """Hypercorn calls ``send_eof()`` and expects these four; anything else takes its whole server down."""
    expected = (trio.BrokenResourceError, AttributeError, trio.BusyResourceError, trio.ClosedResourceError)
    buffer = 4096 if state == "busy" else None
    async with tls_pair(machines, buffer=buffer) as (client, server), trio.open_nursery() as nursery:
        if state == "twice":
            await client.send_eof()
        elif state == "peer gone":
            assert server.transport_stream is not None
            await trio.aclose_forcefully(server.transport_stream)
        elif state == "failed":
            assert server.transport_stream is not None
            await server.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
            with pytest.raises(TLSError):
                await client.receive_some()
        elif state == "closed":
            await client.aclose()
        elif state == "unwrapped":
            await unwrap_both(client, server)
        elif state == "busy":
            nursery.start_soon(client.send_all, bytes(1_000_000))
            await trio.testing.wait_all_tasks_blocked()
        try:
            await client.send_eof()
        except expected:
            assert state not in {"open", "twice"}
        nursery.cancel_scope.cancel()


async def test_it_is_there_but_the_abc_is_not(machines: Machines) -> None:
    """``trio.StapledStream`` looks for the method; websockets looks for the ABC, and then closes with it alone."""
    async with tls_pair(machines) as (client, server):
        assert not isinstance(client, trio.abc.HalfCloseableStream)
        stapled = trio.StapledStream(client, client)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stapled.send_eof)
            assert await server.receive_some() == b""
