"""The server's certificate: every kind of key, what may sign, and who is refused by which alert."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from trio_tls import ClientConfig, Credential, PrivatePolicy, ServerConfig, TrustAnchors, Verifier
from trio_tls.alerts import Alert
from trio_tls.errors import AlertReceived, CertificateVerificationError, NoSharedParameters, PeerMisbehaved
from trio_tls.machine.interface import NeedVerification
from trio_tls.machine.tls13 import certificates as certificates_module
from trio_tls.machine.tls13.certificates import leaf_of
from trio_tls.machine.tls13.extensions import Extensions, KeyShareEntry, SelectedKeyShare, UnknownExtension
from trio_tls.machine.tls13.messages import Certificate, CertificateEntry, CertificateVerify
from trio_tls.machine.tls13.registry import ExtensionType
from trio_tls.machine.tls13.registry import SignatureScheme as Scheme
from trio_tls.machine.tls13.signatures import algorithm_for
from trio_tls.trust import VerifiedPeer

from ... import trust_chains
from ...support import HOST
from ...trust_chains import DAY, NOW, Issued, intermediate, issue, root, rsa_key
from .edits import STRANGE, rewritten, with_fields
from .ends import a_client, a_server, client_config, connected, fail, server_config, server_credential
from .primitives import primitives
from .scripted_peer import Edit, Meeting, ScriptedServer, meet

AT = primitives(now=NOW.timestamp)

KEYS: dict[str, Callable[[], CertificateIssuerPrivateKeyTypes]] = {
    "ecdsa_secp256r1_sha256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ecdsa_secp384r1_sha384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ecdsa_secp521r1_sha512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ed448": ed448.Ed448PrivateKey.generate,
    "rsa_pss_rsae_sha256": lambda: rsa_key(2048),
    "mldsa44": mldsa.MLDSA44PrivateKey.generate,
    "mldsa65": mldsa.MLDSA65PrivateKey.generate,
    "mldsa87": mldsa.MLDSA87PrivateKey.generate,
}


@cache
def issued(kind: str) -> Issued:
    return issue(intermediate(), names=[HOST, "192.0.2.1"], key=KEYS[kind]())


def credential(leaf: Issued, *above: Issued) -> Credential:
    return Credential([leaf.certificate, *(each.certificate for each in above or (intermediate(),))], leaf.key)


@cache
def trusting_root() -> Verifier:
    return Verifier(TrustAnchors.from_certificates(root().certificate), PrivatePolicy())


def a_config(**fields: Any) -> ClientConfig:
    """A client that trusts `root`, at the time of those certificates."""
    return client_config(**{"verify": trusting_root(), "primitives": AT, **fields})


# -- sound ones ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KEYS)
def test_row_68_every_kind_of_key_signs_by_its_scheme(kind: str) -> None:
    presented = credential(issued(kind))
    client, server = connected(a_config(), server_config(credentials=presented, primitives=AT))
    assert client.info is not None
    assert server.info is not None
    assert client.info.signature_scheme == kind
    assert client.info.peer_chain == server.info.local_chain == presented.der_chain
    assert client.info.verified_chain == (*presented.der_chain, root().der)
    assert client.info.verified_certificates[-1] == root().certificate
    assert server.info.peer_chain == server.info.verified_chain == ()
    assert client.introspection.getpeercert(binary_form=True) == presented.der_chain[0]
    assert client.introspection.get_verified_chain() == list(client.info.verified_chain)
    assert client.introspection.get_unverified_chain() == list(client.info.peer_chain)


@pytest.mark.parametrize("scheme", [Scheme.rsa_pss_rsae_sha256, Scheme.rsa_pss_rsae_sha384, Scheme.rsa_pss_rsae_sha512])
def test_an_rsa_key_signs_by_what_the_client_takes(scheme: Scheme) -> None:
    server = server_config(credentials=credential(issued("rsa_pss_rsae_sha256")), primitives=AT)
    client, _server = connected(a_config(signature_schemes=[scheme]), server)
    assert client.info is not None
    assert client.info.signature_scheme == scheme.name


def test_a_server_signs_by_what_its_config_allows() -> None:
    server = server_config(
        credentials=credential(issued("rsa_pss_rsae_sha256")),
        signature_schemes=[Scheme.rsa_pss_rsae_sha512],
        primitives=AT,
    )
    client, _server = connected(a_config(), server)
    assert client.info is not None
    assert client.info.signature_scheme == "rsa_pss_rsae_sha512"


@pytest.mark.parametrize("name", [HOST, HOST.upper(), HOST + ".", "192.0.2.1"])
def test_a_server_is_known_by_each_of_its_names(name: str) -> None:
    server = server_config(credentials=credential(issued("ed25519")), primitives=AT)
    client, _server = connected(a_config(), server, name=name)
    assert client.info is not None
    assert client.info.verified_chain


# -- what CertificateVerify says -------------------------------------------------------------------------------


def serve(edit: Edit, kind: str = "ecdsa_secp256r1_sha256", **client: Any) -> Meeting:
    return meet(a_client(a_config(**client)), ScriptedServer(edit=edit, credential=credential(issued(kind))))


def signing_by(scheme: int) -> Edit:
    """Name another scheme than the one that the signature is made by."""
    return with_fields("certificate_verify", scheme=scheme)


@pytest.mark.parametrize(
    ("kind", "scheme"),
    [
        pytest.param("ecdsa_secp256r1_sha256", Scheme.ecdsa_secp384r1_sha384, id="other-curve"),
        pytest.param("ecdsa_secp384r1_sha384", Scheme.ecdsa_secp256r1_sha256, id="smaller-curve"),
        pytest.param("ecdsa_secp521r1_sha512", Scheme.ecdsa_secp256r1_sha256, id="p521-by-sha256"),
        pytest.param("ecdsa_secp256r1_sha256", Scheme.rsa_pss_rsae_sha256, id="rsa-of-an-ec-key"),
        pytest.param("rsa_pss_rsae_sha256", Scheme.ecdsa_secp256r1_sha256, id="ecdsa-of-an-rsa-key"),
        pytest.param("rsa_pss_rsae_sha256", Scheme.rsa_pss_pss_sha256, id="pss-of-an-rsae-key"),
        pytest.param("ed25519", Scheme.ed448, id="ed448-of-an-ed25519-key"),
        pytest.param("mldsa44", Scheme.mldsa65, id="mldsa65-of-an-mldsa44-key"),
        pytest.param("rsa_pss_rsae_sha256", Scheme.rsa_pkcs1_sha256, id="pkcs1"),
        pytest.param("rsa_pss_rsae_sha256", Scheme.rsa_pkcs1_sha1, id="pkcs1-sha1"),
        pytest.param("ecdsa_secp256r1_sha256", Scheme.ecdsa_sha1, id="ecdsa-sha1"),
        pytest.param("ed25519", 0x0A0A, id="grease"),
        pytest.param("ed25519", 0, id="zero"),
    ],
)
def test_row_68_a_scheme_that_does_not_go_with_the_key_or_was_not_offered_is_refused(kind: str, scheme: int) -> None:
    serve(signing_by(scheme), kind).refused(Alert.illegal_parameter, "4.5.2")


def test_row_68_a_scheme_that_was_not_offered_is_refused_whatever_the_signature() -> None:
    offered = [Scheme.ed25519]
    meet(
        a_client(a_config(signature_schemes=offered)), ScriptedServer(credential=credential(issued("ed25519")))
    ).succeeded()
    serve(signing_by(Scheme.ecdsa_secp256r1_sha256), "ed25519", signature_schemes=offered).refused(
        Alert.illegal_parameter, "not offered"
    )


@pytest.mark.parametrize("kind", KEYS)
def test_row_68_a_wrong_signature_is_a_decrypt_error(kind: str) -> None:
    key = issued(kind).key
    forged = algorithm_for(key, Scheme[kind]).sign(key, b" " * 64 + b"TLS 1.3, server CertificateVerify\0" + bytes(32))
    serve(with_fields("certificate_verify", signature=forged), kind).refused(Alert.decrypt_error, "CertificateVerify")


@pytest.mark.parametrize("signature", [b"", b"\0", b"\x30\x06\2\1\1\2\1\1", bytes(64), bytes(20000)[:16000]])
@pytest.mark.parametrize("kind", KEYS)
def test_row_68_what_is_no_signature_at_all_is_a_decrypt_error(kind: str, signature: bytes) -> None:
    serve(with_fields("certificate_verify", signature=signature), kind).refused(Alert.decrypt_error)


def test_row_69_the_clients_context_does_not_do_for_a_server() -> None:
    key = issued("ed25519").key
    seen: list[bytes] = []

    def wrong_context(message: CertificateVerify) -> CertificateVerify:
        content = b" " * 64 + b"TLS 1.3, client CertificateVerify\0" + server.transcript.digest()
        seen.append(content)
        return CertificateVerify(message.scheme, algorithm_for(key, message.scheme).sign(key, content))

    server = ScriptedServer(
        edit=rewritten("certificate_verify", wrong_context), credential=credential(issued("ed25519"))
    )
    meet(a_client(a_config()), server).refused(Alert.decrypt_error)
    assert seen


# -- what Certificate says -------------------------------------------------------------------------------------


def entries(*ders: bytes, extensions: Extensions | None = None) -> Edit:
    extensions = extensions or Extensions()
    return with_fields("certificate", entries=tuple(CertificateEntry(der, extensions) for der in ders))


@pytest.mark.parametrize(
    ("extension", "alert"),
    [
        (STRANGE, Alert.unsupported_extension),
        (UnknownExtension(ExtensionType.status_request, b"\1\0\0\0"), Alert.unsupported_extension),
        (UnknownExtension(ExtensionType.signed_certificate_timestamp, b""), Alert.unsupported_extension),
        (SelectedKeyShare(KeyShareEntry(29, bytes(32))), Alert.illegal_parameter),
    ],
    ids=["row-23-unknown", "row-23-staple", "row-23-sct", "row-24"],
)
def test_an_extension_of_a_certificate_that_was_not_offered_is_refused(extension: Any, alert: Alert) -> None:
    chain = credential(issued("ed25519")).der_chain
    for position in range(2):
        edit = with_fields(
            "certificate",
            entries=tuple(
                CertificateEntry(der, Extensions([extension] if index == position else []))
                for index, der in enumerate(chain)
            ),
        )
        serve(edit, "ed25519").refused(alert)


@pytest.mark.parametrize("der", [b"\0", b"\x30\0", b"no certificate", b"\x30\x82\1\0" + bytes(256)])
def test_row_83_a_certificate_that_is_none_is_a_bad_certificate(der: bytes) -> None:
    error = serve(entries(der)).refused(Alert.bad_certificate, "cannot be parsed", CertificateVerificationError)
    assert isinstance(error, CertificateVerificationError)
    assert error.presented_chain == (der,)


def test_row_83_an_intermediate_that_is_none_is_a_bad_certificate() -> None:
    leaf = issued("ed25519").der
    serve(entries(leaf, b"\x30\0"), "ed25519").refused(
        Alert.bad_certificate, "cannot be parsed", CertificateVerificationError
    )


@pytest.mark.parametrize("position", [8, 9, 10, 12, 14, 20, 40, 60, 100, 150, 200, 250, -300, -200, -150, -100])
def test_row_83_a_damaged_certificate_is_an_error_of_the_peer(position: int) -> None:
    """Signed over and all: the damage is the server's own, and reaches the parser."""
    der = bytearray(issued("ecdsa_secp256r1_sha256").der)
    der[position] ^= 0x55
    meeting = serve(entries(bytes(der), intermediate().der))
    assert isinstance(meeting.failure, (CertificateVerificationError, PeerMisbehaved))
    assert meeting.failure.alert is not Alert.internal_error
    assert meeting.peer.alerts == [meeting.failure.alert]


