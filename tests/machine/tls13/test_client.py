"""Our client and a server that breaks the rules: which alert answers, and which exception tells of it.

The rows are those of a list of what goes wrong in TLS 1.3 implementations; a test's name or id carries the number of
its row. Some rows have no test in these files:

====  ===================================================================================================
row   why
====  ===================================================================================================
3-11  the record layer's: ``test_record_reader.py``, ``test_record_writer.py``; some again here, end to end
14    the record layer's: ``test_record_cuts.py``
22    the codec's: ``test_extensions.py``; once again here, end to end
37    not in this version: ``test_left_out.py``; so are 59, 78, 85 and 87
49    shares are made by `KeyShare`, which is used once: ``test_groups.py``
51    ``test_groups.py``
60    skipping it: ``test_early_data.py``
61    EndOfEarlyData is unexpected at both ends, which is tested
69    ``test_signatures.py``
80    ``test_trust_refusals.py``
81    ``test_trust.py``, ``test_trust_refusals.py``
86    ``test_left_out.py``
====  ===================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from trio_tls.alerts import Alert
from trio_tls.errors import AlertReceived, HandshakeClosed, NoSharedParameters, PeerMisbehaved, TLSError, UnexpectedEOF
from trio_tls.machine.interface import Want
from trio_tls.machine.tls13.extensions import (
    ApplicationProtocols,
    Extensions,
    KeyShareEntry,
    RecordSizeLimit,
    SelectedKeyShare,
    SelectedPsk,
    SelectedVersion,
    ServerName,
    SignatureAlgorithms,
    UnknownExtension,
)
from trio_tls.machine.tls13.messages import (
    CertificateRequest,
    EncryptedExtensions,
    EndOfEarlyData,
    Finished,
    KeyUpdate,
    NewSessionTicket,
    ServerHello,
)
from trio_tls.machine.tls13.registry import GREASE, ContentType, ExtensionType, NamedGroup

from .edits import STRANGE, adding, dropped, on, putting, rewritten, sending, twice, with_fields, without
from .ends import a_client, a_server, connected, fail, server_credential
from .primitives import primitives
from .records import seal_inner
from .scripted_peer import ALERT, CCS, DATA, HANDSHAKE, Edit, Meeting, ScriptedPeer, ScriptedServer, as_it_is, meet

UNEXPECTED = Alert.unexpected_message
ILLEGAL = Alert.illegal_parameter
DECODE = Alert.decode_error
UNSUPPORTED = Alert.unsupported_extension
MISSING = Alert.missing_extension

EMPTY_PARAMETERS = EncryptedExtensions(Extensions()).encode()
TICKET = NewSessionTicket(3600, 7, b"", b"ticket", Extensions()).encode()
REQUEST = CertificateRequest(b"", Extensions([SignatureAlgorithms((0x0403,))]))


def serve(edit: Edit | None = None, *, client: dict[str, Any] | None = None, **how: Any) -> Meeting:
    """Our client and a server that follows the script."""
    how = {"credential": server_credential(), "edit": edit or as_it_is, **how}
    return meet(a_client(**(client or {})), ScriptedServer(**how))


def test_a_server_by_hand_that_keeps_to_the_rules_is_accepted() -> None:
    meeting = serve().succeeded()
    assert meeting.machine.info is not None
    assert meeting.machine.info.verified_chain


# -- messages --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "alert", "text"),
    [
        pytest.param(
            on("server_hello", lambda raw: raw + EMPTY_PARAMETERS), UNEXPECTED, "span a change", id="row-1-sh-ee"
        ),
        pytest.param(on("server_hello", lambda raw: raw + b"\x08"), UNEXPECTED, "span a change", id="row-1-sh-byte"),
        pytest.param(on("finished", lambda raw: raw + TICKET), UNEXPECTED, "span a change", id="row-1-finished-nst"),
        pytest.param(
            on("finished", lambda raw: raw + KeyUpdate(False).encode()),
            UNEXPECTED,
            "span a change",
            id="row-1-finished-ku",
        ),
        pytest.param(
            on("finished", lambda raw: raw + TICKET[:5]), UNEXPECTED, "span a change", id="row-1-finished-part"
        ),
        pytest.param(on("encrypted_extensions", lambda raw: b"\x08\1\0\1"), DECODE, "too long", id="row-20-ee"),
        pytest.param(on("server_hello", lambda raw: b"\x02\1\0\1"), DECODE, "too long", id="row-20-sh"),
        pytest.param(on("certificate", lambda raw: b"\x0b\2\0\1"), DECODE, "too long", id="row-20-certificate"),
        pytest.param(on("certificate_verify", lambda raw: b"\x0f\0\x40\1"), DECODE, "too long", id="row-20-verify"),
        pytest.param(on("finished", lambda raw: b"\x14\0\0\x41"), DECODE, "too long", id="row-20-finished"),
        pytest.param(adding("server_hello", SelectedVersion(0x0304)), ILLEGAL, "twice", id="row-22-sh"),
        pytest.param(adding("encrypted_extensions", STRANGE, STRANGE), ILLEGAL, "twice", id="row-22-ee"),
        pytest.param(adding("server_hello", STRANGE), UNSUPPORTED, "ServerHello", id="row-23-sh"),
        pytest.param(adding("encrypted_extensions", STRANGE), UNSUPPORTED, "not offered", id="row-23-ee"),
        pytest.param(adding("encrypted_extensions", ApplicationProtocols((b"h2",))), UNSUPPORTED, "", id="row-23-alpn"),
        pytest.param(adding("encrypted_extensions", RecordSizeLimit(64)), UNSUPPORTED, "", id="row-23-record-size"),
        pytest.param(
            adding("encrypted_extensions", UnknownExtension(ExtensionType.early_data, b"")),
            UNSUPPORTED,
            "",
            id="row-23-0rtt",
        ),
        pytest.param(
            adding("server_hello", UnknownExtension(GREASE[0], b"")), UNSUPPORTED, "", id="row-23-grease-in-sh"
        ),
        pytest.param(
            adding("encrypted_extensions", UnknownExtension(GREASE[0], b"")), UNSUPPORTED, "", id="row-23-grease-in-ee"
        ),
        pytest.param(
            adding("encrypted_extensions", UnknownExtension(ExtensionType.key_share, b"\0\0")),
            ILLEGAL,
            "",
            id="row-24-ee",
        ),
        pytest.param(adding("server_hello", ServerName(None)), ILLEGAL, "no place", id="row-24-sh"),
        pytest.param(
            adding("encrypted_extensions", UnknownExtension(ExtensionType.server_name, b"\0")),
            DECODE,
            "",
            id="row-25-ee",
        ),
        pytest.param(
            putting("server_hello", UnknownExtension(ExtensionType.supported_versions, b"\3\4\0")),
            DECODE,
            "",
            id="row-25-sh",
        ),
        pytest.param(without("server_hello", SelectedKeyShare), MISSING, "key_share", id="row-26-sh"),
        pytest.param(with_fields("server_hello", compression_method=1), ILLEGAL, "compression", id="row-30"),
        pytest.param(with_fields("server_hello", session_id=b""), ILLEGAL, "session_id", id="row-32-none"),
        pytest.param(with_fields("server_hello", session_id=b"x" * 32), ILLEGAL, "session_id", id="row-32-another"),
        pytest.param(putting("server_hello", SelectedVersion(0x0303)), ILLEGAL, "0x0303", id="version-not-offered"),
        pytest.param(putting("server_hello", SelectedVersion(GREASE[0])), ILLEGAL, "0x0a0a", id="version-of-grease"),
        pytest.param(with_fields("server_hello", cipher_suite=0x1304), ILLEGAL, "CCM", id="suite-not-offered"),
        pytest.param(with_fields("server_hello", cipher_suite=GREASE[0]), ILLEGAL, "0x0a0a", id="suite-of-grease"),
        pytest.param(
            putting("server_hello", SelectedKeyShare(KeyShareEntry(NamedGroup.secp256r1, b"\4" * 65))),
            ILLEGAL,
            "no share of",
            id="row-42-group-without-a-share",
        ),
        pytest.param(
            putting("server_hello", SelectedKeyShare(KeyShareEntry(NamedGroup.x25519, bytes(32)))),
            ILLEGAL,
            "key share",
            id="row-50-all-zero",
        ),
        pytest.param(
            putting("server_hello", SelectedKeyShare(KeyShareEntry(NamedGroup.x25519, bytes(31)))),
            ILLEGAL,
            "31 bytes",
            id="row-50-too-short",
        ),
        pytest.param(adding("server_hello", SelectedPsk(0)), UNSUPPORTED, "", id="row-54-psk-not-offered"),
        pytest.param(dropped("encrypted_extensions"), UNEXPECTED, "certificate", id="row-40-no-ee"),
        pytest.param(dropped("certificate"), UNEXPECTED, "certificate_verify", id="row-40-no-certificate"),
        pytest.param(dropped("certificate_verify"), UNEXPECTED, "finished", id="row-40-no-verify"),
        pytest.param(
            lambda name, raw: [] if name in {"certificate", "certificate_verify"} else raw,
            UNEXPECTED,
            "finished",
            id="row-40-finished-at-once",
        ),
        pytest.param(twice("encrypted_extensions"), UNEXPECTED, "encrypted_extensions", id="row-40-two-ee"),
        pytest.param(twice("certificate"), UNEXPECTED, "certificate", id="row-40-two-certificates"),
        pytest.param(twice("certificate_verify"), UNEXPECTED, "certificate_verify", id="row-40-two-verifies"),
        pytest.param(
            on("certificate", lambda raw: [REQUEST.encode(), REQUEST.encode(), raw]),
            UNEXPECTED,
            "",
            id="row-40-two-requests",
        ),
        pytest.param(on("certificate", lambda raw: [raw, REQUEST.encode()]), UNEXPECTED, "", id="row-40-late-request"),
        pytest.param(
            on("certificate", lambda raw: [CertificateRequest(b"x", REQUEST.extensions).encode(), raw]),
            ILLEGAL,
            "context",
            id="row-64-request",
        ),
        pytest.param(with_fields("certificate", context=b"x"), ILLEGAL, "context", id="row-64-certificate"),
        pytest.param(with_fields("certificate", entries=()), DECODE, "presented no certificate", id="row-67"),
        pytest.param(
            on("certificate", lambda raw: [CertificateRequest(b"", Extensions()).encode(), raw]),
            MISSING,
            "signature_algorithms",
            id="row-26-request",
        ),
        pytest.param(
            on("certificate", lambda raw: [CertificateRequest(b"", Extensions([SelectedVersion(1)])).encode(), raw]),
            ILLEGAL,
            "no place",
            id="row-24-request",
        ),
        pytest.param(
            with_fields("finished", verify_data=bytes(32)), Alert.decrypt_error, "Finished", id="row-70-wrong"
        ),
        pytest.param(with_fields("finished", verify_data=bytes(31)), DECODE, "31 bytes", id="row-70-short"),
        pytest.param(with_fields("finished", verify_data=bytes(48)), DECODE, "48 bytes", id="row-70-long"),
        pytest.param(with_fields("finished", verify_data=b""), DECODE, "0 bytes", id="row-70-empty"),
    ],
)
def test_a_server_that_sends_something_wrong_is_refused(edit: Edit, alert: Alert, text: str) -> None:
    meeting = serve(edit, client={"primitives": primitives()})
    meeting.refused(alert, text)


@pytest.mark.parametrize(
    "place", ["server_hello", "encrypted_extensions", "certificate", "certificate_verify", "finished"]
)
@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"\0\0\0\0", id="hello_request"),
        pytest.param(b"\1\0\0\0", id="client_hello"),
        pytest.param(TICKET, id="new_session_ticket"),
        pytest.param(EndOfEarlyData().encode(), id="row-61-end_of_early_data"),
        pytest.param(b"\x10\0\0\0", id="client_key_exchange"),
        pytest.param(b"\x16\0\0\0", id="certificate_status"),
        pytest.param(KeyUpdate(False).encode(), id="row-62-key_update"),
        pytest.param(b"\x19\0\0\0", id="compressed_certificate"),
        pytest.param(b"\xfe\0\0\0", id="message_hash"),
        pytest.param(b"\xff\0\0\0", id="unknown"),
    ],
)
def test_row_40_no_other_message_may_come_in_the_place_of_one(place: str, message: bytes) -> None:
    serve(on(place, lambda raw: [message, raw])).refused(UNEXPECTED, "RFC 9846 section 4")


def test_row_23_what_nobody_knows_in_a_request_and_a_ticket_is_ignored() -> None:
    request = CertificateRequest(b"", Extensions([STRANGE, SignatureAlgorithms((0x0403,))]))
    meeting = serve(request=request).succeeded()
    server = meeting.peer
    assert isinstance(server, ScriptedServer)
    server.record(HANDSHAKE, server.ticket(extensions=[STRANGE]))
    meeting.go_on()
    assert meeting.succeeded().machine.session is not None


# -- the version and downgrades --------------------------------------------------------------------------------


def test_row_27_a_server_of_tls_1_2_is_told_apart() -> None:
    error = serve(without("server_hello", SelectedVersion)).refused(
        Alert.protocol_version, "does not speak TLS 1.3", NoSharedParameters
    )
    assert "ssl.SSLContext" in str(error)


def test_row_31_another_legacy_version_is_refused() -> None:
    serve(with_fields("server_hello", legacy_version=0x0304)).refused(
        Alert.protocol_version, "legacy_version", NoSharedParameters
    )


@pytest.mark.parametrize("sentinel", [b"DOWNGRD\0", b"DOWNGRD\1"])
def test_row_33_a_downgrade_is_noticed(sentinel: bytes) -> None:
    def older(hello: ServerHello) -> ServerHello:
        extensions = [each for each in hello.extensions if not isinstance(each, SelectedVersion)]
        return replace(hello, random=bytes(24) + sentinel, extensions=Extensions(extensions))

    serve(rewritten("server_hello", older)).refused(ILLEGAL, "older version than it can")


def test_row_33_the_sentinel_means_nothing_in_a_hello_of_tls_1_3() -> None:
    serve(with_fields("server_hello", random=bytes(24) + b"DOWNGRD\1")).succeeded()


# -- ALPN and SNI ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "alert"),
    [
        pytest.param(ApplicationProtocols((b"http/1.1",)), ILLEGAL, id="not-offered"),
        pytest.param(ApplicationProtocols((b"h2", b"spdy")), ILLEGAL, id="several"),
        pytest.param(ApplicationProtocols((b"",)), DECODE, id="an-empty-one"),
        pytest.param(ApplicationProtocols(()), DECODE, id="none"),
    ],
)
def test_row_36_a_server_selects_one_of_the_protocols_that_were_offered(answer: Any, alert: Alert) -> None:
    serve(adding("encrypted_extensions", answer), client={"alpn_protocols": ["h2", "spdy"]}).refused(alert)


def test_row_35_what_the_server_sent_is_in_no_text_as_it_is() -> None:
    answer = ApplicationProtocols((b"\x1b[31m\n" + b"x" * 200,))
    error = serve(adding("encrypted_extensions", answer), client={"alpn_protocols": ["h2"]}).refused(ILLEGAL)
    assert "\\x1b[31m\\n" in str(error)
    assert str(error).isprintable()
    assert "x" * 50 not in str(error)


@pytest.mark.parametrize("name", ["192.0.2.1", "2001:db8::1"])
def test_row_34_an_address_is_not_sent_as_a_server_name(name: str) -> None:
    peer = ScriptedServer(credential=server_credential())
    meet(a_client(name=name), peer)
    assert ServerName not in {type(each) for each in peer.got(type(peer.received[0])).extensions}  # type: ignore[union-attr]


def test_row_34_a_server_name_is_sent_without_its_trailing_dot() -> None:
    meeting = meet(a_client(name="server.example.org."), peer := ScriptedServer(credential=server_credential()))
    assert peer.received[0].extensions.require(ServerName).host_name == "server.example.org"  # type: ignore[union-attr]
    meeting.succeeded()


# -- records ---------------------------------------------------------------------------------------------------


def part_then(kind: int, content: bytes) -> Callable[[ScriptedPeer], None]:
    """The beginning of a message, and another record before its rest."""

    def act(peer: ScriptedPeer) -> None:
        peer.record(HANDSHAKE, EMPTY_PARAMETERS[:3])
        peer.record(kind, content)

    return act


@pytest.mark.parametrize(
    ("place", "act", "alert", "text"),
    [
        pytest.param(
            "encrypted_extensions", part_then(ALERT, b"\1\x5a"), UNEXPECTED, "in the middle", id="row-2-alert"
        ),
        pytest.param("encrypted_extensions", part_then(CCS, b"\1"), UNEXPECTED, "change_cipher_spec", id="row-2-ccs"),
        pytest.param("encrypted_extensions", part_then(DATA, b"x"), UNEXPECTED, "in the middle", id="row-2-data"),
        pytest.param("encrypted_extensions", sending(HANDSHAKE, b""), UNEXPECTED, "empty", id="row-3-handshake"),
        pytest.param("encrypted_extensions", sending(ALERT, b""), UNEXPECTED, "empty", id="row-3-alert"),
        pytest.param(
            "encrypted_extensions", sending(DATA, b"early"), UNEXPECTED, "before the handshake", id="data-early"
        ),
        pytest.param(
            "finished", sending(DATA, b"early"), UNEXPECTED, "before the handshake", id="data-before-finished"
        ),
        pytest.param("encrypted_extensions", sending(0x63, b"x"), UNEXPECTED, "type 99", id="row-11-unknown"),
        pytest.param("server_hello", sending(CCS, b"\2"), UNEXPECTED, "change_cipher_spec", id="row-12-value"),
        pytest.param("server_hello", sending(CCS, b"\1\1"), UNEXPECTED, "change_cipher_spec", id="row-12-length"),
        pytest.param(
            "server_hello", sending(CCS, b"\1", times=33), UNEXPECTED, "change_cipher_spec", id="row-12-flood"
        ),
        pytest.param(
            "encrypted_extensions",
            sending(HANDSHAKE, EMPTY_PARAMETERS, protected=False),
            UNEXPECTED,
            "unprotected",
            id="row-13-handshake",
        ),
        pytest.param(
            "encrypted_extensions", sending(ALERT, b"\1\0", protected=False), UNEXPECTED, "", id="row-13-close-notify"
        ),
        pytest.param(
            "finished", sending(ALERT, b"\2\x28", protected=False), UNEXPECTED, "unprotected", id="row-13-late-alert"
        ),
        pytest.param(
            "server_hello", sending(DATA, b"x" * 40), UNEXPECTED, "before there are keys", id="protected-early"
        ),
        pytest.param("encrypted_extensions", sending(ALERT, b"\2"), DECODE, "alert of 1 byte", id="alert-of-one-byte"),
    ],
)
def test_a_server_that_sends_a_record_out_of_place_is_refused(
    place: str, act: Callable[[ScriptedPeer], None], alert: Alert, text: str
) -> None:
    serve(before={place: act}).refused(alert, text)


def test_row_11_a_protected_change_cipher_spec_is_refused() -> None:
    def act(peer: ScriptedPeer) -> None:
        key = peer._write_key
        assert key is not None
        peer.raw(seal_inner(key, b"\1\x14"))

    serve(before={"encrypted_extensions": act}).refused(UNEXPECTED, "type 20")


def test_row_12_two_change_cipher_specs_are_dropped_before_and_after_the_server_hello() -> None:
    act = sending(CCS, b"\1", times=2)
    serve(before={"server_hello": act, "encrypted_extensions": act, "finished": act}).succeeded()


def test_row_12_a_change_cipher_spec_after_the_finished_is_refused() -> None:
    meeting = serve().succeeded()
    meeting.peer.record(CCS, b"\1")
    meeting.go_on()
    meeting.refused(UNEXPECTED, "change_cipher_spec")


def test_row_7_a_record_that_does_not_authenticate_is_a_bad_record_mac() -> None:
    act = sending(DATA, b"")

    def forged(peer: ScriptedPeer) -> None:
        act(peer)
        peer.wire[-1] ^= 1

    serve(before={"encrypted_extensions": forged}).refused(Alert.bad_record_mac, "authenticate")


def test_row_5_a_record_that_is_too_long_is_refused_by_its_header() -> None:
    serve(before={"server_hello": lambda peer: peer.raw(b"\x16\3\3\x40\1")}).refused(Alert.record_overflow)


def test_the_record_size_limit_that_was_advertised_is_kept_to() -> None:
    meeting = serve(adding("encrypted_extensions", RecordSizeLimit(64)), client={"record_size_limit": 100})
    meeting.succeeded().peer.record(DATA, bytes(99))
    meeting.go_on()
    assert len(meeting.data) == 99
    meeting.machine.write(memoryview(bytes(300)))
    sizes = []
    flight = meeting.machine.outgoing.peek()
    while flight:
        sizes.append(int.from_bytes(flight[3:5], "big"))
        flight = flight[5 + sizes[-1] :]
    assert max(sizes) == 64 + 16
    meeting.peer.record(DATA, bytes(100))
    meeting.go_on()
    meeting.refused(Alert.record_overflow)


# -- alerts and ends -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0, 1, 2, 255])
@pytest.mark.parametrize("place", ["server_hello", "encrypted_extensions", "finished"])
@pytest.mark.parametrize("alert", [Alert.handshake_failure, Alert.unrecognized_name, Alert(200)])
def test_row_72_an_alert_ends_the_handshake_whatever_its_level(place: str, level: int, alert: Alert) -> None:
    meeting = serve(before={place: lambda peer: peer.alert(alert, level)})
    error = meeting.failure
    assert type(error) is AlertReceived
    assert (error.alert, error.sent_by_peer) == (alert, True)
    assert alert.name in str(error)
    assert not meeting.peer.alerts, "an alert is not answered by one"
    assert not meeting.machine.sent_fatal_alert


def test_row_13_a_plain_alert_is_believed_while_the_server_may_have_no_keys() -> None:
    meeting = serve(before={"encrypted_extensions": lambda peer: peer.alert(Alert.decode_error, protected=False)})
    assert type(meeting.failure) is AlertReceived
    assert meeting.failure.alert is Alert.decode_error


@pytest.mark.parametrize("place", ["server_hello", "encrypted_extensions", "finished"])
def test_row_73_a_close_notify_during_the_handshake_says_so(place: str) -> None:
    meeting = serve(before={place: lambda peer: peer.alert(Alert.close_notify, 1)})
    assert type(meeting.failure) is HandshakeClosed
    assert not meeting.peer.alerts


def test_row_75_a_user_canceled_means_nothing_and_a_few_are_let_pass() -> None:
    def cancels(peer: ScriptedPeer) -> None:
        for _ in range(4):
            peer.alert(Alert.user_canceled, 1)

    serve(before={"encrypted_extensions": cancels}).succeeded()


def test_row_75_a_user_canceled_is_followed_by_close_notify() -> None:
    def cancels(peer: ScriptedPeer) -> None:
        peer.alert(Alert.user_canceled, 1)
        peer.alert(Alert.close_notify, 1)

    assert type(serve(before={"encrypted_extensions": cancels}).failure) is HandshakeClosed


def test_row_75_user_canceled_without_end_ends_the_handshake() -> None:
    meeting = serve(before={"finished": sending(ALERT, b"\1\x5a", times=5)})
    assert type(meeting.failure) is AlertReceived
    assert meeting.failure.alert is Alert.user_canceled


@pytest.mark.parametrize("place", ["server_hello", "encrypted_extensions", "finished"])
def test_row_17_an_end_of_the_stream_during_the_handshake_is_unexpected(place: str) -> None:
    meeting = serve(dropped(place), before={place: lambda peer: peer.cut_off()})
    assert type(meeting.failure) is UnexpectedEOF
    assert not meeting.peer.alerts
    text = "without answering" if place == "server_hello" else "in the middle of the handshake"
    assert text in str(meeting.failure)


def test_row_74_an_alert_that_answers_ours_changes_nothing() -> None:
    meeting = serve(with_fields("finished", verify_data=bytes(32)))
    meeting.peer.alert(Alert.decode_error)
    meeting.carry()
    meeting.refused(Alert.decrypt_error)


def test_row_72_an_alert_of_the_server_reaches_the_client_by_its_name() -> None:
    failures = fail(a_client(alpn_protocols=["h2"]), a_server(alpn_protocols=["http/1.1"]))
    assert (type(failures["server"]), failures["server"].alert) == (NoSharedParameters, Alert.no_application_protocol)
    assert (type(failures["client"]), failures["client"].alert) == (AlertReceived, Alert.no_application_protocol)
    assert failures["client"].sent_by_peer
    assert "ALPN" in str(failures["client"])


# -- what cannot be misused ------------------------------------------------------------------------------------


def test_row_83_what_is_no_tls_is_told() -> None:
    machine = a_client()
    assert machine.do_handshake() is Want.READ
    machine.incoming.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(PeerMisbehaved, match="does not speak TLS but HTTP") as caught:
        machine.do_handshake()
    assert caught.value.alert is UNEXPECTED


def test_row_84_no_secret_shows_in_what_a_failure_tells() -> None:
    client, server = connected()
    secrets = {each.value for each in vars(client).values() if hasattr(each, "value") and isinstance(each.value, bytes)}
    assert secrets, "the machine keeps its secrets as Secret"
    client.incoming.write(b"\x17\3\3\0\x20" + bytes(32))
    with pytest.raises(TLSError) as caught:
        client.read_into(memoryview(bytearray(100)))
    shown = str(caught.value) + repr(caught.value) + repr(vars(client)) + repr(vars(server))
    assert not any(secret.hex() in shown or repr(secret)[2:-1] in shown for secret in secrets)


def test_resuming_a_step_too_early_is_free() -> None:
    machine = a_client()
    for _ in range(3):
        assert machine.do_handshake() is Want.READ
    assert len([record for record in [machine.outgoing.read()] if record[0] == ContentType.handshake]) == 1
    assert machine.do_handshake() is Want.READ
    assert not machine.outgoing.pending


def test_a_finished_is_compared_with_this_very_handshake() -> None:
    other = serve().peer.transcript.digest()
    serve(on("finished", lambda raw: Finished(other).encode())).refused(Alert.decrypt_error)
