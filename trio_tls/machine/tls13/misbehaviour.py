"""What the peer did wrong, as exceptions that carry the alert which answers it.

How this works. Raising one of these is how a machine sends an alert: the connection catches the error in one
place, appends ``error.alert`` to what it sends, and is failed from then on. So each check is three lines: the
condition, the raise, the words. A function here makes the exception and does not raise it, so that the type
checkers see where the code ends: ``raise illegal_parameter("the cookie changed", "4.3.2")``.

The text names what happened and the rule that forbids it. Bytes of the peer only ever get into it through
`excerpt`. The alerts and when they are due: RFC 9846 section 6.2.
"""

from __future__ import annotations

from ...alerts import Alert
from ...errors import NoSharedParameters, PeerMisbehaved

__all__ = [
    "bad_record_mac",
    "decode_error",
    "decrypt_error",
    "excerpt",
    "handshake_failure",
    "illegal_parameter",
    "missing_extension",
    "no_application_protocol",
    "not_tls",
    "protocol_version",
    "record_overflow",
    "unexpected_message",
    "unsupported_extension",
]

#: Who breaks a rule of the standard cannot be helped from here.
DEFECT_HINT = "The peer, or something in between, has a defect"


#: How HTTP begins, from either end.
HTTP = (b"GET ", b"POST ", b"HEAD ", b"PUT ", b"CONNECT ", b"OPTIONS ", b"DELETE ", b"PATCH ", b"HTTP/")


def excerpt(data: bytes | str, limit: int = 40) -> str:
    """What the peer sent, fit for a text: its ``repr``, cut off after ``limit`` bytes or characters."""
    return repr(data) if len(data) <= limit else f"{data[:limit]!r}..."


def _ruled(what: str, section: str) -> str:
    if not section:
        return what
    return f"{what} ({section})" if section.startswith("RFC ") else f"{what} (RFC 9846 section {section})"


def _misbehaved(alert: Alert, what: str, section: str) -> PeerMisbehaved:
    return PeerMisbehaved(_ruled(what, section), hint=DEFECT_HINT, alert=alert)


def decode_error(what: str, section: str = "") -> PeerMisbehaved:
    """A message that cannot be parsed: a length is wrong, or out of its bounds.

    Args:
      what: what happened, one sentence without a full stop.
      section: the rule that forbids it, such as ``"4.3"`` of RFC 9846, or ``"RFC 7301 section 3.2"``.
    """
    return _misbehaved(Alert.decode_error, what, section)


def illegal_parameter(what: str, section: str = "") -> PeerMisbehaved:
    """A field that parses, but has a value which is forbidden, or contradicts others. Args: `decode_error`'s."""
    return _misbehaved(Alert.illegal_parameter, what, section)


def unexpected_message(what: str, section: str = "") -> PeerMisbehaved:
    """A message or record that has no place at this point. Args: `decode_error`'s."""
    return _misbehaved(Alert.unexpected_message, what, section)


def missing_extension(what: str, section: str = "") -> PeerMisbehaved:
    """An extension that must be there is not (RFC 9846 section 9.2). Args: `decode_error`'s."""
    return _misbehaved(Alert.missing_extension, what, section)


def unsupported_extension(what: str, section: str = "") -> PeerMisbehaved:
    """An extension that answers what was never asked (RFC 9846 section 4.3). Args: `decode_error`'s."""
    return _misbehaved(Alert.unsupported_extension, what, section)


def record_overflow(what: str, section: str = "") -> PeerMisbehaved:
    """A record that is too long (RFC 9846 sections 5.1 and 5.2). Args: `decode_error`'s."""
    return _misbehaved(Alert.record_overflow, what, section)


def bad_record_mac(what: str, section: str = "") -> PeerMisbehaved:
    """A record that does not authenticate (RFC 9846 section 5.2). Args: `decode_error`'s."""
    return _misbehaved(Alert.bad_record_mac, what, section)


def decrypt_error(what: str, section: str = "") -> PeerMisbehaved:
    """A signature, a Finished or a binder that is wrong. Args: `decode_error`'s."""
    return _misbehaved(Alert.decrypt_error, what, section)


def not_tls(first_bytes: bytes, *, server_side: bool) -> PeerMisbehaved:
    """A peer that speaks something else from its first byte on.

    Args:
      first_bytes: how it begins; a handful is enough, and more than sixteen are none of a log's business.
      server_side: which end we are.
    """
    http = any(each.startswith(first_bytes[: len(each)]) for each in HTTP)
    return PeerMisbehaved(
        f"the peer does not speak TLS but {'HTTP' if http else 'something else'}: its first bytes are {first_bytes!r}",
        hint=(
            "The client probably used http:// on a TLS port"
            if server_side
            else "This port is probably a plaintext one, or needs STARTTLS first"
        ),
        alert=Alert.unexpected_message,
    )


def protocol_version(what: str, section: str = "") -> NoSharedParameters:
    """The peer does not speak a version that we do. Args: `decode_error`'s."""
    return NoSharedParameters(
        _ruled(what, section),
        hint="Let one of the ends speak a TLS version that the other has",
        alert=Alert.protocol_version,
    )


def handshake_failure(what: str, section: str = "") -> NoSharedParameters:
    """No set of parameters suits both ends. Args: `decode_error`'s."""
    return NoSharedParameters(
        _ruled(what, section),
        hint="Compare the cipher suites, groups and signature schemes of both ends",
        alert=Alert.handshake_failure,
    )


def no_application_protocol(what: str, section: str = "RFC 7301 section 3.2") -> NoSharedParameters:
    """The two ends have no ALPN protocol in common. Args: `decode_error`'s."""
    return NoSharedParameters(
        _ruled(what, section),
        hint="Compare the ALPN protocols of both ends",
        alert=Alert.no_application_protocol,
    )
