"""The peers on asyncio: its own event loop, and uvloop's.

How this works. Of what asyncio has, a `asyncio.BufferedProtocol` is the fastest: TLS decrypts right into its buffer, as
many records at once as there are. Sends are ``transport.write``, and wait while the transport has told to pause, as
`asyncio.StreamWriter.drain` does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from ..measurement import HOST, SessionContext, Settings
from ..workloads import Request
from .base import RECEIVE_SIZE, Announce, AsyncPeer, Connection

__all__ = ["Asyncio", "Uvloop"]

#: Everything is received here, one piece after the other: from `get_buffer` to `buffer_updated` nothing else happens.
SCRATCH = memoryview(bytearray(RECEIVE_SIZE))


class Asyncio(AsyncPeer):
    """asyncio's TLS transports."""

    title = "asyncio"
    short = "asyncio"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._client, self._resuming = settings.client_context(SessionContext), settings.client_context(SessionContext)
        self._server = settings.server_context()
        self._open: set[_Connection] = set()

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop to run on."""
        return asyncio.new_event_loop()

    def run(self, function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """As `AsyncPeer.run`."""
        loop = self.new_event_loop()
        try:
            result = loop.run_until_complete(function(*args))
            if self._open:  # whoever was told goodbye may still answer
                loop.run_until_complete(asyncio.wait([each.lost for each in self._open], timeout=5))
            return result
        finally:
            self._open.clear()
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            if tasks:
                loop.run_until_complete(asyncio.wait(tasks))
            loop.close()

    def serve(self, announce: Announce) -> None:
        """As `Peer.serve`."""
        self.run(self._serve, announce)

    async def _serve(self, announce: Announce) -> None:
        loop = asyncio.get_running_loop()
        tasks: set[asyncio.Task[None]] = set()

        def made(connection: _Connection) -> None:
            task = loop.create_task(self._handle(connection))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        listener = self.settings.listening()
        server = await loop.create_server(lambda: _Connection(made), sock=listener, ssl=self._server, backlog=512)
        announce(listener.getsockname()[1], 0)
        await server.serve_forever()

    async def _handle(self, connection: _Connection) -> None:
        with contextlib.suppress(ConnectionError, EOFError):
            await self.converse(connection)
        await connection.aclose()

    async def connect(self, port: int, *, resume: bool) -> Connection:
        """As `AsyncPeer.connect`. The context brings the session, if there is one."""
        loop = asyncio.get_running_loop()
        sock = self.settings.new_socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        context = self._resuming if resume else self._client
        _, connection = await loop.create_connection(_Connection, sock=sock, ssl=context, server_hostname=HOST)
        self._open.add(connection)
        connection.lost.add_done_callback(lambda _: self._open.discard(connection))
        return connection

    async def together(self, *functions: Callable[[], Awaitable[None]]) -> None:
        """As `AsyncPeer.together`."""
        await asyncio.gather(*(function() for function in functions))

    async def while_running(
        self, background: Callable[[], Awaitable[None]], main: Callable[[], Awaitable[None]]
    ) -> None:
        """As `AsyncPeer.while_running`."""
        task = asyncio.ensure_future(background())
        await asyncio.sleep(0)
        await main()
        task.cancel()
        await asyncio.wait([task])

    async def sleep(self, seconds: float) -> None:
        """As `AsyncPeer.sleep`."""
        await asyncio.sleep(seconds)

    async def receive(self, connection: Connection, count: int) -> None:
        """As `AsyncPeer.receive`."""
        await connection.receive(count)

    async def header(self, connection: Connection) -> bytes:
        """As `AsyncPeer.header`."""
        header: bytes = await connection.read(Request.LENGTH)
        return header

    def agreed(self, connection: Connection) -> tuple[str, bool]:
        """As `AsyncPeer.agreed`."""
        ssl_object = connection.transport.get_extra_info("ssl_object")
        return ssl_object.cipher()[0], bool(ssl_object.session_reused)

    def keep_session(self, connection: Connection) -> None:
        """As `AsyncPeer.keep_session`."""
        self._resuming.session = connection.transport.get_extra_info("ssl_object").session


class Uvloop(Asyncio):
    """The same on uvloop's event loop, which has its own TLS transports."""

    title = "asyncio on uvloop"
    short = "uvloop"

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """As `Asyncio.new_event_loop`."""
        import uvloop  # noqa: PLC0415  # optional

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        return loop


class _Connection(asyncio.BufferedProtocol):
    """One connection. Bytes that nobody waits for yet are kept; there are few, since each side waits for the other."""

    transport: asyncio.Transport

    def __init__(self, made: Callable[[_Connection], None] | None = None) -> None:
        self._made = made
        self._held = bytearray()
        self._left = 0  # how many bytes `receive` still waits for
        self._waiting: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._ended = False
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # -- what the transport calls ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # one of a stream
        if self._made is not None:
            self._made(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return SCRATCH

    def buffer_updated(self, nbytes: int) -> None:
        taken = min(nbytes, self._left)
        self._left -= taken
        if taken < nbytes:
            self._held += SCRATCH[taken:nbytes]
        if not self._left:
            self._wake()

    def eof_received(self) -> bool:
        self._ended = True
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._wake()
        self.resume_writing()
        if not self.lost.done():
            self.lost.set_result(None)

    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._writable is not None:
            self._writable.set_result(None)
            self._writable = None

    # -- what the conversation calls -------------------------------------------------------------------------

    async def send_all(self, data: bytes) -> None:
        self.transport.write(data)
        if self._writable is not None:
            await self._writable
            if self._ended:
                raise EOFError("the other end has gone")

    async def receive(self, count: int) -> None:
        """Receive ``count`` bytes and forget them."""
        taken = min(count, len(self._held))
        del self._held[:taken]
        self._left = count - taken
        while self._left:
            await self._news()
            if self._ended and self._left:
                raise EOFError("the other end has gone")

    async def read(self, count: int) -> bytes:
        """Exactly ``count`` bytes, or ``b""`` at the end."""
        while len(self._held) < count:
            if self._ended:
                return b""
            await self._news()
        data = bytes(self._held[:count])
        del self._held[:count]
        return data

    async def aclose(self) -> None:
        self.transport.close()

    async def _news(self) -> None:
        if not self._ended:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting

    def _wake(self) -> None:
        if self._waiting is not None:
            if not self._waiting.done():
                self._waiting.set_result(None)
            self._waiting = None