def test_a_certificate_message_longer_than_the_config_takes_is_refused() -> None:
    length = (
        len(
            Certificate(
                b"", tuple(CertificateEntry(der, Extensions()) for der in server_credential().der_chain)
            ).encode()
        )
        - 4
    )
    short = meet(a_client(most_certificate=length - 1), ScriptedServer(credential=server_credential()))
    short.refused(Alert.decode_error, "too long")
    meet(a_client(most_certificate=length), ScriptedServer(credential=server_credential())).succeeded()


# -- who is refused, and how the other end hears of it ---------------------------------------------------------


def presenting(leaf: Issued, *above: Issued) -> ServerConfig:
    return server_config(credentials=credential(leaf, *above), primitives=AT)


@pytest.mark.parametrize(
    ("leaf", "alert", "text"),
    [
        pytest.param(
            lambda: issue(intermediate(), names=["other.example.org"]),
            Alert.bad_certificate,
            "other.example.org",
            id="name",
        ),
        pytest.param(lambda: issue(intermediate()), Alert.bad_certificate, "subjectAltName", id="no-names"),
        pytest.param(
            lambda: issue(intermediate(), names=[HOST], ends=NOW - DAY),
            Alert.certificate_expired,
            "expired",
            id="expired",
        ),
        pytest.param(
            lambda: issue(intermediate(), names=[HOST], begins=NOW + DAY),
            Alert.certificate_expired,
            "valid",
            id="not-yet",
        ),
        pytest.param(lambda: issue(None, names=[HOST]), Alert.unknown_ca, "", id="self-signed"),
        pytest.param(
            lambda: issue(
                intermediate(),
                names=[HOST],
                extensions=[(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)],
            ),
            Alert.unsupported_certificate,
            "",
            id="purpose",
        ),
        pytest.param(
            lambda: issue(intermediate(), names=[HOST], usages=trust_chains.key_usage("key_encipherment")),
            Alert.unsupported_certificate,
            "",
            id="usage",
        ),
    ],
)
def test_a_refused_certificate_is_named_at_both_ends(leaf: Callable[[], Issued], alert: Alert, text: str) -> None:
    failures = fail(a_client(a_config()), a_server(presenting(leaf())))
    told, heard = failures["client"], failures["server"]
    assert type(told) is CertificateVerificationError
    assert (told.alert, told.sent_by_peer) == (alert, False)
    assert text in str(told)
    assert len(told.presented_chain) == 2
    assert type(heard) is AlertReceived
    assert (heard.alert, heard.sent_by_peer) == (alert, True)


