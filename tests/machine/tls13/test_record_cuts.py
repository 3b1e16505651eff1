"""Records cut anywhere, buffers of any size, and messages put together again."""

from __future__ import annotations

import pytest

from trio_tls.alerts import Alert
from trio_tls.errors import PeerMisbehaved
from trio_tls.machine.tls13.misbehaviour import unexpected_message
from trio_tls.machine.tls13.record import ReceivedAlert, RecordKey
from trio_tls.machine.tls13.record_reader import RecordReader
from trio_tls.machine.tls13.suites import CipherSuite

from .records import (
    ALERT,
    APPLICATION,
    CCS,
    FINISHED,
    HANDSHAKE,
    KEY_UPDATE,
    SECRET,
    SUITE,
    a_reader,
    all_of,
    give,
    message,
    plain,
    read,
    refused,
    sealed,
)


def mixed() -> bytes:
    return sealed(
        (APPLICATION, b"first"),
        (APPLICATION, b""),
        (HANDSHAKE, FINISHED + KEY_UPDATE),
        (APPLICATION, b"x" * 40),
        (ALERT, b"\1\0"),
    )


MIXED = [b"first", (20, FINISHED), (24, KEY_UPDATE), b"x" * 40, ReceivedAlert(1, Alert.close_notify)]


@pytest.mark.parametrize("chunks", [1, 2])
def test_row_14_every_split_point(chunks: int) -> None:
    wire = mixed()
    for cut in range(len(wire) + 1):
        reader = a_reader()
        got: list[object] = []
        for part in (wire[:cut], wire[cut:]):
            reader._incoming.write(memoryview(part))
            if chunks == 1:
                got += all_of(reader)
        if chunks == 2:
            got += all_of(reader)
        joined = [b"".join(p for p in got if isinstance(p, bytes)), *(p for p in got if not isinstance(p, bytes))]
        assert joined == [b"first" + b"x" * 40, *(p for p in MIXED if not isinstance(p, bytes))], cut


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_row_14_byte_by_byte(size: int) -> None:
    reader = a_reader()
    got: list[object] = []
    for byte in mixed():
        give(reader, bytes((byte,)))
        got += all_of(reader, size)
    assert b"".join(part for part in got if isinstance(part, bytes)) == b"first" + b"x" * 40
    assert [part for part in got if not isinstance(part, bytes)] == [
        part for part in MIXED if not isinstance(part, bytes)
    ]


