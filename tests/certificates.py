"""Certificates with one thing wrong, and contexts that present or judge them.

How this works. trustme issues what is merely expired or of another CA. What trustme would never issue (a
wrong signature, a CA that is none, a revocation list) is built here, with the key of trustme's CA.
"""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass
from functools import cache

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from trio_tls import Credential

from .support import HOST, authority, credential_of

NOW = datetime.datetime.now(datetime.timezone.utc)
DAY = datetime.timedelta(days=1)

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Issued:
    """A certificate, its key, and what a server presents beside it."""

    certificate: x509.Certificate
    key: Key
    above: tuple[x509.Certificate, ...] = ()

    @property
    def pem(self) -> bytes:
        """The chain, then the key."""
        chain = (self.certificate, *self.above)
        return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain) + self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


@cache
def strange_authority() -> trustme.CA:
    """A CA that nobody trusts."""
    return trustme.CA()


@cache
def expired() -> trustme.LeafCert:
    return authority().issue_cert(HOST, not_before=NOW - 2 * DAY, not_after=NOW - DAY)


@cache
def not_yet_valid() -> trustme.LeafCert:
    return authority().issue_cert(HOST, not_before=NOW + DAY, not_after=NOW + 2 * DAY)


@cache
def of_strange_authority() -> trustme.LeafCert:
    return strange_authority().issue_cert(HOST)


@cache
def good() -> Issued:
    """Nothing is wrong with this one."""
    return _issue(_root(authority()))


@cache
def self_signed() -> Issued:
    """A certificate without any CA."""
    return _issue(None)


@cache
def for_clients_only() -> Issued:
    """A certificate that is not meant for a server."""
    return _issue(_root(authority()), usage=ExtendedKeyUsageOID.CLIENT_AUTH)


@cache
def wrongly_signed() -> Issued:
    """A certificate that names the test CA as its issuer, signed with another key."""
    return _issue(Issued(_root(authority()).certificate, ec.generate_private_key(ec.SECP256R1())))


@cache
def with_strange_root() -> Issued:
    """A certificate presented together with its root, which nobody trusts."""
    root = _root(strange_authority())
    return _issue(root, above=(root.certificate,))


@cache
def below_a_leaf() -> Issued:
    """A certificate whose issuer is no CA."""
    parent = _issue(_root(authority()), name="not a CA")
    return _issue(parent, above=(parent.certificate,))


@cache
def below_too_many() -> Issued:
    """A certificate in a chain longer than one of its CAs allows."""
    upper = _issue(_root(authority()), name="upper", ca=True, path_length=0)
    lower = _issue(upper, name="lower", ca=True, path_length=0)
    return _issue(lower, above=(lower.certificate, upper.certificate))


@cache
def with_small_key() -> Issued:
    """A certificate with a key of 1024 bits."""
    return _issue(_root(authority()), key=rsa.generate_private_key(65537, 1024))


def revocation_list(
    *, revoked: bool = False, begins: datetime.timedelta = -DAY, ends: datetime.timedelta = DAY, forged: bool = False
) -> bytes:
    """A revocation list of the test CA, PEM.

    Args:
      revoked: whether `good` stands on it.
      begins: when it becomes valid, from now.
      ends: when it ends to be valid, from now.
      forged: whether its signature is somebody else's.
    """
    root = _root(authority())
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(root.certificate.subject)
        .last_update(NOW + begins)
        .next_update(NOW + ends)
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(_issuer_identifier(root.certificate), critical=False)
    )
    if revoked:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(good().certificate.serial_number)
            .revocation_date(NOW - DAY)
            .build()
        )
    key = ec.generate_private_key(ec.SECP256R1()) if forged else root.key
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _root(ca: trustme.CA) -> Issued:
    key = serialization.load_pem_private_key(ca.private_key_pem.bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Issued(x509.load_pem_x509_certificate(ca.cert_pem.bytes()), key)


def _issuer_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _issue(
    issuer: Issued | None,
    *,
    name: str = HOST,
    usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
    key: Key | None = None,
    ca: bool = False,
    path_length: int | None = None,
    above: tuple[x509.Certificate, ...] = (),
) -> Issued:
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
    )
    if issuer is not None:
        builder = builder.add_extension(_issuer_identifier(issuer.certificate), critical=False)
    if ca:
        builder = builder.add_extension(_CERTIFICATE_SIGNING, critical=True)
    else:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return Issued(builder.sign(key if issuer is None else issuer.key, hashes.SHA256()), key, above)


_CERTIFICATE_SIGNING = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def present(context: ssl.SSLContext, certificate: trustme.LeafCert | Issued) -> None:
    """Load a certificate and its key into ``context``."""
    if isinstance(certificate, Issued):
        with trustme.Blob(certificate.pem).tempfile() as path:
            context.load_cert_chain(path)
    else:
        certificate.configure_cert(context)


def presenting(certificate: trustme.LeafCert | Issued, version: ssl.TLSVersion) -> ssl.SSLContext:
    """A server context with this certificate, fixed to ``version``; it is lax about its own key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    present(context, certificate)
    context.minimum_version = context.maximum_version = version
    return context


def credential(certificate: trustme.LeafCert | Issued) -> Credential:
    """The certificate and its key, for our own machine."""
    return Credential.from_pem(certificate.pem) if isinstance(certificate, Issued) else credential_of(certificate)


def distrusting(version: ssl.TLSVersion) -> ssl.SSLContext:
    """A client context that trusts no CA at all."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = version
    return context
