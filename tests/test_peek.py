"""Looking at the first bytes of a connection: what they say, however they come, and that none is lost."""

from __future__ import annotations

import ssl
from functools import cache

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_tls import (
    ClientHelloInfo,
    ClientHelloPeek,
    PeerMisbehaved,
    TLSError,
    TLSStream,
    UnexpectedEOF,
    peek_client_hello,
)
from trio_tls.machine.client_hello import ClientHelloReader
from trio_tls.testing import CancelMode, Interrupter, sweep

from .support import HOST, Machines, client_context, exchange, socket_pair

GENEROUS = 1 << 20


@cache
def hello_of_openssl(version: ssl.TLSVersion, *alpn: str) -> bytes:
    """The first flight of a client: one record."""
    context = client_context(version)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=HOST).do_handshake()
    return outgoing.read()


def hello(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    return hello_of_openssl(version, "h2", "http/1.1")


def in_records(message: bytes, size: int, *, minor: int = 1) -> bytes:
    """``message`` in handshake records of at most ``size`` bytes each."""
    return b"".join(
        bytes((22, 3, minor)) + len(part).to_bytes(2, "big") + part
        for part in (message[start : start + size] for start in range(0, len(message), size))
    )


def outcome(data: bytes, *, eof: bool = True, max_bytes: int = GENEROUS) -> ClientHelloInfo | type[TLSError] | None:
    """What a reader makes of ``data``, given at once."""
    return outcome_of_parts([data] if data else [], eof=eof, max_bytes=max_bytes)


def outcome_of_parts(
    parts: list[bytes], *, eof: bool = True, max_bytes: int = GENEROUS
) -> ClientHelloInfo | type[TLSError] | None:
    reader = ClientHelloReader(max_bytes)
    for part in [*parts, b""] if eof else parts:
        reader.feed(part)
    assert reader.data == b"".join(parts)
    assert reader.decided or not eof
    try:
        return reader.outcome()
    except TLSError as error:
        return type(error)


# -- what it says ------------------------------------------------------------------------------------------------------


def test_a_client_hello_of_tls_1_3_is_told_in_its_own_order() -> None:
    info = outcome(hello())
    assert isinstance(info, ClientHelloInfo)
    assert info.server_name == HOST
    assert info.alpn_protocols == (b"h2", b"http/1.1")
    assert info.versions == (ssl.TLSVersion.TLSv1_3,)
    assert set(info.cipher_suites) >= {0x1301, 0x1302, 0x1303}
    assert 0x001D in info.groups  # x25519
    assert 0x0804 in info.signature_schemes  # rsa_pss_rsae_sha256
    assert {0, 10, 13, 16, 43, 51} <= set(info.extension_types)
    assert len(set(info.extension_types)) == len(info.extension_types)
    assert info.has_session_id  # for the looks of it: "compatibility mode"


def test_a_client_that_is_older_names_one_version() -> None:
    info = outcome(hello(ssl.TLSVersion.TLSv1_2))
    assert isinstance(info, ClientHelloInfo)
    assert info.versions == (ssl.TLSVersion.TLSv1_2,)
    assert info.server_name == HOST
    assert not info.has_session_id


def test_what_a_client_does_not_say_is_empty() -> None:
    body = b"\x03\x01" + bytes(32) + b"\x00" + b"\x00\x02\x00\x2f" + b"\x01\x00"  # TLS 1.0, and no extensions
    assert outcome(in_records(b"\x01" + len(body).to_bytes(3, "big") + body, 1000)) == ClientHelloInfo(
        server_name=None,
        alpn_protocols=(),
        versions=(0x0301,),
        cipher_suites=(0x002F,),
        groups=(),
        signature_schemes=(),
        extension_types=(),
        has_session_id=False,
    )


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 100, 16384])
def test_a_client_hello_may_come_in_any_number_of_records(size: int) -> None:
    assert outcome(in_records(hello()[5:], size)) == outcome(hello())


def test_the_version_of_a_record_is_not_judged() -> None:
    """It "MUST be ignored for all purposes" (RFC 9846 section 5.1), but for the 3 that is TLS for ever."""
    assert outcome(in_records(hello()[5:], 100, minor=0x7F)) == outcome(hello())


def test_what_follows_the_client_hello_is_not_judged_either() -> None:
    reader = ClientHelloReader(GENEROUS)
    reader.feed(hello() + b"whatever")
    assert reader.outcome() == outcome(hello())
    assert reader.data == hello() + b"whatever"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"\x00",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"\x80\x2e\x01\x03\x01",
        b"\x16\x02",
        b"\x16G",
    ],
)
def test_anything_else_is_no_tls_as_soon_as_it_shows(data: bytes) -> None:
    assert outcome(data) is None
    reader = ClientHelloReader(GENEROUS)
    for index in range(len(data)):
        reader.feed(data[index : index + 1])
        if reader.decided:
            break
    assert len(reader.data) == (2 if data[0] == 0x16 else 1)


