"""Every exception of the library.

How this works. ``TLSError`` is the root. It is a ``trio.BrokenResourceError``, so code written for Trio's
streams keeps working, and it always has a text: what happened, then a hint at what to do. Misuse by the
caller is never a ``TLSError``: that is ``ValueError``, ``TypeError``, ``NeedHandshakeError``,
``trio.BusyResourceError`` or ``trio.ClosedResourceError``.

A failed connection stays failed, and every task that uses it must be told. Raising one exception object
in several tasks would tangle their tracebacks, so whoever keeps an error raises ``error.again()``: the
same facts, the same cause, a new object.
"""

from __future__ import annotations

import copy
import ssl
from typing import TYPE_CHECKING

import trio
from trio import NeedHandshakeError

from .alerts import Alert

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "AlertReceived",
    "CertificateVerificationError",
    "HandshakeClosed",
    "NeedHandshakeError",
    "NoSharedParameters",
    "PeerMisbehaved",
    "ServerFull",
    "TLSError",
    "TransportError",
    "UnexpectedEOF",
    "UnreadDataError",
]


class TLSError(trio.BrokenResourceError):
    """The connection failed. ``str(error)`` says what happened and what to do about it.

    Attributes:
      message: what happened, one sentence.
      hint: what to do about it, one sentence, or ``""``.
      alert: the `Alert` that says it on the wire, or None where none was sent or none is known.
      sent_by_peer: True if the peer sent ``alert``, False if we did.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        alert: Alert | None = None,
        sent_by_peer: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.alert = alert
        self.sent_by_peer = sent_by_peer

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message

    def again(self) -> Self:
        """A new exception with the same facts and cause, for the next task that has to be told."""
        twin = copy.copy(self)
        twin.__cause__ = self.__cause__
        twin.__suppress_context__ = True
        return twin

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.args, self.__dict__.copy()))


def _rebuild(kind: type[TLSError], args: tuple[object, ...], facts: dict[str, object]) -> TLSError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(facts)
    if isinstance(error, OSError):
        error.strerror = error.message  # kept by OSError itself, not in __dict__
    return error


class CertificateVerificationError(TLSError, ssl.SSLCertVerificationError):
    """The peer's certificate was not accepted, or a required one was not sent.

    It is also an `ssl.CertificateError`, as code written for the standard library expects.

    Attributes:
      presented_chain: what the peer presented, DER, leaf first; empty if it presented nothing.
      verify_code: OpenSSL's ``X509_V_ERR`` number, or 0 where none is known.
      verify_message: the verifier's own words.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        alert: Alert | None = None,
        sent_by_peer: bool = False,
        presented_chain: tuple[bytes, ...] = (),
        verify_code: int = 0,
        verify_message: str = "",
    ) -> None:
        super().__init__(message, hint=hint, alert=alert, sent_by_peer=sent_by_peer)
        self.presented_chain = presented_chain
        self.verify_code = verify_code
        self.verify_message = verify_message
        self.reason = "CERTIFICATE_VERIFY_FAILED"
        self.library = "SSL"
        # anyio and others search strerror for words; None there has broken them.
        self.strerror: str | None = message


class HandshakeClosed(TLSError):
    """The peer ended the connection in a controlled way (close_notify) before the handshake was done."""


class UnexpectedEOF(TLSError):
    """The transport ended without close_notify: the data may have been truncated by somebody in between."""


class AlertReceived(TLSError):
    """The peer sent a fatal alert; ``alert`` names it. Always ``sent_by_peer``."""


class PeerMisbehaved(TLSError):
    """The peer broke the protocol, or does not speak TLS at all; the text names the rule."""


class NoSharedParameters(TLSError):
    """Both sides are sound, but no version, cipher suite, group, signature or protocol suits both."""


class TransportError(TLSError):
    """The stream below failed. ``__cause__`` is its own exception."""


class UnreadDataError(Exception):
    """`TLSStream.unwrap` met more unread application data than it may keep.

    Nothing is broken or lost: receive the data with ``receive_some()``, then call ``unwrap()`` again.
    """


class ServerFull(Exception):
    """`serve_tls` has refused a client: it has as many connections, or handshakes under way, as it may.

    Nothing is wrong with that client. ``on_handshake_error`` is told; nobody raises it.

    Attributes:
      limit: which limit was reached: ``"connections"`` or ``"handshakes"``.
    """

    def __init__(self, limit: str) -> None:
        super().__init__(f"the server has as many {limit} as max_{limit} allows")
        self.limit = limit


