"""What fuzzing has found, each with the smallest input: it stays mended."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from trio_tls import Credential, TrustAnchors
from trio_tls.asgi import _subject
from trio_tls.identity import _identity
from trio_tls.machine.interface import ConnectionInfo
from trio_tls.machine.tls13.certificate_dict import certificate_dict

from .identities import BEGIN, END, credential

KEY = ec.derive_private_key(7, ec.SECP256R1())


def of_version_48() -> bytes:
    """A certificate whose version nobody knows: `cryptography` has an exception for that, which is no ValueError."""
    der = credential().der_chain[0]
    assert der.count(b"\xa0\x03\x02\x01\x02") == 1
    return der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x2f")


def pem_of(der: bytes) -> bytes:
    from base64 import encodebytes

    return b"-----BEGIN CERTIFICATE-----\n" + encodebytes(der) + b"-----END CERTIFICATE-----\n"


def test_a_credential_of_an_unknown_version_is_a_value_error() -> None:
    key: Any = credential()._key
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ValueError, match="certificate 1 is not DER that can be parsed: 47 is not a valid X509 version"):
        Credential.from_der([of_version_48()], der)
    with pytest.raises(ValueError, match="cannot be parsed: 47 is not a valid X509 version"):
        Credential.from_pem(pem_of(of_version_48()) + pem)


def test_trust_anchors_of_an_unknown_version_are_a_value_error() -> None:
    with pytest.raises(ValueError, match="is not a DER certificate: 47 is not a valid X509 version"):
        TrustAnchors.from_der(of_version_48())
    with pytest.raises(ValueError, match="no certificate that can be parsed: 47 is not a valid X509 version"):
        TrustAnchors.from_pem(pem_of(of_version_48()))


def test_a_peers_certificate_of_an_unknown_version_is_a_value_error_where_it_was_not_verified() -> None:
    info = ConnectionInfo("TLSv1.3", "", None, None, None, None, False, peer_chain=(of_version_48(),))
    with pytest.raises(ValueError, match="a certificate of the peer cannot be parsed"):
        info.peer_certificates  # noqa: B018  # a property that parses


def odd_subject(changed: bytes) -> bytes:
    """A certificate whose subject has a bit string where text belongs."""
    attribute = x509.NameAttribute(NameOID.X500_UNIQUE_IDENTIFIER, b"\0bits", _ASN1Type.BitString)
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a CA")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([attribute]))
        .issuer_name(issuer)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(BEGIN)
        .not_valid_after(END)
        .sign(KEY, hashes.SHA256())
    )
    der = certificate.public_bytes(Encoding.DER)
    assert der.count(b"\x06\x03\x55\x04\x2d\x03\x05\0bits") == 1
    return der.replace(b"\x06\x03\x55\x04\x2d\x03\x05\0bits", changed)


@pytest.mark.parametrize(
    "changed", [b"\x06\x03\x55\x04\x03\x03\x05\0bits", b"\x06\x03\x55\x04\x03\x0c\x05\xffbits"], ids=["bits", "no text"]
)
def test_a_subject_that_cannot_be_read_is_told_as_empty(changed: bytes) -> None:
    told = certificate_dict(odd_subject(changed))
    assert told["subject"] == ()
    assert told["issuer"] == ((("commonName", "a CA"),),)
    with pytest.raises(ValueError, match="the subject of the peer's certificate cannot be read"):
        _identity((x509.load_der_x509_certificate(odd_subject(changed)),))
    assert _subject(odd_subject(changed)) == ""


def test_an_ed448_key_of_the_size_of_an_ed25519_key_is_a_value_error() -> None:
    key = bytes.fromhex("302e020100300506032b6571042204 20".replace(" ", "")) + bytes(range(32))
    with pytest.raises(ValueError, match="the private key in the DER key cannot be parsed"):
        Credential.from_der(credential().der_chain, key)
