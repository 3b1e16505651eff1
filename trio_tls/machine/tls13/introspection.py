"""The accessors that ``trio.SSLStream`` forwards, answered from a TLS 1.3 handshake.

How this works. Code that was written for `ssl` asks for things by the names and in the shapes of `ssl.SSLObject`.
What TLS 1.3 has, it is told as OpenSSL tells it; what TLS 1.3 has no more (compression, NPN), is None, as it is with
OpenSSL. `ConnectionInfo` says the same in today's terms, and more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .certificate_dict import certificate_dict
from .suites import CipherSuite

__all__ = ["TLS13Introspection"]

VERSION = "TLSv1.3"


class TLS13Introspection:
    """What a finished handshake can be asked for: `trio_tls.machine.interface.Introspection`.

    Args:
      server_side: whether this is the server's end.
      suite: the cipher suite.
      alpn_protocol: the agreed ALPN protocol, or None.
      peer_chain: the certificates that the peer presented, DER, leaf first; empty if none. Of a resumed session those
        of the full handshake that it goes back to.
      verified_chain: as it was verified, DER, from the leaf to the trust anchor; empty if the application decided by
        itself. None: nobody has verified the peer.
      session_reused: whether an earlier session was resumed.
      shared_suites: on a server the suites that both ends know, in its order; not looked at on a client.
      channel_binding: the channel binding of a type; see `channel_binding.channel_binding`.
    """

    __slots__ = (
        "_alpn_protocol",
        "_channel_binding",
        "_peer_chain",
        "_server_side",
        "_session_reused",
        "_shared_suites",
        "_suite",
        "_verified_chain",
    )

    def __init__(
        self,
        *,
        server_side: bool,
        suite: CipherSuite,
        alpn_protocol: bytes | None,
        peer_chain: tuple[bytes, ...],
        verified_chain: tuple[bytes, ...] | None,
        session_reused: bool,
        shared_suites: tuple[CipherSuite, ...],
        channel_binding: Callable[[str], bytes | None],
    ) -> None:
        self._server_side = server_side
        self._suite = suite
        self._alpn_protocol = alpn_protocol
        self._peer_chain = peer_chain
        self._verified_chain = verified_chain
        self._session_reused = session_reused
        self._shared_suites = shared_suites
        self._channel_binding = channel_binding

    @property
    def session_reused(self) -> bool:
        """Whether the handshake resumed an earlier session."""
        return self._session_reused

    def getpeercert(self, binary_form: bool = False) -> dict[str, Any] | bytes | None:
        """The peer's certificate: a dict, empty if it was not verified, or DER; None if it presented none."""
        if not self._peer_chain:
            return None
        if binary_form:
            return self._peer_chain[0]
        return {} if self._verified_chain is None else certificate_dict(self._peer_chain[0])

    def selected_alpn_protocol(self) -> str | None:
        """The agreed ALPN protocol."""
        return None if self._alpn_protocol is None else self._alpn_protocol.decode(errors="replace")

    def selected_npn_protocol(self) -> str | None:
        """None: NPN came before ALPN."""
        return None

    def cipher(self) -> tuple[str, str, int]:
        """``(name, protocol, secret bits)`` of the cipher suite."""
        return _told(self._suite)

    def shared_ciphers(self) -> list[tuple[str, str, int]] | None:
        """On a server the suites that both ends know; None on a client."""
        return [_told(suite) for suite in self._shared_suites] if self._server_side else None

    def compression(self) -> str | None:
        """None: TLS 1.3 does not compress."""
        return None

    def version(self) -> str:
        """``"TLSv1.3"``."""
        return VERSION

    def get_channel_binding(self, cb_type: str = "tls-unique") -> bytes | None:
        """A channel binding: ``"tls-exporter"`` or ``"tls-server-end-point"``.

        ``"tls-unique"`` is not defined for TLS 1.3: None, where `ssl` gives a value that no standard knows.

        Raises:
          ValueError: there is no such type.
        """
        return self._channel_binding(cb_type)

    def get_verified_chain(self) -> list[bytes]:
        """The peer's chain as it was verified, DER, leaf first; empty if it was not."""
        return list(self._verified_chain or ())

    def get_unverified_chain(self) -> list[bytes]:
        """The certificates that the peer presented, DER, leaf first."""
        return list(self._peer_chain)

    def verify_client_post_handshake(self) -> None:
        """Post-handshake authentication is not in this version.

        Raises:
          ValueError: always.
        """
        raise ValueError(
            "this TLS machine does not ask for a client certificate after the handshake: ask for it in the handshake, "
            "or give the stream an ssl.SSLContext"
        )

    def __repr__(self) -> str:
        return f"<TLS13Introspection, {self._suite.name}>"


def _told(suite: CipherSuite) -> tuple[str, str, int]:
    return suite.name, VERSION, suite.secret_bits
