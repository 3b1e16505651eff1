"""After the handshake, in both roles: key updates, alerts, ends, exporters (RFC 9846 sections 4.7, 5.5, 6 and 7.5)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing

from trio_tls import TLSStream
from trio_tls.alerts import Alert
from trio_tls.errors import AlertReceived, TLSError, UnexpectedEOF
from trio_tls.machine.interface import Machine, Want
from trio_tls.machine.tls13 import suites
from trio_tls.machine.tls13.extensions import Cookie, Extensions
from trio_tls.machine.tls13.messages import (
    Certificate,
    CertificateRequest,
    ClientHello,
    EncryptedExtensions,
    EndOfEarlyData,
    Finished,
    KeyUpdate,
    NewSessionTicket,
)
from trio_tls.machine.tls13.registry import CipherSuiteNumber

from ...support import HOST
from .ends import a_client, a_server, client_config, connected, pass_on, read, send, server_config, server_credential
from .scripted_peer import ALERT, CCS, DATA, HANDSHAKE, Meeting, ScriptedClient, ScriptedServer, meet

UNEXPECTED = Alert.unexpected_message


def a_client_meets() -> Meeting:
    return meet(a_client(), ScriptedServer(credential=server_credential())).succeeded()


def a_server_meets() -> Meeting:
    return meet(a_server(tickets=0), ScriptedClient()).succeeded()


#: Our machine in each role, connected to a peer by hand.
EITHER = pytest.mark.parametrize("role", [a_client_meets, a_server_meets], ids=["client", "server"])
Role = Callable[[], Meeting]

#: Both of our ends, so that either can be "one" and the other "other".
ENDS = pytest.mark.parametrize("swap", [False, True], ids=["client-first", "server-first"])


def both(swap: bool) -> tuple[Machine, Machine]:
    client, server = connected(client_config(), server_config(tickets=0))
    return (server, client) if swap else (client, server)


# -- KeyUpdate -------------------------------------------------------------------------------------------------


@ENDS
def test_row_62_keys_change_and_data_goes_on(swap: bool) -> None:
    one, other = both(swap)
    for number in range(5):
        one.update_keys(request_update=number % 2 == 0)
        assert send(one, other, b"after %d" % number) == b"after %d" % number
        assert send(other, one, b"back %d" % number) == b"back %d" % number


@EITHER
def test_row_62_a_request_is_answered_once_before_the_next_data(role: Role) -> None:
    meeting = role()
    for _ in range(5):
        meeting.peer.update_keys(request=True)
    meeting.carry()
    meeting.step()
    meeting.machine.write(memoryview(b"data"))
    meeting.go_on()
    assert [each for each in meeting.peer.received if isinstance(each, KeyUpdate)] == [KeyUpdate(False)]
    assert meeting.peer.data == b"data"


@EITHER
def test_row_62_each_request_is_answered_once_the_last_answer_has_left(role: Role) -> None:
    meeting = role()
    for number in range(3):
        meeting.peer.update_keys(request=True)
        meeting.peer.record(DATA, b"x")
        meeting.go_on()
        updates = [each for each in meeting.peer.received if isinstance(each, KeyUpdate)]
        assert updates == [KeyUpdate(False)] * (number + 1)


@EITHER
def test_row_62_an_update_that_requests_nothing_is_not_answered(role: Role) -> None:
    meeting = role()
    meeting.peer.update_keys()
    meeting.peer.record(DATA, b"under the next key")
    meeting.go_on()
    assert meeting.data == b"under the next key"
    assert not [each for each in meeting.peer.received if isinstance(each, KeyUpdate)]


@EITHER
@pytest.mark.parametrize(
    ("raw", "alert", "text"),
    [
        (b"\x18\0\0\1\2", Alert.illegal_parameter, "KeyUpdate asks for 2"),
        (b"\x18\0\0\1\xff", Alert.illegal_parameter, "255"),
        (b"\x18\0\0\0", Alert.decode_error, ""),
        (b"\x18\0\0\2\0\0", Alert.decode_error, "too long"),
    ],
    ids=["value-2", "value-255", "empty", "long"],
)
def test_row_62_an_update_with_another_value_is_refused(role: Role, raw: bytes, alert: Alert, text: str) -> None:
    meeting = role()
    meeting.peer.record(HANDSHAKE, raw)
    meeting.go_on()
    meeting.refused(alert, text)


@EITHER
def test_row_62_thirty_two_updates_in_a_row_are_taken_and_no_more(role: Role) -> None:
    meeting = role()
    for _ in range(2):
        for _ in range(32):
            meeting.peer.update_keys()
        meeting.peer.record(DATA, b"x")
        meeting.go_on()
    assert meeting.data == b"xx"
    for _ in range(33):
        meeting.peer.update_keys()
    meeting.go_on()
    meeting.refused(UNEXPECTED, "without data")


@EITHER
@pytest.mark.parametrize(
    "behind", [KeyUpdate(False).encode(), b"\x18", b"\x18\0\0\1"], ids=["update", "byte", "header"]
)
def test_row_1_nothing_stands_behind_a_key_update_in_its_record(role: Role, behind: bytes) -> None:
    meeting = role()
    meeting.peer.record(HANDSHAKE, KeyUpdate(False).encode() + behind)
    meeting.go_on()
    meeting.refused(UNEXPECTED, "span a change")


def test_row_1_a_ticket_before_a_key_update_may_share_its_record() -> None:
    meeting = a_client_meets()
    server = meeting.peer
    assert isinstance(server, ScriptedServer)
    server.update_keys(raw=server.ticket() + KeyUpdate(False).encode())
    server.record(DATA, b"x")
    meeting.go_on()
    assert meeting.succeeded().machine.session is not None
    assert meeting.data == b"x"


@EITHER
def test_row_1_a_key_update_ends_its_record_when_we_send_it(role: Role) -> None:
    meeting = role()
    meeting.machine.write(memoryview(b"before"))
    meeting.machine.update_keys()
    meeting.machine.write(memoryview(b"after"))
    meeting.go_on()
    assert meeting.peer.data == b"beforeafter"


@EITHER
def test_row_63_a_second_request_waits_for_the_answer_to_the_first(role: Role) -> None:
    meeting = role()
    for _ in range(3):
        meeting.machine.update_keys(request_update=True)
    meeting.go_on()
    assert [each.request_update for each in meeting.peer.received if isinstance(each, KeyUpdate)] == [
        True,
        False,
        False,
    ]
    meeting.peer.update_keys()
    meeting.go_on()
    meeting.machine.update_keys(request_update=True)
    meeting.go_on()
    assert meeting.peer.got(KeyUpdate).request_update


def test_row_62_updates_cross() -> None:
    one, other = both(swap=False)
    one.update_keys(request_update=True)
    other.update_keys(request_update=True)
    crossing = one.outgoing.read(), other.outgoing.read()
    other.incoming.write(crossing[0])
    one.incoming.write(crossing[1])
    assert read(one) is read(other) is Want.READ
    assert send(one, other, b"there") == b"there"
    assert send(other, one, b"back") == b"back"


@EITHER
def test_row_10_a_key_is_changed_before_it_has_protected_all_the_records_that_it_may(
    role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = dict.fromkeys(("record_limit",), 5)
    suite = suites.SUITES[CipherSuiteNumber.TLS_AES_128_GCM_SHA256]
    fields = {name: getattr(suite, name) for name in type(suite).__dataclass_fields__}
    monkeypatch.setitem(suites.SUITES, suite.number, suites.CipherSuite(**{**fields, **few}))
    meeting = role()
    for number in range(20):
        assert meeting.machine.write(memoryview(b"%02d" % number)) == 2
    meeting.go_on()
    assert meeting.peer.data == b"".join(b"%02d" % number for number in range(20))
    updates = [each for each in meeting.peer.received if isinstance(each, KeyUpdate)]
    assert len(updates) == 4
    assert updates[0] == KeyUpdate(False)


def test_row_10_a_long_write_ends_at_the_limit_and_goes_on_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    suite = suites.SUITES[CipherSuiteNumber.TLS_AES_128_GCM_SHA256]
    fields = {name: getattr(suite, name) for name in type(suite).__dataclass_fields__}
    monkeypatch.setitem(suites.SUITES, suite.number, suites.CipherSuite(**{**fields, "record_limit": 4}))
    meeting = a_server_meets()
    data = bytes(range(256)) * 800
    sent = 0
    while sent < len(data):
        accepted = meeting.machine.write(memoryview(data)[sent:])
        assert isinstance(accepted, int)
        sent += accepted
        meeting.go_on()
    assert meeting.peer.data == data


# -- what must not come ----------------------------------------------------------------------------------------

NOBODY = Extensions()


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(CertificateRequest(b"", NOBODY).encode(), id="row-76-certificate-request"),
        pytest.param(Certificate(b"", ()).encode(), id="certificate"),
        pytest.param(Finished(bytes(32)).encode(), id="finished"),
        pytest.param(EncryptedExtensions(NOBODY).encode(), id="encrypted-extensions"),
        pytest.param(EndOfEarlyData().encode(), id="row-61-end-of-early-data"),
        pytest.param(ClientHello(bytes(32), b"", (1,), NOBODY).encode(), id="renegotiation"),
        pytest.param(b"\0\0\0\0", id="hello-request"),
        pytest.param(b"\x63\0\0\0", id="row-76-unknown"),
    ],
)
@EITHER
def test_row_76_any_other_message_is_refused(role: Role, raw: bytes) -> None:
    meeting = role()
    meeting.peer.record(HANDSHAKE, raw)
    meeting.go_on()
    meeting.refused(UNEXPECTED, "after the handshake")


def test_row_77_a_ticket_for_a_server_is_refused() -> None:
    meeting = a_server_meets()
    meeting.peer.record(HANDSHAKE, NewSessionTicket(1, 1, b"", b"x", NOBODY).encode())
    meeting.go_on()
    meeting.refused(UNEXPECTED, "new_session_ticket after the handshake")


def test_row_24_a_known_extension_in_a_ticket_is_refused() -> None:
    meeting = a_client_meets()
    server = meeting.peer
    assert isinstance(server, ScriptedServer)
    server.record(HANDSHAKE, server.ticket(extensions=[Cookie(b"x")]))
    meeting.go_on()
    meeting.refused(Alert.illegal_parameter, "no place")


def test_row_58_tickets_without_end_are_refused() -> None:
    meeting = a_client_meets()
    server = meeting.peer
    assert isinstance(server, ScriptedServer)
    server.record(HANDSHAKE, server.ticket() * 32)
    meeting.go_on()
    assert meeting.failure is None
    server.record(HANDSHAKE, server.ticket())
    meeting.go_on()
    meeting.refused(UNEXPECTED, "without data")


def test_row_20_a_ticket_longer_than_any_is_refused_by_its_header() -> None:
    meeting = a_client_meets()
    meeting.peer.record(HANDSHAKE, b"\x04\x02\0\0")
    meeting.go_on()
    meeting.refused(Alert.decode_error, "too long")


@EITHER
def test_row_4_empty_records_without_end_are_refused(role: Role) -> None:
    meeting = role()
    for _ in range(32):
        meeting.peer.record(DATA, b"")
    meeting.peer.record(DATA, b"x")
    meeting.go_on()
    assert meeting.data == b"x"
    for _ in range(33):
        meeting.peer.record(DATA, b"")
    meeting.go_on()
    meeting.refused(UNEXPECTED, "empty records")


@EITHER
@pytest.mark.parametrize(("kind", "content"), [(CCS, b"\1"), (HANDSHAKE, b"\x18\0\0\1\0"), (ALERT, b"\1\0")])
def test_row_13_a_plain_record_is_refused(role: Role, kind: int, content: bytes) -> None:
    meeting = role()
    meeting.peer.record(kind, content, protected=False)
    meeting.go_on()
    meeting.refused(UNEXPECTED)


@EITHER
def test_row_7_a_record_that_was_altered_is_refused_and_what_came_before_is_given_out(role: Role) -> None:
    meeting = role()
    meeting.peer.record(DATA, b"good")
    meeting.peer.record(DATA, b"altered")
    meeting.peer.wire[-1] ^= 1
    meeting.go_on()
    assert meeting.data == b"good"
    meeting.refused(Alert.bad_record_mac)


@EITHER
def test_padding_of_the_peer_is_taken_off(role: Role) -> None:
    meeting = role()
    meeting.peer.record(DATA, b"padded", padding=1000)
    meeting.go_on()
    assert meeting.data == b"padded"


# -- alerts and ends -------------------------------------------------------------------------------------------


@EITHER
@pytest.mark.parametrize("level", [1, 2, 77])
@pytest.mark.parametrize("alert", [Alert.internal_error, Alert.bad_certificate, Alert(222)])
def test_row_72_any_other_alert_ends_both_directions(role: Role, alert: Alert, level: int) -> None:
    meeting = role()
    meeting.peer.alert(alert, level)
    meeting.go_on()
    error = meeting.failure
    assert type(error) is AlertReceived
    assert (error.alert, error.sent_by_peer) == (alert, True)
    assert not meeting.peer.alerts
    with pytest.raises(AlertReceived):
        meeting.machine.write(memoryview(b"x"))
    with pytest.raises(AlertReceived):
        meeting.machine.update_keys()
    meeting.machine.shutdown()
    assert not meeting.machine.outgoing.pending
    assert not meeting.machine.sent_fatal_alert


@ENDS
def test_row_72_close_notify_ends_reading_and_leaves_writing(swap: bool) -> None:
    one, other = both(swap)
    one.shutdown()
    one.shutdown()
    pass_on(one, other)
    assert read(other) == read(other) == b""
    assert send(other, one, b"still here") == b"still here"
    other.shutdown()
    pass_on(other, one)
    assert read(one) == b""
    assert not (one.sent_fatal_alert or other.sent_fatal_alert)


@EITHER
def test_close_notify_is_a_warning_and_comes_once(role: Role) -> None:
    """`ScriptedPeer` checks the level of each alert that it receives."""
    meeting = role()
    for _ in range(3):
        meeting.machine.shutdown()
    meeting.go_on()
    assert meeting.peer.alerts == [Alert.close_notify]


@EITHER
def test_row_16_nothing_is_written_after_close_notify(role: Role) -> None:
    meeting = role()
    meeting.machine.shutdown()
    with pytest.raises(ValueError, match="after shutdown"):
        meeting.machine.write(memoryview(b"x"))
    with pytest.raises(ValueError, match="after shutdown"):
        meeting.machine.update_keys()
    meeting.peer.update_keys(request=True)
    meeting.peer.record(DATA, b"we read on")
    meeting.go_on()
    assert meeting.data == b"we read on"
    assert meeting.peer.alerts == [Alert.close_notify]
    assert KeyUpdate not in {type(each) for each in meeting.peer.received}


@EITHER
def test_row_74_an_error_after_our_close_notify_sends_no_alert(role: Role) -> None:
    meeting = role()
    meeting.machine.shutdown()
    meeting.peer.record(DATA, b"x")
    meeting.peer.wire[-1] ^= 1
    meeting.go_on()
    assert meeting.failure is not None
    assert meeting.failure.alert is Alert.bad_record_mac
    assert meeting.peer.alerts == [Alert.close_notify]
    assert not meeting.machine.sent_fatal_alert


@EITHER
@pytest.mark.parametrize("part", [b"", b"\x17", b"\x17\3\3\0\x30", b"\x17\3\3\0\x30" + bytes(20)])
def test_row_17_an_end_without_close_notify_is_unexpected_and_ends_reading_alone(role: Role, part: bytes) -> None:
    meeting = role()
    meeting.peer.record(DATA, b"all there is")
    meeting.peer.raw(part)
    meeting.peer.ended = True
    meeting.carry()
    meeting.step()
    assert meeting.data == b"all there is"
    assert type(meeting.failure) is UnexpectedEOF
    assert "truncated" in str(meeting.failure)
    assert meeting.machine.write(memoryview(b"we write on")) == 11
    meeting.peer.incoming.write(meeting.machine.outgoing.read())
    meeting.peer.listen()
    assert meeting.peer.data == b"we write on"
    assert not meeting.peer.alerts


@EITHER
def test_row_75_user_canceled_is_let_pass(role: Role) -> None:
    meeting = role()
    meeting.peer.alert(Alert.user_canceled, 1)
    meeting.peer.record(DATA, b"after all")
    meeting.peer.alert(Alert.user_canceled, 1)
    meeting.peer.alert(Alert.close_notify, 1)
    meeting.go_on()
    assert meeting.data == b"after all"
    assert meeting.closed
    assert meeting.failure is None


@EITHER
def test_row_75_user_canceled_without_end_is_refused(role: Role) -> None:
    meeting = role()
    for _ in range(33):
        meeting.peer.alert(Alert.user_canceled, 1)
    meeting.go_on()
    meeting.refused(UNEXPECTED, "user_canceled")


@EITHER
def test_what_comes_after_close_notify_is_no_tls(role: Role) -> None:
    meeting = role()
    meeting.peer.record(DATA, b"tls")
    meeting.peer.alert(Alert.close_notify, 1)
    meeting.peer.raw(b"plaintext again")
    meeting.carry()
    meeting.step()
    assert meeting.data == b"tls"
    assert meeting.closed
    assert meeting.machine.trailing_data() == b"plaintext again"


@ENDS
def test_row_15_no_more_is_decrypted_than_was_asked_for(swap: bool) -> None:
    one, other = both(swap)
    for number in range(10):
        one.write(memoryview(bytes((number,)) * 1000))
    pass_on(one, other)
    pending = other.incoming.pending
    assert read(other, 1500) == b"\0" * 1000 + b"\1" * 500
    assert other.buffered <= 1000
    assert other.incoming.pending >= pending - 2 * 1022


# -- exporters -------------------------------------------------------------------------------------------------


def test_row_82_both_ends_export_the_same_and_each_connection_another() -> None:
    config = client_config(), server_config()
    exported = []
    for _ in range(2):
        client, server = connected(*config)
        for machine in (client, server):
            exported.append(machine.export_keying_material(b"EXPORTER-test", b"context", 48))
        assert exported[-1] == exported[-2]
        assert client.export_keying_material(b"EXPORTER-test", b"", 48) != exported[-1]
        assert client.export_keying_material(b"EXPORTER-other", b"context", 48) != exported[-1]
        client.update_keys()
        assert client.export_keying_material(b"EXPORTER-test", b"context", 48) == exported[-1]
        bindings = [end.introspection.get_channel_binding("tls-exporter") for end in (client, server)]
        assert bindings[0] == bindings[1] == client.export_keying_material(b"EXPORTER-Channel-Binding", b"", 32)
    assert exported[0] != exported[2]


@pytest.mark.parametrize(("label", "length"), [(b"", 32), (b"x" * 250, 32), (b"x", 0), (b"x", 2**16)])
def test_row_82_an_exporter_out_of_range_is_the_callers_error(label: bytes, length: int) -> None:
    client, _server = connected()
    with pytest.raises(ValueError, match=r"label|bytes"):
        client.export_keying_material(label, b"", length)


async def test_row_82_there_is_nothing_to_export_before_the_handshake() -> None:
    transport, _other = trio.testing.memory_stream_pair()
    stream = TLSStream(transport, client_config(), server_hostname=HOST)
    with pytest.raises(trio.NeedHandshakeError):
        stream.export_keying_material("EXPORTER-test")
    await trio.aclose_forcefully(stream)


# -- bulk and padding of ours ----------------------------------------------------------------------------------


@ENDS
@pytest.mark.parametrize("suite", list(CipherSuiteNumber)[:3])
def test_data_of_every_length_arrives(swap: bool, suite: CipherSuiteNumber) -> None:
    client, server = connected(client_config(cipher_suites=[suite]), server_config())
    one, other = (server, client) if swap else (client, server)
    for length in (1, 100, 2**14 - 1, 2**14, 2**14 + 1, 200_000):
        data = bytes(index % 251 for index in range(length))
        assert one.write(memoryview(data)) == length
        pass_on(one, other)
        received = b""
        while len(received) < length:
            part = read(other, 50_000)
            assert isinstance(part, bytes)
            received += part
        assert received == data


def test_the_padding_policy_hides_lengths() -> None:
    client, server = connected(client_config(padding=lambda length: -length % 256), server_config())
    sizes = set()
    for length in (1, 100, 255, 256):
        client.write(memoryview(bytes(length)))
        sizes.add(len(flight := pass_on(client, server)))
        assert read(server) == bytes(length)
        assert flight
    assert len(sizes) == 1


def test_the_outgoing_side_is_bounded_for_data_and_not_for_what_has_to_leave() -> None:
    client, server = connected()
    accepted = 0
    while isinstance(count := client.write(memoryview(bytes(2**18))), int):
        accepted += count
    assert count is Want.WRITE
    assert accepted == 2**18
    client.update_keys()
    client.shutdown()
    pass_on(client, server)
    total = 0
    while part := read(server, 2**20):
        assert isinstance(part, bytes)
        total += len(part)
    assert total == accepted


def test_row_74_a_failed_machine_says_so_again_and_again() -> None:
    meeting = a_client_meets()
    meeting.peer.raw(b"garbage garbage")
    meeting.go_on()
    first = meeting.refused(UNEXPECTED)
    for step in (
        lambda: meeting.machine.read_into(memoryview(bytearray(1))),
        lambda: meeting.machine.write(memoryview(b"x")),
        meeting.machine.update_keys,
    ):
        with pytest.raises(type(first)) as caught:
            step()
        assert caught.value is not first
        assert str(caught.value) == str(first)
    assert isinstance(first, TLSError)
    assert meeting.machine.read_short(100) is None
