"""`trio_tls.anyio`: TLS over anyio's byte streams, with its exceptions and attributes."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import pytest
import trio
from anyio.streams.buffered import BufferedByteStream
from anyio.streams.stapled import StapledObjectStream
from anyio.streams.tls import TLSAttribute
from anyio.streams.tls import TLSStream as TheirTLSStream

from trio_tls import ConnectionInfo, TLSError, TLSStream
from trio_tls.anyio import AnyIOTLSStream, TLSInfoAttribute
from trio_tls.testing import CancelMode, Interrupter, sweep

from ..blocking import blocked, cancel_once_blocked, concurrently
from ..peers import client_of, distrustful_client, server_of, speaking
from ..support import HOST, Machines, machines_named, pattern

#: What the ciphertext goes over.
KINDS = ("socket", "buffered", "objects")


@asynccontextmanager
async def transports(kind: str) -> AsyncIterator[tuple[Any, Any]]:
    """Two connected streams of anyio's: the client's and the server's."""
    if kind == "objects":
        there_send, there_receive = anyio.create_memory_object_stream[bytes](8)
        back_send, back_receive = anyio.create_memory_object_stream[bytes](8)
        yield StapledObjectStream(there_send, back_receive), StapledObjectStream(back_send, there_receive)
        for each in (there_send, there_receive, back_send, back_receive):
            await each.aclose()
        return
    accepted: list[Any] = []
    arrived = anyio.Event()

    async def handler(stream: Any) -> None:
        accepted.append(stream)
        arrived.set()
        await anyio.sleep_forever()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handler)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        client: Any = await anyio.connect_tcp("127.0.0.1", port)
        await arrived.wait()
        server = accepted[0]
        if kind == "buffered":  # it has the socket's attributes, and is none
            client, server = BufferedByteStream(client), BufferedByteStream(server)
        yield client, server
        await client.aclose()
        await server.aclose()
        group.cancel_scope.cancel()


@asynccontextmanager
async def ends(machines: Machines, kind: str = "socket", **options: Any) -> AsyncIterator[tuple[Any, Any]]:
    """Both ends, ours, entered, without a handshake."""
    async with transports(kind) as (a, b):
        async with AnyIOTLSStream(a, machines.client, hostname=HOST, **options) as client:
            async with AnyIOTLSStream(b, machines.server, server_side=True, **options) as server:
                yield client, server


async def receive_exactly(stream: Any, count: int) -> bytes:
    received = b""
    while len(received) < count:
        received += await stream.receive(count - len(received))
    return received


@pytest.mark.row("anyio", "sockets, buffered and object streams")
@pytest.mark.parametrize("kind", KINDS)
async def test_data_goes_both_ways(machines: Machines, kind: str) -> None:
    data = pattern(300_000)
    async with ends(machines, kind) as (client, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, data)
            nursery.start_soon(server.send, data[::-1])
            assert await receive_exactly(server, len(data)) == data
            assert await receive_exactly(client, len(data)) == data[::-1]


async def test_a_socket_is_used_as_a_socket() -> None:
    """So a cancelled send is exact; any other stream is sent to by a task."""
    machines = machines_named("own")
    async with ends(machines) as (client, _server):
        assert isinstance(client.extra(TLSInfoAttribute.tls_stream).transport_stream, trio.SocketStream)
    async with ends(machines, "buffered") as (client, _server):
        assert not isinstance(client.extra(TLSInfoAttribute.tls_stream).transport_stream, trio.SocketStream)


