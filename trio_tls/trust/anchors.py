"""TrustAnchors: the certificates that are believed as they are.

How this works. A set of certificates, without order and without duplicates, that never changes. `cryptography`
searches them through a ``Store``, which is costly to build for the hundred and fifty roots of a system; it is built
when first asked for, and once. What is given explicitly has to parse; among the system's own certificates a few may
be beyond `cryptography`, and those are left out, as nobody here can repair them.
"""

from __future__ import annotations

import hashlib
import os
import re
import ssl
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.verification import Store

__all__ = ["TrustAnchors"]

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

#: How ``openssl rehash`` names the files of a directory of certificates.
_HASHED = re.compile(r"[0-9a-f]{8}\.\d+")


class TrustAnchors:
    """The certificates that a `Verifier` believes as they are. Immutable; combine them with ``|``.

    They are roots of CAs as a rule, but may be intermediates, or the very certificate that a peer presents.

    Args:
      certificates: at least one. Duplicates are kept once.

    Raises:
      ValueError: if there is none.
    """

    __slots__ = ("_certificates", "_fingerprint", "_store")

    def __init__(self, certificates: Iterable[x509.Certificate]) -> None:
        unique = {certificate.public_bytes(Encoding.DER): certificate for certificate in certificates}
        if not unique:
            raise ValueError("there is no certificate to trust: give at least one trust anchor")
        self._certificates = unique
        digest = hashlib.sha256()
        for each in sorted(hashlib.sha256(der).digest() for der in unique):
            digest.update(each)
        self._fingerprint = digest.digest()
        self._store: Store | None = None

    @classmethod
    def from_certificates(cls, *certificates: x509.Certificate) -> TrustAnchors:
        """Trust these certificates."""
        return cls(certificates)

    @classmethod
    def from_der(cls, *certificates: bytes) -> TrustAnchors:
        """Trust these DER certificates; ValueError if one of them cannot be parsed."""
        return cls([_parsed(der, f"certificate {number}") for number, der in enumerate(certificates, 1)])

    @classmethod
    def from_pem(cls, pem: bytes | str) -> TrustAnchors:
        """Trust every certificate in a PEM text; ValueError if it has none, or one that cannot be parsed."""
        return cls(_from_pem(pem.encode() if isinstance(pem, str) else pem, "the PEM text"))

    @classmethod
    def from_files(cls, *paths: str | os.PathLike[str]) -> TrustAnchors:
        """Trust every certificate in these PEM files; ValueError names the file that has none, or a broken one."""
        return cls([each for path in paths for each in _from_pem(Path(path).read_bytes(), os.fspath(path))])

    @classmethod
    def system(cls) -> TrustAnchors:
        """Trust what this system trusts.

        That is what OpenSSL would read: ``ssl.get_default_verify_paths()``, whose places ``SSL_CERT_FILE`` and
        ``SSL_CERT_DIR`` in the environment replace. Reads files, so call it once, at the start.

        Raises:
          ValueError: if there is no certificate in those places; its text tells them.
        """
        paths = ssl.get_default_verify_paths()
        file = Path(os.environ.get(paths.openssl_cafile_env) or paths.cafile or paths.openssl_cafile)
        # Several directories may be given, as in PATH (SSL_CTX_load_verify_dir(3)).
        folders = os.environ.get(paths.openssl_capath_env) or paths.capath or paths.openssl_capath
        files = [file, *(each for folder in folders.split(os.pathsep) for each in _hashed_files(Path(folder)))]
        with warnings.catch_warnings():
            # About roots with a serial number of zero, and the like: the user of a system can do nothing about them.
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            found = [certificate for path in files if path.is_file() for certificate in _readable(path.read_bytes())]
        if not found:
            raise ValueError(
                f"no trust anchors: neither the file {str(file)!r} nor the directory {folders!r} has certificates. "
                f"Install this system's CA certificates (the package is often called ca-certificates), set "
                f"{paths.openssl_cafile_env} to a PEM file of them, or use TrustAnchors.from_files()"
            )
        return cls(found)

    @property
    def fingerprint(self) -> bytes:
        """32 bytes that tell these trust anchors from others, whatever their order."""
        return self._fingerprint

    @property
    def store(self) -> Store:
        """What `cryptography.x509.verification` searches; always the same object."""
        if self._store is None:
            self._store = Store(list(self._certificates.values()))
        return self._store

    def __or__(self, other: TrustAnchors) -> TrustAnchors:
        if not isinstance(other, TrustAnchors):
            return NotImplemented
        return TrustAnchors([*self, *other])

    def __iter__(self) -> Iterator[x509.Certificate]:
        return iter(self._certificates.values())

    def __len__(self) -> int:
        return len(self._certificates)

    def __contains__(self, certificate: object) -> bool:
        return (
            isinstance(certificate, x509.Certificate) and certificate.public_bytes(Encoding.DER) in self._certificates
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TrustAnchors) and self._fingerprint == other._fingerprint

    def __hash__(self) -> int:
        return hash(self._fingerprint)

    def __repr__(self) -> str:
        return f"<{len(self)} trust anchor{'s'[: len(self) != 1]} {self._fingerprint.hex()[:16]}>"


def _parsed(der: bytes, source: str) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(der)
    except (ValueError, x509.InvalidVersion) as exc:
        raise ValueError(f"{source} is not a DER certificate: {exc}") from exc


def _from_pem(pem: bytes, source: str) -> list[x509.Certificate]:
    if b"-----BEGIN " not in pem:
        raise ValueError(f"{source} is not PEM: it has no '-----BEGIN CERTIFICATE-----'; DER goes to from_der()")
    try:
        return x509.load_pem_x509_certificates(pem)
    except (ValueError, x509.InvalidVersion) as exc:
        raise ValueError(f"{source} has no certificate that can be parsed: {exc}") from exc


def _hashed_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _HASHED.fullmatch(path.name))


def _readable(pem: bytes) -> list[x509.Certificate]:
    found = []
    for block in _CERTIFICATE.findall(pem):
        try:
            found.append(x509.load_pem_x509_certificate(block))
        except (ValueError, x509.InvalidVersion):
            continue
    return found
