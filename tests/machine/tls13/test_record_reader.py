"""The rules of the record layer that a peer can break, and the alert that answers each."""

from __future__ import annotations

import pytest

from trio_tls.alerts import Alert
from trio_tls.errors import PeerMisbehaved
from trio_tls.machine.tls13.key_schedule import next_traffic_secret
from trio_tls.machine.tls13.record import MOST_INNER, MOST_PLAINTEXT, ReceivedAlert, RecordKey
from trio_tls.machine.tls13.suites import CipherSuite

from .records import (
    ALERT,
    ALL_SUITES,
    APPLICATION,
    CCS,
    FINISHED,
    HANDSHAKE,
    KEY_UPDATE,
    SECRET,
    SUITE,
    a_reader,
    a_writer,
    give,
    message,
    plain,
    read,
    refused,
    refused_either_way,
    seal_inner,
    sealed,
)

# -- alignment and interleaving (rows 1 to 4) ------------------------------------------------------------------


@pytest.mark.parametrize("rest", [b"\x14", FINISHED[:5], KEY_UPDATE, b"\0" * 300])
def test_row_01_a_key_change_within_a_record_is_an_unexpected_message(rest: bytes) -> None:
    reader = a_reader(sealed((HANDSHAKE, FINISHED + rest)))
    assert message(reader) == (20, FINISHED)
    with pytest.raises(PeerMisbehaved, match="change of keys") as caught:
        reader.set_key(RecordKey(SUITE, SECRET))
    assert caught.value.alert is Alert.unexpected_message


def test_row_01_a_key_change_between_records_is_fine() -> None:
    later = next_traffic_secret(SUITE, SECRET)
    reader = a_reader(sealed((HANDSHAKE, KEY_UPDATE)) + seal_inner(RecordKey(SUITE, later), b"data\x17"))
    assert read(reader) == b""
    assert reader.other_pending
    assert message(reader) == (24, KEY_UPDATE)
    assert not reader.other_pending
    reader.set_key(RecordKey(SUITE, later))
    assert read(reader) == b"data"


def test_a_header_that_came_before_the_key_is_judged_again() -> None:
    reader = a_reader(plain(HANDSHAKE, FINISHED)[:8], None)
    assert message(reader) is None
    with pytest.raises(PeerMisbehaved) as caught:
        reader.set_key(RecordKey(SUITE, SECRET))
    assert caught.value.alert is Alert.unexpected_message


def test_a_record_whose_key_was_let_go_in_the_middle_of_it_is_refused() -> None:
    wire = sealed((APPLICATION, b"data"))
    for cut in range(5, len(wire)):
        reader = a_reader(wire[:cut])
        assert read(reader) == b""
        reader.forget_key()
        give(reader, wire[cut:])
        with pytest.raises(PeerMisbehaved) as caught:
            read(reader)
        assert caught.value.alert is Alert.unexpected_message


@pytest.mark.parametrize("kind", [ALERT, APPLICATION])
@pytest.mark.parametrize("size", [1, 3, 4, 10, 35])
def test_row_02_nothing_comes_between_the_fragments_of_a_message(kind: int, size: int) -> None:
    wire = sealed((HANDSHAKE, FINISHED[:size]), (kind, b"\1\0"), (HANDSHAKE, FINISHED[size:]))
    reader = a_reader(wire)
    assert refused(reader) is Alert.unexpected_message
    reader = a_reader(wire)
    assert read(reader) == b""
    assert reader.other_pending
    assert refused(reader) is Alert.unexpected_message


def test_row_02_not_even_a_change_cipher_spec() -> None:
    reader = a_reader(plain(HANDSHAKE, FINISHED[:9]) + plain(CCS, b"\1"), None)
    reader.ccs_allowed = True
    assert refused(reader) is Alert.unexpected_message


def test_a_fragmented_message_after_the_handshake_is_put_together() -> None:
    wire = sealed(
        (APPLICATION, b"before"), (HANDSHAKE, FINISHED[:9]), (HANDSHAKE, FINISHED[9:]), (APPLICATION, b"after")
    )
    reader = a_reader(wire[:-20])
    assert read(reader) == b"before"
    assert reader.other_pending
    assert read(reader) == b"", "nothing is read past it"
    assert message(reader) == (20, FINISHED)
    assert message(reader) is None
    give(reader, wire[-20:])
    assert read(reader) == b"after"