@pytest.mark.row("anyio", "with anyio's own TLSStream as the peer")
@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
async def test_it_speaks_with_anyios_own(machines: Machines, server_side: bool) -> None:
    async with transports("socket") as (a, b):
        if server_side:
            ours = AnyIOTLSStream(b, machines.server, server_side=True)
            wrap = partial(TheirTLSStream.wrap, a, hostname=HOST, ssl_context=client_of(machines))
        else:
            ours = AnyIOTLSStream(a, machines.client, hostname=HOST)
            wrap = partial(TheirTLSStream.wrap, b, server_side=True, ssl_context=server_of(machines))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.do_handshake)
            theirs = await wrap()
        await theirs.send(b"hello")
        assert await ours.receive() == b"hello"
        for attribute in (TLSAttribute.cipher, TLSAttribute.tls_version, TLSAttribute.alpn_protocol):
            assert ours.extra(attribute) == theirs.extra(attribute)
        await ours.aclose()
        with pytest.raises(anyio.EndOfStream):
            await theirs.receive()
        await anyio.aclose_forcefully(theirs)


@pytest.mark.row("anyio", "its typed attributes")
async def test_it_has_the_typed_attributes_of_anyio(machines: Machines) -> None:
    machines = speaking(machines, client=["h2"], server=["h2"])
    async with ends(machines) as (client, server):
        await concurrently(client.do_handshake, server.do_handshake)
        assert client.extra(TLSAttribute.alpn_protocol) == "h2"
        assert client.extra(TLSAttribute.tls_version) == machines.version
        assert client.extra(TLSAttribute.cipher)[1].startswith("TLSv1.")
        assert client.extra(TLSAttribute.peer_certificate)["subjectAltName"][0] == ("DNS", HOST)
        assert client.extra(TLSAttribute.peer_certificate_binary)[0] == 0x30
        assert server.extra(TLSAttribute.peer_certificate) is None
        assert (client.extra(TLSAttribute.server_side), server.extra(TLSAttribute.server_side)) == (False, True)
        assert client.extra(TLSAttribute.shared_ciphers) is None
        assert server.extra(TLSAttribute.shared_ciphers)
        assert client.extra(TLSAttribute.standard_compatible) is True
        assert isinstance(client.extra(TLSInfoAttribute.connection_info), ConnectionInfo)
        assert isinstance(client.extra(TLSInfoAttribute.tls_stream), TLSStream)
        # Those of the stream below.
        assert client.extra(anyio.abc.SocketAttribute.remote_address)[0] == "127.0.0.1"
        own = machines.is_own("client")
        assert (client.extra(TLSAttribute.ssl_object, None) is None) == own
        assert (client.extra(TLSAttribute.channel_binding_tls_unique) is None) == own
        if not own:
            assert isinstance(client.extra(TLSAttribute.ssl_object), ssl.SSLObject)


async def test_the_attributes_are_of_this_tls_and_not_of_one_below() -> None:
    """With our own TLS 1.3 there is no SSLObject, not that of anyio's TLS either, which carries it."""
    outer, inner = machines_named("ssl-1.3"), machines_named("own")
    async with transports("objects") as (a, b), trio.open_nursery() as nursery:
        accept = partial(TheirTLSStream.wrap, b, server_side=True, ssl_context=server_of(outer))
        nursery.start_soon(accept)
        below = await TheirTLSStream.wrap(a, hostname=HOST, ssl_context=client_of(outer))
        stream = AnyIOTLSStream(below, inner.client, hostname=HOST)
        assert isinstance(below.extra(TLSAttribute.ssl_object), ssl.SSLObject)
        assert stream.extra(TLSAttribute.ssl_object, None) is None
        over = AnyIOTLSStream(below, outer.client, hostname=HOST)
        assert over.extra(TLSAttribute.ssl_object) not in (None, below.extra(TLSAttribute.ssl_object))


class Around(anyio.abc.ByteStream):
    """A stream around another one: counts its closes, which may fail, and may keep back what is sent."""

    def __init__(self, stream: Any, failure: Exception | None = None) -> None:
        self.stream = stream
        self.failure = failure
        self.closes = 0
        self.kept: bytes | None = None  # what was sent, while it is kept back

    async def send(self, item: bytes) -> None:
        if self.kept is None:
            await self.stream.send(item)
        else:
            self.kept += item
            await anyio.lowlevel.checkpoint()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        received: bytes = await self.stream.receive()
        return received

    async def send_eof(self) -> None:
        await self.stream.send_eof()

    async def aclose(self) -> None:
        self.closes += 1
        await self.stream.aclose()
        if self.failure is not None:
            raise self.failure


