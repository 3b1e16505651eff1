"""Signature schemes: which key may sign how, and the CertificateVerify (RFC 9846 sections 4.3.3 and 4.5.2).

How this works. One table binds each scheme to the one kind of key that it belongs to. The library would gladly
verify a SHA-256 signature with a P-521 key, and takes every RSA key for alike; in TLS 1.3 the scheme names the
curve, and tells a key of the OID rsaEncryption from one of id-RSASSA-PSS. So a signature is checked in three steps,
with an alert each: is an RSA key neither forgeable nor costly (bad_certificate), does the scheme fit the key
(illegal_parameter), and is the signature right (decrypt_error). The first is done here, and not left to the verifier
of chains, because that is asked later, and may be a function that looks at no sizes.

`VerifiedSignature` is the proof that this was done; `verify` alone makes one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import PublicKeyAlgorithmOID

from ...alerts import Alert
from ...errors import CertificateVerificationError
from ...names import subject_of
from .misbehaviour import decrypt_error, illegal_parameter
from .registry import SignatureScheme, name_of

__all__ = [
    "CERTIFICATE_SCHEMES",
    "DEFAULT_SCHEMES",
    "VerifiedSignature",
    "algorithm_for",
    "certificate_verify_content",
    "scheme_name",
    "schemes_of",
    "schemes_of_certificate",
    "verify",
]

#: Bits of a peer's RSA key. Signatures of smaller ones can be forged; those of larger ones take long to verify.
LEAST_RSA_BITS, GREATEST_RSA_BITS = 2048, 8192


@dataclass(frozen=True, slots=True)
class _RSA:
    """RSASSA-PSS. "The length of the Salt MUST be equal to the length of the output of the digest algorithm"."""

    hash: hashes.HashAlgorithm
    pss_oid: bool

    def fits(self, key: PublicKeyTypes, *, pss_oid: bool) -> bool:
        # EMSA-PSS needs room for the digest, the salt and two bytes (RFC 8017 section 9.1.1).
        return (
            isinstance(key, rsa.RSAPublicKey)
            and pss_oid == self.pss_oid
            and key.key_size >= 8 * (2 * self.hash.digest_size + 2)
        )

    def sign(self, key: PrivateKeyTypes, content: bytes) -> bytes:
        return cast("rsa.RSAPrivateKey", key).sign(content, self._padding(), self.hash)

    def verify(self, key: PublicKeyTypes, signature: bytes, content: bytes) -> None:
        cast("rsa.RSAPublicKey", key).verify(signature, content, self._padding(), self.hash)

    def _padding(self) -> padding.PSS:
        return padding.PSS(padding.MGF1(self.hash), self.hash.digest_size)


@dataclass(frozen=True, slots=True)
class _ECDSA:
    """ECDSA, on the one curve that the scheme names."""

    algorithm: ec.ECDSA
    curve: str

    def fits(self, key: PublicKeyTypes, *, pss_oid: bool) -> bool:
        return isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == self.curve

    def sign(self, key: PrivateKeyTypes, content: bytes) -> bytes:
        return cast("ec.EllipticCurvePrivateKey", key).sign(content, self.algorithm)

    def verify(self, key: PublicKeyTypes, signature: bytes, content: bytes) -> None:
        cast("ec.EllipticCurvePublicKey", key).verify(signature, content, self.algorithm)


_PurePublicKey = (
    ed25519.Ed25519PublicKey
    | ed448.Ed448PublicKey
    | mldsa.MLDSA44PublicKey
    | mldsa.MLDSA65PublicKey
    | mldsa.MLDSA87PublicKey
)
_PurePrivateKey = (
    ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | mldsa.MLDSA44PrivateKey
    | mldsa.MLDSA65PrivateKey
    | mldsa.MLDSA87PrivateKey
)


@dataclass(frozen=True, slots=True)
class _Pure:
    """EdDSA and ML-DSA: the key alone says how to sign, and nothing is hashed beforehand."""

    kind: type[_PurePublicKey]

    def fits(self, key: PublicKeyTypes, *, pss_oid: bool) -> bool:
        return isinstance(key, self.kind)

    def sign(self, key: PrivateKeyTypes, content: bytes) -> bytes:
        return cast("_PurePrivateKey", key).sign(content)

    def verify(self, key: PublicKeyTypes, signature: bytes, content: bytes) -> None:
        cast("_PurePublicKey", key).verify(signature, content)


Algorithm: TypeAlias = _ECDSA | _RSA | _Pure

#: Every scheme of a CertificateVerify, the preferred ones first. RSASSA-PKCS1-v1_5 and SHA-1 "are not defined for
#: use in signed TLS handshake messages" (section 4.3.3), so they are not here.
_SCHEMES: dict[int, Algorithm] = {
    SignatureScheme.ecdsa_secp256r1_sha256: _ECDSA(ec.ECDSA(hashes.SHA256()), "secp256r1"),
    SignatureScheme.ecdsa_secp384r1_sha384: _ECDSA(ec.ECDSA(hashes.SHA384()), "secp384r1"),
    SignatureScheme.ecdsa_secp521r1_sha512: _ECDSA(ec.ECDSA(hashes.SHA512()), "secp521r1"),
    SignatureScheme.ed25519: _Pure(ed25519.Ed25519PublicKey),
    SignatureScheme.ed448: _Pure(ed448.Ed448PublicKey),
    SignatureScheme.rsa_pss_rsae_sha256: _RSA(hashes.SHA256(), pss_oid=False),
    SignatureScheme.rsa_pss_rsae_sha384: _RSA(hashes.SHA384(), pss_oid=False),
    SignatureScheme.rsa_pss_rsae_sha512: _RSA(hashes.SHA512(), pss_oid=False),
    SignatureScheme.rsa_pss_pss_sha256: _RSA(hashes.SHA256(), pss_oid=True),
    SignatureScheme.rsa_pss_pss_sha384: _RSA(hashes.SHA384(), pss_oid=True),
    SignatureScheme.rsa_pss_pss_sha512: _RSA(hashes.SHA512(), pss_oid=True),
    SignatureScheme.mldsa44: _Pure(mldsa.MLDSA44PublicKey),
    SignatureScheme.mldsa65: _Pure(mldsa.MLDSA65PublicKey),
    SignatureScheme.mldsa87: _Pure(mldsa.MLDSA87PublicKey),
}

#: What ``signature_algorithms`` offers: all that `verify` can verify.
DEFAULT_SCHEMES: tuple[int, ...] = tuple(_SCHEMES)

#: What ``signature_algorithms_cert`` offers: "These values refer solely to signatures which appear in certificates".
CERTIFICATE_SCHEMES: tuple[int, ...] = (
    *DEFAULT_SCHEMES,
    SignatureScheme.rsa_pkcs1_sha256,
    SignatureScheme.rsa_pkcs1_sha384,
    SignatureScheme.rsa_pkcs1_sha512,
)


@dataclass(frozen=True, slots=True)
class VerifiedSignature:
    """The proof that the holder of ``certificate``'s key signed this handshake.

    Attributes:
      certificate: the end-entity certificate.
      scheme: the SignatureScheme number.
    """

    certificate: x509.Certificate
    scheme: int


def scheme_name(scheme: int) -> str:
    """As the registry writes it."""
    return name_of(SignatureScheme, scheme)


def schemes_of(public_key: PublicKeyTypes, *, pss_oid: bool) -> tuple[int, ...]:
    """The schemes that a key can sign with, the preferred ones first; empty if there is none.

    Args:
      public_key: the key.
      pss_oid: for an RSA key, whether its OID is id-RSASSA-PSS and not rsaEncryption.
    """
    return tuple(number for number, scheme in _SCHEMES.items() if scheme.fits(public_key, pss_oid=pss_oid))


def schemes_of_certificate(certificate: x509.Certificate) -> tuple[int, ...]:
    """`schemes_of` the key in a certificate; empty if it is of a kind that nobody here knows."""
    key, pss_oid = _key_of(certificate)
    return () if key is None else schemes_of(key, pss_oid=pss_oid)


def certificate_verify_content(*, server: bool, transcript_hash: bytes) -> bytes:
    """What a CertificateVerify signs.

    Args:
      server: whether the server sends it.
      transcript_hash: of all messages up to the Certificate.
    """
    context = b"TLS 1.3, server CertificateVerify" if server else b"TLS 1.3, client CertificateVerify"
    return b" " * 64 + context + b"\0" + transcript_hash


def algorithm_for(private_key: PrivateKeyTypes, scheme: int) -> Algorithm:
    """What signs with a key by a scheme: its ``sign`` takes the key and the content.

    Raises:
      ValueError: the key is none that can sign by this scheme.
    """
    algorithm = _SCHEMES.get(scheme)
    public_key = private_key.public_key()
    if algorithm is None or not any(algorithm.fits(public_key, pss_oid=pss_oid) for pss_oid in (False, True)):
        raise ValueError(f"a key of the type {type(private_key).__name__} cannot sign by {scheme_name(scheme)}")
    return algorithm


def verify(certificate: x509.Certificate, scheme: int, signature: bytes, content: bytes) -> VerifiedSignature:
    """Verify the signature of a CertificateVerify.

    Whether ``scheme`` was offered at all is the caller's to check.

    Args:
      certificate: the peer's end-entity certificate.
      scheme: the SignatureScheme number that the peer named.
      signature: what it sent.
      content: `certificate_verify_content`.

    Raises:
      CertificateVerificationError: bad_certificate: the key is an RSA key of less than 2048 or more than 8192 bits.
      PeerMisbehaved: illegal_parameter, if the scheme is not one for this key; decrypt_error, if the signature is
        wrong.
    """
    algorithm = _SCHEMES.get(scheme)
    key, pss_oid = _key_of(certificate)
    if isinstance(key, rsa.RSAPublicKey) and not LEAST_RSA_BITS <= key.key_size <= GREATEST_RSA_BITS:
        what = f"an RSA key of {key.key_size} bits, and not of {LEAST_RSA_BITS} to {GREATEST_RSA_BITS}"
        raise CertificateVerificationError(
            f"the peer's certificate {subject_of(certificate)} was not accepted: it has {what}",
            hint="Issue it with an RSA key of 2048 to 4096 bits, or with an ECDSA key",
            alert=Alert.bad_certificate,
            presented_chain=(certificate.public_bytes(Encoding.DER),),
            verify_message=what,
        )
    if algorithm is None or key is None or not algorithm.fits(key, pss_oid=pss_oid):
        # "the signature algorithm MUST be compatible with the key in the sender's end-entity certificate"
        raise illegal_parameter(f"the peer signed by {scheme_name(scheme)}, which is not for its key", "4.5.2")
    try:
        algorithm.verify(key, signature, content)
    except InvalidSignature:
        raise decrypt_error("the signature of the peer's CertificateVerify is wrong", "4.5.2") from None
    return VerifiedSignature(certificate, scheme)


def _key_of(certificate: x509.Certificate) -> tuple[PublicKeyTypes | None, bool]:
    """The key in a certificate, None if nobody here knows its kind; and whether its OID is id-RSASSA-PSS."""
    try:
        key = certificate.public_key()
    except (UnsupportedAlgorithm, ValueError):
        return None, False
    return key, certificate.public_key_algorithm_oid == PublicKeyAlgorithmOID.RSASSA_PSS
