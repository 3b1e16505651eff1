"""The TLS extension of ASGI: what an application may know of its client's connection.

How this works. `tls_extension` makes the dictionary that the specification describes, of any server's `TLSStream`. A
server that has the stream puts it into the connection's scope. For one that does not, `TLSExtension` wraps the
application, and finds the stream by `~trio_tls.compat.current_stream`: so hypercorn's applications, those of quart-trio
included, get to see client certificates.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias, TypedDict

from cryptography import x509

from .compat import current_stream
from .machine.tls13.registry import CipherSuiteNumber
from .stream import TLSStream

__all__ = ["ASGIApp", "TLSExtension", "TLSFacts", "tls_extension"]

Scope: TypeAlias = "MutableMapping[str, Any]"
Message: TypeAlias = "MutableMapping[str, Any]"
Receive: TypeAlias = "Callable[[], Awaitable[Any]]"
Send: TypeAlias = "Callable[[Any], Awaitable[None]]"

#: An application, as ASGI 3 has it.
ASGIApp: TypeAlias = "Callable[[Any, Receive, Send], Awaitable[None]]"

VERSIONS = {"TLSv1.3": 0x0304, "TLSv1.2": 0x0303}


class TLSFacts(TypedDict):
    """``scope["extensions"]["tls"]``, by version 0.2 of the ASGI TLS extension.

    Attributes:
      server_cert: our certificate, PEM; None behind an `ssl.SSLContext`, which does not tell.
      client_cert_chain: what the client presented, PEM, its own certificate first; behind an `ssl.SSLContext` of Python
        before 3.13 that one alone; empty if it presented none.
      client_cert_name: the subject of the client's certificate, by RFC 4514; None if there is no certificate.
      client_cert_error: None. A client whose certificate is refused does not get as far as the application.
      tls_version: 0x0304 or 0x0303.
      cipher_suite: the number of the registry, such as 0x1302; None for one that nobody here knows.
    """

    server_cert: str | None
    client_cert_chain: list[str]
    client_cert_name: str | None
    client_cert_error: str | None
    tls_version: int | None
    cipher_suite: int | None


def tls_extension(stream: TLSStream[Any]) -> TLSFacts:
    """What the ASGI TLS extension says of a connection, for the scope's ``extensions["tls"]``.

    Args:
      stream: a server's stream, its handshake done.

    Raises:
      NeedHandshakeError: the handshake is not done.
      ValueError: a client's stream.
    """
    if not stream.server_side:
        raise ValueError("the ASGI TLS extension is about a server's stream, and this one is a client's")
    suite = stream.cipher()  # raises NeedHandshakeError
    info = stream.info
    assert info is not None  # the handshake is done
    chain = info.peer_chain
    if not chain and (certificate := stream.getpeercert(binary_form=True)) is not None:
        chain = (certificate,)
    return {
        "server_cert": ssl.DER_cert_to_PEM_cert(info.local_chain[0]) if info.local_chain else None,
        "client_cert_chain": [ssl.DER_cert_to_PEM_cert(der) for der in chain],
        "client_cert_name": _subject(chain[0]) if chain else None,
        "client_cert_error": None,
        "tls_version": VERSIONS.get(info.version),
        "cipher_suite": None if suite is None else _suite_number(suite[0], stream),
    }


class TLSExtension:
    """An ASGI application that gives another one the TLS extension, on connections that are TLS.

    ::

        with trio_tls.compat.installed():
            await hypercorn.trio.serve(TLSExtension(app), config)

    Args:
      app: the application, which finds the facts in ``scope["extensions"]["tls"]`` (see `TLSFacts`). A server that
        provides the extension by itself is left alone.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Run the application."""
        stream = current_stream()
        if stream is not None and scope["type"] in ("http", "websocket"):
            extensions = scope.get("extensions") or {}
            scope = {**scope, "extensions": {"tls": tls_extension(stream), **extensions}}
        await self._app(scope, receive, send)


def _subject(der: bytes) -> str:
    try:
        return x509.load_der_x509_certificate(der).subject.rfc4514_string()
    except (ValueError, TypeError, x509.InvalidVersion):  # not verified: the configuration accepts whatever comes
        return ""


#: OpenSSL has names of its own for the suites of TLS 1.2; the numbers are filled in when one is first met.
_openssl_numbers: dict[str, int] = {}


def _suite_number(name: str, stream: TLSStream[Any]) -> int | None:
    if name in CipherSuiteNumber.__members__:
        return CipherSuiteNumber[name]
    if name not in _openssl_numbers:
        _openssl_numbers.update((suite["name"], suite["id"] & 0xFFFF) for suite in stream.context.get_ciphers())
    return _openssl_numbers.get(name)