#: What a person can do about an alert that the peer sent. One table; tests walk it.
ALERT_HINTS: dict[Alert, str] = {
    Alert.unexpected_message: "The peer did not expect this message; check that both ends speak the same protocol",
    Alert.bad_record_mac: (
        "The peer could not decrypt a record; something between the ends altered the bytes, or one end has a defect"
    ),
    Alert.record_overflow: "The peer found a record too long; check that nothing but TLS is written to the transport",
    Alert.handshake_failure: (
        "The peer found no acceptable parameters; compare versions, cipher suites and groups, "
        "and whether it requires a client certificate"
    ),
    Alert.bad_certificate: (
        "The peer rejected our certificate; check that it is valid for the name or purpose the peer expects"
    ),
    Alert.unsupported_certificate: (
        "The peer cannot use our certificate's type or purpose; issue one with the right extended key usage"
    ),
    Alert.certificate_revoked: "Our certificate was revoked; replace it",
    Alert.certificate_expired: "Our certificate has expired, or the peer's clock is wrong; renew it",
    Alert.certificate_unknown: "The peer rejected our certificate for a reason that it does not tell; see its log",
    Alert.illegal_parameter: "The peer found a field out of range; one of the ends has a defect",
    Alert.unknown_ca: (
        "The peer does not trust the issuer of our certificate; send the intermediates, or install our CA on the peer"
    ),
    Alert.access_denied: "Our certificate is valid, but the peer's policy does not let it in",
    Alert.decode_error: "The peer could not parse a message; one of the ends has a defect",
    Alert.decrypt_error: "The peer could not verify a signature or Finished; check that our key fits our certificate",
    Alert.protocol_version: (
        "The peer speaks none of our TLS versions; allow the version that it has (before TLS 1.3: an ssl.SSLContext)"
    ),
    Alert.insufficient_security: "The peer demands stronger parameters than we offer",
    Alert.internal_error: "The peer failed for a reason of its own; see its log",
    Alert.inappropriate_fallback: "The peer supports a higher version than this retry offered; do not fall back",
    Alert.missing_extension: "The peer needs an extension that we did not send",
    Alert.unsupported_extension: "We answered with an extension that the peer did not offer",
    Alert.unrecognized_name: "The peer does not serve this name; check server_hostname",
    Alert.unknown_psk_identity: "The peer does not know our pre-shared key",
    Alert.certificate_required: "The peer requires a client certificate; load one into the context",
    Alert.no_application_protocol: "The peer speaks none of our ALPN protocols; offer one that it has",
}


def as_ssl_says(error: TLSError) -> ssl.SSLError:
    """The exception that `ssl` would have raised: what code written for ``trio.SSLStream`` looks for as ``__cause__``.

    What is the cause of ``error`` now becomes the cause of the new exception.
    """
    said: ssl.SSLError
    if isinstance(error, CertificateVerificationError):
        said = ssl.SSLCertVerificationError(ssl.SSL_ERROR_SSL, error.message)
    elif isinstance(error, UnexpectedEOF):
        said = ssl.SSLEOFError(ssl.SSL_ERROR_EOF, error.message)
    elif isinstance(error, HandshakeClosed):
        said = ssl.SSLZeroReturnError(ssl.SSL_ERROR_ZERO_RETURN, error.message)
    else:
        said = ssl.SSLError(ssl.SSL_ERROR_SSL, error.message)
    said.__cause__ = error.__cause__
    return said


def application_failed(what: str, error: Exception) -> TLSError:
    """The error for something of the application that the connection calls, and that has raised ``error``."""
    return TLSError(
        f"the application's {what} failed: {str(error) or repr(error)}",
        hint="The exception below is its own",
        alert=Alert.internal_error,
    )


def alert_received(alert: Alert) -> TLSError:
    """The error for a fatal alert that the peer sent (close_notify is not one)."""
    return AlertReceived(
        f"the peer ended the connection with the alert {alert}",
        hint=ALERT_HINTS.get(alert, "See the peer's log for the reason"),
        alert=alert,
        sent_by_peer=True,
    )