async def test_the_transport_is_closed_once(machines: Machines) -> None:
    async with transports("objects") as (a, b):
        below = Around(a)
        async with AnyIOTLSStream(below, machines.client, hostname=HOST) as stream:
            await stream.aclose()
        assert below.closes == 1
        with pytest.raises(anyio.EndOfStream):
            await b.receive()


@pytest.mark.parametrize("failure", [anyio.BrokenResourceError, OSError], ids=["anyio", "os"])
async def test_a_transport_that_fails_to_close_is_broken(machines: Machines, failure: type[Exception]) -> None:
    async with transports("objects") as (a, _b):
        below = Around(a, failure("it would not close"))
        stream = AnyIOTLSStream(below, machines.client, hostname=HOST)
        with pytest.raises(anyio.BrokenResourceError, match="it would not close"):
            await stream.aclose()
        assert below.closes == 1


async def test_all_that_came_behind_the_end_of_tls_is_handed_out(machines: Machines) -> None:
    """An object has no limit: it holds the end, and more behind it than TLS takes at once."""
    plain, results = pattern(300_000), []
    async with transports("objects") as (a, b):
        below = Around(b)
        client = AnyIOTLSStream(a, machines.client, hostname=HOST)
        server = AnyIOTLSStream(below, machines.server, server_side=True)
        await concurrently(client.do_handshake, server.do_handshake)

        async def unwrap() -> None:
            results.append(await client.unwrap())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(unwrap)
            below.kept = b""
            await server.unwrap()
            assert below.kept
            await b.send(below.kept + plain)
    assert [(transport is a, trailing == plain) for transport, trailing in results] == [(True, True)]


async def test_wrap_does_the_handshake(machines: Machines) -> None:
    async with transports("socket") as (a, b):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(AnyIOTLSStream.wrap, b, machines.server, server_side=True))
            client = await AnyIOTLSStream.wrap(a, machines.client, hostname=HOST, standard_compatible=False)
        assert client.extra(TLSAttribute.tls_version) == machines.version
        assert client.extra(TLSAttribute.standard_compatible) is False
        await client.aclose()


@pytest.mark.row("anyio", "its exceptions, with our words")
async def test_a_failed_handshake_is_a_broken_resource_and_leaves_the_transport_open(machines: Machines) -> None:
    async with transports("socket") as (a, b):
        server = AnyIOTLSStream(b, machines.server, server_side=True)
        async with trio.open_nursery() as nursery:

            async def serve() -> None:
                with pytest.raises(anyio.BrokenResourceError, match="unknown_ca"):
                    await server.receive()

            nursery.start_soon(serve)
            with pytest.raises(anyio.BrokenResourceError) as caught:
                await AnyIOTLSStream.wrap(a, distrustful_client(machines), hostname=HOST)
        assert isinstance(caught.value.__cause__, TLSError)
        assert str(caught.value) == str(caught.value.__cause__)
        assert a.extra(anyio.abc.SocketAttribute.raw_socket).fileno() >= 0
        await server.aclose()


async def test_the_exceptions_are_anyios(machines: Machines) -> None:
    async with ends(machines) as (client, server):
        await concurrently(client.do_handshake, server.do_handshake)
        async with blocked(client.receive):
            with pytest.raises(anyio.BusyResourceError, match="reading from"):
                await client.receive()
        with pytest.raises(ValueError, match="max_bytes"):
            await client.receive(0)
        await client.aclose()
        for operation in (client.receive, partial(client.send, b"x"), client.send_eof, client.unwrap):
            with pytest.raises(anyio.ClosedResourceError):
                await operation()
        with pytest.raises(anyio.EndOfStream):
            await server.receive()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_connection_that_is_cut_short_is_broken(machines: Machines, kind: str) -> None:
    async with ends(machines, kind) as (client, server):
        await concurrently(client.do_handshake, server.do_handshake)
        await anyio.aclose_forcefully(server.transport_stream)
        with pytest.raises(anyio.BrokenResourceError, match="close_notify|closed|reset"):
            await client.receive()


