"""WebSockets: trio-websocket and the Trio side of websockets, on streams they are given and on those they make."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
import trio_websocket
import websockets.exceptions
import websockets.trio.client
import websockets.trio.server

from trio_tls import ClientConfig, ConfigContext, ServerConfig, TLSListener, TLSStream, compat

from ..support import HOST, Machines, pattern

DATA = pattern(300_000)


def as_context(config: Any) -> ssl.SSLContext:
    """What these libraries take: trio-websocket looks closely."""
    return ConfigContext(config) if isinstance(config, ClientConfig | ServerConfig) else config


@asynccontextmanager
async def tls_listener(machines: Machines) -> AsyncIterator[tuple[Any, int]]:
    (tcp,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with tcp:
        yield TLSListener(tcp, machines.server, https_compatible=True), tcp.socket.getsockname()[1]


async def tls_client(
    machines: Machines, port: int, kind: type[TLSStream[Any]] = TLSStream
) -> TLSStream[trio.SocketStream]:
    tcp = await trio.open_tcp_stream("127.0.0.1", port)
    return kind(tcp, machines.client, server_hostname=HOST, https_compatible=True)


async def cancel_when_sending(stream: TLSStream[Any], scope: trio.CancelScope) -> None:
    """Cancel as soon as more has been accepted; the rest of a large message has not been then."""
    before = stream.plaintext_sent
    while stream.plaintext_sent == before:
        await trio.lowlevel.checkpoint()
    scope.cancel()


# -- trio-websocket ------------------------------------------------------------------------------------------------


async def echo(request: Any) -> None:
    connection = await request.accept()
    assert connection.remote.is_ssl
    try:
        while True:
            await connection.send_message(await connection.get_message())
    except trio_websocket.ConnectionClosed:
        pass


@pytest.mark.row("trio-websocket", "on our listener and our stream")
async def test_trio_websocket_runs_on_what_it_is_given(machines: Machines) -> None:
    async with tls_listener(machines) as (listener, port), trio.open_nursery() as nursery:
        server: Any = trio_websocket.WebSocketServer(echo, [listener])
        started = await nursery.start(partial(server.run))
        assert started.listeners[0].url.startswith("wss://")
        stream: Any = await tls_client(machines, port)
        client: Any = await trio_websocket.wrap_client_stream(nursery, stream, HOST, "/")
        for message in ("hello", DATA):
            await client.send_message(message)
            assert await client.get_message() == message
        assert client.remote.is_ssl
        await client.aclose()
        nursery.cancel_scope.cancel()


@pytest.mark.row("trio-websocket", "client and server by its own calls (compat)")
async def test_trio_websocket_makes_our_streams(machines: Machines) -> None:
    with compat.installed():
        async with trio.open_nursery() as nursery:
            server = await nursery.start(
                partial(trio_websocket.serve_websocket, echo, "127.0.0.1", 0, as_context(machines.server))
            )
            url = f"wss://localhost:{server.port}/"
            async with trio_websocket.open_websocket_url(url, ssl_context=as_context(machines.client)) as client:
                assert isinstance(client._stream, TLSStream)
                for message in ("hello", DATA):
                    await client.send_message(message)
                    assert await client.get_message() == message
            nursery.cancel_scope.cancel()


@pytest.mark.row("trio-websocket", "a receive that is cancelled")
async def test_a_cancelled_message_of_trio_websocket_comes_later(machines: Machines) -> None:
    async with tls_listener(machines) as (listener, port), trio.open_nursery() as nursery:
        server: Any = trio_websocket.WebSocketServer(echo, [listener])
        await nursery.start(partial(server.run))
        stream: Any = await tls_client(machines, port)
        client = await trio_websocket.wrap_client_stream(nursery, stream, HOST, "/")
        for number in range(5):
            with trio.move_on_after(0.001):
                await client.get_message()
            await client.send_message(f"message {number}")
            assert await client.get_message() == f"message {number}"
        await client.aclose()
        nursery.cancel_scope.cancel()


@pytest.mark.row("trio-websocket", "a message whose sending is cancelled is not taken for another")
async def test_behind_a_message_of_trio_websocket_that_was_cut_off_comes_no_other(machines: Machines) -> None:
    """trio-websocket would go on with its next frame, which the peer takes for the rest of the one that was cut off."""
    received: list[Any] = []
    ended = trio.Event()

    async def serve(request: Any) -> None:
        connection = await request.accept()
        try:
            while True:
                received.append(await connection.get_message())
        except trio_websocket.ConnectionClosed:
            ended.set()

    (tcp,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with tcp, trio.open_nursery() as nursery:
        listener: Any = compat.SSLListener(tcp, machines.server, https_compatible=True)
        server: Any = trio_websocket.WebSocketServer(serve, [listener], max_message_size=2**30)
        await nursery.start(partial(server.run))
        stream: Any = await tls_client(machines, tcp.socket.getsockname()[1], compat.SSLStream)
        client: Any = await trio_websocket.wrap_client_stream(nursery, stream, HOST, "/")
        await client.send_message(b"whole")
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_when_sending, stream, scope)
            await client.send_message(bytes(30_000_000))
        assert scope.cancelled_caught
        with pytest.raises(trio_websocket.ConnectionClosed):
            for _ in range(3):
                await client.send_message(b"the next")
        await stream.aclose()  # trio-websocket does not, once it has met an error
        with trio.fail_after(60):
            await ended.wait()
        nursery.cancel_scope.cancel()
    assert received == [b"whole"]


# -- websockets ------------------------------------------------------------------------------------------------


async def echo_all(connection: Any) -> None:
    assert connection.remote_address[0] == "127.0.0.1"
    async for message in connection:
        await connection.send(message)


@asynccontextmanager
async def websockets_server(machines: Machines, handler: Any, **options: Any) -> AsyncIterator[int]:
    """A server of websockets. It makes a stream for each client, so our classes have to stay in place."""
    with compat.installed():
        async with trio.open_nursery() as nursery:
            tls = as_context(machines.server)
            serve: Any = partial(websockets.trio.server.serve, handler, 0, host="127.0.0.1", ssl=tls, **options)
            server = await nursery.start(serve)
            yield server.listeners[0].socket.getsockname()[1]
            nursery.cancel_scope.cancel()


@pytest.mark.row("websockets", "a client on our stream")
async def test_websockets_runs_on_what_it_is_given(machines: Machines) -> None:
    async with websockets_server(machines, echo_all) as port:
        # ws, not wss: TLS is there already.
        stream = await tls_client(machines, port)
        async with websockets.trio.client.connect(f"ws://localhost:{port}/", stream=stream, proxy=None) as client:
            for message in ("hello", DATA):
                await client.send(message)
                assert await client.recv() == message
            assert client.remote_address == ("127.0.0.1", port)
        assert client.close_code == 1000


@pytest.mark.row("websockets", "client and server by its own calls (compat)")
async def test_websockets_makes_our_streams(machines: Machines) -> None:
    async with websockets_server(machines, echo_all) as port:
        context = as_context(machines.client)
        async with websockets.trio.client.connect(f"wss://localhost:{port}/", ssl=context, proxy=None) as client:
            assert isinstance(client.stream, TLSStream)
            for message in ("hello", DATA):
                await client.send(message)
                assert await client.recv() == message
        assert client.close_code == 1000


@pytest.mark.row("websockets", "a message whose sending is cancelled is not taken for another")
async def test_behind_a_message_of_websockets_that_was_cut_off_comes_no_other(machines: Machines) -> None:
    received: list[Any] = []
    ended = trio.Event()

    async def serve(connection: Any) -> None:
        with pytest.raises(websockets.exceptions.ConnectionClosedError):
            while True:
                received.append(await connection.recv())
        ended.set()

    async with websockets_server(machines, serve, max_size=2**30) as port, trio.open_nursery() as nursery:
        stream = await tls_client(machines, port, compat.SSLStream)
        connect = websockets.trio.client.connect(f"ws://localhost:{port}/", stream=stream, proxy=None, compression=None)
        async with connect as client:
            await client.send(b"whole")
            with trio.CancelScope() as scope:
                nursery.start_soon(cancel_when_sending, stream, scope)
                await client.send(bytes(30_000_000))
            assert scope.cancelled_caught
            with pytest.raises(websockets.exceptions.ConnectionClosed):
                await client.send(b"the next")
        with trio.fail_after(60):
            await ended.wait()
    assert received == [b"whole"]


@pytest.mark.row("websockets", "an end that waits for no timeout")
async def test_the_end_of_a_websocket_does_not_wait_for_a_timeout(machines: Machines) -> None:
    """It half-closes a stream that says it can, and waits for the peer. A TLSStream does not say so, as trio's."""

    async def goodbye(connection: Any) -> None:
        await connection.send("goodbye")

    async with websockets_server(machines, goodbye, close_timeout=60) as port:
        stream = await tls_client(machines, port)
        with trio.fail_after(20):  # not the 60 of the close timeout
            async with websockets.trio.client.connect(
                f"ws://localhost:{port}/", stream=stream, proxy=None, close_timeout=60
            ) as client:
                assert [message async for message in client] == ["goodbye"]
