"""Nagle's algorithm: the stall that it makes of two small sends, seen in the kernel, and how it is avoided.

How this works. On Linux ``TCP_INFO`` tells how many segments with data a socket has sent, and how many bytes it holds
back. So whether a send has left at once is a fact that can be looked up, without a clock. The receiver is told to
delay its acknowledgements (``TCP_QUICKACK`` off), as the kernel does by itself in any dialogue.
"""

from __future__ import annotations

import socket
import ssl
import statistics
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from trio_tls import (
    Session,
    TLSListener,
    TLSStream,
    open_tls_over_tcp_listeners,
    open_tls_over_tcp_stream,
    serve_tls_over_tcp,
    set_tcp_nodelay,
)
from trio_tls.nodelay import TCPNoDelay

from .peers import RecordingStream, record_types
from .support import (
    HOST,
    Machines,
    client_context,
    machines_named,
    receive_exactly,
    server_context,
    socket_pair,
    tcp_pair,
)

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells in TCP_INFO what it holds back")

#: Offsets in ``struct tcp_info``; the first is of Linux 4.6 as well.
NOTSENT_BYTES, DATA_SEGS_OUT = 144, 156


def fact(stream: trio.SocketStream, offset: int) -> int:
    """A number that the kernel keeps about this connection."""
    info = stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    assert isinstance(info, bytes)
    number = struct.unpack_from("=I", info, offset)[0]
    assert isinstance(number, int)
    return number


def nodelay(stream: TLSStream[Any] | trio.SocketStream) -> bool:
    """Whether TCP_NODELAY is set on the socket right below."""
    transport = stream.transport_stream if isinstance(stream, TLSStream) else stream
    assert isinstance(transport, trio.SocketStream)
    return bool(transport.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))


def delay_acknowledgements(stream: trio.SocketStream) -> None:
    if sys.platform == "linux":
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)


@asynccontextmanager
async def tls_over_tcp(
    machines: Machines,
    tcp_nodelay: TCPNoDelay = "always",
    *,
    session: ssl.SSLSession | Session | None = None,
    serve: Callable[[TLSStream[Any]], Awaitable[object]] | None = None,
) -> AsyncIterator[tuple[TLSStream[trio.SocketStream], trio.SocketStream]]:
    """A client, and its TCP socket; the server runs ``serve`` (default: it reads, and says nothing)."""
    client_tcp, server_tcp = await tcp_pair()
    delay_acknowledgements(server_tcp)
    client = TLSStream(client_tcp, machines.client, server_hostname=HOST, tcp_nodelay=tcp_nodelay, session=session)
    async with client, TLSStream(server_tcp, machines.server, server_side=True) as server:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve or listen_silently, server)
            yield client, client_tcp
            nursery.cancel_scope.cancel()


async def listen_silently(server: TLSStream[Any]) -> None:
    async for _ in server:
        pass


async def handshake_then_request(client: TLSStream[Any]) -> None:
    await client.do_handshake()
    await client.send_all(b"request")


async def request_alone(client: TLSStream[Any]) -> None:
    await client.send_all(b"request")


async def held_back(
    machines: Machines, tcp_nodelay: TCPNoDelay, send: Callable[[TLSStream[Any]], Awaitable[None]]
) -> int:
    """The bytes that the kernel holds back once ``send`` has returned."""
    async with tls_over_tcp(machines, tcp_nodelay) as (client, client_tcp):
        await send(client)
        return fact(client_tcp, NOTSENT_BYTES)


#: A test process that sleeps through the 40 ms of a delayed acknowledgement sees no stall; twenty in a row do not.
ATTEMPTS = 20


@on_linux
async def test_with_nagle_a_request_after_finished_waits_for_an_acknowledgement_and_without_it_does_not() -> None:
    machines = machines_named("ssl-1.3")
    with trio.fail_after(30):
        for tcp_nodelay in ("never", "handshake"):
            assert any([await held_back(machines, tcp_nodelay, handshake_then_request) for _ in range(ATTEMPTS)])
        for _ in range(3):
            assert await held_back(machines, "always", handshake_then_request) == 0
            # A send that starts the handshake needs no TCP_NODELAY: Finished and the request leave in one segment.
            assert await held_back(machines, "never", request_alone) == 0
            assert await held_back(machines, "handshake", request_alone) == 0


