"""Peers that are Python packages: each blocking call of theirs runs in a thread.

How this works. A `Blocking` has the calls of one connection, on a blocking socket. `ThreadEnd` starts its handshake at
once, beside ours, and makes each later call when the test asks for it. The sockets have a timeout, so no thread
outlives its test by much.
"""

from __future__ import annotations

import abc
import importlib
import socket
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import trio

from trio_tls import Alert, TLSStream

from ...blocking import concurrently
from ...support import receive_exactly
from ..processes import PATIENCE, absent
from .peer import End, Listening, Peer, Setup

__all__ = ["Blocking", "ThreadEnd", "ThreadPeer"]

T = TypeVar("T")


class Blocking(abc.ABC):
    """One connection of another implementation, before its handshake."""

    @abc.abstractmethod
    def handshake(self) -> None: ...

    @abc.abstractmethod
    def send(self, data: bytes) -> None:
        """Send all of it."""

    @abc.abstractmethod
    def receive(self) -> bytes:
        """Some data; empty at close_notify, and only there."""

    @abc.abstractmethod
    def finish(self) -> None:
        """Send close_notify."""

    def update_keys(self, *, request: bool) -> None:
        """Send a KeyUpdate."""
        raise NotImplementedError

    def close(self) -> None:
        """Close what is not the socket: as a rule, nothing."""
        return

    def session(self) -> Any:
        """Something to resume by."""
        raise NotImplementedError


class ThreadEnd(End):
    """A `Blocking` in threads."""

    def __init__(self, blocking: Blocking, connection: socket.socket) -> None:
        self._blocking = blocking
        self._connection = connection
        self._handshake_ended = trio.Event()
        self._failure: Exception | None = None

    @asynccontextmanager
    async def started(self) -> AsyncIterator[ThreadEnd]:
        """Its handshake has begun; its socket is closed at the end."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._handshake)
                yield self
                nursery.cancel_scope.cancel()
        finally:
            # Some thread may be in recv() yet: this ends it, where close() would not.
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(partial(_shut, self._connection))
                self._blocking.close()

    async def _handshake(self) -> None:
        try:
            await _in_thread(self._blocking.handshake)
        except Exception as exc:
            self._failure = exc
        self._handshake_ended.set()

    async def _call(self, function: Callable[[], T]) -> T:
        await self._handshake_ended.wait()
        if self._failure is not None:
            raise self._failure
        return await _in_thread(function)

    async def exchange(self, ours: TLSStream[Any], data: bytes) -> None:
        async def theirs_received() -> None:
            assert await self._call(partial(self._receive_exactly, len(data))) == data

        async def ours_received() -> None:
            assert await receive_exactly(ours, len(data)) == data

        await concurrently(partial(ours.send_all, data), theirs_received)
        await concurrently(partial(self._call, partial(self._blocking.send, data)), ours_received)

    def _receive_exactly(self, count: int) -> bytes:
        received = bytearray()
        while len(received) < count:
            part = self._blocking.receive()
            if not part:
                break
            received += part
        return bytes(received)

    async def update_keys(self, ours: TLSStream[Any], *, request: bool) -> None:
        await self._call(partial(self._blocking.update_keys, request=request))

    async def finish(self, ours: TLSStream[Any]) -> None:
        await concurrently(ours.do_handshake, partial(self._call, self._blocking.finish))

    async def receive_after_finish(self, data: bytes) -> None:
        assert await self._call(partial(self._receive_exactly, len(data))) == data

    async def saw_end(self) -> None:
        assert await self._call(self._blocking.receive) == b""

    async def send_after_end(self, data: bytes) -> None:
        await self._call(partial(self._blocking.send, data))

    async def saw_alert(self, alert: Alert) -> None:
        await self._handshake_ended.wait()
        failure = self._failure
        if failure is None:
            try:
                await _in_thread(self._blocking.receive)
            except Exception as exc:
                failure = exc
        # Each package has its own way of writing the names, but all write the names.
        assert alert.name.replace("_", " ") in str(failure).lower().replace("_", " "), repr(failure)

    async def greeted(self) -> Any:
        """Receive a line, end, and give what can be resumed by."""
        assert await self._call(partial(self._receive_exactly, len(b"greeting\n"))) == b"greeting\n"
        session = self._blocking.session()
        await self._call(self._blocking.finish)
        return session


async def _in_thread(function: Callable[[], T]) -> T:
    return await trio.to_thread.run_sync(function, abandon_on_cancel=True)


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # the other end has gone, or it is closed already
    connection.close()


class _Server(Listening):
    def __init__(self, listener: socket.socket, serve: Callable[[socket.socket], Blocking]) -> None:
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._serve = serve

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[trio.SocketStream, End]]:
        transport = await trio.open_tcp_stream("127.0.0.1", self.port)
        connection, _ = self._listener.accept()
        connection.settimeout(PATIENCE)
        async with ThreadEnd(self._serve(connection), connection).started() as end:
            yield transport, end


class ThreadPeer(Peer):
    """A Python package.

    Attributes:
      module: what to import.
    """

    module: str
    sends_after_our_end = receives_after_its_end = frozenset({"server", "client"})

    def require(self) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # tlslite-ng imports what Python deprecates
                importlib.import_module(self.module)
        except ImportError:
            absent(f"{self.name} is not installed")

    @abc.abstractmethod
    def serve(self, setup: Setup) -> Callable[[socket.socket], Blocking]:
        """What makes the server's end of each connection; they have what is needed for resumption in common."""

    @abc.abstractmethod
    def connect(self, setup: Setup) -> Callable[[socket.socket, Any], Blocking]:
        """What makes the client's end of each connection, given the session to resume, or None."""

    @asynccontextmanager
    async def server(self, setup: Setup) -> AsyncIterator[Listening]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            yield _Server(listener, self.serve(setup))

    @asynccontextmanager
    async def client(self, setup: Setup, port: int) -> AsyncIterator[End]:
        connection = socket.create_connection(("127.0.0.1", port), PATIENCE)
        async with ThreadEnd(self.connect(setup)(connection, None), connection).started() as end:
            yield end

    async def visit_twice(self, setup: Setup, port: int) -> None:
        connect, session = self.connect(setup), None
        for _ in range(2):
            connection = socket.create_connection(("127.0.0.1", port), PATIENCE)
            async with ThreadEnd(connect(connection, session), connection).started() as end:
                session = await end.greeted()
