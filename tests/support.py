"""What the tests share: certificates, machines, transports of every tier, and a pair of streams on them.

A test that takes the ``machines`` fixture runs once for each entry of `MACHINES`: every behaviour is shown on
every machine and version. It also runs where one end is ours and the other is `ssl`'s (`CROSSED`), in the slow suite,
or at once if it is marked ``across``. A test about `ssl` alone is marked ``ssl_alone``, with the reason.

Variants of a configuration are in `tests.peers`. `tls_pair` makes the two ends of one connection on a transport of a
given tier.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import trio
import trio.testing
import trustme

from trio_tls import ClientConfig, Credential, PrivatePolicy, ServerConfig, Session, TLSStream, TrustAnchors, Verifier

HOST = "server.example.org"


@cache
def authority() -> trustme.CA:
    """The CA that every test trusts."""
    return trustme.CA()


@cache
def server_certificate() -> trustme.LeafCert:
    return authority().issue_cert(HOST, "127.0.0.1", "localhost")


@cache
def client_certificate() -> trustme.LeafCert:
    return authority().issue_cert("client@example.org")


def server_context(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A fresh server context, fixed to ``version`` if one is given."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_certificate().configure_cert(context)
    return _fixed(context, version)


def client_context(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A fresh client context that trusts the test CA."""
    context = ssl.create_default_context()
    authority().configure_trust(context)
    return _fixed(context, version)


def _fixed(context: ssl.SSLContext, version: ssl.TLSVersion | None) -> ssl.SSLContext:
    if version is not None:
        context.minimum_version = context.maximum_version = version
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    return context


@dataclass(frozen=True)
class Machines:
    """How the two ends of a test's connection are configured."""

    name: str
    client: Any
    server: Any
    version: str

    def is_own(self, role: str) -> bool:
        """Whether the ``"client"`` or the ``"server"`` is our own machine."""
        return isinstance(self.client if role == "client" else self.server, ClientConfig | ServerConfig)


@cache
def verifier() -> Verifier:
    """Believes the test CA."""
    return Verifier(TrustAnchors.from_pem(authority().cert_pem.bytes()), PrivatePolicy())


def credential_of(certificate: trustme.LeafCert) -> Credential:
    """The same certificate, for our own machine."""
    return Credential.from_pem(certificate.private_key_and_cert_chain_pem.bytes())


class ForgetfulCache:
    """Takes sessions and has none, so that a handshake is a full one unless its test passes a session."""

    def put(self, key: bytes, session: Session) -> None:
        pass

    def take(self, key: bytes) -> None:
        return None


def client_config() -> ClientConfig:
    """A client on our own machine that trusts the test CA. As with `ssl`, it resumes only the session it is given."""
    return ClientConfig(verify=verifier(), session_cache=ForgetfulCache())


def server_config() -> ServerConfig:
    """A server on our own machine."""
    return ServerConfig(credentials=credential_of(server_certificate()))


#: Both ends are `ssl`'s.
SSL_MACHINES = ("ssl-1.3", "ssl-1.2")

#: Both ends are of one kind.
MACHINES: tuple[str, ...] = (*SSL_MACHINES, "own")

#: Our client to their server, and their client to our server.
CROSSED = ("own-client", "own-server")


@cache
def machines_named(name: str) -> Machines:
    """The entry of `MACHINES` or `CROSSED` with this name. All who ask share the configurations: never change one."""
    client: Any
    server: Any
    version = ssl.TLSVersion.TLSv1_2 if name == "ssl-1.2" else ssl.TLSVersion.TLSv1_3
    client = client_config() if name in {"own", "own-client"} else client_context(version)
    server = server_config() if name in {"own", "own-server"} else server_context(version)
    return Machines(name, client, server, "TLSv1.2" if name == "ssl-1.2" else "TLSv1.3")


class ForeignStream(trio.abc.Stream):
    """A stream that the library knows nothing of: it hides what it wraps."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.wrapped = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.wrapped.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.wrapped.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.wrapped.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.wrapped.aclose()


def socket_pair(*, buffer: int | None = None) -> tuple[trio.SocketStream, trio.SocketStream]:
    """Two connected sockets (AF_UNIX), with send and receive buffers as small as the kernel allows if asked."""
    pair = socket.socketpair()
    if buffer is not None:
        for end in pair:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    a, b = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in pair)
    return a, b


async def tcp_pair(*, buffer: int | None = None) -> tuple[trio.SocketStream, trio.SocketStream]:
    """Two ends of a TCP connection over loopback: (client, server)."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    if buffer is not None:
        listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    async with listener:
        sock = trio.socket.socket()
        if buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        await sock.connect(listener.socket.getsockname())
        server = await listener.accept()
        if buffer is not None:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        return trio.SocketStream(sock), server


