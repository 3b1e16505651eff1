"""Python's own `ssl` module, on blocking sockets."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any

from trio_tls import NamedGroup

from ...support import HOST
from .peer import Setup
from .threads import Blocking, ThreadPeer

GROUPS = {NamedGroup.secp256r1: "prime256v1", NamedGroup.secp384r1: "secp384r1", NamedGroup.x25519: "X25519"}


class _Connection(Blocking):
    def __init__(self, wrapped: ssl.SSLSocket) -> None:
        self._socket = wrapped

    def handshake(self) -> None:
        self._socket.do_handshake()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self) -> bytes:
        return self._socket.recv(65536)

    def finish(self) -> None:
        # On a blocking socket, unwrap() would wait for the other end's close_notify.
        timeout = self._socket.gettimeout()
        self._socket.settimeout(0)
        try:
            self._socket.unwrap()
        except ssl.SSLWantReadError:
            pass
        self._socket.settimeout(timeout)

    def close(self) -> None:
        self._socket.close()

    def session(self) -> ssl.SSLSession | None:
        return self._socket.session


class PythonSSL(ThreadPeer):
    """The interpreter's OpenSSL."""

    name = "ssl"
    module = "ssl"

    def serve(self, setup: Setup) -> Callable[[socket.socket], Blocking]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _configure(context, setup)
        context.load_cert_chain(setup.files.pem(setup.key, strange=setup.strange))
        if setup.demands:
            context.verify_mode = ssl.CERT_REQUIRED

        def connection(sock: socket.socket) -> Blocking:
            return _Connection(_wrapped(context, sock, server_side=True))

        return connection

    def connect(self, setup: Setup) -> Callable[[socket.socket, Any], Blocking]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _configure(context, setup)
        if setup.certified:
            context.load_cert_chain(setup.files.pem(setup.key, strange=setup.strange))

        def connection(sock: socket.socket, session: Any) -> Blocking:
            return _Connection(_wrapped(context, sock, server_hostname=HOST, session=session))

        return connection


def _configure(context: ssl.SSLContext, setup: Setup) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(setup.files.authority(strange=setup.distrusts))
    if setup.alpn:
        context.set_alpn_protocols(list(setup.alpn))
    if setup.group is not None:
        context.set_ecdh_curve(GROUPS[setup.group])


def _wrapped(context: ssl.SSLContext, sock: socket.socket, **options: Any) -> ssl.SSLSocket:
    return context.wrap_socket(sock.dup(), do_handshake_on_connect=False, suppress_ragged_eofs=False, **options)
