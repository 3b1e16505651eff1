"""Client certificates in both roles (RFC 9846 sections 4.4.2 and 4.5): asked for, presented, missing, refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from trio_tls import Credential
from trio_tls.alerts import Alert
from trio_tls.errors import AlertReceived, CertificateVerificationError, TLSError
from trio_tls.machine.interface import NeedCredential, NeedVerification
from trio_tls.machine.tls13.extensions import (
    CertificateAuthorities,
    Extension,
    Extensions,
    SignatureAlgorithms,
    SignatureAlgorithmsCert,
    UnknownExtension,
)
from trio_tls.machine.tls13.messages import (
    Certificate,
    CertificateEntry,
    CertificateRequest,
    CertificateVerify,
    Finished,
)
from trio_tls.machine.tls13.registry import ExtensionType
from trio_tls.machine.tls13.registry import SignatureScheme as Scheme
from trio_tls.machine.tls13.signatures import CERTIFICATE_SCHEMES, DEFAULT_SCHEMES

from ...support import credential_of, verifier
from ...trust_chains import DAY, NOW, Issued, intermediate, issue, key_usage, root
from .edits import STRANGE, dropped, on, sending, twice, with_fields
from .ends import (
    a_client,
    a_server,
    client_config,
    client_credential,
    connected,
    fail,
    read,
    send,
    server_config,
    server_credential,
)
from .scripted_peer import HANDSHAKE, Edit, Meeting, ScriptedClient, ScriptedServer, as_it_is, meet
from .test_certificates import AT, KEYS, issued, trusting_root
from .test_certificates import credential as chained

UNEXPECTED = Alert.unexpected_message

REQUEST = CertificateRequest(b"", Extensions([SignatureAlgorithms(DEFAULT_SCHEMES)]))


def asking(client_auth: str = "required", **fields: Any) -> Any:
    return server_config(**{"client_auth": client_auth, "verify": verifier(), **fields})


def ask(edit: Edit | None = None, client_auth: str = "required", **how: Any) -> Meeting:
    """Our server, which asks for a certificate, and a client that follows the script."""
    how = {"credential": client_credential(), "edit": edit or as_it_is, **how}
    return meet(a_server(asking(client_auth)), ScriptedClient(**how))


def serve(request: CertificateRequest, **client: Any) -> tuple[Meeting, ScriptedServer]:
    """Our client and a server that asks for a certificate."""
    server = ScriptedServer(credential=server_credential(), request=request)
    return meet(a_client(**client), server), server


# -- both ends are ours ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("client_auth", ["optional", "required"])
@pytest.mark.parametrize("kind", KEYS)
def test_every_kind_of_key_proves_a_client(client_auth: str, kind: str) -> None:
    presented = chained(issued(kind))
    client, server = connected(
        client_config(credentials=presented, primitives=AT, verify=trusting_root()),
        asking(client_auth, verify=trusting_root(), primitives=AT, credentials=chained(issued("ed25519"))),
    )
    assert client.info is not None
    assert server.info is not None
    assert server.info.peer_chain == client.info.local_chain == presented.der_chain
    assert server.info.verified_chain == (*presented.der_chain, root().der)
    assert server.introspection.getpeercert(binary_form=True) == presented.der_chain[0]
    assert server.introspection.getpeercert()
    assert send(client, server, b"hello") == b"hello"
    assert send(server, client, b"welcome") == b"welcome"


@pytest.mark.parametrize("client_auth", ["none", "optional"])
def test_row_66_a_client_without_a_certificate_is_served_where_none_is_required(client_auth: str) -> None:
    client, server = connected(client_config(), asking(client_auth))
    assert client.info is not None
    assert server.info is not None
    assert server.info.peer_chain == server.info.verified_chain == client.info.local_chain == ()
    assert server.introspection.getpeercert() is None
    assert send(client, server, b"hello") == b"hello"


def test_a_client_that_is_not_asked_presents_nothing() -> None:
    asked: list[object] = []

    def credentials(need: NeedCredential) -> Credential:
        asked.append(need)
        return client_credential()

    _client, server = connected(client_config(credentials=credentials), server_config())
    assert server.info is not None
    assert server.info.peer_chain == ()
    assert not asked


def test_row_67_a_missing_certificate_is_named_at_both_ends() -> None:
    failures = fail(a_client(), a_server(asking()))
    assert type(failures["server"]) is CertificateVerificationError
    assert (failures["server"].alert, failures["server"].sent_by_peer) == (Alert.certificate_required, False)
    assert failures["server"].presented_chain == ()
    assert type(failures["client"]) is AlertReceived
    assert failures["client"].alert is Alert.certificate_required


@pytest.mark.parametrize("client_auth", ["optional", "required"])
@pytest.mark.parametrize(
    ("leaf", "alert"),
    [
        pytest.param(lambda: issue(intermediate(), ends=NOW - DAY), Alert.certificate_expired, id="expired"),
        pytest.param(lambda: issue(None), Alert.unknown_ca, id="self-signed"),
        pytest.param(
            lambda: issue(
                intermediate(), extensions=[(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)]
            ),
            Alert.unsupported_certificate,
            id="extended-key-usage",
        ),
        pytest.param(
            lambda: issue(intermediate(), usages=key_usage("key_encipherment")),
            Alert.unsupported_certificate,
            id="key-usage",
        ),
    ],
)
def test_row_79_a_certificate_that_is_presented_is_verified_even_where_it_is_optional(
    client_auth: str, leaf: Callable[[], Issued], alert: Alert
) -> None:
    presented = chained(leaf())
    failures = fail(
        a_client(client_config(credentials=presented, primitives=AT, verify=trusting_root())),
        a_server(asking(client_auth, verify=trusting_root(), primitives=AT, credentials=chained(issued("ed25519")))),
    )
    error = failures["server"]
    assert type(error) is CertificateVerificationError
    assert (error.alert, error.sent_by_peer) == (alert, False)
    assert error.presented_chain == presented.der_chain
    assert type(failures["client"]) is AlertReceived
    assert (failures["client"].alert, failures["client"].sent_by_peer) == (alert, True)


def test_a_function_can_verify_clients() -> None:
    asked: list[NeedVerification] = []
    _client, server = connected(client_config(credentials=client_credential()), asking(verify=asked.append))
    assert server.info is not None
    assert [need.chain for need in asked] == [server.info.peer_chain]
    assert asked[0].server_name is None
    assert server.info.verified_chain == ()


def test_a_function_of_a_server_refuses_with_its_alert() -> None:
    def verify(need: NeedVerification) -> None:
        raise TLSError("nobody we know", alert=Alert.access_denied)

    failures = fail(a_client(credentials=client_credential()), a_server(asking(verify=verify)))
    assert str(failures["server"]) == "nobody we know"
    assert failures["client"].alert is Alert.access_denied


# -- our server and a client by hand ---------------------------------------------------------------------------


def test_a_client_by_hand_is_known_by_its_certificate() -> None:
    meeting = ask().succeeded()
    assert meeting.machine.info is not None
    assert meeting.machine.info.peer_chain == client_credential().der_chain
    request = meeting.peer.got(CertificateRequest)
    assert request.context == b""
    assert request.extensions.require(SignatureAlgorithms).schemes == DEFAULT_SCHEMES
    assert request.extensions.require(SignatureAlgorithmsCert).schemes == CERTIFICATE_SCHEMES


def test_a_client_by_hand_without_a_certificate() -> None:
    ask(client_auth="optional", credential=None).succeeded()
    ask(credential=None).refused(Alert.certificate_required, "one is required", CertificateVerificationError)


@pytest.mark.parametrize(
    ("edit", "alert", "text"),
    [
        pytest.param(with_fields("certificate", context=b"x"), Alert.illegal_parameter, "context", id="row-64"),
        pytest.param(dropped("certificate"), UNEXPECTED, "certificate_verify", id="row-40-no-certificate"),
        pytest.param(dropped("certificate_verify"), UNEXPECTED, "finished", id="row-40-no-verify"),
        pytest.param(
            lambda name, raw: [] if name in {"certificate", "certificate_verify"} else raw,
            UNEXPECTED,
            "finished",
            id="row-40-finished-at-once",
        ),
        pytest.param(twice("certificate"), UNEXPECTED, "certificate", id="row-40-two-certificates"),
        pytest.param(twice("certificate_verify"), UNEXPECTED, "certificate_verify", id="row-40-two-verifies"),
        pytest.param(on("certificate", lambda raw: b"\x0b\2\0\1"), Alert.decode_error, "too long", id="row-20"),
        pytest.param(
            with_fields("certificate_verify", scheme=Scheme.rsa_pkcs1_sha256),
            Alert.illegal_parameter,
            "offered",
            id="row-68",
        ),
        pytest.param(
            with_fields("certificate_verify", scheme=Scheme.ecdsa_secp384r1_sha384),
            Alert.illegal_parameter,
            "not for its key",
            id="row-68-curve",
        ),
        pytest.param(
            with_fields("certificate_verify", signature=b""),
            Alert.decrypt_error,
            "CertificateVerify",
            id="row-68-signature",
        ),
        pytest.param(with_fields("finished", verify_data=bytes(32)), Alert.decrypt_error, "Finished", id="row-70"),
        pytest.param(
            with_fields(
                "certificate", entries=(CertificateEntry(client_credential().der_chain[0], Extensions([STRANGE])),)
            ),
            Alert.unsupported_extension,
            "client's certificate",
            id="row-23",
        ),
        pytest.param(on("finished", lambda raw: raw + b"\x18"), UNEXPECTED, "span a change", id="row-1"),
    ],
)
@pytest.mark.parametrize("client_auth", ["optional", "required"])
def test_a_client_that_proves_itself_wrongly_is_refused(edit: Edit, alert: Alert, text: str, client_auth: str) -> None:
    ask(edit, client_auth).refused(alert, text)


@pytest.mark.parametrize("client_auth", ["optional", "required"])
def test_row_67_a_client_that_signs_without_a_certificate_is_refused(client_auth: str) -> None:
    meeting = ask(with_fields("certificate", entries=()), client_auth)
    if client_auth == "required":
        meeting.refused(Alert.certificate_required, "", CertificateVerificationError)
    else:
        meeting.refused(UNEXPECTED, "certificate_verify")


def test_a_certificate_that_was_not_asked_for_is_refused() -> None:
    meeting = meet(a_server(), ScriptedClient(edit=on("finished", lambda raw: [Certificate(b"", ()).encode(), raw])))
    meeting.refused(UNEXPECTED, "certificate")


# -- our client and a server by hand ---------------------------------------------------------------------------


def test_row_66_a_client_without_a_certificate_sends_an_empty_one_and_no_signature() -> None:
    meeting, server = serve(REQUEST)
    assert [type(each) for each in server.received[1:]] == [Certificate, Finished]
    assert server.got(Certificate) == Certificate(b"", ())
    assert meeting.succeeded().machine.info is not None


def test_a_client_presents_what_it_has() -> None:
    meeting, server = serve(REQUEST, credentials=client_credential())
    meeting.succeeded()
    assert [type(each) for each in server.received[1:]] == [Certificate, CertificateVerify, Finished]
    assert [entry.data for entry in server.got(Certificate).entries] == list(client_credential().der_chain)
    assert server.got(CertificateVerify).scheme == Scheme.ecdsa_secp256r1_sha256


@pytest.mark.parametrize("schemes", [(Scheme.ed25519,), (0x0A0A,), (Scheme.rsa_pkcs1_sha256,)])
def test_row_66_a_client_whose_key_does_not_suit_presents_nothing(schemes: tuple[int, ...]) -> None:
    request = CertificateRequest(b"", Extensions([SignatureAlgorithms(schemes)]))
    meeting, server = serve(request, credentials=client_credential())
    meeting.succeeded()
    assert server.got(Certificate).entries == ()
    assert meeting.machine.info is not None
    assert meeting.machine.info.local_chain == ()


def test_a_function_chooses_by_what_the_server_takes() -> None:
    rsa = chained(issued("rsa_pss_rsae_sha256"))
    asked: list[NeedCredential] = []

    def choose(need: NeedCredential) -> Credential | None:
        asked.append(need)
        return rsa if Scheme.rsa_pss_rsae_sha256 in need.signature_schemes else None

    for schemes, expected in (((0x0804,), rsa.der_chain), ((0x0403,), ())):
        meeting, _server = serve(
            CertificateRequest(b"", Extensions([SignatureAlgorithms(schemes)])), credentials=choose
        )
        meeting.succeeded()
        assert meeting.machine.info is not None
        assert meeting.machine.info.local_chain == expected
    assert [need.signature_schemes for need in asked] == [(0x0804,), (0x0403,)]
    assert asked[0].server_name is None


@pytest.mark.parametrize(
    "extension",
    [
        CertificateAuthorities((b"\x30\0",)),
        UnknownExtension(ExtensionType.oid_filters, b"\0\0"),
        UnknownExtension(ExtensionType.status_request, b""),
        STRANGE,
    ],
    ids=["authorities", "oid-filters", "status-request", "row-23-unknown"],
)
def test_what_a_request_may_have_is_let_pass(extension: Extension) -> None:
    meeting, _server = serve(CertificateRequest(b"", Extensions([extension, *REQUEST.extensions])))
    meeting.succeeded()


def test_row_76_a_request_after_the_handshake_is_refused() -> None:
    meeting, server = serve(REQUEST, credentials=client_credential())
    meeting.succeeded()
    sending(HANDSHAKE, CertificateRequest(b"later", REQUEST.extensions).encode())(server)
    meeting.go_on()
    meeting.refused(UNEXPECTED, "certificate_request after the handshake")


def test_a_refusal_of_the_client_comes_with_its_first_read() -> None:
    """The client is done before the server looks at its certificate: an alert is what it reads then."""
    stranger = credential_of(trustme.CA().issue_cert("client@example.org"))
    client, server = a_client(credentials=stranger), a_server(asking())
    failures = fail(client, server)
    assert client.handshake_done
    assert failures["client"].alert is Alert.unknown_ca
    with pytest.raises(AlertReceived):
        read(client)
    with pytest.raises(AlertReceived):
        client.write(memoryview(b"x"))
