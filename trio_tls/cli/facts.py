"""Facts about a certificate and a connection, as they are told to people and to programs.

How this works. A certificate from a peer may hold anything, or not be one at all: each field is read by itself,
and what cannot be read is told as such. Texts are escaped here (`trio_tls.cli.printable`), once, so whoever
shows them need not think of it.
"""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID

from .printable import printable

if TYPE_CHECKING:
    from ..stream import TLSStream

__all__ = ["CertificateFacts", "ConnectionFacts", "certificate_facts", "connection_facts"]

T = TypeVar("T")

UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """One certificate.

    Attributes:
      subject: its distinguished name, as RFC 4514 writes it; ``"unreadable"`` where it cannot be read.
      issuer: that of its issuer.
      common_name: the subject's common name, or its whole name: what a person would call it.
      names: its subject alternative names, as ``"DNS:example.org"``.
      not_before: when it becomes valid, UTC; None where it cannot be read.
      not_after: when it ends to be.
      key_type: such as ``"EC secp256r1"``.
      key_bits: the size of its key; None where that is unknown.
      signature_algorithm: how its issuer has signed it.
      serial: its serial number, hexadecimal.
      sha256: its fingerprint, hexadecimal.
    """

    subject: str
    issuer: str
    common_name: str
    names: tuple[str, ...]
    not_before: datetime.datetime | None
    not_after: datetime.datetime | None
    key_type: str
    key_bits: int | None
    signature_algorithm: str
    serial: str
    sha256: str

    def validity(self, now: datetime.datetime) -> str:
        """From when to when, and how that lies to ``now``."""
        if self.not_before is None or self.not_after is None:
            return UNREADABLE
        if now < self.not_before:
            state = f"NOT YET VALID: {_span(self.not_before - now)} to go"
        elif now > self.not_after:
            state = f"EXPIRED {_span(now - self.not_after)} ago"
        else:
            state = f"{_span(self.not_after - now)} left"
        return f"{self.not_before:%Y-%m-%d %H:%M} to {self.not_after:%Y-%m-%d %H:%M} UTC ({state})"

    def key(self) -> str:
        """The type and the size of its key."""
        return self.key_type if self.key_bits is None else f"{self.key_type}, {self.key_bits} bits"

    def as_json(self) -> dict[str, object]:
        """The facts, for ``--json``; times in ISO 8601."""
        facts = asdict(self)
        for name in ("not_before", "not_after"):
            facts[name] = facts[name] and facts[name].isoformat()
        return facts


