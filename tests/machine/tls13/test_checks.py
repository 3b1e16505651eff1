"""Checks that only these tests would miss: mutants of the machine that all others let live (`tests.mutants`)."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import rsa

from trio_tls import Credential, PeerMisbehaved, TLSError
from trio_tls.alerts import Alert
from trio_tls.machine.interface import Machine, NeedSession, Want
from trio_tls.machine.tls13.exchange import nobody
from trio_tls.machine.tls13.extensions import (
    Extension,
    Extensions,
    PreSharedKeys,
    PskIdentity,
    PskKeyExchangeModes,
    SelectedVersion,
    SignatureAlgorithms,
)
from trio_tls.machine.tls13.messages import (
    CertificateRequest,
    ClientHello,
    HelloRetryRequest,
    decode_message,
)
from trio_tls.machine.tls13.registry import TLS_1_3
from trio_tls.machine.tls13.sessions import MOST_LIFETIME, MOST_SKEW, ServerSession
from trio_tls.machine.tls13.signatures import _SCHEMES

from .edits import adding, dropped, without
from .ends import a_client, a_server, client_config, connected, pass_on, read, server_config, server_credential
from .records import ALERT, APPLICATION, FINISHED, HANDSHAKE, a_reader, give, message, plain, refused
from .scripted_peer import Edit, ScriptedClient, ScriptedServer, meet

# -- the record layer --------------------------------------------------------------------------------------------


def test_skipped_early_data_may_not_come_within_a_message() -> None:
    reader = a_reader(plain(HANDSHAKE, FINISHED + b"\x01"), None)
    assert message(reader) == (20, FINISHED)
    reader.skip_early_data()
    give(reader, plain(APPLICATION, bytes(40)))
    assert refused(reader) is Alert.unexpected_message


def test_skipped_early_data_may_be_as_long_as_any_record_and_no_longer() -> None:
    for length, fits in ((2**14 + 256, True), (2**14 + 257, False)):
        reader = a_reader(plain(APPLICATION, bytes(length)), None)
        reader.skip_early_data()
        if fits:
            assert message(reader) is None
        else:
            assert refused(reader) is Alert.record_overflow


def test_no_plain_handshake_record_comes_after_the_keys_even_one_of_two_bytes() -> None:
    assert refused(a_reader(plain(HANDSHAKE, b"\x14\0"))) is Alert.unexpected_message


@pytest.mark.parametrize("content", [b"\x02", b"\x02\x28\0"])
def test_a_plain_alert_after_the_keys_has_two_bytes(content: bytes) -> None:
    assert refused(a_reader(plain(ALERT, content))) is Alert.unexpected_message


# -- messages ----------------------------------------------------------------------------------------------------


def test_a_psk_identity_beside_another_one_may_not_be_empty() -> None:
    hello = ClientHello(bytes(32), b"", (0x1301,), Extensions([_two_psks(b"named", b"")]))
    with pytest.raises(PeerMisbehaved) as caught:
        decode_message(1, hello.encode()[4:])
    assert caught.value.alert is Alert.decode_error


def _two_psks(*names: bytes) -> PreSharedKeys:
    return PreSharedKeys(tuple(PskIdentity(name, 0) for name in names), tuple(bytes(32) for _ in names))


def test_a_retry_request_may_not_have_a_session_id_of_33_bytes() -> None:
    retry = HelloRetryRequest(bytes(33), 0x1301, Extensions([SelectedVersion(TLS_1_3)]))
    with pytest.raises(PeerMisbehaved) as caught:
        decode_message(2, retry.encode()[4:])
    assert caught.value.alert is Alert.decode_error


# -- the handshake -----------------------------------------------------------------------------------------------


def test_a_request_without_schemes_is_refused_before_anything_else_comes() -> None:
    request = CertificateRequest(b"", Extensions())
    peer = ScriptedServer(credential=server_credential(), request=request, edit=_silent_after_request())
    meet(a_client(), peer).refused(Alert.missing_extension, "signature_algorithms")


def _silent_after_request() -> Edit:
    gone = [dropped(name) for name in ("certificate", "certificate_verify", "finished")]

    def edit(name: str, raw: bytes) -> Any:
        for each in gone:
            raw = each(name, raw)  # type: ignore[assignment]
            if not raw:
                break
        return raw

    return edit


def test_a_client_that_resumes_nothing_needs_no_psk_modes_and_gets_no_tickets() -> None:
    def hello(found: list[Extension]) -> list[Extension]:
        return [each for each in found if not isinstance(each, PskKeyExchangeModes)]

    meeting = meet(a_server(), ScriptedClient(hello=hello)).succeeded()
    meeting.machine.write(memoryview(b"x"))
    meeting.go_on()
    assert [each.type.name for each in meeting.peer.received][-1] == "finished"


def test_a_hello_without_schemes_is_refused_before_it_is_answered() -> None:
    def unknown(name: str, raw: bytes) -> Any:
        if name != "client_hello":
            return raw
        return adding(name, _two_psks(b"unknown"))(name, without(name, SignatureAlgorithms)(name, raw))  # type: ignore[arg-type]

    for edit in (unknown, without("client_hello", SignatureAlgorithms)):
        meeting = meet(a_server(), ScriptedClient(edit=edit))
        meeting.refused(Alert.missing_extension, "signature_algorithms")
        assert meeting.peer.received == []


# -- answers of the application ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [("der_chain",), ("not_after",)])
def test_half_a_verdict_is_none(fields: tuple[str, ...]) -> None:
    whole = {"der_chain": (), "not_after": None}
    half = SimpleNamespace(**{field: whole[field] for field in fields})
    with pytest.raises(TLSError, match="SimpleNamespace") as caught:
        connected(client_config(verify=lambda need: half))
    assert caught.value.alert is Alert.internal_error
    assert "of its own" not in str(caught.value)


def test_a_remote_signature_may_have_every_length_that_a_message_can_hold() -> None:
    def signing(length: int) -> Credential:
        return Credential.remote(server_credential().chain, lambda scheme, content: bytes(length))

    for length, alert in ((2**16 - 1, Alert.decode_error), (2**16, Alert.internal_error)):
        client, server = a_client(), a_server(server_config(credentials=signing(length)))
        client.do_handshake()
        pass_on(client, server)
        if alert is Alert.internal_error:
            with pytest.raises(TLSError, match="the application failed to answer NeedSignature") as caught:
                server.do_handshake()
        else:
            server.do_handshake()
            pass_on(server, client)
            with pytest.raises(TLSError) as caught:
                client.do_handshake()  # 64 KiB are more than a client waits for
        assert caught.value.alert is alert


def test_a_need_that_nobody_was_asked_to_answer_says_so() -> None:
    with pytest.raises(RuntimeError, match="NeedSession"):
        trio.run(nobody, NeedSession(nobody, b"ticket"))


# -- after the handshake -----------------------------------------------------------------------------------------


def _user_canceled(times: int) -> Machine:
    meeting = meet(a_client(), ScriptedServer(credential=server_credential())).succeeded()
    for _ in range(times):
        meeting.peer.alert(Alert.user_canceled, 1)
    meeting.go_on()
    if meeting.failure is not None:
        raise meeting.failure
    return meeting.machine


def test_as_many_useless_alerts_as_useless_messages_are_let_pass() -> None:
    assert _user_canceled(32).handshake_done
    with pytest.raises(PeerMisbehaved, match="user_canceled"):
        _user_canceled(33)


def _exported(machine: Machine) -> bytes:
    return machine.export_keying_material(b"EXPORTER-test", b"", 16)


def test_a_connection_that_is_half_closed_either_way_still_exports() -> None:
    client, server = connected()
    expected = _exported(client)
    client.shutdown()
    pass_on(client, server)
    assert read(server) == b""
    assert _exported(client) == _exported(server) == expected


def test_a_connection_that_both_ends_have_closed_exports_no_more() -> None:
    client, server = connected()
    for end, peer in ((client, server), (server, client)):
        end.shutdown()
        pass_on(end, peer)
        assert read(peer) == b""
    for end in (client, server):
        with pytest.raises(ValueError, match="over"):
            _exported(end)
        assert read(end) == b""


def test_before_the_handshake_nothing_is_exported_and_no_key_updated() -> None:
    client: Any = a_client()
    with pytest.raises(ValueError, match="before the handshake"):
        _exported(client)
    with pytest.raises(ValueError, match="before the handshake"):
        client.update_keys()


def test_an_unexpected_end_is_told_as_often_as_it_is_asked_for() -> None:
    client, _server = connected()
    client.incoming.write_eof()
    told = []
    for _ in range(2):
        with pytest.raises(TLSError) as caught:
            read(client)
        told.append(str(caught.value))
    assert told[0] == told[1]
    assert client.write(memoryview(b"still")) == 5
    assert client.do_handshake() is not Want.READ


# -- what is on the boundary -------------------------------------------------------------------------------------


def test_a_clock_may_be_behind_by_a_minute_and_no_more() -> None:
    session = ServerSession(
        cipher_suite=0x1301,
        psk=bytes(32),
        server_name=None,
        alpn_protocol=None,
        fingerprint=b"",
        client_chain=(),
        issued_at=1000.0,
        authenticated_at=1000.0,
        lifetime=3600,
        age_add=0,
        not_after=None,
        server_end_point=None,
    )
    assert not session.expired(1000.0 - MOST_SKEW)
    assert session.expired(1000.0 - MOST_SKEW - 1)
    assert not session.expired(1000.0 + 3599)
    assert session.expired(1000.0 + 3600)
    assert dataclasses.replace(session, lifetime=2**31).expired(1000.0 + MOST_LIFETIME)


def test_an_rsa_key_with_just_room_for_the_salt_can_sign_with_it() -> None:
    """RSASSA-PSS: two hashes and two bytes have to fit (RFC 8017 section 9.1.1)."""
    algorithm = _SCHEMES[0x0806]  # rsa_pss_rsae_sha512
    for bits, fits in ((1040, True), (1032, False)):
        key = rsa.generate_private_key(65537, bits)
        assert algorithm.fits(key.public_key(), pss_oid=False) is fits
        if fits:
            algorithm.verify(key.public_key(), algorithm.sign(key, b"content"), b"content")