#: Transport tiers, by the numbers of `trio_tls.transport`. Tier 4 is 5 inside ``async with``.
TIERS = ("1-socket", "2-nested", "3-stapled", "4-memory", "4-lockstep", "4-foreign", "5-memory")


@asynccontextmanager
async def transport_pair(
    tier: str, machines: Machines, *, buffer: int | None = None
) -> AsyncIterator[tuple[trio.abc.Stream, trio.abc.Stream]]:
    """Two connected transports of one tier: (client's, server's)."""
    kind = tier.partition("-")[2]
    if kind == "socket":
        client, server = socket_pair(buffer=buffer)
        yield client, server
    elif kind == "nested":
        outer = socket_pair(buffer=buffer)
        yield (
            TLSStream(outer[0], machines.client, server_hostname=HOST),
            TLSStream(outer[1], machines.server, server_side=True),
        )
    elif kind == "stapled":
        there, back = socket_pair(buffer=buffer), socket_pair(buffer=buffer)
        yield trio.StapledStream(there[0], back[1]), trio.StapledStream(back[0], there[1])
    elif kind == "memory":
        yield trio.testing.memory_stream_pair()
    elif kind == "lockstep":
        yield trio.testing.lockstep_stream_pair()
    elif kind == "foreign":
        client, server = socket_pair(buffer=buffer)
        yield ForeignStream(client), ForeignStream(server)
    else:
        raise ValueError(f"no such transport: {tier}")


@asynccontextmanager
async def tls_pair(
    machines: Machines,
    tier: str = "1-socket",
    *,
    buffer: int | None = None,
    handshake: bool = True,
    wrap: Callable[[trio.abc.Stream], trio.abc.Stream] | None = None,
    client_options: dict[str, Any] | None = None,
    server_options: dict[str, Any] | None = None,
) -> AsyncIterator[tuple[TLSStream[Any], TLSStream[Any]]]:
    """Both ends of one connection: (client, server). Tier 4 is entered; the others are closed at the end.

    Args:
      handshake: do it first.
      wrap: put something (chaos) around the client's and the server's transport.
    """
    async with transport_pair(tier, machines, buffer=buffer) as transports, AsyncExitStack() as stack:
        ends = [wrap(end) if wrap else end for end in transports]
        client = TLSStream(ends[0], machines.client, server_hostname=HOST, **(client_options or {}))
        server = TLSStream(ends[1], machines.server, server_side=True, **(server_options or {}))
        for end in (client, server):
            if tier.startswith("4"):
                await stack.enter_async_context(end)
            else:
                stack.push_async_callback(trio.aclose_forcefully, end)
        if handshake:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.do_handshake)
                nursery.start_soon(server.do_handshake)
        yield client, server


async def receive_exactly(stream: trio.abc.ReceiveStream, count: int) -> bytes:
    """``count`` bytes, or fewer if the stream ends."""
    received = bytearray()
    while len(received) < count:
        part = await stream.receive_some(count - len(received))
        if not part:
            break
        received += part
    return bytes(received)


async def exchange(client: trio.abc.Stream, server: trio.abc.Stream, there: bytes, back: bytes) -> tuple[bytes, bytes]:
    """Send both ways at once; what the server and what the client have received."""
    got: dict[str, bytes] = {}

    async def receive(name: str, end: trio.abc.ReceiveStream, count: int) -> None:
        got[name] = await receive_exactly(end, count)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, there)
        nursery.start_soon(server.send_all, back)
        nursery.start_soon(receive, "server", server, len(there))
        nursery.start_soon(receive, "client", client, len(back))
    return got["server"], got["client"]


def pattern(count: int, seed: int = 0) -> bytes:
    """``count`` bytes in which a lost, doubled or moved byte shows."""
    unit = b"".join((index + seed).to_bytes(4, "big") for index in range(count // 4 + 1))
    return unit[:count]
