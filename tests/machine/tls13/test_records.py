"""Records, both ways: what RFC 8448 prints, and whatever hypothesis thinks of."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_tls.alerts import Alert
from trio_tls.errors import PeerMisbehaved
from trio_tls.machine.bio import MemoryBIO
from trio_tls.machine.tls13.key_schedule import Secret
from trio_tls.machine.tls13.record import MOST_INNER, ReceivedAlert, RecordKey
from trio_tls.machine.tls13.record_reader import RecordReader
from trio_tls.machine.tls13.record_writer import RecordWriter
from trio_tls.machine.tls13.registry import ContentType
from trio_tls.machine.tls13.suites import SUITES, CipherSuite

from .records import (
    ALERT,
    APPLICATION,
    CCS,
    HANDSHAKE,
    KEY_UPDATE,
    LIMIT,
    SECRET,
    SUITE,
    a_reader,
    all_of,
    give,
    message,
    read,
    seal_inner,
    secret_for,
)
from .traces import TRACES, Step


def sent_records(trace: str) -> Iterator[tuple[Step, Secret | None]]:
    """Every record of a trace, and the secret that it is protected with."""
    secrets: dict[tuple[str, str], Secret] = {}
    peer = {"client": "server", "server": "client"}
    for step in TRACES[trace]:
        if "key expanded" in step.values:
            writes = step.title.startswith("derive write")
            epoch = step.title.partition(" for ")[2].partition(" data")[0]
            secrets[step.side if writes else peer[step.side], epoch] = Secret(step.values["PRK"])
    current: dict[str, Secret] = {}
    for step in TRACES[trace]:
        if step.title.startswith("derive write traffic keys for "):
            current[step.side] = secrets[step.side, step.title.partition(" for ")[2].partition(" data")[0]]
        if step.title.startswith("send "):
            yield step, current.get(step.side)


@pytest.mark.parametrize("trace", TRACES)
def test_every_record_of_rfc_8448_is_written_and_read(trace: str) -> None:
    writers = {
        side: (RecordWriter(bio), bio) for side, bio in (("client", MemoryBIO(LIMIT)), ("server", MemoryBIO(LIMIT)))
    }
    readers = {side: RecordReader(MemoryBIO()) for side in ("client", "server")}
    active: dict[str, Secret] = {}
    count = 0
    for step, secret in sent_records(trace):
        writer, outgoing = writers[step.side]
        reader = readers[step.side]
        if secret is not None and active.get(step.side) is not secret:
            active[step.side] = secret
            writer.set_key(RecordKey(SUITE, secret))
            reader.set_key(RecordKey(SUITE, secret))
        payload, record = step.values["payload"], step.values["complete record"]
        kind = ContentType[step.title.split()[1]]
        reader.application_data_allowed = kind == APPLICATION
        reader.ccs_allowed = kind == CCS
        if kind == APPLICATION:
            assert writer.write_application(memoryview(payload)) == len(payload)
        else:
            writer.write(kind, payload)
        assert outgoing.read() == record
        give(reader, record)
        if kind == APPLICATION:
            assert read(reader) == payload
        elif kind == ALERT:
            assert message(reader) == ReceivedAlert(1, Alert.close_notify)
        elif kind == CCS:
            assert message(reader) is None
        else:
            got = b""
            while (next_message := message(reader)) is not None:
                assert isinstance(next_message, tuple)
                assert next_message[0] == next_message[1][0]
                got += next_message[1]
            assert got == payload
        count += 1
    assert count >= 6


# -- round trips -----------------------------------------------------------------------------------------------


@given(
    data=st.data(),
    suite=st.sampled_from(list(SUITES.values())),
    writes=st.lists(st.binary(max_size=600) | st.integers(0, 40_000).map(bytes), max_size=4),
    limit=st.integers(64, MOST_INNER) | st.just(MOST_INNER),
    pad=st.none() | st.integers(0, 2000),
    size=st.integers(1, 100_000),
)
def test_whatever_is_written_is_read(
    data: st.DataObject, suite: CipherSuite, writes: list[bytes], limit: int, pad: int | None, size: int
) -> None:
    outgoing = MemoryBIO(limit=10 * LIMIT)
    writer = RecordWriter(outgoing)
    writer.set_key(RecordKey(suite, secret_for(suite)))
    writer.record_size_limit = limit
    writer.padding = None if pad is None else lambda length: pad
    reader = a_reader(b"", suite)
    reader.record_size_limit = limit
    for write in writes:
        assert writer.write_application(memoryview(write)) == len(write)
        writer.write(HANDSHAKE, KEY_UPDATE)
    wire = outgoing.read()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=5)))
    got = b""
    updates = 0
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        give(reader, wire[start:end])
        for part in all_of(reader, size):
            if isinstance(part, bytes):
                got += part
            else:
                assert part == (24, KEY_UPDATE)
                updates += 1
    assert got == b"".join(writes)
    assert updates == len(writes)


@given(wire=st.binary(max_size=200), established=st.booleans(), protected=st.booleans(), ccs=st.booleans())
def test_row_83_nothing_but_a_peer_error_comes_out_of_any_bytes(
    wire: bytes, established: bool, protected: bool, ccs: bool
) -> None:
    reader = a_reader(wire, SUITE if protected else None, established=established)
    reader.ccs_allowed = ccs
    try:
        reader.read_short(100)
        all_of(reader)
        message(reader)
    except PeerMisbehaved:
        pass


@given(inner=st.lists(st.binary(max_size=40), max_size=6), ccs=st.booleans())
def test_row_83_nothing_but_a_peer_error_comes_out_of_any_protected_content(inner: list[bytes], ccs: bool) -> None:
    key = RecordKey(SUITE, SECRET)
    reader = a_reader(b"".join(seal_inner(key, each) for each in inner))
    reader.ccs_allowed = ccs
    try:
        all_of(reader)
    except PeerMisbehaved:
        pass
