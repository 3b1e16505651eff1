"""The accessors of `ssl`, answered by our own machine: compared with what `ssl` says of the same things.

``row_N`` in a name numbers a known pitfall of TLS implementations.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from tests.support import HOST, client_certificate, client_context, server_certificate, server_context
from trio_tls.machine.interface import Introspection
from trio_tls.machine.tls13.certificate_dict import ATTRIBUTE_TYPES, certificate_dict
from trio_tls.machine.tls13.channel_binding import channel_binding, server_end_point
from trio_tls.machine.tls13.introspection import TLS13Introspection
from trio_tls.machine.tls13.key_schedule import Secret, export_keying_material
from trio_tls.machine.tls13.registry import CipherSuiteNumber
from trio_tls.machine.tls13.suites import SUITES

SUITE = SUITES[CipherSuiteNumber.TLS_AES_128_GCM_SHA256]
KEY = ec.generate_private_key(ec.SECP256R1())
SHA256 = hashes.SHA256()


def told(der: bytes, directory: Path) -> dict[str, Any]:
    """What `ssl` makes of a certificate that it has verified."""
    path = directory / "certificate.pem"
    path.write_text(ssl.DER_cert_to_PEM_cert(der))
    decoded: dict[str, Any] = ssl._ssl._test_decode_cert(str(path))  # type: ignore[attr-defined]
    return decoded


def named(*attributes: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])


def issue(
    *extensions: x509.ExtensionType,
    subject: x509.Name | None = None,
    serial: int = 5,
    begins: datetime.datetime = datetime.datetime(2018, 1, 5, 9, 34, 43),
    ends: datetime.datetime = datetime.datetime(2049, 12, 31, 23, 59, 59),
    key: CertificateIssuerPrivateKeyTypes = KEY,
    algorithm: Any = SHA256,
    rsa_padding: Any = None,
) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject or named((NameOID.COMMON_NAME, "subject")))
        .issuer_name(named((NameOID.COUNTRY_NAME, "DE"), (NameOID.ORGANIZATION_NAME, "Prüfstelle")))
        .public_key(KEY.public_key())
        .serial_number(serial)
        .not_valid_before(begins)
        .not_valid_after(ends)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, algorithm, rsa_padding=rsa_padding).public_bytes(Encoding.DER)


def der_of(certificate: trustme.LeafCert) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())


SEVERAL_IN_ONE = x509.Name(
    [
        x509.RelativeDistinguishedName(
            [x509.NameAttribute(NameOID.COMMON_NAME, "both"), x509.NameAttribute(NameOID.SURNAME, "at once")]
        ),
        x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "then this")]),
    ]
)
SPECIAL_NAMES: list[x509.GeneralName] = [
    x509.OtherName(x509.ObjectIdentifier("1.2.3.4"), b"\x0c\x03abc"),
    x509.OtherName(x509.ObjectIdentifier("1.2.3.4"), b"\x30\x00"),
]
if ssl.OPENSSL_VERSION_INFO >= (3, 0):  # before, it could not show them
    SPECIAL_NAMES += [
        x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x07me@here"),
        x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x16\x03abc"),
        x509.OtherName(x509.ObjectIdentifier("1.3.6.1.5.5.7.8.5"), b"\x0c\x81\x82" + b"x" * 130),
        x509.OtherName(x509.ObjectIdentifier("1.3.6.1.5.5.7.8.7"), b"\x16\x09_imap.org"),
        x509.OtherName(x509.ObjectIdentifier("1.3.6.1.5.5.7.8.9"), b"\x0c\x04\xc3\xbc@x"),
    ]


def uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


def point(*names: x509.GeneralName) -> x509.DistributionPoint:
    return x509.DistributionPoint(names, None, None, None)


OCSP, CA_ISSUERS = AuthorityInformationAccessOID.OCSP, AuthorityInformationAccessOID.CA_ISSUERS

CERTIFICATES = {
    "plain": issue(),
    "no subject": issue(x509.SubjectAlternativeName([x509.DNSName("a.example")]), subject=x509.Name([])),
    "several attributes in one relative name": issue(subject=SEVERAL_IN_ONE),
    "an attribute type that nobody knows": issue(subject=named((x509.ObjectIdentifier("1.2.3.4.5"), "value"))),
    "every attribute type": issue(
        subject=named(
            *(
                (x509.ObjectIdentifier(oid), "DE")
                for oid, name in ATTRIBUTE_TYPES.items()
                if name != "x500UniqueIdentifier"  # a BIT STRING
            )
        )
    ),
    "a large serial number": issue(serial=0x123456789ABCDEF0123456789ABCDEF0123456),
    "a serial number of even digits": issue(serial=0xABCD),
    "dates after 2049": issue(
        begins=datetime.datetime(2049, 12, 31, 23, 59, 59), ends=datetime.datetime(2050, 2, 28, 0, 0, 0)
    ),
    "dates before 2000": issue(begins=datetime.datetime(1970, 1, 1), ends=datetime.datetime(1999, 10, 11, 1, 2, 3)),
    "alternative names": issue(
        x509.SubjectAlternativeName(
            [
                x509.DNSName("a.example"),
                x509.DNSName("*.b.example"),
                x509.IPAddress(ipaddress.ip_address("10.0.0.1")),
                x509.IPAddress(ipaddress.ip_address("::1")),
                x509.IPAddress(ipaddress.ip_address("2001:db8::abcd:1")),
                x509.RFC822Name("somebody@example.org"),
                uri("https://example.org:443/path"),
                x509.DirectoryName(SEVERAL_IN_ONE),
                x509.RegisteredID(x509.ObjectIdentifier("1.2.3.4")),
                x509.RegisteredID(NameOID.COMMON_NAME),
                *SPECIAL_NAMES,
            ]
        )
    ),
    "where to ask and to look": issue(
        x509.AuthorityInformationAccess(
            [
                x509.AccessDescription(OCSP, uri("http://ocsp.example")),
                x509.AccessDescription(CA_ISSUERS, uri("http://ca.example")),
                x509.AccessDescription(OCSP, uri("http://ocsp2.example")),
                x509.AccessDescription(OCSP, x509.DNSName("no-uri.example")),
            ]
        ),
        x509.CRLDistributionPoints(
            [point(uri("http://crl.example"), x509.DNSName("no-uri.example")), point(uri("http://crl2.example"))]
        ),
    ),
    "places that are no URIs": issue(
        x509.AuthorityInformationAccess([x509.AccessDescription(OCSP, x509.DNSName("no-uri.example"))]),
        x509.CRLDistributionPoints([point(x509.DNSName("no-uri.example"))]),
    ),
    "a server's": der_of(server_certificate()),
    "a client's": der_of(client_certificate()),
}


@pytest.mark.parametrize("name", CERTIFICATES)
def test_a_certificate_is_told_as_ssl_tells_it(name: str, tmp_path: Path) -> None:
    assert certificate_dict(CERTIFICATES[name]) == told(CERTIFICATES[name], tmp_path)


def test_the_attribute_types_have_the_names_that_openssl_gives_them() -> None:
    named_by_openssl = {
        oid: ssl._ssl.txt2obj(oid, name=False)[2]  # type: ignore[attr-defined]
        for oid in ATTRIBUTE_TYPES
    }
    assert named_by_openssl == ATTRIBUTE_TYPES


def test_a_unique_identifier_is_told_as_bytes() -> None:
    bits = x509.NameAttribute(
        NameOID.X500_UNIQUE_IDENTIFIER,
        b"\x00\x2a",
        x509.name._ASN1Type.BitString,  # cryptography has no public name for it
    )
    told_ours = certificate_dict(issue(subject=x509.Name([bits])))
    assert told_ours["subject"] == ((("x500UniqueIdentifier", b"\x2a"),),)


def test_an_extension_that_cannot_be_read_is_left_out() -> None:
    broken = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\x30\x02\xa5\x00")  # an ediPartyName
    assert "subjectAltName" not in certificate_dict(issue(broken))


# -- the accessors ---------------------------------------------------------------------------------------------------


def introspection(
    *,
    server_side: bool = False,
    alpn_protocol: bytes | None = None,
    peer_chain: tuple[bytes, ...] = (),
    verified_chain: tuple[bytes, ...] | None = None,
    session_reused: bool = False,
) -> Introspection:
    return TLS13Introspection(
        server_side=server_side,
        suite=SUITE,
        alpn_protocol=alpn_protocol,
        peer_chain=peer_chain,
        verified_chain=verified_chain,
        session_reused=session_reused,
        shared_suites=(SUITE,),
        channel_binding=lambda kind: channel_binding(kind, server_end_point=b"end", export=export),
    )


def export(label: bytes, context: bytes, length: int) -> bytes:
    return export_keying_material(SUITE, Secret(bytes(32)), label, context, length)


def shaken_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=HOST),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(3):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
    return ends


def test_the_answers_have_the_values_and_shapes_of_ssl() -> None:
    client, server = client_context(), server_context()
    for context in (client, server):
        context.set_alpn_protocols(["h2"])
    for theirs in shaken_hands(client, server):
        suite = next(each for each in SUITES.values() if each.name == (theirs.cipher() or ("",))[0])
        ours = TLS13Introspection(
            server_side=theirs.server_side,
            suite=suite,
            alpn_protocol=b"h2",
            peer_chain=() if theirs.server_side else (der_of(server_certificate()),),
            verified_chain=None if theirs.server_side else (),
            session_reused=False,
            shared_suites=tuple(SUITES.values()),
            channel_binding=lambda kind: None,
        )
        assert ours.version() == theirs.version() == "TLSv1.3"
        assert ours.cipher() == theirs.cipher()
        assert ours.compression() is theirs.compression() is None
        assert ours.selected_alpn_protocol() == theirs.selected_alpn_protocol() == "h2"
        assert ours.session_reused == theirs.session_reused
        assert ours.getpeercert() == theirs.getpeercert()
        assert ours.getpeercert(True) == theirs.getpeercert(True)
        ciphers = theirs.shared_ciphers()
        if theirs.server_side:
            assert ciphers is not None
            assert sorted(ours.shared_ciphers() or ()) == sorted(each for each in ciphers if each[1] == "TLSv1.3")
        else:
            assert ours.shared_ciphers() is ciphers is None


def test_who_presented_nothing_has_no_certificate() -> None:
    ours = introspection(server_side=True)
    assert ours.getpeercert() is None
    assert ours.getpeercert(binary_form=True) is None
    assert ours.get_verified_chain() == ours.get_unverified_chain() == []


def test_a_certificate_that_was_not_verified_is_an_empty_dict_and_its_bytes() -> None:
    ours = introspection(peer_chain=(b"leaf", b"above"))
    assert ours.getpeercert() == {}
    assert ours.getpeercert(binary_form=True) == b"leaf"
    assert ours.get_unverified_chain() == [b"leaf", b"above"]
    assert ours.get_verified_chain() == []


def test_a_verified_certificate_is_told_and_so_is_its_chain() -> None:
    leaf = CERTIFICATES["plain"]
    ours = introspection(peer_chain=(leaf,), verified_chain=(leaf, b"root"))
    assert ours.getpeercert() == certificate_dict(leaf)
    assert ours.get_verified_chain() == [leaf, b"root"]


def test_what_was_not_agreed_on_is_none() -> None:
    ours = introspection(session_reused=True)
    assert ours.selected_alpn_protocol() is None
    assert ours.selected_npn_protocol() is None
    assert ours.session_reused is True
    assert repr(ours) == "<TLS13Introspection, TLS_AES_128_GCM_SHA256>"


def test_post_handshake_authentication_says_that_it_is_not_there() -> None:
    with pytest.raises(ValueError, match="ask for it in the handshake"):
        introspection(server_side=True).verify_client_post_handshake()


# -- channel bindings ------------------------------------------------------------------------------------------------


def test_tls_exporter_is_the_keying_material_of_rfc_9266() -> None:
    assert introspection().get_channel_binding("tls-exporter") == export(b"EXPORTER-Channel-Binding", b"", 32)


def test_row_82_no_type_reaches_another_exporter_or_label() -> None:
    asked: list[tuple[bytes, bytes, int]] = []

    def note(label: bytes, context: bytes, length: int) -> bytes:
        asked.append((label, context, length))
        return bytes(length)

    for kind in ("tls-exporter", "tls-server-end-point", "tls-unique"):
        channel_binding(kind, server_end_point=None, export=note)
    assert asked == [(b"EXPORTER-Channel-Binding", b"", 32)]


def test_tls_server_end_point_is_what_the_certificate_makes_it() -> None:
    assert introspection().get_channel_binding("tls-server-end-point") == b"end"


def test_tls_unique_is_not_defined_for_tls_1_3() -> None:
    assert introspection().get_channel_binding() is None
    assert introspection().get_channel_binding("tls-unique") is None


def test_a_channel_binding_of_no_known_type_is_a_value_error_as_with_ssl() -> None:
    with pytest.raises(ValueError, match="'tls-other'"):
        introspection().get_channel_binding("tls-other")
    with pytest.raises(ValueError, match="tls-other"):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO()).get_channel_binding("tls-other")


RSA_KEY = rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize(
    ("certificate", "name"),
    [
        (issue(algorithm=hashes.SHA256()), "sha256"),
        (issue(algorithm=hashes.SHA384()), "sha384"),
        (issue(algorithm=hashes.SHA512()), "sha512"),
        (issue(key=RSA_KEY, algorithm=hashes.SHA512()), "sha512"),
        (
            issue(key=RSA_KEY, algorithm=hashes.SHA384(), rsa_padding=padding.PSS(padding.MGF1(hashes.SHA384()), 48)),
            "sha384",
        ),
    ],
)
def test_the_end_point_is_hashed_as_the_certificate_was_signed(certificate: bytes, name: str) -> None:
    assert server_end_point(certificate) == hashlib.new(name, certificate).digest()


@pytest.mark.parametrize("name", ["md5WithRSAEncryption", "sha1WithRSAEncryption"])
def test_the_end_point_of_a_certificate_signed_with_an_old_hash_is_hashed_with_sha256(name: str) -> None:
    sha256, old = (
        "2a864886f70d01010b",
        {"md5": "2a864886f70d010104", "sha1": "2a864886f70d010105"}[name[:4].rstrip("W")],
    )
    aged = issue(key=RSA_KEY).replace(bytes.fromhex(sha256), bytes.fromhex(old))
    assert server_end_point(aged) == hashlib.sha256(aged).digest()


def test_a_certificate_whose_signature_has_no_hash_has_no_end_point() -> None:
    assert server_end_point(issue(key=ed25519.Ed25519PrivateKey.generate(), algorithm=None)) is None
    assert server_end_point(b"no certificate") is None
