"""Signature schemes: each belongs to one kind of key, and says so with the right alert."""

from __future__ import annotations

import datetime
import functools
from dataclasses import FrozenInstanceError

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, padding, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import NameOID

from trio_tls.alerts import Alert
from trio_tls.errors import CertificateVerificationError, PeerMisbehaved
from trio_tls.machine.tls13 import signatures as signatures_module
from trio_tls.machine.tls13.registry import SignatureScheme as Scheme
from trio_tls.machine.tls13.signatures import (
    CERTIFICATE_SCHEMES,
    DEFAULT_SCHEMES,
    VerifiedSignature,
    algorithm_for,
    certificate_verify_content,
    scheme_name,
    schemes_of,
    schemes_of_certificate,
    verify,
)
from trio_tls.machine.tls13.transcript import Transcript

from .traces import messages

CONTENT = b"what is signed"

RSAE = (Scheme.rsa_pss_rsae_sha256, Scheme.rsa_pss_rsae_sha384, Scheme.rsa_pss_rsae_sha512)
PSS = (Scheme.rsa_pss_pss_sha256, Scheme.rsa_pss_pss_sha384, Scheme.rsa_pss_pss_sha512)

#: Kinds of keys, and the schemes that each can sign by.
SCHEMES_BY_KEY: dict[str, tuple[Scheme, ...]] = {
    "P-256": (Scheme.ecdsa_secp256r1_sha256,),
    "P-384": (Scheme.ecdsa_secp384r1_sha384,),
    "P-521": (Scheme.ecdsa_secp521r1_sha512,),
    "Ed25519": (Scheme.ed25519,),
    "Ed448": (Scheme.ed448,),
    "RSA": RSAE,
    "RSA-PSS": PSS,
    "ML-DSA-44": (Scheme.mldsa44,),
    "ML-DSA-65": (Scheme.mldsa65,),
    "ML-DSA-87": (Scheme.mldsa87,),
}

ALL_KEYS = pytest.mark.parametrize("kind", SCHEMES_BY_KEY)


@functools.cache
def private_key(kind: str) -> PrivateKeyTypes:
    match kind:
        case "P-256":
            return ec.generate_private_key(ec.SECP256R1())
        case "P-384":
            return ec.generate_private_key(ec.SECP384R1())
        case "P-521":
            return ec.generate_private_key(ec.SECP521R1())
        case "secp256k1":
            return ec.generate_private_key(ec.SECP256K1())
        case "Ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "Ed448":
            return ed448.Ed448PrivateKey.generate()
        case "ML-DSA-44":
            return mldsa.MLDSA44PrivateKey.generate()
        case "ML-DSA-65":
            return mldsa.MLDSA65PrivateKey.generate()
        case "ML-DSA-87":
            return mldsa.MLDSA87PrivateKey.generate()
        case "X25519":
            return x25519.X25519PrivateKey.generate()
        case "RSA-1024" | "RSA-2047" | "RSA-3072":
            return rsa.generate_private_key(65537, int(kind[4:]))
        case _:
            return rsa.generate_private_key(65537, 2048)


