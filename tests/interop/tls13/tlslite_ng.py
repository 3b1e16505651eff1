"""tlslite-ng, TLS in pure Python; slow where it does AES or ECDSA in Python as well."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...support import HOST
from .peer import Setup
from .threads import Blocking, ThreadPeer

if TYPE_CHECKING:
    from tlslite import HandshakeSettings, TLSConnection  # type: ignore[import-untyped]


class _Connection(Blocking):
    """A connection, and the call that does its handshake."""

    def __init__(self, connection: TLSConnection, handshake: Callable[[TLSConnection], None]) -> None:
        self._connection = connection
        self._handshake = handshake

    def handshake(self) -> None:
        self._handshake(self._connection)

    def send(self, data: bytes) -> None:
        self._connection.write(data)

    def receive(self) -> bytes:
        return bytes(self._connection.read(max=65536, min=1))

    def finish(self) -> None:
        self._connection.close()

    def update_keys(self, *, request: bool) -> None:
        for _ in self._connection.send_keyupdate_request(int(request)):
            pass

    def session(self) -> Any:
        return self._connection.session


class Tlslite(ThreadPeer):
    """tlslite-ng."""

    name = "tlslite-ng"
    module = "tlslite"
    sends_after_our_end = receives_after_its_end = frozenset()
    takes_late_tickets = False

    def serve(self, setup: Setup) -> Callable[[socket.socket], Blocking]:
        chain, key = _credential(setup)
        settings = _settings(setup)
        settings.ticketKeys = [bytearray(32)]
        alpn = [bytearray(each.encode()) for each in setup.alpn] or None

        def handshake(connection: TLSConnection) -> None:
            connection.handshakeServer(
                certChain=chain, privateKey=key, reqCert=setup.demands, settings=settings, alpn=alpn
            )

        def made(sock: socket.socket) -> Blocking:
            return _connection(sock, handshake)

        return made

    def connect(self, setup: Setup) -> Callable[[socket.socket, Any], Blocking]:
        chain, key = _credential(setup) if setup.certified else (None, None)
        settings = _settings(setup)
        alpn = [bytearray(each.encode()) for each in setup.alpn] or None

        def made(sock: socket.socket, session: Any) -> Blocking:
            def handshake(connection: TLSConnection) -> None:
                connection.handshakeClientCert(
                    certChain=chain, privateKey=key, session=session, settings=settings, serverName=HOST, alpn=alpn
                )

            return _connection(sock, handshake)

        return made


def _connection(sock: socket.socket, handshake: Callable[[TLSConnection], None]) -> Blocking:
    from tlslite import TLSConnection

    connection = TLSConnection(sock)
    connection.closeSocket = False
    return _Connection(connection, handshake)


def _settings(setup: Setup) -> HandshakeSettings:
    from tlslite import HandshakeSettings

    settings = HandshakeSettings()
    settings.minVersion = (3, 4)
    # As a client it would compress its certificate, because its own hello offered that, whatever the server said.
    settings.certificate_compression_send = []
    if setup.group is not None:
        settings.eccCurves = [setup.group.name]
        settings.keyShares = [setup.group.name]
        settings.dhGroups = []
    return settings


def _credential(setup: Setup) -> tuple[Any, Any]:
    from tlslite import X509CertChain, parsePEMKey

    pem = setup.files.pem(setup.key, strange=setup.strange).read_text()
    chain = X509CertChain()
    chain.parsePemList(pem)
    return chain, parsePEMKey(pem, private=True)