def test_a_connection_that_ends_before_its_first_byte_is_no_tls() -> None:
    assert outcome(b"") is None


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x16\x03\x01\x00\x00", "without content"),
        (b"\x16\x03\x01\x40\x01", "a record of 16385 bytes"),
        (b"\x16\x03\x01\x00\x04\x02", "not a ClientHello, but of the type server_hello"),
        (b"\x16\x03\x01\x00\x04\x47", "of the type unknown"),
        (b"\x16\x03\x01\x00\x01\x01\x15", "type alert in the middle of a ClientHello"),
        (b"\x16\x03\x01\x00\x01\x01G", "in the middle of a ClientHello"),
        (b"\x16\x03\x01\x00\x04\x01\x00\x00\x00", "ClientHello"),
        (b"\x16\x03\x01\x00\x04\x01\xff\xff\xff", "longer than 1048576 bytes"),
    ],
)
def test_what_begins_as_tls_and_is_malformed_is_told_as_soon_as_it_shows(data: bytes, text: str) -> None:
    reader = ClientHelloReader(GENEROUS)
    for byte in data:
        assert not reader.decided
        reader.feed(bytes((byte,)))
    assert reader.decided
    for _ in range(2):
        with pytest.raises(PeerMisbehaved, match=text) as failure:
            reader.outcome()
        assert failure.value.alert is None
    reader.feed(b"more")
    assert reader.data == data + b"more"


def test_a_client_hello_that_cannot_be_read_is_told() -> None:
    for position in (9 + 2 + 32, 9 + 2 + 32 + 1 + 32):  # the lengths of the session id and of the cipher suites
        broken = bytearray(hello())
        broken[position] ^= 0xFF
        assert outcome(bytes(broken)) is PeerMisbehaved


# -- however it comes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_every_split_gives_the_same_and_every_end_within_is_an_unexpected_eof(version: ssl.TLSVersion) -> None:
    data = in_records(hello(version)[5:], 90)
    whole = outcome(data)
    assert isinstance(whole, ClientHelloInfo)
    for split in range(1, len(data)):
        assert outcome_of_parts([data[:split], data[split:]]) == whole
        assert outcome(data[:split]) is UnexpectedEOF
        assert outcome(data[:split], eof=False) is None
    assert outcome_of_parts([bytes((byte,)) for byte in data]) == whole


def test_it_is_bounded_whatever_comes() -> None:
    drip = b"\x16\x03\x01\x00\x01"
    assert outcome(drip + b"\x01" + (drip + b"\x00") * 200, max_bytes=600, eof=False) is PeerMisbehaved
    assert outcome(hello(), max_bytes=len(hello()), eof=False) == outcome(hello())
    assert outcome(hello()[:-1], max_bytes=len(hello()) - 1, eof=False) is PeerMisbehaved


@pytest.mark.parametrize("size", [GENEROUS, 90, 1])
def test_the_bound_is_the_same_for_what_comes_at_once(size: int) -> None:
    data = in_records(hello()[5:], size)
    for parts in ([data + b"more"], [data], [bytes((byte,)) for byte in data]):
        assert outcome_of_parts(parts, max_bytes=len(data)) == outcome(hello())
        assert outcome_of_parts(parts, max_bytes=len(data) - 1) is PeerMisbehaved


def test_a_client_that_says_it_will_send_more_than_is_allowed_is_refused_at_once() -> None:
    begun = b"\x16\x03\x01\x00\x64\x01\x00\x00\x60"
    assert outcome(begun, max_bytes=105, eof=False) is None
    assert outcome(begun, max_bytes=104, eof=False) is PeerMisbehaved


def test_a_record_of_a_client_hello_may_be_as_long_as_records_are() -> None:
    message = hello()[5:]
    at = 4 + 2 + 32 + 33  # behind the session id
    at += 2 + int.from_bytes(message[at : at + 2], "big") + 2  # behind the suites and the compression methods

    def padded_to(length: int) -> bytes:
        padding = length - len(message) - 4
        extensions = message[at + 2 :] + b"\x5a\x5a" + padding.to_bytes(2, "big") + bytes(padding)
        body = message[4:at] + len(extensions).to_bytes(2, "big") + extensions
        return b"\x01" + len(body).to_bytes(3, "big") + body

    for length, expected in ((2**14, ClientHelloInfo), (2**14 + 1, PeerMisbehaved)):
        padded = padded_to(length)
        assert len(padded) == length
        told = outcome(in_records(padded, GENEROUS))
        assert told is expected or isinstance(told, expected)


def test_another_message_has_no_facts_of_a_client_hello() -> None:
    message = hello()[5:]
    assert ClientHelloInfo.from_message(message) == outcome(hello())
    with pytest.raises(ValueError, match="no ClientHello"):
        ClientHelloInfo.from_message(b"\x02" + message[1:])


split_bytes = st.lists(st.binary(min_size=1, max_size=64), max_size=20)