@on_linux
async def test_with_nagle_the_second_of_two_sends_waits_and_set_tcp_nodelay_lets_it_go(machines: Machines) -> None:
    seen: list[int] = []
    with trio.fail_after(30):
        for _ in range(ATTEMPTS):
            async with tls_over_tcp(machines, "handshake") as (client, client_tcp):
                await client.do_handshake()
                await client.send_all(b"one")
                await client.send_all(b"two")
                seen.append(fact(client_tcp, NOTSENT_BYTES))
                set_tcp_nodelay(client, True)  # Linux pushes what was held back
                assert fact(client_tcp, NOTSENT_BYTES) == 0
                await client.send_all(b"three")
                assert fact(client_tcp, NOTSENT_BYTES) == 0
            if any(seen):
                break
    assert any(seen)


@on_linux
@pytest.mark.slow
async def test_the_stall_takes_a_delayed_acknowledgement_long(machines: Machines) -> None:
    """By the clock: 40 ms at least with Nagle's algorithm and two sends, far less otherwise."""

    async def answer(server: TLSStream[Any]) -> None:
        while await receive_exactly(server, 20):
            await server.send_all(b"answer")

    async def times(tcp_nodelay: TCPNoDelay, parts: tuple[bytes, ...]) -> list[float]:
        seen = []
        async with tls_over_tcp(machines, tcp_nodelay, serve=answer) as (client, _):
            for _ in range(12):
                begin = trio.current_time()
                for part in parts:
                    await client.send_all(part)
                await receive_exactly(client, 6)
                seen.append(trio.current_time() - begin)
        return seen[1:]

    two_parts, one_part = (b"1" * 10, b"2" * 10), (b"1" * 20,)
    # A process that sleeps through a delayed acknowledgement between its two sends sees no stall; not every time.
    assert statistics.median(await times("never", two_parts)) > 0.020
    assert min(await times("always", two_parts)) < 0.020
    assert min(await times("never", one_part)) < 0.020


# -- Finished and the first data ----------------------------------------------------------------------------------


async def session_of(machines: Machines) -> ssl.SSLSession | Session:
    """A session to resume."""

    async def greet(server: TLSStream[Any]) -> None:
        await server.send_all(b"hello")
        await listen_silently(server)

    async with tls_over_tcp(machines, serve=greet) as (client, _):
        await receive_exactly(client, 5)
        session = client.session
    assert session is not None
    return session


@on_linux
@pytest.mark.parametrize("tcp_nodelay", ["always", "handshake", "never"])
@pytest.mark.parametrize("send", ["send_all", "send_some"])
@pytest.mark.parametrize("resumed", [False, True])
async def test_finished_and_the_first_data_leave_in_one_segment_when_a_send_starts_the_handshake(
    resumed: bool, send: str, tcp_nodelay: TCPNoDelay, machines: Machines
) -> None:
    session = await session_of(machines) if resumed else None
    with trio.fail_after(30):
        async with tls_over_tcp(machines, tcp_nodelay, session=session) as (client, client_tcp):
            await getattr(client, send)(b"request")
            assert client.session_reused is resumed
            # In a full handshake of TLS 1.2 the server's Finished is the last: the client's leaves before it.
            flights = 3 if machines.version == "TLSv1.2" and not resumed else 2
            assert fact(client_tcp, DATA_SEGS_OUT) == flights
            assert fact(client_tcp, NOTSENT_BYTES) == 0


