"""Records made and read by hand: what the tests of the record layer share."""

from __future__ import annotations

import pytest

from trio_tls.alerts import Alert
from trio_tls.errors import PeerMisbehaved
from trio_tls.machine.bio import MemoryBIO
from trio_tls.machine.tls13.key_schedule import Secret
from trio_tls.machine.tls13.record import ReceivedAlert, RecordKey
from trio_tls.machine.tls13.record_reader import RecordReader
from trio_tls.machine.tls13.record_writer import RecordWriter
from trio_tls.machine.tls13.registry import CipherSuiteNumber
from trio_tls.machine.tls13.suites import SUITES, CipherSuite

SUITE = SUITES[CipherSuiteNumber.TLS_AES_128_GCM_SHA256]
SECRET = Secret(b"\x05" * 32)
ALL_SUITES = pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)

CCS, ALERT, HANDSHAKE, APPLICATION = 20, 21, 22, 23
LIMIT = 256 * 1024

FINISHED = b"\x14\0\0\x20" + bytes(range(32))
KEY_UPDATE = b"\x18\0\0\x01\0"


def secret_for(suite: CipherSuite) -> Secret:
    return Secret(b"\x05" * suite.hash_length)


def a_writer(suite: CipherSuite | None = SUITE) -> tuple[RecordWriter, MemoryBIO]:
    """A writer, protected unless ``suite`` is None, and where it writes to."""
    outgoing = MemoryBIO(limit=LIMIT)
    writer = RecordWriter(outgoing)
    if suite is not None:
        writer.set_key(RecordKey(suite, secret_for(suite)))
    return writer, outgoing


def a_reader(wire: bytes = b"", suite: CipherSuite | None = SUITE, *, established: bool = True) -> RecordReader:
    """A reader of ``wire``, protected unless ``suite`` is None; ``established``: application data may come."""
    reader = RecordReader(MemoryBIO())
    if suite is not None:
        reader.set_key(RecordKey(suite, secret_for(suite)))
    reader.application_data_allowed = established
    give(reader, wire)
    return reader


def give(reader: RecordReader, wire: bytes) -> None:
    reader._incoming.write(wire)


def sealed(*contents: tuple[int, bytes], pad: int = 0) -> bytes:
    """Records of these types and contents, protected one after another with `SECRET`."""
    key = RecordKey(SUITE, SECRET)
    wire = b""
    for kind, content in contents:
        inner = content + bytes((kind,)) + bytes(pad)
        wire += seal_inner(key, inner)
    return wire


def seal_inner(key: RecordKey, inner: bytes, version: bytes = b"\x03\x03") -> bytes:
    header = b"\x17" + version + (len(inner) + 16).to_bytes(2, "big")
    wire = bytearray(len(inner) + 16)
    key.aead.encrypt_into(key.next_nonce(), inner, header, wire)
    return header + wire


def plain(kind: int, content: bytes, version: bytes = b"\x03\x03") -> bytes:
    return bytes((kind,)) + version + len(content).to_bytes(2, "big") + content


def any_message(kind: int) -> int:
    return 2**24


def message(reader: RecordReader) -> tuple[int, bytes] | ReceivedAlert | None:
    return reader.read_message(any_message)


def read(reader: RecordReader, size: int = 64 * 1024) -> bytes:
    buffer = memoryview(bytearray(size))
    return bytes(buffer[: reader.read_into(buffer)])


def refused(reader: RecordReader, *, reading: bool = False) -> Alert | None:
    """The alert with which ``reader`` refuses what lies before it."""
    with pytest.raises(PeerMisbehaved) as caught:
        if reading:
            read(reader)
        else:
            message(reader)
    assert "RFC 9846 section" in str(caught.value)
    return caught.value.alert


def refused_either_way(wire: bytes, **how: bool) -> Alert | None:
    """The alert for ``wire``, the same whether a message or application data is wanted."""
    first = refused(a_reader(wire, **how))  # type: ignore[arg-type]
    assert refused(a_reader(wire, **how), reading=True) is first  # type: ignore[arg-type]
    return first


def all_of(reader: RecordReader, size: int = 1000) -> list[object]:
    """Everything that can be had now, application data joined."""
    got: list[object] = []
    while True:
        data = read(reader, size)
        if data:
            if got and isinstance(got[-1], bytes):
                data = got.pop() + data  # type: ignore[operator]
            got.append(data)
        elif reader.other_pending and (other := message(reader)) is not None:
            got.append(other)
        else:
            return got
