"""What RecordWriter writes, and what it refuses to write."""

from __future__ import annotations

from typing import Any

import pytest

from trio_tls.alerts import Alert
from trio_tls.machine.tls13.key_schedule import next_traffic_secret
from trio_tls.machine.tls13.record import MOST_INNER, OVERHEAD, ReceivedAlert, RecordKey
from trio_tls.machine.tls13.record_writer import RecordWriter
from trio_tls.machine.tls13.registry import CipherSuiteNumber
from trio_tls.machine.tls13.suites import SUITES, CipherSuite

from .records import (
    ALERT,
    ALL_SUITES,
    APPLICATION,
    CCS,
    FINISHED,
    HANDSHAKE,
    KEY_UPDATE,
    LIMIT,
    SECRET,
    SUITE,
    a_reader,
    a_writer,
    give,
    message,
    plain,
    read,
    refused,
    seal_inner,
    sealed,
    secret_for,
)


def test_only_the_first_client_hello_has_the_version_of_tls_1_0() -> None:
    for first, version in ((b"\1\0\0\0", 1), (b"\2\0\0\0", 3)):
        writer, outgoing = a_writer(None)
        writer.write(HANDSHAKE, first)
        assert outgoing.read()[:3] == bytes((HANDSHAKE, 3, version))
        writer.write(HANDSHAKE, b"\1\0\0\0")
        assert outgoing.read() == b"\x16\3\3\0\4\1\0\0\0"
    writer, outgoing = a_writer(None)
    writer.write(ALERT, b"\1\0")
    assert outgoing.read() == b"\x15\3\3\0\2\1\0"


def test_a_long_message_is_split_and_nothing_follows_it_in_its_record() -> None:
    long = b"\x0b" + (40000).to_bytes(3, "big") + bytes(40000)
    for suite in (None, SUITE):
        writer, outgoing = a_writer(suite)
        writer.write(HANDSHAKE, long)
        writer.write(HANDSHAKE, FINISHED)
        wire = outgoing.read()
        lengths = []
        while wire:
            length = int.from_bytes(wire[3:5], "big")
            lengths.append(length - (17 if suite else 0))
            wire = wire[5 + length :]
        assert lengths == [16384, 16384, 40004 - 32768, 36]


def test_change_cipher_spec_is_never_protected() -> None:
    writer, outgoing = a_writer()
    writer.write(CCS, b"\1")
    assert outgoing.read() == b"\x14\3\3\0\1\1"
    assert writer.records_left == SUITE.record_limit, "it has no number"


def test_row_03_nothing_writes_an_empty_record() -> None:
    writer, outgoing = a_writer()
    with pytest.raises(ValueError, match="content"):
        writer.write(HANDSHAKE, b"")
    assert writer.write_application(memoryview(b"")) == 0
    assert not outgoing.pending


def test_application_data_is_never_written_in_plain() -> None:
    writer, _ = a_writer(None)
    with pytest.raises(RuntimeError, match="key"):
        writer.write_application(memoryview(b"data"))


def test_row_16_without_the_key_that_was_let_go_nothing_leaves_not_even_unprotected() -> None:
    for suite in (None, SUITE):
        writer, outgoing = a_writer(suite)
        writer.forget_key()
        with pytest.raises(RuntimeError):
            writer.write(ALERT, b"\1\0")
        with pytest.raises(RuntimeError):
            writer.write_application(memoryview(b"data"))
        assert not outgoing.pending