@functools.cache
def certificate(kind: str) -> x509.Certificate:
    """A certificate for `private_key`; its issuer does not matter here."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, kind)])
    issued = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private_key(kind).public_key())  # type: ignore[arg-type]  # none of Diffie-Hellman is made here
        .serial_number(1)
        .not_valid_before(datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc))
        .not_valid_after(datetime.datetime(2036, 1, 1, tzinfo=datetime.timezone.utc))
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )
    if kind != "RSA-PSS":
        return issued
    # The library makes no certificates with the OID id-RSASSA-PSS, so the other RSA OID is turned into it.
    der = issued.public_bytes(serialization.Encoding.DER)
    rsa_encryption, rsassa_pss = (
        bytes.fromhex("06092a864886f70d0101010500"),
        bytes.fromhex("06092a864886f70d01010a3000"),
    )
    assert der.count(rsa_encryption) == 1
    return x509.load_der_x509_certificate(der.replace(rsa_encryption, rsassa_pss))


def sign(key: PrivateKeyTypes, scheme: int, content: bytes) -> bytes:
    return algorithm_for(key, scheme).sign(key, content)


def refused(kind: str, scheme: int, signature: bytes, content: bytes = CONTENT) -> Alert | None:
    with pytest.raises(PeerMisbehaved) as caught:
        verify(certificate(kind), scheme, signature, content)
    assert "4.5.2" in str(caught.value)
    return caught.value.alert


# -- what fits what --------------------------------------------------------------------------------------------


@ALL_KEYS
def test_each_key_has_its_schemes_in_our_order(kind: str) -> None:
    assert schemes_of_certificate(certificate(kind)) == SCHEMES_BY_KEY[kind]
    assert schemes_of(private_key(kind).public_key(), pss_oid=kind == "RSA-PSS") == SCHEMES_BY_KEY[kind]


@pytest.mark.parametrize("kind", ["secp256k1", "X25519"])
def test_a_key_of_no_scheme_has_none(kind: str) -> None:
    assert schemes_of_certificate(certificate(kind)) == ()
    with pytest.raises(ValueError, match="cannot sign"):
        sign(private_key(kind), Scheme.ecdsa_secp256r1_sha256, CONTENT)
    assert refused(kind, Scheme.ecdsa_secp256r1_sha256, b"") is Alert.illegal_parameter


def test_a_certificate_whose_key_nobody_knows_has_no_scheme() -> None:
    der = certificate("Ed25519").public_bytes(serialization.Encoding.DER)
    ed25519_oid, unknown_oid = bytes.fromhex("06032b6570"), bytes.fromhex("06032b657f")
    assert der.count(ed25519_oid) == 1
    odd = x509.load_der_x509_certificate(der.replace(ed25519_oid, unknown_oid))
    assert schemes_of_certificate(odd) == ()
    with pytest.raises(PeerMisbehaved) as caught:
        verify(odd, Scheme.ed25519, bytes(64), CONTENT)
    assert caught.value.alert is Alert.illegal_parameter


def test_an_rsa_key_that_is_too_short_for_a_hash_does_not_sign_with_it() -> None:
    assert schemes_of(private_key("RSA-1024").public_key(), pss_oid=False) == RSAE[:2]
    with pytest.raises(ValueError, match="rsa_pss_rsae_sha512"):
        sign(private_key("RSA-1024"), Scheme.rsa_pss_rsae_sha512, CONTENT)


@pytest.mark.parametrize("kind", ["RSA-1024", "RSA-2047"])
def test_a_peer_with_a_small_rsa_key_is_refused_whatever_it_signed(kind: str) -> None:
    for signature in (sign(private_key(kind), Scheme.rsa_pss_rsae_sha256, CONTENT), b""):
        error = not_accepted(kind, signature)
        assert f"'CN={kind}' was not accepted: it has an RSA key of {kind[4:]} bits, and not of 2048 to 8192" in str(
            error
        )
        assert "2048 to 4096" in error.hint


def test_a_peer_with_a_huge_rsa_key_is_refused_before_its_signature_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signatures_module, "GREATEST_RSA_BITS", 2048)  # a real one would take long to make
    assert "an RSA key of 3072 bits" in str(not_accepted("RSA-3072", b"no signature"))
    right = sign(private_key("RSA"), Scheme.rsa_pss_rsae_sha256, CONTENT)
    assert verify(certificate("RSA"), Scheme.rsa_pss_rsae_sha256, right, CONTENT).certificate == certificate("RSA")


def not_accepted(kind: str, signature: bytes) -> CertificateVerificationError:
    with pytest.raises(CertificateVerificationError) as caught:
        verify(certificate(kind), Scheme.rsa_pss_rsae_sha256, signature, CONTENT)
    error = caught.value
    assert error.alert is Alert.bad_certificate
    assert error.presented_chain == (certificate(kind).public_bytes(serialization.Encoding.DER),)
    return error


def test_what_is_offered_is_what_can_be_verified() -> None:
    assert tuple(scheme for schemes in SCHEMES_BY_KEY.values() for scheme in schemes) == DEFAULT_SCHEMES


def test_row_68_pkcs1_is_for_certificates_alone() -> None:
    pkcs1 = {Scheme.rsa_pkcs1_sha256, Scheme.rsa_pkcs1_sha384, Scheme.rsa_pkcs1_sha512}
    assert set(CERTIFICATE_SCHEMES) - set(DEFAULT_SCHEMES) == pkcs1
    assert CERTIFICATE_SCHEMES[: len(DEFAULT_SCHEMES)] == DEFAULT_SCHEMES
    key = private_key("RSA")
    assert isinstance(key, rsa.RSAPrivateKey)
    signature = key.sign(CONTENT, padding.PKCS1v15(), hashes.SHA256())
    assert refused("RSA", Scheme.rsa_pkcs1_sha256, signature) is Alert.illegal_parameter
    assert refused("RSA", Scheme.rsa_pss_rsae_sha256, signature) is Alert.decrypt_error


def test_schemes_have_names() -> None:
    assert scheme_name(0x0403) == "ecdsa_secp256r1_sha256"
    assert "0xfe01" in scheme_name(0xFE01)


# -- signing and verifying ---------------------------------------------------------------------------------------


@ALL_KEYS
def test_what_was_signed_verifies(kind: str) -> None:
    for scheme in SCHEMES_BY_KEY[kind]:
        proof = verify(certificate(kind), scheme, sign(private_key(kind), scheme, CONTENT), CONTENT)
        assert proof == VerifiedSignature(certificate(kind), scheme)
        with pytest.raises(FrozenInstanceError):
            proof.scheme = 0  # type: ignore[misc]


@ALL_KEYS
def test_row_68_a_wrong_signature_is_a_decrypt_error(kind: str) -> None:
    scheme = SCHEMES_BY_KEY[kind][0]
    signature = sign(private_key(kind), scheme, CONTENT)
    assert refused(kind, scheme, signature, b"something else") is Alert.decrypt_error
    assert refused(kind, scheme, signature[:-1] + bytes((signature[-1] ^ 1,))) is Alert.decrypt_error
    assert refused(kind, scheme, signature[:-1]) is Alert.decrypt_error
    assert refused(kind, scheme, b"") is Alert.decrypt_error


@ALL_KEYS
def test_row_68_a_scheme_that_is_not_for_the_key_is_an_illegal_parameter(kind: str) -> None:
    signature = sign(private_key(kind), SCHEMES_BY_KEY[kind][0], CONTENT)
    for scheme in {*CERTIFICATE_SCHEMES, Scheme.rsa_pkcs1_sha1, Scheme.ecdsa_sha1, 0x0A0A, 0}:
        if scheme not in SCHEMES_BY_KEY[kind]:
            assert refused(kind, scheme, signature) is Alert.illegal_parameter


def test_row_68_an_ecdsa_scheme_names_its_curve() -> None:
    """The library itself verifies a SHA-256 signature with any curve."""
    for kind, curve_hash in (("P-521", hashes.SHA256()), ("P-384", hashes.SHA256())):
        key = private_key(kind)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        signature = key.sign(CONTENT, ec.ECDSA(curve_hash))
        key.public_key().verify(signature, CONTENT, ec.ECDSA(curve_hash))
        assert refused(kind, Scheme.ecdsa_secp256r1_sha256, signature) is Alert.illegal_parameter
        assert refused(kind, SCHEMES_BY_KEY[kind][0], signature) is Alert.decrypt_error


def test_row_68_rsae_and_pss_are_told_apart_by_the_oid_of_the_key() -> None:
    for kind, wrong in (("RSA", PSS), ("RSA-PSS", RSAE)):
        for right_scheme, wrong_scheme in zip(SCHEMES_BY_KEY[kind], wrong, strict=True):
            signature = sign(private_key(kind), right_scheme, CONTENT)
            assert verify(certificate(kind), right_scheme, signature, CONTENT).scheme == right_scheme
            assert refused(kind, wrong_scheme, signature) is Alert.illegal_parameter


@pytest.mark.parametrize("salt", [0, 20, 31, 33, "max"])
def test_row_68_the_salt_is_as_long_as_the_hash(salt: int | str) -> None:
    key = private_key("RSA")
    assert isinstance(key, rsa.RSAPrivateKey)
    length = padding.PSS.MAX_LENGTH if isinstance(salt, str) else salt
    signature = key.sign(CONTENT, padding.PSS(padding.MGF1(hashes.SHA256()), length), hashes.SHA256())
    assert refused("RSA", Scheme.rsa_pss_rsae_sha256, signature) is Alert.decrypt_error


def test_signing_by_a_scheme_that_is_not_for_the_key_is_our_own_mistake() -> None:
    for kind, scheme in (("P-256", Scheme.ecdsa_secp384r1_sha384), ("RSA", Scheme.rsa_pkcs1_sha256), ("Ed448", 0x0A0A)):
        with pytest.raises(ValueError, match="cannot sign by"):
            sign(private_key(kind), scheme, CONTENT)


# -- CertificateVerify -------------------------------------------------------------------------------------------


def test_row_69_the_example_of_section_4_5_2() -> None:
    assert certificate_verify_content(server=True, transcript_hash=b"\x01" * 32).hex() == (
        "2020202020202020202020202020202020202020202020202020202020202020"
        "2020202020202020202020202020202020202020202020202020202020202020"
        "544c5320312e332c207365727665722043657274696669636174655665726966"
        "79"
        "00"
        "0101010101010101010101010101010101010101010101010101010101010101"
    )


def test_row_69_the_client_signs_something_else() -> None:
    content = certificate_verify_content(server=False, transcript_hash=b"\x02" * 48)
    assert content == b" " * 64 + b"TLS 1.3, client CertificateVerify\0" + b"\x02" * 48


@pytest.mark.parametrize(
    ("trace", "expected"),
    [("Simple 1-RTT Handshake", ["server"]), ("Client Authentication", ["server", "client"])],
)
def test_the_signatures_of_rfc_8448_verify(trace: str, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signatures_module, "LEAST_RSA_BITS", 1024)  # the server's key has no more
    transcript = Transcript()
    transcript.choose(hashes.SHA256())
    presented: x509.Certificate | None = None
    signers = []
    for side, message in messages(trace):
        if message[0] == 11:
            length = int.from_bytes(message[8:11], "big")
            presented = x509.load_der_x509_certificate(message[11 : 11 + length])
        elif message[0] == 15:
            assert presented is not None
            scheme, signature = int.from_bytes(message[4:6], "big"), message[8:]
            content = certificate_verify_content(server=side == "server", transcript_hash=transcript.digest())
            assert verify(presented, scheme, signature, content).certificate is presented
            signers.append(side)
        transcript.add(message)
    assert signers == expected
