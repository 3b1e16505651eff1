"""What a peer is: another implementation of TLS 1.3, as a server that we connect to and as a client that we serve.

How this works. A `Peer` starts its server or its client as a `Setup` says. What it then is on one connection is an
`End`, which is asked to do things (change its key, end) and asked what it saw (our end, our alert). How is the affair
of each peer: one writes to the terminal, another is typed at, another runs in a thread of ours. Whatever can be chosen
by either side is chosen by us, in our config: a peer is told as little as possible.
"""

from __future__ import annotations

import abc
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import trio

from trio_tls import Alert, ClientConfig, NamedGroup, ServerConfig, TLSStream

from ...blocking import concurrently
from ...support import HOST, receive_exactly, verifier
from ..processes import PATIENCE, Process
from .identities import Files, credential

__all__ = [
    "End",
    "Listening",
    "Peer",
    "Setup",
    "TerminalEnd",
    "Trace",
    "client_config",
    "config_for",
    "connected",
    "free_port",
    "server_config",
]


@dataclass(frozen=True)
class Setup:
    """What a peer is told.

    Attributes:
      files: where its files are.
      key: the kind of key of its certificate; see `KEY_OF`.
      strange: whether its certificate is of an authority that we do not trust.
      certified: on a client, whether it has a certificate to show.
      distrusts: whether it trusts another authority than ours.
      demands: on a server, whether it requires a certificate of its client.
      group: the one group that it has, or None: all of them.
      alpn: the protocols that it offers, or chooses from.
      closes: whether it will be told to end the connection, which some have to know in advance.
    """

    files: Files
    key: str = "P-256"
    strange: bool = False
    certified: bool = False
    distrusts: bool = False
    demands: bool = False
    group: NamedGroup | None = None
    alpn: tuple[str, ...] = ()
    closes: bool = False


class End(abc.ABC):
    """A peer's end of one connection."""

    @abc.abstractmethod
    async def exchange(self, ours: TLSStream[Any], data: bytes) -> None:
        """Send ``data`` from our end to this one and back, and compare every byte."""

    async def update_keys(self, ours: TLSStream[Any], *, request: bool) -> None:
        """Send a KeyUpdate, and ask for ours in return if ``request``."""
        raise NotImplementedError

    async def finish(self, ours: TLSStream[Any]) -> None:
        """End the peer's direction with close_notify; data may come before it."""
        raise NotImplementedError

    async def receive_after_finish(self, data: bytes) -> None:
        """What the peer reads after its own close_notify is ``data``."""
        raise NotImplementedError

    @abc.abstractmethod
    async def saw_end(self) -> None:
        """Wait until the peer has seen our close_notify, and took it for an orderly end."""

    async def send_after_end(self, data: bytes) -> None:
        """Send, after `saw_end`."""
        raise NotImplementedError

    @abc.abstractmethod
    async def saw_alert(self, alert: Alert) -> None:
        """Wait until the peer has seen this alert of ours."""


class TerminalEnd(End):
    """A program whose stdin is sent, and whose stdout is what it received.

    Args:
      process: the program.
      alerts: how it calls the alerts.
      end: what it shows at an orderly end; empty: nothing, and its answer alone tells.
      trouble: what it shows at any other end.
    """

    def __init__(self, process: Process, alerts: Mapping[Alert, str], *, end: str, trouble: str) -> None:
        self.process = process
        self._alerts = alerts
        self._end = end
        self._trouble = trouble

    async def exchange(self, ours: TLSStream[Any], data: bytes) -> None:
        async def received() -> None:
            assert await receive_exactly(ours, len(data)) == data

        await concurrently(partial(self.process.write, data), received)
        await concurrently(partial(ours.send_all, data), partial(self.process.shows, data))

    async def saw_end(self) -> None:
        output = await self.process.shows(self._end)
        assert self._trouble.encode() not in output

    async def send_after_end(self, data: bytes) -> None:
        await self.process.write(data)

    async def receive_after_finish(self, data: bytes) -> None:
        await self.process.shows(data)

    async def saw_alert(self, alert: Alert) -> None:
        await self.process.shows(self._alerts[alert])


class Listening(abc.ABC):
    """A peer's server."""

    port: int

    @abc.abstractmethod
    def connection(self) -> AbstractAsyncContextManager[tuple[trio.SocketStream, End]]:
        """Connect to it: our transport, and its end of the connection."""