@pytest.mark.parametrize("size", [1, 16383, 16384, 16385, 32768, 65536, 100_000, LIMIT])
def test_a_write_becomes_one_buffer_of_full_records(size: int) -> None:
    writer, outgoing = a_writer()
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert writer.write_application(memoryview(data)) == size
    records = -(-size // 16384)
    assert outgoing.pending == size + records * OVERHEAD == len(outgoing.peek()), "one send takes it all"
    assert SUITE.record_limit - writer.records_left == records
    assert read(a_reader(outgoing.read()), LIMIT) == data


def test_what_has_no_room_is_not_accepted() -> None:
    writer, outgoing = a_writer()
    data = memoryview(bytes(LIMIT + 5))
    assert writer.write_application(data) == LIMIT
    assert writer.write_application(data) == 0
    wire = outgoing.read(100_000)
    room = outgoing.room
    assert 0 < room < LIMIT
    assert writer.write_application(data) == room
    writer.write(ALERT, b"\1\0")
    reader = a_reader(wire + outgoing.read())
    assert len(read(reader, 2 * LIMIT)) == LIMIT + room
    assert message(reader) == ReceivedAlert(1, Alert.close_notify), "an alert has room in any case"


@ALL_SUITES
@pytest.mark.parametrize("limit", [64, 1000, 16385, 70_000])
def test_a_record_size_limit_counts_the_type_and_the_padding(suite: CipherSuite, limit: int) -> None:
    for padding in (None, lambda size: 10_000):
        writer, outgoing = a_writer(suite)
        writer.record_size_limit = limit
        writer.padding = padding
        assert writer.record_size_limit == min(limit, MOST_INNER)
        data = bytes(range(1, 251)) * 100
        assert writer.write_application(memoryview(data)) == len(data)
        writer.write(HANDSHAKE, FINISHED * 5)
        wire = outgoing.read()
        reader = a_reader(wire, suite)
        reader.record_size_limit = min(limit, MOST_INNER)
        assert read(reader) == data
        assert [message(reader) for _ in range(6)] == [(20, FINISHED)] * 5 + [None]
        while wire:
            length = int.from_bytes(wire[3:5], "big") - 16
            assert length <= min(limit, MOST_INNER)
            wire = wire[5 + length + 16 :]


def test_padding_hides_the_length() -> None:
    wires = []
    for size in (1, 50, 99):
        writer, outgoing = a_writer()
        writer.padding = lambda length: -length % 100
        writer.write_application(memoryview(bytes(b"x" * size)))
        wires.append(outgoing.read())
        assert read(a_reader(wires[-1])) == b"x" * size
    assert {len(wire) for wire in wires} == {100 + OVERHEAD}
    writer, outgoing = a_writer()
    writer.padding = lambda length: -5
    writer.write_application(memoryview(b"x"))
    assert outgoing.pending == 1 + OVERHEAD, "a policy cannot take away"


@pytest.mark.parametrize("kind", [APPLICATION, HANDSHAKE])
@pytest.mark.parametrize("answer", [None, 1.5, ZeroDivisionError()], ids=repr)
def test_a_padding_that_fails_in_the_middle_of_a_write_leaves_nothing_of_it_behind(kind: int, answer: Any) -> None:
    writer, outgoing = a_writer()
    data = FINISHED * 1000  # three records

    def padding(size: int) -> int:
        if size == 16384:
            return 0
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    writer.padding = padding
    with pytest.raises((TypeError, ZeroDivisionError)):
        writer.write_application(memoryview(data)) if kind == APPLICATION else writer.write(kind, data)
    assert not outgoing.pending
    assert writer.records_left == SUITE.record_limit, "no number was taken"
    writer.padding = None
    assert writer.write_application(memoryview(b"data")) == 4
    assert read(a_reader(outgoing.read())) == b"data"


# -- numbers and keys (rows 8 to 10) ---------------------------------------------------------------------------


def test_row_08_the_header_that_came_is_authenticated_and_its_version_ignored_otherwise() -> None:
    odd = seal_inner(RecordKey(SUITE, SECRET), b"data\x17", version=b"\x7f\x1c")
    assert read(a_reader(odd)) == b"data"
    changed = odd[:1] + b"\x03\x03" + odd[3:]
    assert refused(a_reader(changed), reading=True) is Alert.bad_record_mac
    hello = plain(HANDSHAKE, b"\1\0\0\0", version=b"\0\0")
    assert message(a_reader(hello, None)) == (1, b"\1\0\0\0")


@ALL_SUITES
def test_row_09_each_key_counts_from_0(suite: CipherSuite) -> None:
    writer, outgoing = a_writer(suite)
    reader = a_reader(b"", suite)
    secret = secret_for(suite)
    for _ in range(3):
        for _ in range(3):
            writer.write_application(memoryview(b"data"))
            give(reader, outgoing.read())
            assert read(reader) == b"data"
        assert suite.record_limit - writer.records_left == 3
        secret = next_traffic_secret(suite, secret)
        writer.set_key(RecordKey(suite, secret))
        reader.set_key(RecordKey(suite, secret))
        assert writer.records_left == suite.record_limit


def test_row_09_a_nonce_is_the_iv_xored_with_the_number() -> None:
    key = RecordKey(SUITE, SECRET)
    iv = key.iv
    assert [int.from_bytes(key.next_nonce(), "big") ^ iv for _ in range(3)] == [0, 1, 2]
    key.sequence = 2**64 - 2
    assert int.from_bytes(key.next_nonce(), "big") ^ iv == 2**64 - 2
    with pytest.raises(RuntimeError, match="numbered"):
        key.next_nonce()


def test_row_09_the_writer_refuses_to_wrap() -> None:
    suite = SUITES[CipherSuiteNumber.TLS_CHACHA20_POLY1305_SHA256]
    writer, outgoing = a_writer(suite)
    assert writer._key is not None
    writer._key.sequence = 2**64 - 1
    with pytest.raises(RuntimeError, match="numbered"):
        writer.write(ALERT, b"\1\0")
    with pytest.raises(RuntimeError, match="KeyUpdate"):
        writer.write_application(memoryview(b"x"))
    assert not outgoing.pending


@pytest.mark.parametrize("short", [False, True])
def test_row_09_the_reader_refuses_to_wrap(short: bool) -> None:
    key = RecordKey(SUITE, SECRET)
    key.sequence = 2**64 - 2
    reader = a_reader()
    assert reader._key is not None
    reader._key.sequence = 2**64 - 2
    give(reader, seal_inner(key, b"last\x17"))
    assert (reader.read_short(100) if short else read(reader)) == b"last"
    give(reader, sealed((APPLICATION, b"x")))
    assert reader.read_short(100) is None
    assert refused(reader, reading=True) is Alert.unexpected_message


def test_row_10_application_data_stops_before_the_limit_of_the_key() -> None:
    writer, outgoing = a_writer()
    assert writer._key is not None
    writer._key.sequence = SUITE.record_limit - 2
    assert writer.records_left == 2
    data = memoryview(bytes(100_000))
    assert writer.write_application(data) == 2 * 16384
    assert writer.records_left == 0
    with pytest.raises(RuntimeError, match="KeyUpdate"):
        writer.write_application(data)
    writer.write(HANDSHAKE, KEY_UPDATE)
    assert writer.records_left == 0
    assert outgoing.pending == 2 * (16384 + OVERHEAD) + len(KEY_UPDATE) + OVERHEAD
    assert RecordWriter(outgoing).records_left == 0, "without a key there is nothing to protect with"


def test_row_10_the_receiver_does_not_enforce_the_limit() -> None:
    key = RecordKey(SUITE, SECRET)
    key.sequence = 2**30
    reader = a_reader()
    assert reader._key is not None
    reader._key.sequence = 2**30
    give(reader, seal_inner(key, b"data\x17"))
    assert read(reader) == b"data"