def test_a_chain_without_its_intermediate_is_refused() -> None:
    leaf = issued("ed25519")
    alone = Credential([leaf.certificate], leaf.key)
    failures = fail(a_client(a_config()), a_server(server_config(credentials=alone, primitives=AT)))
    assert failures["client"].alert is failures["server"].alert is Alert.unknown_ca


def test_no_alpn_of_a_server_whose_certificate_nobody_can_check_matters() -> None:
    failures = fail(a_client(a_config(signature_schemes=[Scheme.ed448])), a_server(presenting(issued("ed25519"))))
    assert type(failures["server"]) is NoSharedParameters
    assert failures["server"].alert is failures["client"].alert is Alert.handshake_failure


# -- verification by the application ---------------------------------------------------------------------------


def test_a_function_can_verify_instead() -> None:
    asked: list[NeedVerification] = []
    client, _server = connected(a_config(verify=asked.append), presenting(issued("ed25519")), name="anything.example")
    (need,) = asked
    assert need.chain == credential(issued("ed25519")).der_chain
    assert need.server_name == "anything.example"
    assert client.info is not None
    assert client.info.verified_chain == ()
    assert client.introspection.getpeercert() == {}
    assert client.introspection.getpeercert(binary_form=True) == need.chain[0]


def test_a_function_that_uses_a_verifier_passes_its_proof_on() -> None:
    def verify(need: NeedVerification) -> VerifiedPeer:
        return trusting_root().verify_server(need.chain, HOST, NOW)

    client, _server = connected(a_config(verify=verify), presenting(issued("ed25519")), name=None)
    assert client.info is not None
    assert client.info.verified_chain[-1] == root().der


