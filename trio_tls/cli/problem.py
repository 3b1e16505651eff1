"""What went wrong, for a person: one sentence, one hint, and the exit status that says which kind it is.

How this works. `Problem` is the one exception that the commands raise on purpose. Everything else that a
connection can fail with is turned into one by `problem_of`, so what a script sees as an exit status, a person
as a sentence, and ``--json`` as an object is always the same fact.
"""

from __future__ import annotations

import enum
import errno
import os
import socket
import sys
from collections.abc import Iterator

from ..alerts import Alert
from ..errors import (
    AlertReceived,
    CertificateVerificationError,
    HandshakeClosed,
    NoSharedParameters,
    PeerMisbehaved,
    TLSError,
    TransportError,
    UnexpectedEOF,
)
from .printable import printable

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

__all__ = [
    "ExitStatus",
    "Problem",
    "in_seconds",
    "interruption",
    "leaves",
    "network_problem",
    "no_host_name",
    "problem_of",
]


class ExitStatus(enum.IntEnum):
    """How the command ends."""

    OK = 0
    USAGE = 2
    NETWORK = 3
    TLS = 4
    VERIFICATION = 5
    INTERRUPTED = 130  # 128 and the number of the signal, as a shell reports it
    OUTPUT_CLOSED = 141


class Problem(Exception):
    """The command cannot go on.

    Attributes:
      status: which kind it is; the exit status.
      sentence: what happened, one sentence without its full stop. Nothing in it can harm a terminal.
      hint: what to do about it, one sentence, or ``""``.
      error: the `TLSError` behind it, if there is one.
    """

    def __init__(self, status: ExitStatus, sentence: str, hint: str = "", *, error: TLSError | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence: str = printable(sentence)
        self.hint: str = printable(hint)
        self.error = error

    def __str__(self) -> str:
        return f"{self.sentence}. {self.hint}" if self.hint else self.sentence

    def as_json(self) -> dict[str, object]:
        """The same facts, for ``--json``."""
        facts: dict[str, object] = {"kind": self.status.name.lower(), "message": self.sentence, "hint": self.hint}
        if self.error is not None:
            alert = self.error.alert
            facts["alert"] = None if alert is None else alert.name
            facts["sent_by_peer"] = self.error.sent_by_peer
            if isinstance(self.error, CertificateVerificationError):
                facts["verify_code"] = self.error.verify_code or None  # our own verifier tells no number
        return facts


def leaves(error: BaseException | None) -> Iterator[BaseException]:
    """The exceptions in a group, at any depth; of any other exception, itself."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from leaves(part)
    elif error is not None:
        yield error


def in_seconds(seconds: float) -> str:
    """A time in words: ``"1 second"``, ``"0.5 seconds"``."""
    return f"{seconds:g} second{'' if seconds == 1 else 's'}"


def no_host_name(name: str) -> Problem:
    """What there is to say of a name that cannot be written as DNS writes names."""
    return Problem(
        ExitStatus.USAGE,
        f"{name} is no name that a host could have",
        "Each part between its dots has 1 to 63 characters: letters, digits and hyphens",
    )


def problem_of(error: BaseException, where: str = "", *, openssl: bool = False) -> Problem | None:
    """The `Problem` that this exception is; None for one that is none (a defect, or Ctrl-C).

    Args:
      error: what a connection failed with.
      where: the peer, as ``host:port``.
      openssl: whether ``--openssl`` was given, so that no hint advises it.
    """
    if isinstance(error, Problem):
        return error
    if isinstance(error, TransportError):
        causes = [cause for cause in leaves(error.__cause__) if isinstance(cause, OSError)]
        problem = network_problem(causes[0], where) if causes else None
        return Problem(
            ExitStatus.NETWORK,
            problem.sentence if problem else error.message,
            problem.hint if problem else "Connect again; the peer's log may say why",
            error=error,
        )
    if isinstance(error, TLSError):
        verification = isinstance(error, CertificateVerificationError)
        status = ExitStatus.VERIFICATION if verification else ExitStatus.TLS
        sentence = error.message
        if _no_common_version(error):
            sentence = sentence.partition(";")[0]  # the rest is for those who write code
        hint = _hint_for(error)
        return Problem(status, sentence, _WITH_OPENSSL.get(hint, hint) if openssl else hint, error=error)
    if isinstance(error, OSError):
        return network_problem(error, where)
    return None


def interruption() -> Problem:
    """What Ctrl-C is, for ``--json``."""
    return Problem(ExitStatus.INTERRUPTED, "interrupted")


_NO_SHARED = "Compare what both ends allow; --openssl, --tls-min, --tls-max, --group, --cipher and --alpn decide it"

#: The library's hints speak of contexts and arguments of calls; these, of options.
_ALERT_HINTS = {
    Alert.certificate_required: "Give a client certificate with --cert and --key",
    Alert.handshake_failure: (
        "Compare versions (before TLS 1.3: --openssl) and cipher suites, and whether the peer requires a client "
        "certificate (--cert)"
    ),
    Alert.protocol_version: "Without --openssl only TLS 1.3 is spoken; with it, --tls-min and --tls-max decide",
    Alert.no_application_protocol: "Offer one that it has, with --alpn",
    Alert.unrecognized_name: "Ask for a name that it serves, with --server-name",
}

#: What a server can do about a name that it has refused.
_NAME_REFUSED = "Give a certificate that has the name with --cert, or let --unknown-name be first"


#: What a hint says instead, where ``--openssl`` was given.
_WITH_OPENSSL = {
    _ALERT_HINTS[Alert.protocol_version]: (
        "Widen --tls-min and --tls-max, if they were given; else the other end may have nothing newer than TLS 1.1"
    ),
    _ALERT_HINTS[Alert.handshake_failure]: (
        "Compare versions (--tls-min, --tls-max) and cipher suites, and whether the peer requires a client "
        "certificate (--cert)"
    ),
    _NO_SHARED: "Compare what both ends allow; --tls-min, --tls-max and --alpn decide it, and OpenSSL's configuration",
}


def _no_common_version(error: TLSError) -> bool:
    return isinstance(error, NoSharedParameters) and error.alert is Alert.protocol_version


def _hint_for(error: TLSError) -> str:
    if _no_common_version(error):
        return _ALERT_HINTS[Alert.protocol_version]
    if isinstance(error, AlertReceived) and error.alert is not None and error.alert in _ALERT_HINTS:
        return _ALERT_HINTS[error.alert]
    if isinstance(error, NoSharedParameters):
        if error.alert is Alert.unrecognized_name:
            return _NAME_REFUSED
        return _NO_SHARED
    if isinstance(error, UnexpectedEOF) and "close_notify" in error.message:
        return "What was received may be cut short; a peer that always ends so does not follow the standard"
    if isinstance(error, HandshakeClosed):
        return "It may have found nothing to serve; see its log"
    if isinstance(error, PeerMisbehaved) and "does not speak TLS" in error.message:
        return "Check the port; a mail server or a database may need --starttls"
    if isinstance(error, CertificateVerificationError):
        return ""  # `trio_tls.cli.verdict` says more than a table can
    return error.hint


_NETWORK_WORDS = {
    errno.ECONNREFUSED: ("nobody listens on {where}", "Check the port, and that the server is running"),
    errno.ECONNRESET: (
        "{where} reset the connection",
        "It may be overloaded, or not speak TLS there; a firewall may do this too",
    ),
    errno.EPIPE: ("{where} closed the connection while data was sent to it", "See its log"),
    errno.ETIMEDOUT: ("{where} did not answer", "Check the address; a firewall may drop the packets"),
    errno.EHOSTUNREACH: ("there is no route to {where}", "Check the address and this machine's network"),
    errno.ENETUNREACH: ("there is no network that leads to {where}", "Check this machine's network"),
    errno.EADDRINUSE: ("{where} is in use already", "Stop what listens there, or take another port (--port 0: any)"),
    errno.EADDRNOTAVAIL: ("{where} is no address of this machine", "Check --host"),
    errno.EACCES: ("{where} is not allowed for this user", "Ports below 1024 and others' sockets need privileges"),
    errno.ENOENT: ("there is no socket at {where}", "Check the path, and that the server is running"),
}


def network_problem(error: OSError, where: str) -> Problem:
    """A failure of the network, in words.

    `trio.open_tcp_stream` wraps one error for each address that it tried; if they differ, the last one says
    most, because addresses that cannot work (IPv6 without a route) come first.
    """
    causes = [cause for cause in leaves(error.__cause__) if isinstance(cause, OSError)]
    if causes:
        error = causes[-1]
    where = where or "the peer"
    if isinstance(error, socket.gaierror):
        host = where.rpartition(":")[0] or where
        if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
            return Problem(ExitStatus.NETWORK, f"there is no host with the name {host}", "Check the spelling")
        words = error.strerror or str(error)
        return Problem(
            ExitStatus.NETWORK, f"the name {host} could not be looked up: {words}", "Check this machine's network"
        )
    if error.errno in _NETWORK_WORDS:
        sentence, hint = _NETWORK_WORDS[error.errno]
        return Problem(ExitStatus.NETWORK, f"{sentence.format(where=where)} ({os.strerror(error.errno)})", hint)
    return Problem(
        ExitStatus.NETWORK, f"{where}: {error.strerror or error}", "Check this machine's network, limits and memory"
    )
