"""pyOpenSSL, with the newer OpenSSL that comes with the cryptography package: ML-KEM and ML-DSA are in it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec

from trio_tls import NamedGroup

from ...support import HOST
from .peer import Setup
from .threads import Blocking, ThreadPeer

if TYPE_CHECKING:
    from OpenSSL import SSL


_CURVES = {NamedGroup.secp256r1: ec.SECP256R1, NamedGroup.secp384r1: ec.SECP384R1}


class _Connection(Blocking):
    def __init__(self, connection: SSL.Connection) -> None:
        self._connection = connection

    def handshake(self) -> None:
        self._connection.do_handshake()

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def receive(self) -> bytes:
        from OpenSSL import SSL

        try:
            return self._connection.recv(65536)
        except SSL.ZeroReturnError:
            return b""

    def finish(self) -> None:
        self._connection.shutdown()

    def session(self) -> Any:
        return self._connection.get_session()


class PyOpenSSL(ThreadPeer):
    """pyOpenSSL."""

    name = "pyopenssl"
    module = "OpenSSL.SSL"

    def serve(self, setup: Setup) -> Callable[[socket.socket], Blocking]:
        context = _context(setup)
        context.set_session_id(b"interop")
        _present(context, setup)

        def connection(sock: socket.socket) -> Blocking:
            return _Connection(_on(context, sock, server=True))

        return connection

    def connect(self, setup: Setup) -> Callable[[socket.socket, Any], Blocking]:
        context = _context(setup)
        if setup.certified:
            _present(context, setup)

        def connection(sock: socket.socket, session: Any) -> Blocking:
            made = _on(context, sock, server=False)
            made.set_tlsext_host_name(HOST.encode())
            if session is not None:
                made.set_session(session)
            return _Connection(made)

        return connection


def _context(setup: Setup) -> SSL.Context:
    from OpenSSL import SSL

    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.load_verify_locations(str(setup.files.authority(strange=setup.distrusts)))
    mode = SSL.VERIFY_PEER
    if setup.demands:
        mode |= SSL.VERIFY_FAIL_IF_NO_PEER_CERT
    context.set_verify(mode, None)
    if setup.group is not None:
        # It has no call for the groups but this one, from the time when there was one at most.
        context.set_tmp_ecdh(_CURVES[setup.group]())
    if setup.alpn:
        offered = [protocol.encode() for protocol in setup.alpn]
        context.set_alpn_protos(offered)
        context.set_alpn_select_callback(
            lambda _, theirs: next((each for each in offered if each in theirs), SSL.NO_OVERLAPPING_PROTOCOLS)
        )
    return context


def _present(context: SSL.Context, setup: Setup) -> None:
    pem = str(setup.files.pem(setup.key, strange=setup.strange))
    context.use_certificate_chain_file(pem)
    context.use_privatekey_file(pem)


def _on(context: SSL.Context, sock: socket.socket, *, server: bool) -> SSL.Connection:
    from OpenSSL import SSL

    sock.settimeout(None)  # pyOpenSSL blocks on a blocking socket alone
    connection = SSL.Connection(context, sock)
    if server:
        connection.set_accept_state()
    else:
        connection.set_connect_state()
    return connection