@pytest.mark.parametrize("pad", [0, 5])
@pytest.mark.parametrize("kind", [HANDSHAKE, ALERT])
def test_row_03_an_empty_fragment_is_an_unexpected_message(kind: int, pad: int) -> None:
    assert refused_either_way(sealed((kind, b""), pad=pad)) is Alert.unexpected_message
    assert refused(a_reader(plain(kind, b""), None)) is Alert.unexpected_message


@pytest.mark.parametrize("pad", [0, 100])
def test_row_04_empty_application_data_is_legal_32_times_in_a_row(pad: int) -> None:
    empty = [(APPLICATION, b"")] * 32
    data = [(APPLICATION, b"data")]
    assert read(a_reader(sealed(*empty, *data, *empty, *data, pad=pad))) == b"datadata"
    reader = a_reader(sealed(*data, *empty, (APPLICATION, b""), *data, pad=pad))
    assert read(reader) == b"data"
    assert refused(reader, reading=True) is Alert.unexpected_message


def test_row_04_empty_records_are_counted_however_they_come() -> None:
    wire = sealed(*[(APPLICATION, b"")] * 33)
    reader = a_reader()
    for index in range(32):
        give(reader, wire[index * 22 : (index + 1) * 22])
        assert read(reader) == b""
    give(reader, wire[32 * 22 :])
    assert refused(reader, reading=True) is Alert.unexpected_message


# -- lengths (row 5) -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2**14 + 1, 2**14 + 256, 2**16 - 1])
@pytest.mark.parametrize("kind", [HANDSHAKE, ALERT])
def test_row_05_a_plain_record_that_is_too_long_is_refused_by_its_header(kind: int, size: int) -> None:
    reader = a_reader(bytes((kind, 3, 3)) + size.to_bytes(2, "big"), None)
    assert refused(reader) is Alert.record_overflow


@pytest.mark.parametrize("size", [2**14 + 18, 2**14 + 256, 2**14 + 257, 2**16 - 1])
def test_row_05_a_protected_record_that_is_too_long_is_refused_by_its_header(size: int) -> None:
    assert refused_either_way(b"\x17\3\3" + size.to_bytes(2, "big")) is Alert.record_overflow
    whole = b"\x17\3\3" + size.to_bytes(2, "big") + bytes(size)
    assert refused_either_way(whole) is Alert.record_overflow
    assert a_reader(whole).read_short(2**16) is None


def test_row_05_the_longest_records_are_taken() -> None:
    content = b"x" * MOST_PLAINTEXT
    assert read(a_reader(sealed((APPLICATION, content)))) == content
    assert read(a_reader(sealed((APPLICATION, content[1:]), pad=1))) == content[1:]
    hello = b"\1" + (2**14 - 4).to_bytes(3, "big") + bytes(2**14 - 4)
    assert message(a_reader(plain(HANDSHAKE, hello), None)) == (1, hello)


def test_row_05_what_we_have_advertised_is_the_limit() -> None:
    for pad in (0, 10):
        for size, fits in ((99 - pad, True), (100 - pad, False)):
            for short in (False, True):
                reader = a_reader(sealed((APPLICATION, b"x" * size), pad=pad))
                reader.record_size_limit = 100
                if fits:
                    assert (reader.read_short(1000) if short else read(reader)) == b"x" * size
                else:
                    assert reader.read_short(1000) is None
                    assert refused(reader, reading=True) is Alert.record_overflow


def test_row_05_the_advertised_limit_is_not_for_plain_records() -> None:
    # "the limit does not apply to unprotected messages" (RFC 8449 section 4)
    hello = b"\1\0\1\0" + bytes(256)
    reader = a_reader(plain(HANDSHAKE, hello), None)
    reader.record_size_limit = 64
    assert message(reader) == (1, hello)


# -- what is in a record (rows 6, 7, 11) -----------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 2, 500, MOST_INNER])
def test_row_06_a_record_of_zeros_alone_is_an_unexpected_message(size: int) -> None:
    wire = seal_inner(RecordKey(SUITE, SECRET), bytes(size))
    assert refused_either_way(wire) is Alert.unexpected_message
    if size > 1:
        with pytest.raises(PeerMisbehaved):
            a_reader(wire).read_short(2**15)


def test_row_06_zeros_of_the_content_are_no_padding() -> None:
    for pad in (0, 1, 1000):
        assert read(a_reader(sealed((APPLICATION, bytes(50)), pad=pad))) == bytes(50)


