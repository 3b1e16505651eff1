"""Our server and a client that breaks the rules: which alert answers, and which exception tells of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from trio_tls.alerts import Alert
from trio_tls.credentials import CredentialsByName
from trio_tls.errors import AlertReceived, HandshakeClosed, NoSharedParameters, TLSError, UnexpectedEOF
from trio_tls.machine.tls13.extensions import (
    ApplicationProtocols,
    Extension,
    Extensions,
    KeyShareEntry,
    KeyShares,
    Padding,
    PreSharedKeys,
    PskIdentity,
    PskKeyExchangeModes,
    RecordSizeLimit,
    SignatureAlgorithms,
    SupportedGroups,
    SupportedVersions,
    UnknownExtension,
)
from trio_tls.machine.tls13.messages import (
    Certificate,
    EncryptedExtensions,
    EndOfEarlyData,
    Finished,
    KeyUpdate,
    NewSessionTicket,
    ServerHello,
)
from trio_tls.machine.tls13.registry import GREASE, TLS_1_2, TLS_1_3, CipherSuiteNumber, ExtensionType, NamedGroup

from .edits import STRANGE, adding, extended, on, putting, rewritten, sending, twice, with_fields, without
from .ends import a_client, a_server, fail, server_credential
from .scripted_peer import ALERT, CCS, DATA, HANDSHAKE, Edit, Meeting, ScriptedClient, ScriptedPeer, as_it_is, meet

UNEXPECTED = Alert.unexpected_message
ILLEGAL = Alert.illegal_parameter
DECODE = Alert.decode_error
MISSING = Alert.missing_extension

X25519 = NamedGroup.x25519
A_SHARE = KeyShareEntry(X25519, b"\x09" + bytes(31))
AN_OFFER = PreSharedKeys((PskIdentity(b"ticket", 0),), (bytes(32),))


def ask(edit: Edit | None = None, *, server: dict[str, Any] | None = None, **how: Any) -> Meeting:
    """Our server and a client that follows the script."""
    return meet(a_server(**(server or {})), ScriptedClient(edit=edit or as_it_is, **how))


def test_a_client_by_hand_that_keeps_to_the_rules_is_served() -> None:
    meeting = ask().succeeded()
    assert meeting.machine.info is not None
    assert meeting.machine.info.server_name == "server.example.org"


@pytest.mark.parametrize(
    ("edit", "alert", "text"),
    [
        pytest.param(on("client_hello", lambda raw: raw + b"\x14"), UNEXPECTED, "span a change", id="row-1-ch-byte"),
        pytest.param(
            on("client_hello", lambda raw: raw + Finished(bytes(32)).encode()),
            UNEXPECTED,
            "span a change",
            id="row-1-ch-fin",
        ),
        pytest.param(
            on("finished", lambda raw: raw + KeyUpdate(False).encode()), UNEXPECTED, "span a change", id="row-1-fin-ku"
        ),
        pytest.param(on("finished", lambda raw: raw + b"\x18"), UNEXPECTED, "span a change", id="row-1-fin-byte"),
        pytest.param(on("client_hello", lambda raw: b"\1\1\0\1"), DECODE, "too long", id="row-20-ch"),
        pytest.param(on("finished", lambda raw: b"\x14\0\0\x41"), DECODE, "too long", id="row-20-finished"),
        pytest.param(adding("client_hello", STRANGE, STRANGE), ILLEGAL, "twice", id="row-22-unknown"),
        pytest.param(adding("client_hello", SupportedVersions((TLS_1_3,))), ILLEGAL, "twice", id="row-22-same"),
        pytest.param(
            adding("client_hello", UnknownExtension(ExtensionType.oid_filters, b"\0\0")),
            ILLEGAL,
            "no place",
            id="row-24",
        ),
        pytest.param(
            putting("client_hello", UnknownExtension(ExtensionType.psk_key_exchange_modes, b"\1\1\0")),
            DECODE,
            "",
            id="row-25",
        ),
        pytest.param(without("client_hello", SupportedGroups), MISSING, "supported_groups", id="row-26-groups"),
        pytest.param(without("client_hello", KeyShares), MISSING, "key_share", id="row-26-shares"),
        pytest.param(
            without("client_hello", SignatureAlgorithms), MISSING, "signature_algorithms", id="row-26-schemes"
        ),
        pytest.param(
            lambda name, raw: (
                without(name, PskKeyExchangeModes)(name, adding(name, AN_OFFER)(name, raw))  # type: ignore[arg-type]
                if name == "client_hello"
                else raw
            ),
            MISSING,
            "psk_key_exchange_modes",
            id="row-52",
        ),
        pytest.param(extended("client_hello", lambda found: [AN_OFFER, *found]), ILLEGAL, "not the last", id="row-29"),
        pytest.param(
            adding("client_hello", PreSharedKeys(AN_OFFER.identities, (bytes(32), bytes(32)))),
            ILLEGAL,
            "2 binders for 1",
            id="row-53-binders",
        ),
        pytest.param(
            adding("client_hello", PreSharedKeys(AN_OFFER.identities, (bytes(31),))),
            DECODE,
            "",
            id="row-53-short-binder",
        ),
        pytest.param(
            with_fields("client_hello", compression_methods=b"\0\1"), ILLEGAL, "compression", id="row-30-more"
        ),
        pytest.param(with_fields("client_hello", compression_methods=b"\1"), ILLEGAL, "compression", id="row-30-other"),
        pytest.param(with_fields("client_hello", compression_methods=b""), DECODE, "", id="row-27-compression"),
        pytest.param(with_fields("client_hello", cipher_suites=()), DECODE, "", id="row-27-suites"),
        pytest.param(with_fields("client_hello", session_id=bytes(33)), DECODE, "", id="row-27-session-id"),
        pytest.param(putting("client_hello", SupportedGroups(())), DECODE, "", id="row-27-groups"),
        pytest.param(putting("client_hello", SignatureAlgorithms(())), DECODE, "", id="row-27-schemes"),
        pytest.param(putting("client_hello", SupportedVersions(())), DECODE, "", id="row-27-versions"),
        pytest.param(putting("client_hello", PskKeyExchangeModes(())), DECODE, "", id="row-27-modes"),
        pytest.param(adding("client_hello", ApplicationProtocols(())), DECODE, "", id="row-36-none"),
        pytest.param(adding("client_hello", ApplicationProtocols((b"",))), DECODE, "", id="row-36-empty"),
        pytest.param(adding("client_hello", RecordSizeLimit(63)), ILLEGAL, "63", id="record-size-limit"),
        pytest.param(
            adding("client_hello", UnknownExtension(ExtensionType.padding, b"\0\1")), ILLEGAL, "not zero", id="padding"
        ),
        pytest.param(
            putting("client_hello", KeyShares((A_SHARE, A_SHARE))), ILLEGAL, "two key shares", id="row-48-duplicate"
        ),
        pytest.param(
            putting("client_hello", KeyShares((A_SHARE, KeyShareEntry(NamedGroup.secp384r1, b"\4")))),
            ILLEGAL,
            "does not list",
            id="row-48-not-in-groups",
        ),
        pytest.param(
            putting("client_hello", KeyShares((KeyShareEntry(NamedGroup.secp256r1, b"\4" + bytes(64)), A_SHARE))),
            ILLEGAL,
            "another order",
            id="row-48-order",
        ),
        pytest.param(
            putting("client_hello", KeyShares((KeyShareEntry(X25519, bytes(32)),))),
            ILLEGAL,
            "key share",
            id="row-50-zero",
        ),
        pytest.param(
            putting("client_hello", KeyShares((KeyShareEntry(X25519, bytes(33)),))),
            ILLEGAL,
            "33 bytes",
            id="row-50-length",
        ),
        pytest.param(
            putting("client_hello", UnknownExtension(ExtensionType.server_name, b"\0\x0e\0\0\4host\0\0\4more")),
            ILLEGAL,
            "exactly one host_name",
            id="row-34-two-names",
        ),
        pytest.param(
            putting("client_hello", UnknownExtension(ExtensionType.server_name, b"\0\7\0\0\4h\xf6st")),
            ILLEGAL,
            "not a host name",
            id="row-34-not-ascii",
        ),
        pytest.param(
            putting("client_hello", UnknownExtension(ExtensionType.server_name, b"\0\7\1\0\4host")),
            ILLEGAL,
            "exactly one host_name",
            id="row-34-other-type",
        ),
        pytest.param(twice("finished"), UNEXPECTED, "span a change", id="row-40-two-finished"),
        pytest.param(
            on("finished", lambda raw: [Certificate(b"", ()).encode(), raw]),
            UNEXPECTED,
            "certificate",
            id="row-40-certificate",
        ),
        pytest.param(
            on("finished", lambda raw: [EndOfEarlyData().encode(), raw]), UNEXPECTED, "end_of_early_data", id="row-61"
        ),
        pytest.param(
            on("finished", lambda raw: [KeyUpdate(False).encode(), raw]), UNEXPECTED, "key_update", id="row-62"
        ),
        pytest.param(
            on("finished", lambda raw: [NewSessionTicket(1, 1, b"", b"x", Extensions()).encode()]),
            UNEXPECTED,
            "new_session_ticket",
            id="row-77-in-the-handshake",
        ),
        pytest.param(
            on("finished", lambda raw: [EncryptedExtensions(Extensions()).encode(), raw]),
            UNEXPECTED,
            "",
            id="row-40-ee",
        ),
        pytest.param(
            on("client_hello", lambda raw: ServerHello(bytes(32), b"", 0x1301, Extensions()).encode()),
            UNEXPECTED,
            "server_hello",
            id="row-40-server-hello",
        ),
        pytest.param(
            with_fields("finished", verify_data=bytes(32)), Alert.decrypt_error, "Finished", id="row-70-wrong"
        ),
        pytest.param(with_fields("finished", verify_data=bytes(12)), DECODE, "12 bytes", id="row-70-short"),
        pytest.param(with_fields("finished", verify_data=bytes(64)), DECODE, "64 bytes", id="row-70-long"),
    ],
)
def test_a_client_that_sends_something_wrong_is_refused(edit: Edit, alert: Alert, text: str) -> None:
    ask(edit).refused(alert, text)


def shortened(raw: bytes) -> bytes:
    """A ClientHello that ends before its extensions, as those of TLS 1.0 may."""
    body = raw[4 : 4 + 2 + 32 + 1 + 32 + 2 + 2 + 2]
    return b"\1" + len(body).to_bytes(3, "big") + body


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        pytest.param(
            with_fields("client_hello", extensions=Extensions()), "does not speak TLS 1.3", id="row-27-no-extensions"
        ),
        pytest.param(on("client_hello", shortened), "does not speak TLS 1.3", id="row-27-no-block"),
        pytest.param(without("client_hello", SupportedVersions), "ssl.SSLContext", id="no-supported-versions"),
        pytest.param(
            putting("client_hello", SupportedVersions((TLS_1_2,))), "does not speak TLS 1.3", id="only-tls-1.2"
        ),
        pytest.param(with_fields("client_hello", legacy_version=0x0304), "legacy_version", id="row-31-higher"),
        pytest.param(with_fields("client_hello", legacy_version=0x0301), "legacy_version", id="row-31-lower"),
    ],
)
def test_a_client_of_another_version_is_refused(edit: Edit, text: str) -> None:
    ask(edit).refused(Alert.protocol_version, text, NoSharedParameters)


# -- what is negotiated ----------------------------------------------------------------------------------------


def test_row_28_values_that_nobody_knows_are_ignored() -> None:
    grease = GREASE[3]

    def greased(extensions: list[Extension]) -> list[Extension]:
        changed: list[Extension] = [UnknownExtension(grease, b"")]
        for each in extensions:
            if isinstance(each, SupportedVersions):
                each = SupportedVersions((grease, *each.versions))
            elif isinstance(each, SupportedGroups):
                each = SupportedGroups((grease, 0x9999, *each.groups))
            elif isinstance(each, SignatureAlgorithms):
                each = SignatureAlgorithms((grease, *each.schemes))
            elif isinstance(each, KeyShares):
                each = KeyShares((KeyShareEntry(grease, b"\0"), *each.entries))
            elif isinstance(each, PskKeyExchangeModes):
                each = PskKeyExchangeModes((0x0B, *each.modes))
            changed.append(each)
        return [*changed, Padding(100), STRANGE]

    meeting = ask(
        hello=greased, suites=(grease, 0x1304, 0x1301), alpn=[b"\x0a\x0a", b"h2"], server={"alpn_protocols": ["h2"]}
    )
    info = meeting.succeeded().machine.info
    assert info is not None
    assert (info.cipher_suite, info.group, info.alpn_protocol) == ("TLS_AES_128_GCM_SHA256", "x25519", "h2")


@pytest.mark.parametrize(
    ("client", "server", "alert", "text"),
    [
        ({"suites": (0x1304,)}, {}, Alert.handshake_failure, "cipher suites"),
        (
            {"suites": (CipherSuiteNumber.TLS_CHACHA20_POLY1305_SHA256,)},
            {"cipher_suites": [CipherSuiteNumber.TLS_AES_128_GCM_SHA256]},
            Alert.handshake_failure,
            "cipher suites",
        ),
        ({"groups": (X25519,)}, {"groups": [NamedGroup.secp384r1]}, Alert.handshake_failure, "key exchange groups"),
        (
            {
                "hello": lambda found: [
                    SignatureAlgorithms((0x0807,)) if isinstance(e, SignatureAlgorithms) else e for e in found
                ]
            },
            {},
            Alert.handshake_failure,
            "signature scheme",
        ),
        ({"alpn": [b"h2"]}, {"alpn_protocols": ["http/1.1"]}, Alert.no_application_protocol, "ALPN"),
        (
            {"server_name": "other.example.org"},
            {"credentials": CredentialsByName([server_credential()], default=None)},
            Alert.unrecognized_name,
            "no certificate for",
        ),
        (
            {"server_name": None},
            {"credentials": CredentialsByName([server_credential()], default=None)},
            Alert.unrecognized_name,
            "no certificate for",
        ),
    ],
    ids=["suites", "suites-of-config", "groups", "schemes", "row-36-alpn", "row-34-unknown-name", "row-34-no-name"],
)
def test_a_client_with_which_nothing_is_shared_is_told_what(
    client: dict[str, Any], server: dict[str, Any], alert: Alert, text: str
) -> None:
    ask(**client, server=server).refused(alert, text, NoSharedParameters)


def test_row_34_a_client_that_names_nobody_gets_the_default() -> None:
    meeting = ask(server_name=None).succeeded()
    assert meeting.machine.info is not None
    assert meeting.machine.info.server_name is None


def test_row_36_without_alpn_of_the_client_there_is_none() -> None:
    meeting = ask(server={"alpn_protocols": ["h2"]}).succeeded()
    assert meeting.machine.info is not None
    assert meeting.machine.info.alpn_protocol is None
    assert ApplicationProtocols not in {type(each) for each in meeting.peer.got(EncryptedExtensions).extensions}


def test_row_52_a_client_that_would_do_without_a_key_exchange_is_told_so() -> None:
    """Its hello is complete: only without pre_shared_key there must be groups and shares (section 9.2)."""

    def psk_ke(found: list[Extension]) -> list[Extension]:
        kept = [each for each in found if not isinstance(each, SupportedGroups | KeyShares | PskKeyExchangeModes)]
        return [*kept, PskKeyExchangeModes((0,)), AN_OFFER]

    ask(extended("client_hello", psk_ke)).refused(Alert.handshake_failure, "no key exchange", NoSharedParameters)


def test_the_servers_preference_decides() -> None:
    suites = tuple(sorted(CipherSuiteNumber)[:3])
    for preferred in suites:
        meeting = ask(
            suites=suites,
            alpn=[b"a", b"b"],
            server={
                "cipher_suites": [preferred, *(each for each in suites if each != preferred)],
                "alpn_protocols": ["b", "a"],
            },
        ).succeeded()
        assert meeting.machine.info is not None
        assert meeting.machine.info.cipher_suite == preferred.name
        assert meeting.machine.info.alpn_protocol == "b"


@pytest.mark.parametrize("session_id", [b"", b"x", b"x" * 32])
def test_row_32_the_session_id_is_echoed_and_compatibility_follows_it(session_id: bytes) -> None:
    machine = a_server()
    peer = ScriptedClient(session_id=session_id)
    flights: list[bytes] = []
    script = peer.run()
    next(script)
    machine.incoming.write(bytes(peer.wire))
    machine.do_handshake()
    flights.append(machine.outgoing.read())
    peer.wire.clear()
    peer.incoming.write(flights[0])
    with pytest.raises(StopIteration):
        next(script)
    hello = peer.got(ServerHello)
    assert hello.session_id == session_id
    position = 5 + int.from_bytes(flights[0][3:5], "big")
    assert (flights[0][position] == CCS) == bool(session_id)


def test_what_the_client_asks_records_to_be_limited_to_is_kept_to() -> None:
    meeting = ask(hello=lambda found: [*found, RecordSizeLimit(100)], server={"record_size_limit": 200}).succeeded()
    assert meeting.peer.got(EncryptedExtensions).extensions.require(RecordSizeLimit).limit == 200
    meeting.peer.record(DATA, bytes(200))
    meeting.go_on()
    meeting.refused(Alert.record_overflow)


# -- records, keys, ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "act", "alert", "text"),
    [
        pytest.param("client_hello", sending(CCS, b"\1"), UNEXPECTED, "change_cipher_spec", id="row-12-too-early"),
        pytest.param("finished", sending(CCS, b"\1", times=33), UNEXPECTED, "change_cipher_spec", id="row-12-flood"),
        pytest.param("finished", sending(CCS, b"\0"), UNEXPECTED, "change_cipher_spec", id="row-12-value"),
        pytest.param(
            "client_hello", sending(DATA, b"x" * 50), UNEXPECTED, "before there are keys", id="protected-early"
        ),
        pytest.param("finished", sending(DATA, b"x"), UNEXPECTED, "before the handshake", id="row-71-data-too-early"),
        pytest.param("finished", sending(HANDSHAKE, b"\x14", protected=False), UNEXPECTED, "unprotected", id="row-13"),
        pytest.param("finished", sending(ALERT, b"\1\0", protected=False), UNEXPECTED, "", id="row-13-close-notify"),
        pytest.param("client_hello", lambda peer: peer.raw(b"\x80\x2e\1\3\1"), UNEXPECTED, "", id="sslv2-hello"),
        pytest.param("client_hello", lambda peer: peer.raw(b"GET / HTTP/1.1\r\n\r\n"), UNEXPECTED, "HTTP", id="http"),
        pytest.param("client_hello", lambda peer: peer.raw(b"\x16\3\1\xff\xff"), Alert.record_overflow, "", id="row-5"),
    ],
)
def test_a_client_that_sends_a_record_out_of_place_is_refused(
    place: str, act: Callable[[ScriptedPeer], None], alert: Alert, text: str
) -> None:
    ask(before={place: act}).refused(alert, text)


def test_row_12_a_change_cipher_spec_between_hello_and_finished_is_dropped() -> None:
    ask(before={"finished": sending(CCS, b"\1", times=2)}).succeeded()


def test_row_12_a_change_cipher_spec_after_the_finished_is_refused() -> None:
    meeting = ask().succeeded()
    meeting.peer.record(CCS, b"\1")
    meeting.go_on()
    meeting.refused(UNEXPECTED, "change_cipher_spec")


def test_row_71_the_server_can_write_before_the_clients_finished_has_come() -> None:
    """Its write key is the application's from its own Finished on; its read key is still the handshake's."""
    peer = ScriptedClient()
    machine = a_server()
    script = peer.run()
    next(script)
    machine.incoming.write(bytes(peer.wire))
    machine.do_handshake()
    peer.incoming.write(machine.outgoing.read())
    peer.wire.clear()
    with pytest.raises(StopIteration):
        next(script)
    peer.alert(Alert.bad_certificate)  # under the application's keys, which come only after the Finished
    finished_and_alert = bytes(peer.wire)
    ends = [0]
    while ends[-1] < len(finished_and_alert):
        ends.append(ends[-1] + 5 + int.from_bytes(finished_and_alert[ends[-1] + 3 : ends[-1] + 5], "big"))
    machine.incoming.write(finished_and_alert[ends[-2] :])  # the Finished is lost
    with pytest.raises(TLSError) as caught:
        machine.do_handshake()
    assert caught.value.alert is Alert.bad_record_mac
    peer.incoming.write(machine.outgoing.read())
    peer.listen()
    assert peer.alerts == [Alert.bad_record_mac], "row 72: the alert is under the application's write key"


@pytest.mark.parametrize("place", ["client_hello", "finished"])
@pytest.mark.parametrize("level", [1, 2])
def test_row_72_an_alert_ends_the_handshake_whatever_its_level(place: str, level: int) -> None:
    meeting = ask(before={place: lambda peer: peer.alert(Alert.bad_certificate, level)})
    assert type(meeting.failure) is AlertReceived
    assert (meeting.failure.alert, meeting.failure.sent_by_peer) == (Alert.bad_certificate, True)
    assert not meeting.peer.alerts


@pytest.mark.parametrize("place", ["client_hello", "finished"])
def test_row_73_a_close_notify_during_the_handshake_says_so(place: str) -> None:
    meeting = ask(before={place: lambda peer: peer.alert(Alert.close_notify, 1)})
    assert type(meeting.failure) is HandshakeClosed
    assert not meeting.peer.alerts


@pytest.mark.parametrize("place", ["client_hello", "finished"])
def test_row_17_an_end_of_the_stream_during_the_handshake_is_unexpected(place: str) -> None:
    meeting = ask(before={place: lambda peer: peer.cut_off()})
    assert type(meeting.failure) is UnexpectedEOF
    assert not meeting.peer.alerts


def test_row_48_only_the_share_that_is_used_is_computed() -> None:
    """The other is no point of its curve, and nobody looks."""
    shares = rewritten(
        "client_hello",
        lambda hello: replace(
            hello,
            extensions=Extensions(
                KeyShares((*each.entries, KeyShareEntry(NamedGroup.secp256r1, b"\4" + bytes(64))))
                if isinstance(each, KeyShares)
                else each
                for each in hello.extensions
            ),
        ),
    )
    ask(shares, server={"groups": [X25519, NamedGroup.secp256r1]}).succeeded()


def test_row_72_an_alert_of_the_client_reaches_the_server_by_its_name() -> None:
    failures = fail(a_client(name="other.example.org"), a_server())
    assert failures["client"].alert is Alert.bad_certificate
    assert type(failures["server"]) is AlertReceived
    assert failures["server"].alert is Alert.bad_certificate
