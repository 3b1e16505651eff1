"""Session resumption through the cache: what is resumed, what falls back, and what is never kept or used twice."""

from __future__ import annotations

import gc
import pickle
import ssl
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import truststore

from trio_tls import (
    HandshakeInThread,
    SSLSessionCache,
    TLSError,
    TLSListener,
    TLSStream,
    open_tls_over_tcp_stream,
    serve_tls_over_tcp,
)
from trio_tls.machine.bio import MemoryBIO

from .support import HOST, Machines, authority, client_context, receive_exactly, server_context, socket_pair

pytestmark = pytest.mark.ssl_alone("our own machine has a cache of its own: tests/machine/tls13/test_sessions.py")


async def greet(stream: TLSStream[Any]) -> None:
    """Say hello (the tickets of TLS 1.3 leave with it), then listen."""
    await stream.send_all(b"hello")
    async for _ in stream:
        pass


class Server:
    """A server whose context may be replaced: a new one knows nothing of the sessions of the old."""

    def __init__(self, listener: TLSListener[trio.SocketStream]) -> None:
        self.listener = listener

    @property
    def port(self) -> int:
        transport_listener = self.listener.transport_listener
        assert isinstance(transport_listener, trio.SocketListener)
        port = transport_listener.socket.getsockname()[1]
        assert isinstance(port, int)
        return port

    def forget(self) -> None:
        assert isinstance(self.listener.config, ssl.SSLContext)
        self.listener.config = server_context(self.listener.config.minimum_version)


@asynccontextmanager
async def server(machines: Machines) -> AsyncIterator[Server]:
    context = server_context(machines.server.minimum_version)
    async with trio.open_nursery() as nursery:

        async def serve(task_status: trio.TaskStatus[list[TLSListener[trio.SocketStream]]]) -> None:
            await serve_tls_over_tcp(greet, 0, context, host="127.0.0.1", task_status=task_status)

        (listener,) = await nursery.start(serve)
        yield Server(listener)
        nursery.cancel_scope.cancel()


async def visit(server: Server, context: Any, cache: SSLSessionCache, *, receive: bool = True, **options: Any) -> bool:
    """Connect, and receive the greeting; whether the session was resumed."""
    async with await open_tls_over_tcp_stream(
        "127.0.0.1", server.port, context, session_cache=cache, **options
    ) as stream:
        if receive:
            assert await receive_exactly(stream, 5) == b"hello"
        else:
            await stream.do_handshake()
        assert stream.info is not None
        return stream.info.session_reused


def own_client_context(machines: Machines) -> ssl.SSLContext:
    return client_context(machines.client.minimum_version)


async def test_the_second_connection_resumes_the_session_of_the_first(machines: Machines) -> None:
    cache, context = SSLSessionCache(), own_client_context(machines)
    async with server(machines) as there:
        assert [await visit(there, context, cache) for _ in range(4)] == [False, True, True, True]
    assert len(cache) == 1


async def test_a_session_that_the_server_refuses_is_a_full_handshake(machines: Machines) -> None:
    cache, context = SSLSessionCache(), own_client_context(machines)
    async with server(machines) as there:
        assert not await visit(there, context, cache)
        there.forget()
        assert not await visit(there, context, cache)
        assert await visit(there, context, cache)


async def test_a_session_is_used_for_one_connection_only(machines: Machines) -> None:
    cache, context = SSLSessionCache(), own_client_context(machines)
    async with server(machines) as there:
        await visit(there, context, cache)
        reused = []
        async with trio.open_nursery() as nursery:

            async def another() -> None:
                reused.append(await visit(there, context, cache))

            for _ in range(3):
                nursery.start_soon(another)
        assert sorted(reused) == [False, False, True]


async def test_a_ticket_that_was_used_is_not_kept_again_though_the_server_sends_no_other(machines: Machines) -> None:
    cache, context = SSLSessionCache(), own_client_context(machines)
    async with server(machines) as there:
        await visit(there, context, cache)
        assert await visit(there, context, cache, receive=False)  # no new ticket is read
        # A session of TLS 1.2 may be resumed any number of times.
        assert len(cache) == (machines.version == "TLSv1.2")


