"""The peers on Trio: plain TCP, trio.SSLStream, anyio, and TLSStream on either machine."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import trio
import trio.testing

from ...config import ClientConfig, ServerConfig
from ...credentials import Credential
from ...machine.tls13.registry import CipherSuiteNumber, NamedGroup
from ...machine.tls13.session_cache import SessionCache
from ...stream import TLSStream
from ...trust import PrivatePolicy, TrustAnchors, Verifier
from ..measurement import HOST, SUITE, SessionContext, Settings
from ..workloads import Method, Request, Workload
from .base import Announce, AsyncPeer, Connection

__all__ = ["TCP", "AnyIO", "OnContext", "OwnHybrid", "OwnMachine", "TrioSSL"]


class TCP(AsyncPeer):
    """Plain TCP on Trio, by `trio.SocketStream`: what there is to lose."""

    title = "plain TCP on Trio"
    short = "TCP"

    @classmethod
    def can(cls, workload: Workload) -> bool:
        """As `Peer.can`: there is nothing to resume."""
        return not workload.resumed

    async def wrap_client(self, stream: trio.SocketStream, *, resume: bool) -> Connection:
        """Make a connection of a connected stream; the handshake is done on return."""
        return stream

    async def wrap_server(self, stream: trio.SocketStream) -> Connection:
        """Make a connection of an accepted stream; the handshake is done on return."""
        return stream

    def run(self, function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """As `AsyncPeer.run`."""
        return trio.run(function, *args)

    def serve(self, announce: Announce) -> None:
        """As `Peer.serve`."""
        trio.run(self._serve, announce)

    async def _serve(self, announce: Announce) -> None:
        listener = trio.socket.from_stdlib_socket(self.settings.listening())
        announce(listener.getsockname()[1], 0)
        await trio.serve_listeners(self._handle, [trio.SocketListener(listener)])

    async def _handle(self, stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError, EOFError):
            connection = await self.wrap_server(stream)
            await self.converse(connection)
            await connection.aclose()

    async def connect(self, port: int, *, resume: bool) -> Connection:
        """As `AsyncPeer.connect`."""
        sock = trio.socket.from_stdlib_socket(self.settings.new_socket())
        await sock.connect(("127.0.0.1", port))
        return await self.wrap_client(trio.SocketStream(sock), resume=resume)

    async def together(self, *functions: Callable[[], Awaitable[None]]) -> None:
        """As `AsyncPeer.together`."""
        async with trio.open_nursery() as nursery:
            for function in functions:
                nursery.start_soon(function)

    async def while_running(
        self, background: Callable[[], Awaitable[None]], main: Callable[[], Awaitable[None]]
    ) -> None:
        """As `AsyncPeer.while_running`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(background)
            await trio.testing.wait_all_tasks_blocked()
            await main()
            nursery.cancel_scope.cancel()

    async def sleep(self, seconds: float) -> None:
        """As `AsyncPeer.sleep`."""
        await trio.sleep(seconds)

    async def receive(self, connection: Connection, count: int) -> None:
        """As `AsyncPeer.receive`."""
        while count > 0:
            data = await connection.receive_some()
            if not data:
                raise EOFError("the other end has gone")
            count -= len(data)

    async def header(self, connection: Connection) -> bytes:
        """As `AsyncPeer.header`."""
        header = bytes(await connection.receive_some(Request.LENGTH))
        while header and len(header) < Request.LENGTH:
            header += await connection.receive_some(Request.LENGTH - len(header))
        return header


class TrioSSL(TCP):
    """``trio.SSLStream``: 1.00 by definition."""

    title = "trio.SSLStream"
    short = "trio.SSLStream"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._client, self._resuming = settings.client_context(SessionContext), settings.client_context(SessionContext)
        self._server = settings.server_context()

    @classmethod
    def can(cls, workload: Workload) -> bool:
        """As `Peer.can`: it has all of them."""
        return True

    async def wrap_client(self, stream: trio.SocketStream, *, resume: bool) -> Connection:
        """As `TCP.wrap_client`. The context brings the session, if there is one."""
        connection: Connection = trio.SSLStream(stream, self._context(resume), server_hostname=HOST)
        await connection.do_handshake()
        return connection

    def _context(self, resume: bool) -> SessionContext:
        return self._resuming if resume else self._client

    async def wrap_server(self, stream: trio.SocketStream) -> Connection:
        """As `TCP.wrap_server`."""
        connection: Connection = trio.SSLStream(stream, self._server, server_side=True)
        await connection.do_handshake()
        return connection

    def agreed(self, connection: Connection) -> tuple[str, bool]:
        """As `AsyncPeer.agreed`."""
        return connection.cipher()[0], bool(connection.session_reused)

    def keep_session(self, connection: Connection) -> None:
        """As `AsyncPeer.keep_session`."""
        self._resuming.session = connection.session


