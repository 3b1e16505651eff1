"""Certificates made here: throw-away ones for demonstrations, and those of a local CA.

How this works. An `Authority` is a key, a certificate of its own and a lifetime for what it issues. What it issues
suits both policies of the library, OpenSSL and browsers: names in the subjectAltName, the usages of the role, serial
numbers that nobody can guess, and a validity that does not outlast the CA's own.
"""

from __future__ import annotations

import datetime
import ipaddress
import pathlib
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..credentials import Credential
from ..names import subject_of

__all__ = ["DAY", "Authority", "Issued"]

DAY = datetime.timedelta(days=1)

#: Certificates are valid from a little before they are made: clocks differ.
EARLIER = datetime.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate of an `Authority`, with its private key.

    Attributes:
      certificate_pem: the certificate.
      key_pem: the private key, PKCS #8, not encrypted.
    """

    certificate_pem: bytes
    key_pem: bytes

    @property
    def credential(self) -> Credential:
        """The same, for our own machine."""
        return Credential.from_pem(self.certificate_pem, self.key_pem)

    def load_into(self, context: ssl.SSLContext) -> None:
        """Make ``context`` present this certificate. `ssl` reads only files, so the key is one for a moment."""
        with tempfile.TemporaryDirectory() as directory:  # mode 0700
            path = pathlib.Path(directory, "certificate-and-key.pem")
            path.write_bytes(self.certificate_pem + self.key_pem)
            context.load_cert_chain(path)


class Authority:
    """A certification authority of its own. It exists in memory; `from_pem` brings back one that was written down.

    Args:
      name: its common name.
      lifetime: for how long its certificate is valid.
      existing: the certificate and the key of one that there is already; then the others are of no account.
    """

    def __init__(
        self,
        name: str = "trio-tls throw-away CA",
        *,
        lifetime: datetime.timedelta = DAY,
        existing: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None,
    ) -> None:
        if existing is not None:
            self._certificate, self._key = existing
            self._name = self._certificate.subject
            return
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._certificate = (
            self._builder(self._name, self._key.public_key(), _now() + lifetime)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(ca=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @classmethod
    def from_pem(cls, certificate_pem: bytes, key_pem: bytes) -> Authority:
        """The authority that this certificate and this key (not encrypted) are of.

        Raises:
          ValueError: they cannot be parsed, do not belong together, or are of no kind that this class makes.
        """
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        try:
            key = serialization.load_pem_private_key(key_pem, None)
        except TypeError as error:
            raise ValueError("the key is encrypted") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"the key is no EC key, but {type(key).__name__}")
        if certificate.public_key() != key.public_key():
            raise ValueError(f"the key does not belong to {subject_of(certificate)}")
        try:
            is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except x509.ExtensionNotFound:
            is_ca = False
        if not is_ca:
            raise ValueError(f"{subject_of(certificate)} is no CA")
        return cls(existing=(certificate, key))

    @property
    def certificate(self) -> x509.Certificate:
        """The CA's certificate."""
        return self._certificate

    @property
    def pem(self) -> str:
        """The CA's certificate; `ssl` takes it as ``cadata``."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> bytes:
        """The CA's private key, PKCS #8, not encrypted: whoever has it can be anybody to those who trust the CA."""
        return _as_pem(self._key)

    def issue(
        self,
        *names: str,
        lifetime: datetime.timedelta = DAY,
        usages: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
    ) -> Issued:
        """A certificate for these names, at least one.

        Args:
          names: DNS names (A-labels, wildcards allowed), IP addresses, e-mail addresses (with ``@``) and URIs
            (with ``://``).
          lifetime: for how long it is valid; it ends with the CA's own certificate if that ends before.
          usages: what it is for, as extendedKeyUsage has it; by default to be a server and to be a client.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        # An upper bound of RFC 5280: a common name has 64 characters. Nobody looks at it but people.
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
        until = min(_now() + lifetime, self._certificate.not_valid_after_utc)
        certificate = (
            self._builder(subject, key.public_key(), until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Issued(certificate.public_bytes(serialization.Encoding.PEM), _as_pem(key))

    def _builder(
        self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey, until: datetime.datetime
    ) -> x509.CertificateBuilder:
        issuer_key = self._key.public_key()
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(_now() - EARLIER)
            .not_valid_after(until)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
        )


def _as_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key: PKCS #8, PEM, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    if "@" in name:
        return x509.RFC822Name(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