async def test_without_a_ticket_there_is_nothing_to_keep(machines: Machines) -> None:
    cache, context = SSLSessionCache(), own_client_context(machines)
    async with server(machines) as there:
        await visit(there, context, cache, receive=False)
        assert len(cache) == (machines.version == "TLSv1.2")
        async with await open_tls_over_tcp_stream("127.0.0.1", there.port, context, session_cache=SSLSessionCache()):
            pass  # no handshake at all
        there.listener.config = no_tickets = server_context(machines.server.minimum_version)
        no_tickets.options |= ssl.OP_NO_TICKET
        no_tickets.num_tickets = 0
        cache.clear()
        await visit(there, context, cache)
        assert len(cache) == (machines.version == "TLSv1.2")  # which then resumes by session id


async def test_a_failed_handshake_leaves_no_session(machines: Machines) -> None:
    cache, context = SSLSessionCache(), own_client_context(machines)
    async with server(machines) as there:
        await visit(there, context, cache)
        there.listener.config = other = server_context(machines.server.minimum_version)
        other.minimum_version = other.maximum_version = {
            "TLSv1.2": ssl.TLSVersion.TLSv1_3,
            "TLSv1.3": ssl.TLSVersion.TLSv1_2,
        }[machines.version]
        with pytest.raises(TLSError):
            await visit(there, context, cache)
    assert len(cache) == 0


async def test_unwrapping_keeps_the_session_as_closing_does(machines: Machines) -> None:
    cache, context = SSLSessionCache(), own_client_context(machines)
    async with server(machines) as there:
        stream = await open_tls_over_tcp_stream("127.0.0.1", there.port, context, session_cache=cache)
        assert await receive_exactly(stream, 5) == b"hello"
        plain, _ = await stream.unwrap()
        await plain.aclose()
        await stream.aclose()
        assert len(cache) == 1
        assert await visit(there, context, cache)


async def test_a_cancelled_close_keeps_the_session_too(machines: Machines) -> None:
    cache, context = SSLSessionCache(), own_client_context(machines)
    async with server(machines) as there:
        stream = await open_tls_over_tcp_stream("127.0.0.1", there.port, context, session_cache=cache)
        assert await receive_exactly(stream, 5) == b"hello"
        await trio.aclose_forcefully(stream)
        assert await visit(there, context, cache)


async def test_closing_twice_does_not_bring_a_used_session_back(machines: Machines) -> None:
    cache, context = SSLSessionCache(), own_client_context(machines)
    async with server(machines) as there:
        stream = await open_tls_over_tcp_stream("127.0.0.1", there.port, context, session_cache=cache)
        assert await receive_exactly(stream, 5) == b"hello"
        await stream.aclose()
        assert len(cache) == 1
        second = await open_tls_over_tcp_stream("127.0.0.1", there.port, context, session_cache=cache)
        assert len(cache) == 0
        await stream.aclose()
        assert len(cache) == (machines.version == "TLSv1.2")
        await second.aclose()


# -- whose session is whose ------------------------------------------------------------------------------------------


async def test_a_session_is_for_one_context_one_name_and_one_port(machines: Machines) -> None:
    cache, context = SSLSessionCache(), own_client_context(machines)
    async with server(machines) as here, server(machines) as there:
        assert not await visit(here, context, cache)
        assert not await visit(there, context, cache)
        assert not await visit(here, context, cache, server_hostname=HOST)
        assert not await visit(here, own_client_context(machines), cache)
        assert await visit(here, context, cache)
        assert await visit(there, context, cache)
        assert await visit(here, context, cache, server_hostname=HOST)


async def test_the_oldest_session_is_dropped_when_the_cache_is_full(machines: Machines) -> None:
    cache, context = SSLSessionCache(maxsize=2), own_client_context(machines)
    async with server(machines) as there:
        for name in ("127.0.0.1", "localhost", HOST):
            await visit(there, context, cache, server_hostname=name)
        assert len(cache) == 2
        assert await visit(there, context, cache, server_hostname="localhost")
        assert await visit(there, context, cache, server_hostname=HOST)
        assert not await visit(there, context, cache, server_hostname="127.0.0.1")
        cache.clear()
        assert len(cache) == 0
        assert not await visit(there, context, cache, server_hostname=HOST)


async def test_the_cache_keeps_no_context_alive(machines: Machines) -> None:
    cache, context = SSLSessionCache(maxsize=2), own_client_context(machines)
    gone = weakref.ref(context)
    async with server(machines) as there:
        await visit(there, context, cache)
        assert len(cache) == 1
        del context
        gc.collect()
        assert gone() is None and len(cache) == 0
        for _ in range(3):  # what is left of it takes no room for ever
            await visit(there, own_client_context(machines), cache)
    cache.clear()