@lru_cache(maxsize=64)  # a server asks for those of its own certificate at each connection
def certificate_facts(der: bytes) -> CertificateFacts:
    """The facts of one certificate, whatever it is."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(der)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of cryptography, about what is odd in a certificate that is not ours
        certificate = _read(lambda: x509.load_der_x509_certificate(der), None)
        subject = _of(certificate, lambda it: _name(it.subject), UNREADABLE)
        no_key: tuple[str, int | None] = (UNREADABLE, None)
        key_type, key_bits = _of(certificate, _key, no_key)
        return CertificateFacts(
            subject=subject,
            issuer=_of(certificate, lambda it: _name(it.issuer), UNREADABLE),
            common_name=_of(certificate, _common_name, None) or subject,
            names=_of(certificate, _names, ()),
            not_before=_of(certificate, lambda it: it.not_valid_before_utc, None),
            not_after=_of(certificate, lambda it: it.not_valid_after_utc, None),
            key_type=key_type,
            key_bits=key_bits,
            signature_algorithm=_of(certificate, _signature_algorithm, UNREADABLE),
            serial=_of(certificate, lambda it: f"{it.serial_number:x}", UNREADABLE),
            sha256=digest.finalize().hex(),
        )


def _of(certificate: x509.Certificate | None, read: Callable[[x509.Certificate], T], otherwise: T) -> T:
    return otherwise if certificate is None else _read(lambda: read(certificate), otherwise)


def _read(read: Callable[[], T], otherwise: T) -> T:
    try:
        return read()
    except Exception:
        # Mostly ValueError, UnsupportedAlgorithm or ExtensionNotFound. But names of odd kinds (x400Address,
        # ediPartyName) have an exception of their own, and no certificate of a peer may end a server.
        return otherwise


def _name(name: x509.Name) -> str:
    return printable(name.rfc4514_string()) or "(empty)"


def _common_name(certificate: x509.Certificate) -> str | None:
    for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        return printable(str(attribute.value))
    return None


_NAME_KINDS: dict[type[x509.GeneralName], str] = {
    x509.DNSName: "DNS",
    x509.IPAddress: "IP",
    x509.RFC822Name: "email",
    x509.UniformResourceIdentifier: "URI",
}


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return tuple(
        printable(f"{_NAME_KINDS[type(name)]}:{name.value}" if type(name) in _NAME_KINDS else type(name).__name__)
        for name in names
    )


def _key(certificate: x509.Certificate) -> tuple[str, int | None]:
    try:
        key: Any = certificate.public_key()
    except (UnsupportedAlgorithm, ValueError):
        return f"algorithm {certificate.public_key_algorithm_oid.dotted_string}", None
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}", key.key_size
    if isinstance(key, rsa.RSAPublicKey):
        return "RSA", key.key_size
    if isinstance(key, dsa.DSAPublicKey):
        return "DSA", key.key_size
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "Ed25519", 256
    if isinstance(key, ed448.Ed448PublicKey):
        return "Ed448", 456
    return type(key).__name__.removesuffix("PublicKey"), None


def _signature_algorithm(certificate: x509.Certificate) -> str:
    oid = certificate.signature_algorithm_oid
    name = oid._name  # noqa: SLF001  # cryptography has no public way to it
    return oid.dotted_string if name == "Unknown OID" else name


def _span(span: datetime.timedelta) -> str:
    """A time span in its largest unit."""
    minutes = int(span.total_seconds() // 60)
    for unit, size in (("day", 24 * 60), ("hour", 60), ("minute", 1)):
        if count := minutes // size:
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "less than a minute"


@dataclass(frozen=True, slots=True)
class ConnectionFacts:
    """What a handshake agreed on.

    Attributes:
      version: ``"TLSv1.3"`` or ``"TLSv1.2"``.
      cipher_suite: its name.
      cipher_bits: the size of its key.
      group: the key exchange group; None where this Python does not tell.
      signature_scheme: what the peer signed with; None where this Python does not tell.
      alpn: the agreed ALPN protocol, or None.
      server_name: the name that the client asked for, or None.
      session_reused: whether an earlier session was resumed.
      presented_chain: the certificates that the peer presented, leaf first.
      verified_chain: from the leaf to the trust anchor, as it was verified; empty if nothing was.
      local_chain: what we presented, leaf first; empty if nothing, or where OpenSSL does not tell.
    """

    version: str
    cipher_suite: str
    cipher_bits: int | None
    group: str | None
    signature_scheme: str | None
    alpn: str | None
    server_name: str | None
    session_reused: bool
    presented_chain: tuple[CertificateFacts, ...]
    verified_chain: tuple[CertificateFacts, ...]
    local_chain: tuple[CertificateFacts, ...]

    def as_json(self) -> dict[str, object]:
        """The facts, for ``--json``."""
        facts: dict[str, object] = {name: getattr(self, name) for name in self.__slots__}
        for name in ("presented_chain", "verified_chain", "local_chain"):
            facts[name] = [each.as_json() for each in getattr(self, name)]
        return facts


def connection_facts(stream: TLSStream[Any], *, verified: bool) -> ConnectionFacts:
    """What the handshake of ``stream`` agreed on.

    Args:
      stream: with its handshake done.
      verified: whether the peer's certificate was verified. (Where it was not, OpenSSL shows the chain
        that it has tried, which proves nothing.)
    """
    info = stream.info
    assert info is not None  # the handshake is done
    cipher = stream.cipher()
    return ConnectionFacts(
        version=info.version,
        cipher_suite=info.cipher_suite,
        cipher_bits=cipher[2] if cipher else None,
        group=info.group,
        signature_scheme=info.signature_scheme,
        alpn=info.alpn_protocol and printable(info.alpn_protocol),
        server_name=info.server_name,
        session_reused=info.session_reused,
        presented_chain=_facts(info.peer_chain),
        verified_chain=_facts(stream.get_verified_chain()) if verified else (),
        local_chain=_facts(info.local_chain),
    )


def _facts(chain: Sequence[bytes]) -> tuple[CertificateFacts, ...]:
    return tuple(map(certificate_facts, chain))
