"""What an ``ssl.SSLObject`` can be asked for once its handshake is done.

How this works. The names differ with the version of Python: what this one cannot tell is None, or empty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .interface import ConnectionInfo

if TYPE_CHECKING:
    import ssl

__all__ = ["SSLIntrospection", "chain", "facts_of"]

#: ``_ssl.ENCODING_DER``
DER = 2


def facts_of(ssl_object: ssl.SSLObject) -> ConnectionInfo:
    """What the handshake has agreed on."""
    cipher = ssl_object.cipher()
    return ConnectionInfo(
        version=ssl_object.version() or "",
        cipher_suite=cipher[0] if cipher else "",
        group=_told(ssl_object, "group"),
        signature_scheme=_told(ssl_object, "client_sigalg" if ssl_object.server_side else "server_sigalg"),
        alpn_protocol=ssl_object.selected_alpn_protocol(),
        server_name=ssl_object.server_hostname,
        session_reused=bool(ssl_object.session_reused),
        peer_chain=tuple(chain(ssl_object, "get_unverified_chain")),
        verified_chain=tuple(chain(ssl_object, "get_verified_chain")),
    )


def chain(ssl_object: ssl.SSLObject, name: str) -> list[bytes]:
    """A certificate chain, DER. ``SSLObject`` has the methods since Python 3.13, CPython's inner object since 3.10."""
    method = getattr(getattr(ssl_object, "_sslobj", None), name, None)
    # On a server that asks for a certificate, CPython answers [None] for a client that has none.
    return [each.public_bytes(DER) for each in (method() if method else None) or () if each is not None]


def _told(ssl_object: ssl.SSLObject, name: str) -> str | None:
    """An accessor that Python has since 3.15; None before."""
    accessor = getattr(ssl_object, name, None)
    return accessor() if accessor is not None else None


class SSLIntrospection:
    """``SSLObject`` as `trio_tls.machine.interface.Introspection`: it already is, but for the two chains."""

    def __init__(self, ssl_object: ssl.SSLObject) -> None:
        self._ssl_object = ssl_object

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ssl_object, name)

    def get_verified_chain(self) -> list[bytes]:
        return chain(self._ssl_object, "get_verified_chain")

    def get_unverified_chain(self) -> list[bytes]:
        return chain(self._ssl_object, "get_unverified_chain")