class Peer(abc.ABC):
    """Another implementation.

    Attributes:
      name: of the command or the package.
      rejects_with: the alert that it sends in each role if it does not trust our certificate.
      misses_with: the alert that its server sends if a client presents no certificate.
      sends_after_our_end: the roles in which it goes on sending when we have ended.
      receives_after_its_end: the roles in which it goes on receiving when it has ended.
      cuts_after_our_end: the roles in which it answers our end by closing the socket, without close_notify.
      talks_once: the roles in which one exchange ends the connection.
      takes_late_tickets: whether a session ticket may come when its own end has come first.
      protocols: the ALPN protocols that it can be told.
    """

    name: str
    rejects_with: Mapping[str, Alert] = MappingProxyType({"server": Alert.unknown_ca, "client": Alert.unknown_ca})
    misses_with = Alert.certificate_required
    sends_after_our_end: frozenset[str] = frozenset()
    receives_after_its_end: frozenset[str] = frozenset()
    cuts_after_our_end: frozenset[str] = frozenset()
    talks_once: frozenset[str] = frozenset()
    takes_late_tickets = True
    protocols: tuple[str, ...] = ("unknown/1", "spoken/2")

    @abc.abstractmethod
    def require(self) -> None:
        """Skip the test, or fail it in continuous integration, if this peer is not installed."""

    @abc.abstractmethod
    def server(self, setup: Setup) -> AbstractAsyncContextManager[Listening]:
        """Run a server."""

    @abc.abstractmethod
    def client(self, setup: Setup, port: int) -> AbstractAsyncContextManager[End]:
        """Run a client that connects to our ``port``."""

    @abc.abstractmethod
    async def visit_twice(self, setup: Setup, port: int) -> None:
        """Connect to our ``port``, read a line, close; and once more, resuming the session of the first time."""


class Trace:
    """Counts the handshake messages; a `trio_tls.Tracer`."""

    def __init__(self) -> None:
        self._messages: list[tuple[str, bool]] = []

    def count(self, name: str, *, sent: bool | None = None) -> int:
        """How many messages of this name there were, sent, received or both."""
        return sum(each == name and sent in {None, ours} for each, ours in self._messages)

    def message(self, *, sent: bool, name: str, size: int, epoch: str) -> None:
        self._messages.append((name, sent))

    def key_change(self, *, sent: bool, epoch: str) -> None: ...

    def alert(self, *, sent: bool, name: str) -> None: ...

    def want(self, name: str) -> None: ...


def client_config(**changes: Any) -> ClientConfig:
    """Ours: it trusts the test CA."""
    return ClientConfig(**{"verify": verifier(), **changes})


def server_config(**changes: Any) -> ServerConfig:
    """Ours: it presents a certificate of the test CA with an ECDSA key."""
    return ServerConfig(**{"credentials": credential("P-256"), **changes})


def config_for(role: str, **changes: Any) -> ClientConfig | ServerConfig:
    """Ours, where the peer has this role."""
    return client_config(**changes) if role == "server" else server_config(**changes)


@asynccontextmanager
async def connected(
    peer: Peer, role: str, setup: Setup, config: ClientConfig | ServerConfig | None = None
) -> AsyncIterator[tuple[TLSStream[Any], End]]:
    """Our end and the peer's of one connection, before the handshake.

    Args:
      peer: the other implementation.
      role: of the peer: ``"server"`` or ``"client"``.
      setup: what it is told.
      config: ours, of the other role.
    """
    peer.require()
    with trio.fail_after(PATIENCE):
        async with _connected(peer, role, setup, config) as ends:
            yield ends


@asynccontextmanager
async def _connected(
    peer: Peer, role: str, setup: Setup, config: ClientConfig | ServerConfig | None
) -> AsyncIterator[tuple[TLSStream[Any], End]]:
    if role == "server":
        async with peer.server(setup) as listening, listening.connection() as (transport, theirs):
            async with TLSStream(transport, config or client_config(), server_hostname=HOST) as ours:
                yield ours, theirs
        return
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, peer.client(setup, listener.socket.getsockname()[1]) as theirs:
        async with TLSStream(await listener.accept(), config or server_config(), server_side=True) as ours:
            yield ours, theirs


def free_port() -> int:
    """A port for a server that cannot be told to choose one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
