"""The one-call helpers: to connect and to listen over TCP and Unix sockets."""

from __future__ import annotations

import gc
import os
import pathlib
import socket
import ssl
import threading

import pytest
import trio

from trio_tls import (
    CertificateVerificationError,
    TLSListener,
    TLSStream,
    open_tls_over_tcp_listeners,
    open_tls_over_tcp_stream,
    open_tls_over_unix_socket,
    serve_tls_over_tcp,
)

from .peers import Config
from .support import HOST, Machines, client_context, receive_exactly, server_context


def open_files() -> int:
    gc.collect()  # what earlier tests have left is not ours to count
    return len(list(pathlib.Path("/proc/self/fd").iterdir()))


async def echo(stream: TLSStream[trio.SocketStream]) -> None:
    async for data in stream:
        await stream.send_all(data)


def port_of(listeners: list[TLSListener[trio.SocketStream]]) -> int:
    transport_listener = listeners[0].transport_listener
    assert isinstance(transport_listener, trio.SocketListener)
    port = transport_listener.socket.getsockname()[1]
    assert isinstance(port, int)
    return port


async def serve_echo(config: Config, nursery: trio.Nursery) -> int:
    """An echo server in ``nursery``; its port."""

    async def serve(task_status: trio.TaskStatus[list[TLSListener[trio.SocketStream]]]) -> None:
        await serve_tls_over_tcp(echo, 0, config, host="127.0.0.1", task_status=task_status)

    return port_of(await nursery.start(serve))


async def test_connecting_does_no_handshake_and_the_first_send_does(machines: Machines) -> None:
    async with trio.open_nursery() as nursery:
        port = await serve_echo(machines.server, nursery)
        async with await open_tls_over_tcp_stream("127.0.0.1", port, machines.client) as stream:
            assert stream.info is None
            await stream.send_all(b"hello")
            assert await receive_exactly(stream, 5) == b"hello"
            assert stream.version() == machines.version
        nursery.cancel_scope.cancel()


async def test_the_host_is_the_name_that_is_checked_unless_another_is_given(machines: Machines) -> None:
    async with trio.open_nursery() as nursery:
        port = await serve_echo(machines.server, nursery)
        async with await open_tls_over_tcp_stream("127.0.0.1", port, machines.client) as stream:
            assert stream.server_hostname == "127.0.0.1"
            await stream.do_handshake()
        async with await open_tls_over_tcp_stream(b"127.0.0.1", port, machines.client) as stream:
            assert stream.server_hostname == "127.0.0.1"
        async with await open_tls_over_tcp_stream(
            "127.0.0.1", port, machines.client, server_hostname="other.example.org"
        ) as stream:
            with pytest.raises(CertificateVerificationError, match="not accepted"):
                await stream.do_handshake()
        nursery.cancel_scope.cancel()


async def test_the_default_context_verifies_and_is_made_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    made_in: list[threading.Thread] = []
    create = ssl.create_default_context

    def create_default_context() -> ssl.SSLContext:
        made_in.append(threading.current_thread())
        context = create()
        context.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
        return context

    async with trio.open_nursery() as nursery:
        port = await serve_echo(server_context(), nursery)
        monkeypatch.setattr(ssl, "create_default_context", create_default_context)
        async with await open_tls_over_tcp_stream("localhost", port) as stream:
            assert isinstance(stream.context, ssl.SSLContext)
            assert not stream.context.options & getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
            with pytest.raises(CertificateVerificationError):
                await stream.do_handshake()
        nursery.cancel_scope.cancel()
    assert len(made_in) == 1
    assert made_in[0] is not threading.main_thread()


async def test_a_session_resumes(machines: Machines) -> None:
    async with trio.open_nursery() as nursery:
        port = await serve_echo(machines.server, nursery)
        async with await open_tls_over_tcp_stream("localhost", port, machines.client) as first:
            await first.send_all(b"?")
            await receive_exactly(first, 1)  # with it come the tickets of TLS 1.3
            session = first.session
        async with await open_tls_over_tcp_stream("localhost", port, machines.client, session=session) as second:
            await second.do_handshake()
            assert second.session_reused
        nursery.cancel_scope.cancel()


async def test_a_stream_that_cannot_be_wrapped_leaves_nothing_open() -> None:
    async with trio.open_nursery() as nursery:
        port = await serve_echo(server_context(), nursery)
        listening = open_files()
        with pytest.raises(ValueError, match="server_side=False"):
            await open_tls_over_tcp_stream("127.0.0.1", port, server_context())
        with trio.fail_after(5):
            while open_files() > listening:  # until the server has noticed, too
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


async def test_listeners_that_cannot_be_wrapped_leave_nothing_open() -> None:
    before = open_files()
    with pytest.raises(ValueError, match="server_side=True"):
        await open_tls_over_tcp_listeners(0, client_context(), host="127.0.0.1")
    with pytest.raises(TypeError, match="one configuration"):
        await open_tls_over_tcp_listeners(0, host="127.0.0.1")
    assert open_files() == before


async def test_ssl_context_is_an_alias_everywhere() -> None:
    context = server_context()
    (listener,) = await open_tls_over_tcp_listeners(0, ssl_context=context, host="127.0.0.1")
    async with listener:
        stream = await open_tls_over_tcp_stream("127.0.0.1", port_of([listener]), ssl_context=client_context())
        await trio.aclose_forcefully(stream)
        assert listener.config is context
    with pytest.raises(TypeError, match="one configuration"):
        await open_tls_over_tcp_stream("127.0.0.1", 1, client_context(), ssl_context=client_context())


async def test_refused_connections_rise_as_oserror() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        with pytest.raises(OSError, match="failed"):
            await open_tls_over_tcp_stream("127.0.0.1", bound.getsockname()[1], client_context())


async def test_the_local_address_can_be_chosen() -> None:
    async with trio.open_nursery() as nursery:
        port = await serve_echo(server_context(), nursery)
        async with await open_tls_over_tcp_stream(
            "127.0.0.1", port, client_context(), local_address="127.0.0.1", happy_eyeballs_delay=0.1
        ) as stream:
            assert stream.transport_stream is not None
            assert stream.transport_stream.socket.getsockname()[0] == "127.0.0.1"
        nursery.cancel_scope.cancel()


async def test_a_unix_socket_carries_tls(machines: Machines, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "tls.sock"
    with trio.socket.socket(socket.AF_UNIX) as listening:
        await listening.bind(os.fspath(path))
        listening.listen()
        client = await open_tls_over_unix_socket(path, machines.client, server_hostname=HOST)
        server = await TLSListener(trio.SocketListener(listening), machines.server).accept()
        async with client, server, trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, b"over a path")
            assert await receive_exactly(server, 11) == b"over a path"


async def test_a_unix_stream_that_cannot_be_wrapped_leaves_nothing_open(tmp_path: pathlib.Path) -> None:
    path = os.fspath(tmp_path / "tls.sock")
    with trio.socket.socket(socket.AF_UNIX) as listening:
        await listening.bind(path)
        listening.listen()
        before = open_files()
        with pytest.raises(ValueError, match="server_side=False"):
            await open_tls_over_unix_socket(path, server_context(), server_hostname=HOST)
        assert open_files() == before
