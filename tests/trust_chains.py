"""Certificate chains with `cryptography`, sound ones and ones with one thing wrong.

How this works. An `Issuer` is a certificate with its key; `issue` makes the one below it, and each test says in the
call what is special about it. All are valid around `NOW`, a fixed time, so that no test depends on the clock.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

NOW = datetime.datetime(2026, 6, 1, 12, 0, 0, tzinfo=datetime.timezone.utc)
DAY = datetime.timedelta(days=1)
HOST = "server.example.org"


@dataclass(frozen=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: CertificateIssuerPrivateKeyTypes

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def key_usage(*usages: str) -> x509.KeyUsage:
    """The extension with these bits set."""
    none = x509.KeyUsage(False, False, False, False, False, False, False, False, False)
    every = [name.removeprefix("_") for name in vars(none)]
    assert set(usages) <= set(every)
    return x509.KeyUsage(**{usage: usage in usages for usage in every})


@cache
def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    """An RSA key, made once: large ones take their time."""
    return rsa.generate_private_key(65537, bits)


def issue(
    issuer: Issued | None,
    subject: str = "leaf",
    *,
    names: Iterable[str] = (),
    ca: bool | None = False,
    path_length: int | None = None,
    key: CertificateIssuerPrivateKeyTypes | None = None,
    begins: datetime.datetime = NOW - 30 * DAY,
    ends: datetime.datetime = NOW + 30 * DAY,
    usages: x509.KeyUsage | None = None,
    any_usage: bool = False,
    extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
    digest: hashes.SHA256 | hashes.SHA224 | None = None,
) -> Issued:
    """A certificate that ``issuer`` signs; None: it signs itself.

    Args:
      subject: its common name; empty: it has no subject.
      names: its DNS names and IP addresses; none: no subjectAltName.
      ca: what its basicConstraints say; None: it has none.
      usages: its keyUsage; the default suits its role, as the public web wants it.
      any_usage: it has no keyUsage.
      extensions: others, and whether they are critical.
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)] if subject else [])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if not any_usage:
        usages = usages or key_usage("key_cert_sign" if ca else "digital_signature")
        builder = builder.add_extension(usages, critical=True)
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, path_length), critical=True)
    if issuer is not None:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
        builder = builder.add_extension(identifier, critical=False)
    alternatives = [_general_name(each) for each in names]
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    signer = issuer.key if issuer else key
    hashed = isinstance(signer, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    return Issued(builder.sign(signer, (digest or hashes.SHA256()) if hashed else None), key)


@cache
def root() -> Issued:
    """The CA that the tests trust."""
    return issue(None, "root", ca=True)


@cache
def intermediate() -> Issued:
    return issue(root(), "intermediate", ca=True)


@cache
def server() -> Issued:
    """A server's certificate of the intermediate CA."""
    return issue(
        intermediate(), names=[HOST, "*.wild.example.org", "192.0.2.1", "2001:db8::1", "xn--fa-hia.example.org"]
    )


def with_unknown_key(issued: Issued) -> x509.Certificate:
    """The certificate of a P-256 key, altered so that the key is on a curve that nobody knows."""
    der = bytearray(issued.der)
    oid = bytes.fromhex("06082a8648ce3d030107")  # of P-256
    der[der.index(oid) + len(oid) - 1] ^= 0x41
    return x509.load_der_x509_certificate(bytes(der))


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