@ALL_SUITES
@pytest.mark.parametrize("place", ["header", "ciphertext", "tag"])
def test_row_07_a_failed_tag_is_a_bad_record_mac_and_leaves_nothing_behind(suite: CipherSuite, place: str) -> None:
    writer, outgoing = a_writer(suite)
    writer.write_application(memoryview(b"secret data"))
    wire = bytearray(outgoing.read())
    wire[{"header": 1, "ciphertext": 5, "tag": -1}[place]] ^= 1
    buffer = memoryview(bytearray(b"\xee" * 1000))
    with pytest.raises(PeerMisbehaved) as caught:
        a_reader(bytes(wire), suite).read_into(buffer)
    assert caught.value.alert is Alert.bad_record_mac
    assert bytes(buffer) == bytes(12) + b"\xee" * 988


def test_row_07_what_came_before_a_failed_tag_is_good() -> None:
    wire = bytearray(sealed((APPLICATION, b"good"), (APPLICATION, b"secret"), (APPLICATION, b"never read")))
    wire[-40] ^= 1
    reader = a_reader(bytes(wire))
    buffer = memoryview(bytearray(b"\xee" * 100))
    assert reader.read_into(buffer) == 4
    assert bytes(buffer[:11]) == b"good" + bytes(7)
    for _ in range(2):
        with pytest.raises(PeerMisbehaved) as caught:
            reader.read_into(buffer)
        assert caught.value.alert is Alert.bad_record_mac
    assert reader.read_short(100) is None


@pytest.mark.parametrize("size", range(17))
def test_row_07_a_record_that_is_shorter_than_a_tag_is_a_bad_record_mac(size: int) -> None:
    assert refused_either_way(b"\x17\3\3" + size.to_bytes(2, "big") + bytes(size)) is Alert.bad_record_mac


def test_row_07_a_tag_that_fails_elsewhere_leaves_nothing_behind_either() -> None:
    wire = bytearray(sealed((APPLICATION, b"secret")))
    wire[-1] ^= 1
    reader = a_reader()
    buffer = memoryview(bytearray(b"\xee" * 100))
    give(reader, bytes(wire[:10]))
    assert reader.read_into(buffer) == 0
    give(reader, bytes(wire[10:]))
    with pytest.raises(PeerMisbehaved):
        reader.read_into(buffer)
    assert not any(buffer[:7])
    with pytest.raises(PeerMisbehaved) as caught:
        a_reader(bytes(wire)).read_short(100)
    assert caught.value.alert is Alert.bad_record_mac


@pytest.mark.parametrize("kind", [1, 19, CCS, 24, 25, 255])
def test_row_11_a_protected_record_of_another_type_is_an_unexpected_message(kind: int) -> None:
    wire = sealed((kind, b"\1"))
    reader = a_reader(wire)
    reader.ccs_allowed = True
    assert refused(reader) is Alert.unexpected_message
    assert refused_either_way(wire) is Alert.unexpected_message
    with pytest.raises(PeerMisbehaved):
        a_reader(wire).read_short(100)


@pytest.mark.parametrize("kind", [0, 19, 24, 72, 128, 255])
@pytest.mark.parametrize("suite", [None, SUITE], ids=["plain", "protected"])
def test_row_11_a_plain_record_of_another_type_is_an_unexpected_message(kind: int, suite: CipherSuite | None) -> None:
    assert refused(a_reader(bytes((kind, 3, 3, 0xFF, 0xFF)), suite)) is Alert.unexpected_message


def test_row_35_a_peer_that_speaks_no_tls_is_quoted() -> None:
    with pytest.raises(PeerMisbehaved, match="b'HTTP/'"):
        message(a_reader(b"HTTP/1.1 400 Bad Request\r\n", None))


def test_what_is_not_application_data_does_not_stay_in_the_callers_buffer() -> None:
    reader = a_reader(sealed((APPLICATION, b"data"), (HANDSHAKE, FINISHED)))
    buffer = memoryview(bytearray(b"\xee" * 100))
    assert reader.read_into(buffer) == 4
    assert not any(buffer[4:41])
    assert message(reader) == (20, FINISHED)


@pytest.mark.parametrize("suite", [None, SUITE], ids=["plain", "protected"])
def test_application_data_before_the_handshake_is_done_is_an_unexpected_message(suite: CipherSuite | None) -> None:
    assert refused(a_reader(sealed((APPLICATION, b"early")), suite, established=False)) is Alert.unexpected_message
    reader = a_reader(sealed((APPLICATION, b"early")), suite, established=False)
    assert reader.read_short(100) is None
    assert refused(reader, reading=True) is Alert.unexpected_message