def test_a_function_refuses_by_a_tls_error_with_its_alert() -> None:
    def verify(need: NeedVerification) -> None:
        raise CertificateVerificationError("revoked, says our list", alert=Alert.certificate_revoked)

    failures = fail(a_client(a_config(verify=verify)), a_server(presenting(issued("ed25519"))))
    assert str(failures["client"]) == "revoked, says our list"
    assert failures["server"].alert is Alert.certificate_revoked


def test_a_function_that_fails_is_the_cause_of_an_internal_error() -> None:
    def verify(need: NeedVerification) -> None:
        raise KeyError("the list is gone")

    failures = fail(a_client(a_config(verify=verify)), a_server(presenting(issued("ed25519"))))
    assert isinstance(failures["client"].__cause__, KeyError)
    assert "NeedVerification" in str(failures["client"])
    assert failures["server"].alert is Alert.internal_error


def test_the_time_of_the_config_decides_about_validity() -> None:
    later = primitives(now=(NOW + datetime.timedelta(days=400)).timestamp)
    failures = fail(a_client(a_config(primitives=later)), a_server(presenting(issued("ed25519"))))
    assert failures["client"].alert is Alert.certificate_expired


# -- what is remembered --------------------------------------------------------------------------------------------


def test_small_certificates_alone_are_remembered() -> None:
    certificates_module._known.cache_clear()
    for padding in (bytes(10), bytes(5000)):
        leaf = _issued_with(padding)
        entry = CertificateEntry(leaf.public_bytes(Encoding.DER), Extensions())
        assert leaf_of(Certificate(b"", (entry,)), who="server") == leaf
    assert certificates_module._known.cache_info().currsize == 1


def _issued_with(padding: bytes) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a leaf")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    builder = builder.not_valid_before(now).not_valid_after(now)
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), padding)
    return builder.add_extension(extension, critical=False).sign(key, hashes.SHA256())
