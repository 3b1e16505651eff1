"""What is in files of certificates and keys, whatever they are called: PEM or DER, in any order.

How this works. Each file is read once, up to a limit. PEM blocks are taken by their labels; what is no PEM is tried
as DER. What is there and of no use here (a request, a PKCS #12 archive) is named, with what to do, since that is what
people give by mistake. Nothing in a file raises: what cannot be read becomes a remark.
"""

from __future__ import annotations

import re
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    load_der_private_key,
    load_pem_private_key,
    pkcs7,
    pkcs12,
)

from .facts import CertificateFacts, certificate_facts
from .files import unusable, usage

__all__ = ["STDIN", "FoundCertificate", "FoundKey", "Loot", "Remark", "read_files"]

#: The name of standard input.
STDIN = "-"

#: The certificates of a whole system are a quarter of a megabyte.
MOST_BYTES = 16 * 2**20

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_CERTIFICATES = (b"CERTIFICATE", b"X509 CERTIFICATE")

#: Labels of PEM blocks that are neither, and what to do about them.
_OTHER_LABELS = {
    b"CERTIFICATE REQUEST": "It has to be sent to a CA, which makes a certificate of it",
    b"NEW CERTIFICATE REQUEST": "It has to be sent to a CA, which makes a certificate of it",
    b"PUBLIC KEY": "A certificate has the public key in it, and the private key has a file of its own",
    b"PKCS7": "Take the certificates out: openssl pkcs7 -print_certs -in FILE",
    b"TRUSTED CERTIFICATE": "It is OpenSSL's own form; openssl x509 -in FILE makes a plain certificate of it",
    b"X509 CRL": "It revokes certificates, and is none",
}
#: What stands beside keys, and does no harm.
_HARMLESS = (b"EC PARAMETERS", b"DH PARAMETERS", b"DSA PARAMETERS")

Severity: TypeAlias = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing to be said.

    Attributes:
      severity: ``"error"``: it will not work; ``"warning"``: it may not, or not for long; ``"note"``.
      sentence: what it is, without a full stop.
      hint: what to do, or ``""``.
    """

    severity: Severity
    sentence: str
    hint: str = ""

    def as_json(self) -> dict[str, str]:
        """The same, for ``--json``."""
        return {"severity": self.severity, "message": self.sentence, "hint": self.hint}


@dataclass(frozen=True, slots=True)
class FoundCertificate:
    """One certificate.

    Attributes:
      file: where it was.
      certificate: it.
      facts: what there is to tell of it.
    """

    file: str
    certificate: x509.Certificate
    facts: CertificateFacts

    @property
    def der(self) -> bytes:
        """As it is sent."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def public_key(self) -> PublicKeyTypes | None:
        """Its key; None where that is of a kind unknown here."""
        try:
            return self.certificate.public_key()
        except (ValueError, UnsupportedAlgorithm):
            return None

    @property
    def is_ca(self) -> bool:
        """Whether it may issue others."""
        try:
            return self.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
            return False

    @property
    def is_self_issued(self) -> bool:
        """Whether it has no other issuer than itself."""
        return self.facts.subject == self.facts.issuer


@dataclass(frozen=True, slots=True)
class FoundKey:
    """One private key.

    Attributes:
      file: where it was.
      key: it; None where it is encrypted and could not be opened, or cannot be parsed.
      kind: such as ``"EC secp256r1"``.
    """

    file: str
    key: PrivateKeyTypes | None
    kind: str


@dataclass
class Loot:
    """All that was found, in the order of the files."""

    certificates: list[FoundCertificate] = field(default_factory=list)
    keys: list[FoundKey] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)


def read_files(paths: Sequence[str], password: bytes | None) -> Loot:
    """What is in these files.

    Args:
      paths: ``-`` is standard input.
      password: for keys that are encrypted.

    Raises:
      Problem: a file cannot be read, or is far too large.
    """
    loot = Loot()
    for path in paths:
        content = _read(path)
        name = "standard input" if path == STDIN else path
        before = len(loot.certificates), len(loot.keys), len(loot.remarks)
        if b"-----BEGIN " in content:
            _read_pem(loot, name, content, password)
        else:
            _read_der(loot, name, content, password)
        if len(loot.keys) > before[1] and path != STDIN:
            _look_at_mode(loot, path)
        if (len(loot.certificates), len(loot.keys), len(loot.remarks)) == before:
            loot.remarks.append(Remark("error", f"{name} holds neither a certificate nor a key", "Check the file"))
    return loot


def _read(path: str) -> bytes:
    try:
        if path == STDIN:
            content = sys.stdin.buffer.read(MOST_BYTES + 1)
        else:
            with Path(path).open("rb") as file:
                content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise unusable("FILE", path, error) from error
    if len(content) > MOST_BYTES:
        raise usage(f"{path} has more than {MOST_BYTES >> 20} MB", "Give files of certificates and keys")
    return content