async def test_half_close_and_unwrap_are_there(machines: Machines) -> None:
    async with ends(machines) as (client, server):
        await concurrently(client.do_handshake, server.do_handshake)
        await client.send_eof()
        with pytest.raises(anyio.EndOfStream):
            await server.receive()
        await server.send(b"still")
        assert await client.receive() == b"still"
    async with transports("socket") as (a, b):
        client, server = (
            AnyIOTLSStream(a, machines.client, hostname=HOST),
            AnyIOTLSStream(b, machines.server, server_side=True),
        )
        await concurrently(client.do_handshake, server.do_handshake)
        results = []

        async def unwrap(end: Any) -> None:
            results.append(await end.unwrap())

        await concurrently(partial(unwrap, client), partial(unwrap, server))
        assert {transport for transport, trailing in results} == {a, b}
        await client.aclose()
        await a.send(b"plain")
        assert await b.receive() == b"plain"


@pytest.mark.row("anyio", "cancelled at every step")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", CancelMode)
async def test_everything_can_be_cancelled_at_every_step(machines: Machines, kind: str, mode: CancelMode) -> None:
    data = pattern(40_000)

    async def scenario(interrupter: Interrupter) -> None:
        async with ends(machines, kind) as (client, server):

            async def serve() -> None:
                await server.send(await receive_exactly(server, len(data)))

            received = b""
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve)
                await interrupter.call(client.do_handshake)
                await interrupter.call(client.extra(TLSInfoAttribute.tls_stream).sender(data).send)
                while len(received) < len(data):
                    received += await interrupter.call(client.receive)
            assert received == data

    report = await sweep(scenario, mode, steps=[*range(1, 9), *range(9, 40, 6)])
    assert report.cancelled or mode is CancelMode.WAKING  # an operation that wakes up may complete


async def test_a_stream_that_cannot_count_is_sent_to_by_a_task_once_it_is_entered(machines: Machines) -> None:
    data = pattern(3_000_000)
    async with ends(machines, "objects") as (client, server):
        await concurrently(client.do_handshake, server.do_handshake)
        sender = client.extra(TLSInfoAttribute.tls_stream).sender(data)
        await cancel_once_blocked(sender.send)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender.send)
            assert await receive_exactly(server, len(data)) == data


async def test_an_empty_object_is_no_end(machines: Machines) -> None:
    send, receive = anyio.create_memory_object_stream[bytes](10)
    back_send, back_receive = anyio.create_memory_object_stream[bytes](10)
    stream = AnyIOTLSStream(StapledObjectStream(back_send, receive), machines.client, hostname=HOST)
    await send.send(b"")
    async with blocked(stream.do_handshake) as (handshake,):
        assert handshake.error is None
        await send.aclose()
        with pytest.raises(anyio.BrokenResourceError):
            await handshake.result()
    await stream.aclose()
    for each in (receive, back_send, back_receive):
        await each.aclose()


async def test_the_body_of_the_with_may_fail(machines: Machines) -> None:
    async with transports("socket") as (a, b):
        with pytest.raises(KeyError):
            async with AnyIOTLSStream(a, machines.client, hostname=HOST):
                await b.aclose()
                raise KeyError
        with pytest.raises(anyio.ClosedResourceError):
            await a.receive()


def test_without_trio_it_says_what_to_do() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match='backend="trio"'):
            AnyIOTLSStream(None, machines_named("own").client)  # type: ignore[arg-type]

    anyio.run(main, backend="asyncio")