async def test_two_caches_do_not_share_a_session(machines: Machines) -> None:
    one, other, context = SSLSessionCache(), SSLSessionCache(), own_client_context(machines)
    async with server(machines) as there:
        assert not await visit(there, context, one)
        assert not await visit(there, context, other)
        assert await visit(there, context, one)
        del one
        gc.collect()
        assert await visit(there, context, other)


async def test_truststore_and_threads_resume_too(
    machines: Machines, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    authority().cert_pem.write_to_path(ca)
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    foreign = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    cache = SSLSessionCache()
    async with server(machines) as there:
        for config in (foreign, HandshakeInThread(own_client_context(machines))):
            assert [await visit(there, config, cache) for _ in range(3)] == [False, True, True]


# -- other transports, and misuse --------------------------------------------------------------------------------------


async def test_any_stream_can_resume_and_keep_under_a_key_of_the_callers(machines: Machines) -> None:
    cache = SSLSessionCache()

    async def connect(key: object) -> bool:
        a, b = socket_pair()
        client = TLSStream(a, machines.client, server_hostname=HOST)
        async with client, TLSStream(b, machines.server, server_side=True) as peer:
            offered = cache.resume(client, key)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(greet, peer)
                assert not cache.keep(client, key)  # there is nothing yet
                assert await receive_exactly(client, 5) == b"hello"
                assert client.session_reused is offered
                assert cache.keep(client, key)
                await client.send_eof()
            return offered

    assert [await connect(("proxy", 1)), await connect(("proxy", 2)), await connect(("proxy", 1))] == [
        False,
        False,
        True,
    ]


async def test_misuse_is_told(machines: Machines) -> None:
    cache = SSLSessionCache()
    a, b = socket_pair()
    async with (
        TLSStream(a, machines.client, server_hostname=HOST) as client,
        TLSStream(b, machines.server, server_side=True) as peer,
    ):
        with pytest.raises(ValueError, match="this stream is a server's"):
            cache.resume(peer)
        with pytest.raises(ValueError, match="this stream is a server's"):
            cache.keep(peer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.do_handshake)
            nursery.start_soon(peer.do_handshake)
        with pytest.raises(ValueError, match="too late"):
            cache.resume(client)
    with pytest.raises(ValueError, match="maxsize must be at least 1, not 0"):
        SSLSessionCache(maxsize=0)


class ForeignMachine:
    """A configuration, and a machine, that has nothing to do with `ssl`; as much of one as is looked at."""

    server_side = False
    server_hostname = HOST
    handshake_done = sent_fatal_alert = False
    info = None

    def __init__(self) -> None:
        self.incoming, self.outgoing = MemoryBIO(), MemoryBIO()

    def create_machine(self, **options: object) -> Any:
        return self


async def test_a_stream_that_runs_on_something_else_has_no_such_session() -> None:
    a, b = socket_pair()
    async with TLSStream(a, ForeignMachine()) as stream, b:
        with pytest.raises(ValueError, match="does not run on an ssl.SSLContext"):
            SSLSessionCache().resume(stream)


async def test_the_helper_needs_a_context_that_is_kept_and_one_source_of_sessions(machines: Machines) -> None:
    cache, context = SSLSessionCache(), own_client_context(machines)
    with pytest.raises(ValueError, match="session_cache needs a configuration"):
        await open_tls_over_tcp_stream("127.0.0.1", 1, session_cache=cache)
    async with server(machines) as there:
        async with await open_tls_over_tcp_stream("127.0.0.1", there.port, context) as stream:
            await receive_exactly(stream, 5)
            session = stream.session
        with pytest.raises(ValueError, match="no session beside it"):
            await open_tls_over_tcp_stream("127.0.0.1", there.port, context, session_cache=cache, session=session)


async def test_a_session_cannot_be_pickled(machines: Machines) -> None:
    """The docstring says so; should a later Python be able to, it can be mended."""
    async with server(machines) as there:
        async with await open_tls_over_tcp_stream("127.0.0.1", there.port, own_client_context(machines)) as stream:
            await receive_exactly(stream, 5)
            with pytest.raises(TypeError):
                pickle.dumps(stream.session)