def _read_pem(loot: Loot, name: str, content: bytes, password: bytes | None) -> None:
    blocks = list(_BLOCK.finditer(content))
    if len(blocks) < content.count(b"-----BEGIN "):
        sentence = f"{name} has a -----BEGIN line without its -----END line"
        loot.remarks.append(Remark("error", sentence, "It was cut short, or put together wrongly"))
    for block in blocks:
        label = block.group(1)
        if label in _CERTIFICATES:
            try:
                certificate = x509.load_pem_x509_certificate(block.group())
            except (ValueError, x509.InvalidVersion) as error:
                sentence = f"{name} has a certificate that cannot be parsed: {error}"
                loot.remarks.append(Remark("error", sentence, "Get the file again, from whom it came"))
                continue
            _add(loot, name, certificate)
        elif label.endswith(b"PRIVATE KEY"):
            _add_key(loot, name, block.group(), password)
        elif label not in _HARMLESS:
            what = label.decode().lower().replace("x509 crl", "X.509 CRL").replace("pkcs7", "PKCS #7 archive")
            hint = _OTHER_LABELS.get(label, "Give files with a certificate, or a private key")
            loot.remarks.append(Remark("warning", f"{name} has a {what}, which is neither certificate nor key", hint))


def _add(loot: Loot, name: str, certificate: x509.Certificate) -> None:
    facts = certificate_facts(certificate.public_bytes(Encoding.DER))
    loot.certificates.append(FoundCertificate(name, certificate, facts))


def _add_key(loot: Loot, name: str, block: bytes, password: bytes | None) -> None:
    encrypted = b"ENCRYPTED" in block[:200]
    if encrypted and password is None:
        sentence, hint = f"the key in {name} is encrypted", "Give a file with its password: --key-password-file"
        loot.remarks.append(Remark("warning", sentence, hint))
        loot.keys.append(FoundKey(name, None, "encrypted"))
        return
    try:
        key = load_pem_private_key(block, password if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        sentence = f"the key in {name} cannot be parsed: {error}"
        if encrypted:
            sentence = f"the key in {name} cannot be decrypted, most likely for a wrong password"
        loot.remarks.append(Remark("error", sentence, "Check the file, and the password if it has one"))
        loot.keys.append(FoundKey(name, None, "unreadable"))
        return
    loot.keys.append(FoundKey(name, key, _kind(key)))


def _read_der(loot: Loot, name: str, content: bytes, password: bytes | None) -> None:
    try:
        _add(loot, name, x509.load_der_x509_certificate(content))
    except (ValueError, x509.InvalidVersion):
        pass
    else:
        sentence = f"{name} is DER; most servers want PEM"
        loot.remarks.append(Remark("note", sentence, "openssl x509 -inform der -in FILE makes PEM of it"))
        return
    try:
        key = load_der_private_key(content, password)
    except TypeError:
        loot.remarks.append(Remark("warning", f"{name} is a DER key, encrypted, or not though a password was given"))
        loot.keys.append(FoundKey(name, None, "encrypted"))
        return
    except (ValueError, UnsupportedAlgorithm):
        pass
    else:
        loot.keys.append(FoundKey(name, key, _kind(key)))
        return
    sentence, hint = f"{name} is neither PEM nor DER", "A PEM file has lines such as -----BEGIN CERTIFICATE-----"
    if _is_pkcs12(content):
        sentence = f"{name} is a PKCS #12 archive (.p12, .pfx), which servers do not read"
        hint = "Take certificate and key out: openssl pkcs12 -in FILE -nodes -out server.pem"
    elif _is_pkcs7(content):
        sentence, hint = f"{name} is a PKCS #7 archive", "openssl pkcs7 -inform der -print_certs -in FILE"
    elif not content:
        sentence, hint = f"{name} is empty", "Check how it was made"
    loot.remarks.append(Remark("error", sentence, hint))


def _is_pkcs12(content: bytes) -> bool:
    try:
        pkcs12.load_pkcs12(content, None)
    except (ValueError, UnsupportedAlgorithm) as error:
        return "deserialize" not in str(error)  # it is one, but encrypted, or in an old way
    return True


def _is_pkcs7(content: bytes) -> bool:
    try:
        return bool(pkcs7.load_der_pkcs7_certificates(content))
    except (ValueError, UnsupportedAlgorithm):
        return False


def _look_at_mode(loot: Loot, path: str) -> None:
    mode = Path(path).stat().st_mode
    if stat.S_ISREG(mode) and mode & 0o077:
        sentence = f"{path} has a private key, and others than its owner may read or change it ({mode & 0o777:o})"
        loot.remarks.append(Remark("warning", sentence, f"chmod 600 {path}, or a group of its own for the server"))


def _kind(key: PrivateKeyTypes) -> str:
    kind = type(key).__name__.removesuffix("PrivateKey").removeprefix("_")
    curve = getattr(key, "curve", None)
    size = getattr(key, "key_size", None)
    if curve is not None:
        return f"EC {curve.name}"
    return f"{kind}, {size} bits" if size else kind