class OnContext(TrioSSL):
    """``TLSStream`` on the same settings of ``ssl``."""

    title = "TLSStream on SSLContext"
    short = "TLSStream: SSLContext"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        # Not a SessionContext: its handshakes would run in threads, since it has Python code in `wrap_bio`.
        self._plain = settings.client_context(ssl.SSLContext)
        self._session: Any = None

    async def wrap_client(self, stream: trio.SocketStream, *, resume: bool) -> Connection:
        """As `TCP.wrap_client`."""
        connection = TLSStream(stream, self._plain, server_hostname=HOST, session=self._session if resume else None)
        await connection.do_handshake()
        return connection

    def keep_session(self, connection: Connection) -> None:
        """As `AsyncPeer.keep_session`."""
        self._session = connection.session

    async def wrap_server(self, stream: trio.SocketStream) -> Connection:
        """As `TCP.wrap_server`."""
        connection = TLSStream(stream, self._server, server_side=True)
        await connection.do_handshake()
        return connection


class OwnMachine(TCP):
    """``TLSStream`` on our own TLS 1.3 machine, with the same certificates, group and suite."""

    title = "TLSStream on our machine"
    short = "TLSStream: our machine"

    def __init__(self, settings: Settings, group: NamedGroup = NamedGroup.x25519) -> None:
        super().__init__(settings)
        suites = (CipherSuiteNumber[SUITE],)
        self._full = ClientConfig(
            verify=Verifier(TrustAnchors.from_files(settings.path("ca.pem")), PrivatePolicy()),
            groups=(group,),
            cipher_suites=suites,
            session_cache=None,
        )
        # Its sessions are used once each, so there have to be as many as connections at once.
        self._resuming = self._full.replace(session_cache=SessionCache(per_server=256))
        credential = Credential.from_files(settings.path("server.pem"))
        self._server = ServerConfig(credentials=credential, groups=(group,), cipher_suites=suites)

    @classmethod
    def can(cls, workload: Workload) -> bool:
        """As `Peer.can`: it has all of them."""
        return True

    async def wrap_client(self, stream: trio.SocketStream, *, resume: bool) -> Connection:
        """As `TCP.wrap_client`."""
        connection = TLSStream(stream, self._resuming if resume else self._full, server_hostname=HOST)
        await connection.do_handshake()
        return connection

    async def wrap_server(self, stream: trio.SocketStream) -> Connection:
        """As `TCP.wrap_server`."""
        connection = TLSStream(stream, self._server)
        await connection.do_handshake()
        return connection

    def agreed(self, connection: Connection) -> tuple[str, bool]:
        """As `AsyncPeer.agreed`."""
        return connection.cipher()[0], bool(connection.session_reused)


class OwnHybrid(OwnMachine):
    """The same with X25519MLKEM768, our machine's default, which the others' OpenSSL may not have."""

    title = "our machine, X25519MLKEM768"
    short = "X25519 MLKEM768"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, NamedGroup.X25519MLKEM768)

    @classmethod
    def can(cls, workload: Workload) -> bool:
        """As `Peer.can`: what the group has a part in."""
        return workload.method in (Method.CONNECT, Method.WIRE)


class AnyIO(TrioSSL):
    """anyio's ``TLSStream`` on its Trio backend."""

    title = "anyio on Trio"
    short = "anyio"

    async def wrap_client(self, stream: trio.SocketStream, *, resume: bool) -> Connection:
        """As `TCP.wrap_client`."""
        return await self._wrap(stream, self._context(resume), server_side=False)

    async def wrap_server(self, stream: trio.SocketStream) -> Connection:
        """As `TCP.wrap_server`."""
        return await self._wrap(stream, self._server, server_side=True)

    @staticmethod
    async def _wrap(stream: trio.SocketStream, context: Any, *, server_side: bool) -> Connection:
        from anyio._backends._trio import SocketStream  # noqa: PLC0415  # the only way from a socket that exists
        from anyio.streams.tls import TLSStream as AnyIOStream  # noqa: PLC0415  # optional

        wrapped = await AnyIOStream.wrap(
            SocketStream(stream.socket),
            server_side=server_side,
            hostname=None if server_side else HOST,
            ssl_context=context,
            standard_compatible=False,
        )
        return _AnyIOConnection(wrapped)

    def agreed(self, connection: Connection) -> tuple[str, bool]:
        """As `AsyncPeer.agreed`."""
        return connection.ssl_object.cipher()[0], bool(connection.ssl_object.session_reused)

    def keep_session(self, connection: Connection) -> None:
        """As `AsyncPeer.keep_session`."""
        self._resuming.session = connection.ssl_object.session


class _AnyIOConnection:
    """The names of Trio for an anyio stream."""

    def __init__(self, stream: Any) -> None:
        import anyio  # noqa: PLC0415  # optional
        from anyio.streams.tls import TLSAttribute  # noqa: PLC0415

        self._stream = stream
        self._end = anyio.EndOfStream
        self._ssl_object = TLSAttribute.ssl_object
        self.send_all = stream.send
        self.aclose = stream.aclose

    @property
    def ssl_object(self) -> Any:
        return self._stream.extra(self._ssl_object)  # noqa: S610  # not Django's

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            data: bytes = await self._stream.receive(max_bytes or 65536)
        except self._end:
            return b""
        return data