@pytest.mark.parametrize("resumed", [False, True])
async def test_finished_and_the_first_data_are_one_send_to_any_transport(resumed: bool, machines: Machines) -> None:
    session = await session_of(machines) if resumed else None
    a, b = socket_pair()
    recorder = RecordingStream(a)
    client = TLSStream(recorder, machines.client, server_hostname=HOST, session=session)
    async with client, TLSStream(b, machines.server, server_side=True) as server, trio.open_nursery() as nursery:
        nursery.start_soon(listen_silently, server)
        await client.send_all(b"request")
        assert client.session_reused is resumed
        assert len(recorder.sent) == (3 if machines.version == "TLSv1.2" and not resumed else 2)
        assert record_types(recorder.sent[-1])[-1] == 23  # the request
        assert len(record_types(recorder.sent[-1])) > 1 or len(recorder.sent) == 3  # and what belongs before it
        nursery.cancel_scope.cancel()


@on_linux
async def test_a_server_whose_send_starts_the_handshake_sends_its_finished_with_the_data() -> None:
    """In a full handshake of TLS 1.2 it is the server that has the last word."""
    machines = machines_named("ssl-1.2")
    client_tcp, server_tcp = await tcp_pair()
    async with (
        TLSStream(client_tcp, machines.client, server_hostname=HOST) as client,
        TLSStream(server_tcp, machines.server, server_side=True) as server,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(server.send_all, b"greeting")
        assert await receive_exactly(client, 8) == b"greeting"
        assert fact(server_tcp, DATA_SEGS_OUT) == 2


# -- tcp_nodelay ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tcp_nodelay", "before", "after"), [("always", True, True), ("handshake", True, False), ("never", False, False)]
)
@pytest.mark.parametrize("way", ["do_handshake", "send_all", "receive_some"])
async def test_tcp_nodelay_says_when_it_is_on(
    way: str, tcp_nodelay: TCPNoDelay, before: bool, after: bool, machines: Machines
) -> None:
    async def greet(server: TLSStream[Any]) -> None:
        await server.send_all(b"hello")
        await listen_silently(server)

    async with tls_over_tcp(machines, tcp_nodelay, serve=greet) as (client, _):
        assert nodelay(client) is before
        await {"send_all": partial(client.send_all, b"request")}.get(way, getattr(client, way))()
        assert nodelay(client) is after
        set_tcp_nodelay(client, not after)
        await client.send_all(b"more")
        await client.do_handshake()
        assert nodelay(client) is not after  # the handshake is done once


async def test_tcp_nodelay_goes_off_though_the_handshakes_end_was_cancelled(machines: Machines) -> None:
    client_tcp, server_tcp = await tcp_pair()
    client = TLSStream(client_tcp, machines.client, server_hostname=HOST, tcp_nodelay="handshake")
    async with client, TLSStream(server_tcp, machines.server, server_side=True) as server:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.do_handshake)
            while client.info is None:
                with trio.CancelScope() as scope:
                    trio.lowlevel.current_trio_token().run_sync_soon(scope.cancel)
                    await client.do_handshake()
            await client.send_all(b"done")
            assert not nodelay(client)


@pytest.mark.parametrize(("tcp_nodelay", "expected"), [("always", True), ("handshake", False), ("never", False)])
async def test_the_helpers_pass_tcp_nodelay_on(tcp_nodelay: TCPNoDelay, expected: bool, machines: Machines) -> None:
    served: list[bool] = []

    async def handler(stream: TLSStream[trio.SocketStream]) -> None:
        served.append(nodelay(stream))
        await stream.send_all(b"hello")

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(
            partial(serve_tls_over_tcp, handler, 0, machines.server, host="127.0.0.1", tcp_nodelay=tcp_nodelay)
        )
        port = listener.transport_listener.socket.getsockname()[1]
        async with await open_tls_over_tcp_stream(
            "127.0.0.1", port, machines.client, tcp_nodelay=tcp_nodelay
        ) as stream:
            assert nodelay(stream) is (tcp_nodelay != "never")
            assert await receive_exactly(stream, 5) == b"hello"
            assert nodelay(stream) is expected
        nursery.cancel_scope.cancel()
    assert served == [expected]


async def test_a_listener_applies_it_to_each_connection() -> None:
    (listener,) = await open_tls_over_tcp_listeners(0, server_context(), host="127.0.0.1", tcp_nodelay="never")
    async with listener:
        assert isinstance(listener.transport_listener, trio.SocketListener)
        for _ in range(2):
            port = listener.transport_listener.socket.getsockname()[1]
            async with await trio.open_tcp_stream("127.0.0.1", port), await listener.accept() as stream:
                assert not nodelay(stream)


