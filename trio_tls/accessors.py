"""What code written for ``trio.SSLStream`` asks a stream for.

How this works. ``trio.SSLStream`` forwards these names to its ``SSLObject``. Here they are real methods with
types, answered by the machine, so they are the same over any machine; those that only an `ssl.SSLContext`
can answer say so.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import trio

from .machine.choosing import machine_behind
from .machine.openssl import OpenSSLMachine
from .machine.openssl_blocking import BlockingMachine

if TYPE_CHECKING:
    from .machine.interface import Introspection, Machine
    from .machine.tls13.sessions import Session
    from .pump import Pump

__all__ = ["Accessors"]


class Accessors:
    """The accessors of `TLSStream`."""

    _machine: Machine
    _pump: Pump

    # -- at any time -------------------------------------------------------------------------------------

    @property
    def _openssl(self) -> ssl.SSLObject:
        machine = machine_behind(self._machine)
        if isinstance(machine, OpenSSLMachine):
            return machine.ssl_object
        raise AttributeError("_ssl_object: this stream does not run on an ssl.SSLContext")

    @property
    def _ssl_object(self) -> ssl.SSLObject:
        return self._openssl  # a subclass may have something else here, and not below

    @property
    def context(self) -> ssl.SSLContext:
        """The `ssl.SSLContext`; may be replaced before the handshake, and by an SNI callback."""
        machine = machine_behind(self._machine)
        if isinstance(machine, BlockingMachine):
            return machine.context
        return self._openssl.context

    @context.setter
    def context(self, context: ssl.SSLContext) -> None:
        if context.check_hostname and not self.server_side and not self.server_hostname:
            raise ValueError("this SSLContext checks host names, and this stream was made without server_hostname")
        self._openssl.context = context

    @property
    def session(self) -> ssl.SSLSession | Session | None:
        """The session, to resume later; on an `ssl.SSLContext` it may be set before a client's handshake.

        A TLS 1.3 server sends its tickets after the handshake, so ask once some data was received.
        """
        return cast("ssl.SSLSession | Session | None", self._machine.session)

    @session.setter
    def session(self, session: ssl.SSLSession) -> None:
        self._openssl.session = session

    @property
    def server_side(self) -> bool:
        """Whether this is the server's end."""
        return self._machine.server_side

    @property
    def server_hostname(self) -> str | None:
        """The name of the server, as it is sent (IDNA A-labels); None on a server."""
        return self._machine.server_hostname

    def pending(self) -> int:
        """Plaintext bytes that are decrypted and wait for a receive."""
        return len(self._pump.stash) + self._machine.buffered

    # -- once the handshake is done ------------------------------------------------------------------------

    def _after_handshake(self, name: str) -> Introspection:
        if not self._machine.handshake_done:
            raise trio.NeedHandshakeError(f"call do_handshake() before calling {name!r}")
        return self._machine.introspection

    @property
    def session_reused(self) -> bool | None:
        """Whether the handshake resumed an earlier session."""
        return self._after_handshake("session_reused").session_reused

    @overload
    def getpeercert(self, binary_form: Literal[False] = False) -> dict[str, Any] | None: ...
    @overload
    def getpeercert(self, binary_form: Literal[True]) -> bytes | None: ...
    @overload
    def getpeercert(self, binary_form: bool) -> dict[str, Any] | bytes | None: ...

    def getpeercert(self, binary_form: bool = False) -> dict[str, Any] | bytes | None:
        """The peer's certificate, as `ssl.SSLSocket.getpeercert` gives it.

        An empty dict if it was not verified; ask for the binary form then.
        """
        return self._after_handshake("getpeercert").getpeercert(binary_form)

    def selected_alpn_protocol(self) -> str | None:
        """The agreed ALPN protocol, or None."""
        return self._after_handshake("selected_alpn_protocol").selected_alpn_protocol()

    def selected_npn_protocol(self) -> str | None:
        """None: NPN is history."""
        return self._after_handshake("selected_npn_protocol").selected_npn_protocol()

    def cipher(self) -> tuple[str, str, int] | None:
        """``(name, protocol, secret bits)`` of the cipher suite."""
        return self._after_handshake("cipher").cipher()

    def shared_ciphers(self) -> list[tuple[str, str, int]] | None:
        """On a server the suites that both ends know, None on a client."""
        return self._after_handshake("shared_ciphers").shared_ciphers()

    def compression(self) -> str | None:
        """None: TLS compression is history."""
        return self._after_handshake("compression").compression()

    def version(self) -> str | None:
        """``"TLSv1.3"`` or ``"TLSv1.2"``."""
        return self._after_handshake("version").version()

    def group(self) -> str | None:
        """The key exchange group; None where Python does not tell (`ssl` before 3.15)."""
        self._after_handshake("group")
        assert self._machine.info is not None  # it is there once the handshake is done
        return self._machine.info.group

    def get_channel_binding(self, cb_type: str = "tls-unique") -> bytes | None:
        """Channel binding data of the given type, as `ssl.SSLSocket.get_channel_binding`."""
        return self._after_handshake("get_channel_binding").get_channel_binding(cb_type)

    def get_verified_chain(self) -> list[bytes]:
        """The peer's chain as it was verified, with the trust anchor; DER, leaf first."""
        return self._after_handshake("get_verified_chain").get_verified_chain()

    def get_unverified_chain(self) -> list[bytes]:
        """The certificates that the peer presented; DER, leaf first."""
        return self._after_handshake("get_unverified_chain").get_unverified_chain()

    def export_keying_material(self, label: bytes | str, context: bytes = b"", length: int = 32) -> bytes:
        """A secret for the application, known to both ends of this connection alone (RFC 9846 section 7.5).

        Args:
          label: what it is for, such as ``"EXPORTER-my-protocol"``.
          context: what else it shall be bound to.
          length: bytes wanted.

        Raises:
          ValueError: this stream runs on an `ssl.SSLContext`, which cannot; an argument is out of range;
            or the connection is over.
        """
        self._after_handshake("export_keying_material")
        encoded = label.encode() if isinstance(label, str) else label
        return self._machine.export_keying_material(encoded, context, length)

    def verify_client_post_handshake(self) -> None:
        """On a TLS 1.3 server: ask the client for a certificate now; the request leaves with the next send.

        Raises:
          ssl.SSLError: this is no server, the version is older, or the client has not offered to be asked.
          ValueError: this stream does not run on an `ssl.SSLContext`.
        """
        self._after_handshake("verify_client_post_handshake").verify_client_post_handshake()
