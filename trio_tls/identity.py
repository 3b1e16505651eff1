"""Who the peer is, by the certificate that was verified.

How this works. A handshake leaves certificates behind (`TLSStream.info`), verified or not. `identity_of` gives them
out only where a verifier has accepted them, with the names that they vouch for taken apart, so that a policy of the
application compares texts and cannot forget to ask whether they are true.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from .names import subject_of
from .stream import TLSStream

__all__ = ["Identity", "identity_of"]


@dataclass(frozen=True, slots=True, repr=False)
class Identity:
    """A peer whose certificate was verified, in this handshake or in the one that its session comes from.

    All names are the issuer's word: what they are worth depends on the CAs that the server trusts for clients. Compare
    them whole, and with ``==``.

    Attributes:
      certificate: the peer's own certificate.
      chain: the verified chain: the peer's own certificate first, a trust anchor last. In a session that was resumed on
        an `ssl.SSLContext` it is the peer's own certificate alone: OpenSSL keeps no more.
      dns_names: the DNS names in subjectAltName, lower case, wildcards included.
      ip_addresses: the IP addresses there.
      emails: the e-mail addresses there, as they are.
      uris: the URIs there, such as ``spiffe://example.org/billing``.
      common_name: the common name of the subject, or None; of several the last, which is the most specific.
      organizations: the organisations in the subject.
      organizational_units: the organisational units in the subject.
    """

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    dns_names: tuple[str, ...]
    ip_addresses: tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ...]
    emails: tuple[str, ...]
    uris: tuple[str, ...]
    common_name: str | None
    organizations: tuple[str, ...]
    organizational_units: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """The SHA-256 digest of the certificate, 64 hexadecimal digits: to recognise this very certificate."""
        return self.certificate.fingerprint(SHA256()).hex()

    def __repr__(self) -> str:
        return f"<Identity of {subject_of(self.certificate)}>"


def identity_of(stream: TLSStream[Any]) -> Identity | None:
    """Who the peer is, on a server or on a client, over either TLS.

    Args:
      stream: with its handshake done.

    Returns: None if the peer presented no certificate, or if it was not verified by a `Verifier` or by OpenSSL but
    accepted in another way (``accept_any_peer``, a ``verify`` function that returned None, ``ssl.CERT_NONE``).
    `ConnectionInfo.peer_certificates` is what it presented, whatever that is worth.

    Raises:
      trio.NeedHandshakeError: the handshake is not done.
      ValueError: the verified certificate has names that cannot be parsed.
    """
    if not stream.getpeercert():  # empty: it was not verified
        return None
    chain = stream.get_verified_chain()
    if not chain:  # a session that was resumed
        der = stream.getpeercert(binary_form=True)
        assert der is not None  # there is a certificate, or its dict would not be there
        chain = [der]
    return _identity(tuple(map(x509.load_der_x509_certificate, chain)))


def _identity(chain: tuple[x509.Certificate, ...]) -> Identity:
    certificate = chain[0]
    try:
        subject = certificate.subject
    except (ValueError, TypeError) as error:
        raise ValueError(f"the subject of the peer's certificate cannot be read: {error}") from error
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ValueError(f"the names of {subject_of(certificate)} cannot be read: {error}") from error
    return Identity(
        certificate=certificate,
        chain=chain,
        dns_names=tuple(name.lower().removesuffix(".") for name in names.get_values_for_type(x509.DNSName)),
        ip_addresses=tuple(
            address
            for address in names.get_values_for_type(x509.IPAddress)
            if isinstance(address, (ipaddress.IPv4Address, ipaddress.IPv6Address))
        ),
        emails=tuple(names.get_values_for_type(x509.RFC822Name)),
        uris=tuple(names.get_values_for_type(x509.UniformResourceIdentifier)),
        common_name=next(reversed(_subject(subject, NameOID.COMMON_NAME)), None),
        organizations=_subject(subject, NameOID.ORGANIZATION_NAME),
        organizational_units=_subject(subject, NameOID.ORGANIZATIONAL_UNIT_NAME),
    )


def _subject(subject: x509.Name, kind: x509.ObjectIdentifier) -> tuple[str, ...]:
    return tuple(
        attribute.value for attribute in subject.get_attributes_for_oid(kind) if isinstance(attribute.value, str)
    )
