"""What ``trio-tls serve --www`` sees of a visitor: the ClientHello, the handshake, and what was agreed.

How this works. A `VisitListener` makes a `VisitStream` of each connection. Its configuration is a `ConfigByHello` that
chooses nothing by itself, but keeps the ClientHello that it is shown; so whatever the machine is, the offers are known.
On our own machine a connection has a `Trace` of its own beside. `VisitStream.visit` is all of it together.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from ..by_hello import ConfigByHello, ConfigsByName
from ..config import ServerConfig
from ..listener import TLSListener
from ..machine.client_hello import ClientHelloInfo
from ..machine.tls13.signatures import schemes_of_certificate
from ..stream import TLSStream
from .address import peer_address
from .facts import ConnectionFacts
from .printable import printable
from .registered import extension_name, group_name, scheme_name, suite_name, version_name
from .trace import Connection, Trace

if TYPE_CHECKING:
    from ..machine.interface import MachineFactory, NeedServerConfig

__all__ = ["Visit", "VisitListener", "VisitStream"]


@dataclass(frozen=True, slots=True)
class Visit:
    """One connection, as its server has seen it.

    Attributes:
      peer: the visitor's address.
      facts: what was agreed.
      suite: the cipher suite, as the registry names it (OpenSSL has names of its own for those of TLS 1.2).
      hello: what the client has offered.
      signature: what we have signed with; None where a resumed session needed none, or OpenSSL does not tell.
      ladder: the messages; None where OpenSSL does not tell.
    """

    peer: str
    facts: ConnectionFacts
    suite: str
    hello: ClientHelloInfo
    signature: str | None
    ladder: Connection | None

    def as_json(self) -> dict[str, object]:
        """All of it, for programs."""
        hello = self.hello
        return {
            "peer": self.peer,
            **self.facts.as_json(),
            "cipher_suite": self.suite,
            "server_name": hello.server_name,
            "server_signature_scheme": self.signature,
            "offered": {
                "versions": [version_name(each) for each in hello.versions],
                "cipher_suites": [suite_name(each) for each in hello.cipher_suites],
                "extensions": [{"number": each, "name": extension_name(each)} for each in hello.extension_types],
                "groups": [group_name(each) for each in hello.groups],
                "signature_schemes": [scheme_name(each) for each in hello.signature_schemes],
                "alpn_protocols": [printable(each.decode(errors="backslashreplace")) for each in hello.alpn_protocols],
            },
            "messages": None if self.ladder is None else [rung.as_json() for rung in self.ladder.rungs],
        }


class VisitStream(TLSStream[trio.SocketStream]):
    """A server's stream that remembers how its connection came about.

    Args:
      transport_stream: the connection.
      config: the server's configuration.
    """

    def __init__(self, transport_stream: trio.SocketStream, config: ssl.SSLContext | MachineFactory) -> None:
        self._peer = peer_address(transport_stream)
        self._hello: ClientHelloInfo | None = None
        self._trace: Trace | None = None
        if isinstance(config, ServerConfig):
            self._trace = Trace(server_side=True)
            self._trace.begin(self._peer)
            config = config.replace(tracer=self._trace)  # the ticket keys stay: sessions are resumed all the same
        self._config = config
        # HTTP tells by itself whether a request is whole, and browsers often leave without close_notify.
        super().__init__(transport_stream, ConfigByHello(self._see), server_side=True, require_close_notify=False)

    def _see(self, need: NeedServerConfig) -> ssl.SSLContext | MachineFactory | None:
        self._hello = need.hello
        if isinstance(self._config, ConfigsByName):
            chosen = self._config.choose(need)
            if chosen is None:
                return None
            self._config = chosen
        return self._config

    async def visit(self, facts: ConnectionFacts) -> Visit:
        """What there is to tell, once the handshake is done. The session tickets leave first, so they are in it.

        Args:
          facts: what was agreed.

        Raises:
          TLSError: the connection has failed.
        """
        await self.flush()
        hello = self._hello
        assert hello is not None  # the handshake is done
        return Visit(
            peer=self._peer,
            facts=facts,
            suite=self._suite(facts.cipher_suite),
            hello=hello,
            signature=None if facts.session_reused else self._signature(hello),
            ladder=None if self._trace is None else self._trace.connections[0],
        )

    def _suite(self, name: str) -> str:
        known = self._config.get_ciphers() if isinstance(self._config, ssl.SSLContext) else ()
        return next((suite_name(each["id"] & 0xFFFF) for each in known if each["name"] == name), name)

    def _signature(self, hello: ClientHelloInfo) -> str | None:
        """What our certificate's key has signed with: its favourite of those that both ends accept."""
        assert self.info is not None  # the handshake is done
        if not isinstance(self._config, ServerConfig):
            return None
        possible = schemes_of_certificate(self.info.local_certificates[0])
        both = set(hello.signature_schemes) & set(self._config.signature_schemes)
        return next((scheme_name(scheme) for scheme in possible if scheme in both), None)


class VisitListener(TLSListener[trio.SocketStream]):
    """As `TLSListener`; its connections are `VisitStream` objects."""

    async def accept(self) -> VisitStream:
        """As `TLSListener.accept`."""
        transport_stream = await self.transport_listener.accept()
        try:
            return VisitStream(transport_stream, self.config)
        except BaseException:
            await trio.aclose_forcefully(transport_stream)
            raise