@given(split_bytes)
def test_any_bytes_at_all_have_an_outcome_that_does_not_depend_on_the_splits(parts: list[bytes]) -> None:
    assert outcome_of_parts(parts) == outcome(b"".join(parts))


@given(split_bytes)
def test_any_records_have_an_outcome_that_does_not_depend_on_the_splits(parts: list[bytes]) -> None:
    data = b"".join(in_records(part, 64) for part in parts)
    begun = in_records(b"\x01\x00\x00\x40", 64) + data
    for whole in (data, begun):
        assert outcome_of_parts([bytes((byte,)) for byte in whole]) == outcome(whole)


@settings(max_examples=300)
@given(st.data())
def test_a_client_hello_with_bytes_changed_has_an_outcome(data: st.DataObject) -> None:
    changed = bytearray(hello_of_openssl(data.draw(st.sampled_from((ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)))))
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    whole = outcome(bytes(changed))
    assert outcome_of_parts([bytes((byte,)) for byte in changed]) == whole


# -- on a connection ---------------------------------------------------------------------------------------------------


async def test_after_a_look_the_handshake_goes_on_from_the_first_byte(machines: Machines) -> None:
    a, b = socket_pair()
    async with TLSStream(a, machines.client, server_hostname=HOST) as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        peek = await peek_client_hello(b)
        assert peek.client_hello is not None and peek.client_hello.server_name == HOST
        async with TLSStream(b, machines.server, server_side=True, initial_data=peek.data) as server:
            assert await exchange(client, server, b"there", b"back") == (b"there", b"back")


async def test_what_is_no_tls_is_kept_for_who_understands_it() -> None:
    a, b = socket_pair()
    async with a, b:
        await a.send_all(b"GET / HTTP/1.1\r\n")
        peek = await peek_client_hello(b)
        assert peek.client_hello is None
        assert peek.data == b"GET / HTTP/1.1\r\n"
        await a.send_all(b"\r\n")
        assert await b.receive_some() == b"\r\n"  # what comes later is in the stream


async def test_a_connection_that_ends_at_once_has_no_bytes() -> None:
    a, b = socket_pair()
    async with b:
        await a.aclose()
        peek = await peek_client_hello(b)
        assert peek.client_hello is None and peek.data == b""


async def test_a_malformed_hello_is_still_there_to_be_answered_with_an_alert(machines: Machines) -> None:
    a, b = socket_pair()
    async with a, b:
        await a.send_all(b"\x16\x03\x01\x00\x04\x02\x00\x00\x00")
        peek = ClientHelloPeek(b)
        for _ in range(2):
            with pytest.raises(PeerMisbehaved, match="server_hello"):
                await peek.read()
        assert peek.data == b"\x16\x03\x01\x00\x04\x02\x00\x00\x00" and peek.client_hello is None
        server = TLSStream(b, machines.server, server_side=True, initial_data=peek.data)
        with pytest.raises(PeerMisbehaved):
            await server.do_handshake()
        assert (await a.receive_some())[:2] == b"\x15\x03"  # an alert


async def test_it_reads_no_more_than_it_may() -> None:
    a, b = trio.testing.memory_stream_pair()
    await a.send_all(hello() + bytes(1000))
    peek = ClientHelloPeek(b, max_bytes=len(hello()))
    assert await peek.read() == outcome(hello())
    assert peek.data == hello()
    too_long = ClientHelloPeek(b, max_bytes=5)
    await a.send_all(b"")
    assert await too_long.read() is None and len(too_long.data) == 5
    await a.send_all(hello())
    await b.receive_some(1000 - 5)
    with pytest.raises(PeerMisbehaved, match="longer than 5 bytes"):
        await ClientHelloPeek(b, max_bytes=5).read()
    with pytest.raises(ValueError, match="max_bytes must be at least 5"):
        ClientHelloPeek(b, max_bytes=4)


@pytest.mark.parametrize("mode", CancelMode)
async def test_a_look_can_be_cancelled_at_every_step(mode: CancelMode) -> None:
    data = in_records(hello()[5:], 100)

    async def scenario(interrupter: Interrupter) -> None:
        a, b = trio.testing.memory_stream_pair()
        peek = ClientHelloPeek(b)

        async def send() -> None:
            for start in range(0, len(data), 40):
                await a.send_all(data[start : start + 40])
                await trio.testing.wait_all_tasks_blocked()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            assert await interrupter.call(peek.read) == outcome(hello())
        assert peek.data == data
        assert peek.client_hello == outcome(hello())

    with trio.fail_after(60):
        report = await sweep(scenario, mode)
    assert report.cancelled > 0


async def test_an_error_of_the_stream_rises_and_loses_nothing() -> None:
    a, b = trio.testing.memory_stream_pair()
    await a.send_all(hello()[:10])
    peek = ClientHelloPeek(b)
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await peek.read()

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        await b.aclose()
    assert peek.data == hello()[:10]