# -- change_cipher_spec (row 12) and plain records (row 13) ----------------------------------------------------


@pytest.mark.parametrize("suite", [None, SUITE], ids=["plain", "protected"])
def test_row_12_a_change_cipher_spec_is_dropped_where_it_may_come(suite: CipherSuite | None) -> None:
    following = plain(HANDSHAKE, FINISHED) if suite is None else sealed((HANDSHAKE, FINISHED))
    reader = a_reader(plain(CCS, b"\1") * 32 + following, suite, established=False)
    reader.ccs_allowed = True
    assert message(reader) == (20, FINISHED)
    give(reader, plain(CCS, b"\1"))
    assert refused(reader) is Alert.unexpected_message, "that was one too many"


@pytest.mark.parametrize("content", [b"", b"\0", b"\2", b"\1\1"])
def test_row_12_any_other_change_cipher_spec_is_an_unexpected_message(content: bytes) -> None:
    reader = a_reader(plain(CCS, content), None)
    reader.ccs_allowed = True
    assert refused(reader) is Alert.unexpected_message


@pytest.mark.parametrize("suite", [None, SUITE], ids=["plain", "protected"])
def test_row_12_a_change_cipher_spec_at_another_time_is_an_unexpected_message(suite: CipherSuite | None) -> None:
    assert refused(a_reader(plain(CCS, b"\1"), suite)) is Alert.unexpected_message
    assert refused(a_reader(plain(CCS, b"\1")), reading=True) is Alert.unexpected_message


def test_row_13_a_plain_alert_is_heard_until_the_peer_has_followed_our_change_of_keys() -> None:
    alert = plain(ALERT, b"\2\x28")
    assert message(a_reader(alert, None)) == ReceivedAlert(2, Alert.handshake_failure)
    assert message(a_reader(alert, SUITE)) == ReceivedAlert(2, Alert.handshake_failure)
    for reading in (False, True):
        reader = a_reader(sealed((HANDSHAKE, FINISHED)) + alert)
        assert message(reader) == (20, FINISHED)
        assert refused(reader, reading=reading) is Alert.unexpected_message
    reader = a_reader(sealed((APPLICATION, b"data")) + alert)
    assert reader.read_short(100) is None, "there is more than one record"
    assert read(reader) == b"data"
    assert refused(reader, reading=True) is Alert.unexpected_message
    reader = a_reader(sealed((APPLICATION, b"data")))
    assert reader.read_short(100) == b"data"
    give(reader, alert)
    assert refused(reader, reading=True) is Alert.unexpected_message


@pytest.mark.parametrize("description", [Alert.close_notify, Alert.user_canceled])
def test_row_13_nobody_closes_a_connection_from_outside(description: Alert) -> None:
    wire = plain(ALERT, bytes((1, description)))
    assert refused(a_reader(wire)) is Alert.unexpected_message
    assert message(a_reader(wire, None)) == ReceivedAlert(1, description), "nothing is authenticated yet"


def test_row_13_a_plain_handshake_record_after_the_change_of_keys_is_an_unexpected_message() -> None:
    assert refused_either_way(plain(HANDSHAKE, FINISHED)) is Alert.unexpected_message


def test_row_72_the_level_of_an_alert_is_told_and_an_unknown_one_survives() -> None:
    reader = a_reader(sealed((ALERT, b"\7\xc8")))
    assert read(reader) == b""
    assert reader.other_pending
    assert message(reader) == ReceivedAlert(7, Alert(200))
    assert not reader.other_pending


@pytest.mark.parametrize("content", [b"\1", b"\1\0\0", b"\1\0\1\0"])
def test_an_alert_is_exactly_one_message(content: bytes) -> None:
    assert refused(a_reader(sealed((ALERT, content)))) is Alert.decode_error
    assert refused(a_reader(plain(ALERT, content), None)) is Alert.decode_error


def test_bytes_after_close_notify_stay_where_they_are() -> None:
    reader = a_reader(sealed((APPLICATION, b"bye"), (ALERT, b"\1\0")) + b"not TLS at all")
    assert read(reader) == b"bye"
    assert message(reader) == ReceivedAlert(1, Alert.close_notify)
    assert reader._incoming.read() == b"not TLS at all"
