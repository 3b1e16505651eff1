"""Who the ends of an interop connection are: a certificate for every kind of key, good ones and strange ones.

How this works. One ECDSA authority, the tests' own, issues all of them, so whatever a peer can sign with, its chain is
one that everybody can verify. The authority of the strange ones is trusted by nobody. A peer that is a command reads
files; `Files` writes each when it is first asked for.
"""

from __future__ import annotations

import datetime
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from trio_tls import Credential, SignatureScheme

from ...certificates import strange_authority
from ...support import HOST, authority
from ..peers import openssl_command

#: What encrypts PKCS #12 files: some programs refuse those without.
PASSWORD = "interop"

_MAKE: dict[str, Callable[[], CertificateIssuerPrivateKeyTypes]] = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "Ed448": ed448.Ed448PrivateKey.generate,
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "ML-DSA-44": mldsa.MLDSA44PrivateKey.generate,
    "ML-DSA-65": mldsa.MLDSA65PrivateKey.generate,
    "ML-DSA-87": mldsa.MLDSA87PrivateKey.generate,
}

#: The kind of key that each scheme signs with.
KEY_OF: dict[SignatureScheme, str] = {
    SignatureScheme.ecdsa_secp256r1_sha256: "P-256",
    SignatureScheme.ecdsa_secp384r1_sha384: "P-384",
    SignatureScheme.ecdsa_secp521r1_sha512: "P-521",
    SignatureScheme.ed25519: "Ed25519",
    SignatureScheme.ed448: "Ed448",
    SignatureScheme.rsa_pss_rsae_sha256: "RSA",
    SignatureScheme.rsa_pss_rsae_sha384: "RSA",
    SignatureScheme.rsa_pss_rsae_sha512: "RSA",
    SignatureScheme.rsa_pss_pss_sha256: "RSA-PSS",
    SignatureScheme.rsa_pss_pss_sha384: "RSA-PSS",
    SignatureScheme.rsa_pss_pss_sha512: "RSA-PSS",
    SignatureScheme.mldsa44: "ML-DSA-44",
    SignatureScheme.mldsa65: "ML-DSA-65",
    SignatureScheme.mldsa87: "ML-DSA-87",
}


@cache
def pem_of(key: str, *, strange: bool = False) -> bytes:
    """A certificate for `HOST`, of a server and of a client, and its private key; PEM.

    Args:
      key: the kind of key.
      strange: whether the authority that issues it is one that nobody trusts.
    """
    root = strange_authority() if strange else authority()
    if key == "RSA-PSS":
        return _with_pss_oid(root)
    private_key = _MAKE[key]()
    issuer = x509.load_pem_x509_certificate(root.cert_pem.bytes())
    issuer_key = load_pem_private_key(root.private_key_pem.bytes(), None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)]))
        .issuer_name(issuer.subject)
        .public_key(private_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private_key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
    )
    signed = certificate.sign(issuer_key, hashes.SHA256())
    return signed.public_bytes(Encoding.PEM) + private_key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


def _with_pss_oid(root: trustme.CA) -> bytes:
    """A certificate and key whose OID is id-RSASSA-PSS, which `cryptography` reads but does not make."""
    with (
        tempfile.TemporaryDirectory() as directory,
        root.cert_pem.tempfile() as ca,
        root.private_key_pem.tempfile() as ca_key,
    ):
        made = Path(directory) / "made.pem"
        extensions = (f"subjectAltName=DNS:{HOST}", "basicConstraints=critical,CA:FALSE")
        subprocess.run(
            [openssl_command(), "req", "-x509", "-newkey", "rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048", "-nodes"]
            + ["-CA", ca, "-CAkey", ca_key, "-subj", f"/CN={HOST}", "-keyout", f"{made}.key", "-out", str(made)]
            + [argument for extension in extensions for argument in ("-addext", extension)],
            check=True,
            capture_output=True,
        )
        return made.read_bytes() + Path(f"{made}.key").read_bytes()


@cache
def credential(key: str, *, strange: bool = False) -> Credential:
    """The same for our own end."""
    return Credential.from_pem(pem_of(key, strange=strange))


class Files:
    """What commands read, in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def authority(self, *, strange: bool = False) -> Path:
        """The CA to trust, PEM."""
        ca: trustme.CA = strange_authority() if strange else authority()
        return self._written(f"ca-{strange}.pem", ca.cert_pem.bytes())

    def pem(self, key: str, *, strange: bool = False) -> Path:
        """A certificate and its private key, PEM."""
        return self._written(f"{key}-{strange}.pem", pem_of(key, strange=strange))

    def pkcs12(self, key: str, *, strange: bool = False) -> Path:
        """The same as PKCS #12, under the friendly name ``leaf`` and `PASSWORD`."""
        pem = pem_of(key, strange=strange)
        private_key = load_pem_private_key(pem, None)
        assert isinstance(private_key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
        data = pkcs12.serialize_key_and_certificates(
            b"leaf",
            private_key,
            x509.load_pem_x509_certificate(pem),
            None,
            BestAvailableEncryption(PASSWORD.encode()),
        )
        return self._written(f"{key}-{strange}.p12", data)

    def _written(self, name: str, data: bytes) -> Path:
        path = self.directory / name
        if not path.exists():
            path.write_bytes(data)
        return path