def test_row_14_a_header_is_looked_at_once_and_then_only_the_length(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = []
    judge = RecordReader._judge

    def noted(reader: RecordReader, header: bytes) -> None:
        judged.append(header)
        judge(reader, header)

    monkeypatch.setattr(RecordReader, "_judge", noted)
    wire = sealed((HANDSHAKE, b"\x0b\0\x27\x10" + bytes(10_000)))
    reader = a_reader()
    for byte in wire[:-1]:
        give(reader, bytes((byte,)))
        assert message(reader) is None
    give(reader, wire[-1:])
    assert message(reader) == (11, b"\x0b\0\x27\x10" + bytes(10_000))
    assert judged == [wire[:5]]


def test_row_14_a_record_in_many_chunks_is_joined_once() -> None:
    content = bytes(range(256)) * 60
    wire = sealed((APPLICATION, content), (APPLICATION, b"next"))
    reader = a_reader()
    for start in range(0, len(wire), 3000):
        give(reader, wire[start : start + 3000])
    assert read(reader) == content + b"next"


@pytest.mark.parametrize("size", [1, 2, 39, 40, 41, 99, 100, 101, 102])
def test_row_15_what_does_not_fit_is_left_over_and_nothing_is_read_ahead(size: int) -> None:
    wire = sealed((APPLICATION, b"a" * 40), (APPLICATION, b"b" * 60), (APPLICATION, b"c" * 10))
    reader = a_reader(wire)
    first = read(reader, size)
    assert first == (b"a" * 40 + b"b" * 60 + b"c" * 10)[:size]
    assert reader.buffered < 60
    decrypted = len(first) + reader.buffered
    assert decrypted in {40, 100, 110}, "whole records, and only those that were needed"
    assert decrypted - size < 60
    if reader.buffered:
        assert reader.read_short(1000) is None, "what is left over comes first"
    rest = b""
    while data := read(reader, size):
        rest += data
    assert first + rest == b"a" * 40 + b"b" * 60 + b"c" * 10
    assert reader.buffered == 0


def test_row_15_a_padded_record_that_does_not_fit_is_left_over_too() -> None:
    reader = a_reader(sealed((APPLICATION, b"data"), (APPLICATION, b"more"), pad=50))
    assert read(reader, 3) == b"dat"
    assert reader.buffered == 1
    assert read(reader, 5) == b"amore"


def test_a_message_that_is_wanted_while_data_is_left_over_has_to_wait() -> None:
    reader = a_reader(sealed((APPLICATION, b"data"), (HANDSHAKE, FINISHED)))
    assert read(reader, 2) == b"da"
    assert message(reader) is None
    assert read(reader) == b"ta"
    assert message(reader) == (20, FINISHED)


def test_application_data_that_comes_when_a_message_is_wanted_is_kept() -> None:
    reader = a_reader(sealed((APPLICATION, b"data"), (HANDSHAKE, FINISHED)))
    assert message(reader) is None
    assert reader.buffered == 4
    assert not reader.other_pending
    assert read(reader) == b"data"
    assert message(reader) == (20, FINISHED)


def test_data_before_a_failure_is_delivered_first() -> None:
    wire = sealed((APPLICATION, b"good"), (CCS, b"\1"))
    reader = a_reader(wire)
    assert read(reader, 2) == b"go"
    assert read(reader) == b"od"
    for _ in range(2):
        assert refused(reader, reading=True) is Alert.unexpected_message
    assert refused(reader) is Alert.unexpected_message


# -- messages (row 20) -----------------------------------------------------------------------------------------


def test_row_20_a_message_is_judged_by_its_type_and_length_before_its_body() -> None:
    asked = []

    def limit_of(kind: int) -> int:
        asked.append(kind)
        if kind == 2:
            raise unexpected_message("no ServerHello now", "4")
        return 32

    reader = a_reader(plain(HANDSHAKE, FINISHED[:5]), None)
    assert reader.read_message(limit_of) is None
    assert reader.read_message(limit_of) is None
    assert asked == [20], "asked once, as soon as the header is here"
    with pytest.raises(PeerMisbehaved, match="33 bytes is too long") as caught:
        a_reader(plain(HANDSHAKE, b"\x14\0\0\x21"), None).read_message(limit_of)
    assert caught.value.alert is Alert.decode_error
    with pytest.raises(PeerMisbehaved, match="no ServerHello"):
        a_reader(plain(HANDSHAKE, b"\2\xff\xff\xff"), None).read_message(limit_of)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 36])
@pytest.mark.parametrize("suite", [None, SUITE], ids=["plain", "protected"])
def test_row_21_messages_are_put_together_from_records_of_any_size(size: int, suite: CipherSuite | None) -> None:
    flight = FINISHED + KEY_UPDATE + b"\x05\0\0\0" + FINISHED
    parts = [flight[start : start + size] for start in range(0, len(flight), size)]
    wire = (
        sealed(*[(HANDSHAKE, part) for part in parts]) if suite else b"".join(plain(HANDSHAKE, part) for part in parts)
    )
    reader = a_reader(wire, suite)
    expected = [(20, FINISHED), (24, KEY_UPDATE), (5, b"\x05\0\0\0"), (20, FINISHED), None]
    assert [message(reader) for _ in expected] == expected
    reader.set_key(RecordKey(SUITE, SECRET))


# -- the short way ---------------------------------------------------------------------------------------------


def test_a_short_message_takes_the_short_way() -> None:
    reader = a_reader(sealed((APPLICATION, b"data")))
    assert reader.read_short(3) is None
    assert reader.read_short(4) == b"data"
    assert reader.read_short(4) is None
    assert reader._incoming.pending == 0


@pytest.mark.parametrize("pad", [0, 7])
@pytest.mark.parametrize(
    ("kind", "content", "expected"),
    [(APPLICATION, b"data", b"data"), (APPLICATION, b"", None), (HANDSHAKE, FINISHED, None)],
)
def test_the_short_way_sorts_what_it_finds(kind: int, content: bytes, expected: bytes | None, pad: int) -> None:
    reader = a_reader(sealed((kind, content), pad=pad))
    assert reader.read_short(100) == expected
    assert reader.other_pending == (kind == HANDSHAKE)
    assert message(reader) == ((20, FINISHED) if kind == HANDSHAKE else None)


def test_the_short_way_is_closed_while_anything_else_waits() -> None:
    first, second = sealed((HANDSHAKE, FINISHED[:5]), (APPLICATION, b"x")), sealed((APPLICATION, b"y"))
    reader = a_reader(first[:27])
    assert read(reader) == b""
    give(reader, first[27:])
    assert reader.read_short(100) is None
    reader = a_reader(second[:7])
    assert read(reader) == b""
    give(reader, second[7:])
    assert reader.read_short(100) is None
    assert read(reader) == b"y"
