"""Credentials: a certificate chain and the key that signs for it, and which credential fits which name.

How this works. A `Credential` is checked once, when it is made: the key fits the first certificate, is strong enough
and of a kind that TLS 1.3 can sign with. So nothing about it can fail in a handshake later. The key is here, or it is
elsewhere (`Credential.remote`): then a function signs, at once or awaitably, and the machine asks for it as a need.

A server that has several credentials picks one by the name that the client asks for: `CredentialsByName`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import cast, get_args

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    load_der_private_key,
    load_pem_private_key,
)
from cryptography.x509.oid import PublicKeyAlgorithmOID

from .machine.interface import NeedCredential
from .machine.tls13.signatures import algorithm_for, schemes_of
from .names import listed, names_of, normalised, subject_of, wildcard_of

__all__ = ["Credential", "CredentialsByName", "RemoteSigner"]

#: Signs a message with a SignatureScheme (its number), at once or awaitably; the answer is the signature.
RemoteSigner = Callable[[int, bytes], "bytes | Awaitable[bytes]"]

#: RSA keys below have no place in TLS 1.3; peers refuse them.
LEAST_RSA_BITS = 2048

_KEY_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.+?-----END \1-----", re.DOTALL)


class Credential:
    """A certificate chain and what signs for it. Immutable; one credential serves any number of connections.

    Args:
      chain: the certificate, or the certificate and the intermediates above it. The one that the key fits is put
        first, the others stay in their order. The root may be left out: peers that trust it have it.
      private_key: the key of the certificate, from `cryptography`.

    Raises:
      ValueError: if the key fits none of the certificates, is an RSA key of less than 2048 bits, or is of a kind that
        TLS 1.3 has no signature scheme for.
    """

    __slots__ = ("_algorithms", "_chain", "_der_chain", "_key", "_names", "_schemes")

    def __init__(
        self, chain: x509.Certificate | Sequence[x509.Certificate], private_key: CertificateIssuerPrivateKeyTypes
    ) -> None:
        self._hold(_leaf_first(_several(chain), private_key))
        self._key = private_key
        self._algorithms = {scheme: algorithm_for(private_key, scheme) for scheme in self._schemes}

    @classmethod
    def from_pem(
        cls, pem: bytes | str, key_pem: bytes | str | None = None, *, password: bytes | str | None = None
    ) -> Credential:
        """From PEM texts in memory.

        Args:
          pem: the certificates, and the private key too unless ``key_pem`` is given.
          key_pem: the private key: PKCS#8, encrypted or not, or a traditional RSA or EC key.
          password: what the key is encrypted with, if it is.

        Raises:
          ValueError: as for the class; or if something is missing, cannot be parsed, or the password is wrong.
        """
        return cls._from_pem(pem, key_pem, password, "the PEM text", "the key's PEM text")

    @classmethod
    def from_files(
        cls,
        certificate_path: str | os.PathLike[str],
        key_path: str | os.PathLike[str] | None = None,
        *,
        password: bytes | str | None = None,
    ) -> Credential:
        """From PEM files: the certificates, and the private key in the same file or in one of its own.

        The files are read now, and never again: to renew a certificate, make a new credential.

        Raises:
          OSError: if a file cannot be read.
          ValueError: as for `from_pem`; the text names the file.
        """
        pem = Path(certificate_path).read_bytes()
        key_pem = None if key_path is None else Path(key_path).read_bytes()
        source = os.fspath(certificate_path)
        return cls._from_pem(pem, key_pem, password, source, source if key_path is None else os.fspath(key_path))

    @classmethod
    def from_der(cls, chain: Sequence[bytes], key: bytes, *, password: bytes | str | None = None) -> Credential:
        """From DER in memory: certificates, and a private key (PKCS#8, or a traditional RSA or EC key).

        Raises:
          ValueError: as for `from_pem`.
        """
        certificates = []
        for number, der in enumerate(chain, 1):
            try:
                certificates.append(x509.load_der_x509_certificate(der))
            except (ValueError, x509.InvalidVersion) as exc:
                raise ValueError(f"certificate {number} is not DER that can be parsed: {exc}") from exc
        return cls(certificates, _loaded(load_der_private_key, key, password, "the DER key"))

    @classmethod
    def remote(
        cls,
        chain: x509.Certificate | Sequence[x509.Certificate],
        sign: RemoteSigner,
        *,
        schemes: Sequence[int] | None = None,
    ) -> Credential:
        """A credential whose key is elsewhere: in a hardware module, a key service, another process.

        Args:
          chain: the certificate, or the certificate and then the intermediates above it, in this order.
          sign: called with the SignatureScheme's number and the message; returns the signature, or an awaitable of
            it, which is awaited by the task that does the handshake. A cancelled handshake calls again when it goes
            on. The message is not hashed yet; the signature is as RFC 9846 section 4.3.3 has it (of ECDSA: DER).
          schemes: the schemes that ``sign`` can sign with, best first; by default all that suit the certificate.

        Raises:
          ValueError: as for the class; or if a scheme does not suit the certificate's key.
        """
        return _RemoteCredential(_several(chain), sign, schemes)

    @classmethod
    def _from_pem(
        cls,
        pem: bytes | str,
        key_pem: bytes | str | None,
        password: bytes | str | None,
        source: str,
        key_source: str,
    ) -> Credential:
        pem = _encoded(pem)
        certificates = _certificates_in(pem, source)
        key = _key_in(pem, password, source) if key_pem is None else _key_in(_encoded(key_pem), password, key_source)
        try:
            return cls(certificates, key)
        except ValueError as exc:
            places = source if key_source == source or key_pem is None else f"{source} and {key_source}"
            raise ValueError(f"{places}: {exc}") from exc

    def _hold(self, chain: tuple[x509.Certificate, ...]) -> None:
        self._chain = chain
        self._der_chain = tuple(certificate.public_bytes(Encoding.DER) for certificate in chain)
        self._names = names_of(chain[0])
        self._schemes = _schemes(chain[0])

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """The certificates, the credential's own first."""
        return self._chain

    @property
    def der_chain(self) -> tuple[bytes, ...]:
        """The certificates as they are sent: DER."""
        return self._der_chain

    @property
    def schemes(self) -> tuple[int, ...]:
        """The SignatureScheme numbers that `sign` takes, best first (RFC 9846 section 4.3.3)."""
        return self._schemes

    @property
    def names(self) -> tuple[str, ...]:
        """The DNS names (wildcards included) and IP addresses in the certificate's subjectAltName."""
        return self._names

    @property
    def is_remote(self) -> bool:
        """Whether the key is elsewhere: then `sign` may return an awaitable."""
        return False

    def sign(self, scheme: int, message: bytes) -> bytes | Awaitable[bytes]:
        """The signature of ``message``; an awaitable of it only if `is_remote`.

        Raises:
          ValueError: if ``scheme`` is none of `schemes`.
        """
        self._require(scheme)
        return self._algorithms[scheme].sign(self._key, message)

    def _require(self, scheme: int) -> None:
        if scheme not in self._schemes:
            raise ValueError(f"this credential does not sign with the scheme 0x{scheme:04x}")

    def fits(self, server_name: str | None) -> bool:
        """Whether the certificate has this name, itself or by a wildcard for its left-most label.

        No credential fits None: a client that names no server is served by what is the default.
        """
        if server_name is None:
            return False
        name = normalised(server_name)
        return name in self._names or wildcard_of(name) in self._names

    def __repr__(self) -> str:
        where = ", its key is elsewhere" if self.is_remote else ""
        return f"<Credential for {listed(self._names) or subject_of(self._chain[0])}{where}>"


class _RemoteCredential(Credential):
    """A credential whose key is elsewhere."""

    __slots__ = ("_signer",)

    def __init__(
        self, chain: tuple[x509.Certificate, ...], signer: RemoteSigner, schemes: Sequence[int] | None
    ) -> None:
        self._hold(chain)
        self._signer = signer
        if schemes is not None:
            if not schemes or not set(schemes) <= set(self._schemes):
                suited = ", ".join(f"0x{scheme:04x}" for scheme in self._schemes)
                raise ValueError(f"the schemes have to be some of those that suit the certificate's key: {suited}")
            self._schemes = tuple(schemes)

    @property
    def is_remote(self) -> bool:
        return True

    def sign(self, scheme: int, message: bytes) -> bytes | Awaitable[bytes]:
        self._require(scheme)
        return self._signer(scheme, message)


class CredentialsByName:
    """Picks a server's credential by the name that the client asks for (SNI, RFC 6066 section 3).

    A certificate that has the very name goes before one with a wildcard for it. Among several that fit (an ECDSA and
    an RSA certificate of the same names, say), the first is picked that can sign with a scheme of the client's.

    Args:
      credentials: at least one, the preferred first.
      default: what serves clients that ask for another name, or for none. None: nothing does; the handshake fails
        with unrecognized_name, so that nobody is shown the certificate of another site.
    """

    __slots__ = ("_by_name", "_default")

    def __init__(self, credentials: Iterable[Credential], *, default: Credential | None) -> None:
        self._by_name: dict[str, list[Credential]] = {}
        self._default = default
        for credential in credentials:
            if not credential.names:
                raise ValueError(f"{credential!r} has no names to pick it by: its certificate has no subjectAltName")
            for name in credential.names:
                self._by_name.setdefault(name, []).append(credential)
        if not self._by_name:
            raise ValueError("there is no credential to pick: give at least one")

    def __call__(self, request: NeedCredential) -> Credential | None:
        """The credential for this client; None if there is none for the name."""
        if request.server_name is None:
            return self._default
        name = normalised(request.server_name)
        fitting = self._by_name.get(name, []) + self._by_name.get(wildcard_of(name) or "", [])
        for credential in fitting:
            if not set(request.signature_schemes).isdisjoint(credential.schemes):
                return credential
        # One that the client cannot check still tells what is wrong: it is the schemes, and not the name.
        return fitting[0] if fitting else self._default

    def __repr__(self) -> str:
        return f"<CredentialsByName for {listed(self._by_name)}, default={self._default!r}>"


def _several(chain: x509.Certificate | Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    certificates = (chain,) if isinstance(chain, x509.Certificate) else tuple(chain)
    if not certificates:
        raise ValueError("there is no certificate: a credential needs its own, and the intermediates above it")
    return certificates


def _leaf_first(
    chain: tuple[x509.Certificate, ...], private_key: CertificateIssuerPrivateKeyTypes
) -> tuple[x509.Certificate, ...]:
    public_key = private_key.public_key()
    for certificate in chain:
        try:
            fits = certificate.public_key() == public_key
        except (ValueError, UnsupportedAlgorithm):
            continue  # a certificate of a kind unknown here has another key
        if fits:
            return (certificate, *(each for each in chain if each is not certificate))
    whose = ", ".join(subject_of(certificate) for certificate in chain)
    raise ValueError(
        f"the private key does not fit {whose}: give the key that the certificate was issued for, "
        "or the certificate that was issued for this key"
    )


def _schemes(leaf: x509.Certificate) -> tuple[int, ...]:
    try:
        public_key = leaf.public_key()
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ValueError(f"the public key of {subject_of(leaf)} cannot be read: {exc}") from exc
    if isinstance(public_key, rsa.RSAPublicKey) and public_key.key_size < LEAST_RSA_BITS:
        raise ValueError(
            f"the RSA key of {subject_of(leaf)} has {public_key.key_size} bits, and peers refuse fewer than "
            f"{LEAST_RSA_BITS}: issue the certificate anew with a larger key, or with an ECDSA key"
        )
    found = schemes_of(public_key, pss_oid=leaf.public_key_algorithm_oid == PublicKeyAlgorithmOID.RSASSA_PSS)
    if not found:
        raise ValueError(
            f"TLS 1.3 has no signature scheme for the key of {subject_of(leaf)} ({type(public_key).__name__}): "
            "issue the certificate with an ECDSA (P-256, P-384, P-521), Ed25519, Ed448, RSA or ML-DSA key"
        )
    return found


def _encoded(text: bytes | str) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _certificates_in(pem: bytes, source: str) -> list[x509.Certificate]:
    if not pem.strip():
        raise ValueError(f"{source} is empty")
    if b"-----BEGIN " not in pem:
        raise ValueError(f"{source} is not PEM: it has no '-----BEGIN CERTIFICATE-----'; DER goes to from_der()")
    if b"-----BEGIN CERTIFICATE-----" not in pem:
        raise ValueError(f"{source} has no certificate: it has to hold the certificate and the intermediates above it")
    try:
        return x509.load_pem_x509_certificates(pem)
    except (ValueError, x509.InvalidVersion) as exc:
        raise ValueError(f"{source} has a certificate that cannot be parsed: {exc}") from exc


def _key_in(pem: bytes, password: bytes | str | None, source: str) -> CertificateIssuerPrivateKeyTypes:
    blocks = [match.group() for match in _KEY_BLOCK.finditer(pem)]
    if not blocks:
        raise ValueError(f"{source} has no private key in PEM: give the file or the text that has it")
    if len(blocks) > 1:
        raise ValueError(f"{source} has {len(blocks)} private keys: leave the one that the certificate was issued for")
    return _loaded(load_pem_private_key, blocks[0], password, source)


def _loaded(
    load: Callable[[bytes, bytes | None], object], key: bytes, password: bytes | str | None, source: str
) -> CertificateIssuerPrivateKeyTypes:
    try:
        private_key = load(key, None if password is None else _encoded(password))
    except TypeError as exc:
        # Of all that can be wrong, `cryptography` makes this one a TypeError: a password too few, or too many.
        what = "encrypted: give its password" if password is None else "not encrypted: leave out the password"
        raise ValueError(f"the private key in {source} is {what}") from exc
    except Exception as exc:
        # ValueError or UnsupportedAlgorithm as a rule; but a seed that OpenSSL makes no key of is an InternalError.
        what = "cannot be parsed" if password is None else "cannot be decrypted, most likely for a wrong password"
        raise ValueError(f"the private key in {source} {what}: {exc}") from exc
    if not isinstance(private_key, get_args(CertificateIssuerPrivateKeyTypes)):
        kind = type(private_key).__name__
        raise ValueError(f"the private key in {source} cannot sign, it is for key exchange ({kind})")
    return cast("CertificateIssuerPrivateKeyTypes", private_key)