async def test_an_unknown_word_is_refused_at_once() -> None:
    a, b = await tcp_pair()
    async with a, b:
        with pytest.raises(ValueError, match="'always', 'handshake' or 'never', not 'sometimes'"):
            TLSStream(a, client_context(), server_hostname=HOST, tcp_nodelay="sometimes")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="'always', 'handshake' or 'never'"):
        await open_tls_over_tcp_listeners(0, server_context(), tcp_nodelay="")  # type: ignore[arg-type]


@pytest.mark.parametrize("tcp_nodelay", ["handshake", "never"])
async def test_a_transport_without_tcp_refuses_it_at_once(tcp_nodelay: TCPNoDelay) -> None:
    a, b = socket_pair()
    async with a, b:
        with pytest.raises(ValueError, match="no TCP socket, but one of AF_UNIX"):
            TLSStream(a, client_context(), server_hostname=HOST, tcp_nodelay=tcp_nodelay)
    memory, _ = trio.testing.memory_stream_pair()
    with pytest.raises(ValueError, match="no TCP socket below this stream, but a StapledStream on a MemorySendStream"):
        TLSStream(memory, client_context(), server_hostname=HOST, tcp_nodelay=tcp_nodelay)


async def test_a_listener_without_tcp_refuses_it_at_once(tmp_path: Path) -> None:
    unix = trio.socket.socket(socket.AF_UNIX)
    await unix.bind(str(tmp_path / "socket"))
    unix.listen()
    async with trio.SocketListener(unix) as listener:
        with pytest.raises(ValueError, match="AF_UNIX"):
            TLSListener(listener, server_context(), tcp_nodelay="never")


# -- set_tcp_nodelay -----------------------------------------------------------------------------------------------


async def test_set_tcp_nodelay_finds_the_socket_through_any_nesting() -> None:
    a, b = await tcp_pair()
    sink, _ = trio.testing.memory_stream_one_way_pair()
    _, source = trio.testing.memory_stream_one_way_pair()
    outer = TLSStream(a, client_context(), server_hostname=HOST)
    inner = TLSStream(outer, client_context(), server_hostname=HOST)
    trios = trio.SSLStream(a, client_context(), server_hostname=HOST)
    stapled = TLSStream(trio.StapledStream(a, source), client_context(), server_hostname=HOST)
    async with a, b:
        for stream in (a, outer, inner, trios, stapled, trio.StapledStream(inner, source)):
            for on in (False, True):
                set_tcp_nodelay(stream, on)
                assert nodelay(a) is on
        with pytest.raises(ValueError, match="StapledStream on a MemorySendStream"):
            set_tcp_nodelay(trio.StapledStream(sink, a), True)  # the side that sends is no socket


@pytest.mark.parametrize("on", [True, False])
async def test_set_tcp_nodelay_says_what_is_below_where_no_tcp_is(on: bool) -> None:
    a, b = socket_pair()
    async with TLSStream(a, client_context(), server_hostname=HOST) as stream, b:
        with pytest.raises(ValueError, match="AF_UNIX"):
            set_tcp_nodelay(stream, on)
        with pytest.raises(ValueError, match="but a TLSStream on a RecordingStream; Nagle's algorithm is about"):
            set_tcp_nodelay(TLSStream(RecordingStream(a), client_context(), server_hostname=HOST), on)


async def test_set_tcp_nodelay_on_a_stream_that_is_gone(machines: Machines) -> None:
    a, b = await tcp_pair()
    client = TLSStream(a, machines.client, server_hostname=HOST)
    server = TLSStream(b, machines.server, server_side=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.unwrap)
        await client.unwrap()
    with pytest.raises(trio.ClosedResourceError, match="unwrapped"):
        set_tcp_nodelay(client, True)
    set_tcp_nodelay(a, True)
    await a.aclose()
    with pytest.raises(trio.ClosedResourceError, match="closed"):
        set_tcp_nodelay(a, True)
    await b.aclose()
