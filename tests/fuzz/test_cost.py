"""No input is worth more work than its length: eight times the bytes cost about eight times as much.

How this works. Each kind of long input is made twice, once eight times as long as the other. The lines of Python that
run are counted, and they come out the same each time. What runs in C shows in the time of the processor alone: there
quadratic work would take sixty-four times as long, so a limit half-way between is safe from the noise.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import pytest

from trio_tls import TLSError
from trio_tls.machine.bio import MemoryBIO
from trio_tls.machine.client_hello import ClientHelloReader
from trio_tls.machine.tls13.extensions import Cookie, Extensions, MessageContext, UnknownExtension
from trio_tls.machine.tls13.record import RecordKey
from trio_tls.machine.tls13.record_reader import RecordReader

from ..machine.tls13.records import SECRET, SUITE, any_message, plain, seal_inner
from . import codecs, flows, stored
from .cost import cost_of

#: Bytes of the shorter input, and how many times as long the longer one is.
SIZE, TIMES = 1500, 8

CH, CR, CT = (
    codecs.CONTEXTS.index(MessageContext[name]) for name in ("CLIENT_HELLO", "CERTIFICATE_REQUEST", "CERTIFICATE")
)


#: Of Certificate messages.
CONTEXTS = itertools.count()


def vector(size: int, content: bytes) -> bytes:
    return len(content).to_bytes(size, "big") + content


def block(context: int, size: int, one: Callable[[int], bytes]) -> bytes:
    """Extensions of numbers that count up, as many as there is room for."""
    found = b""
    number = 0x2000
    while len(found) < size:
        found += number.to_bytes(2, "big") + vector(2, one(number))
        number += 1
    return bytes((context,)) + vector(2, found)


def certificate(size: int, each: int) -> bytes:
    entries = b"".join(vector(3, bytes(each)) + b"\0\0" for _ in range(size // (each + 5) + 1))
    context = next(CONTEXTS).to_bytes(2, "big")  # another one each time: a message that comes again is not read again
    return b"\x0b" + vector(1, context) + vector(3, entries)


def established(size: int, step: int, content: Callable[[RecordKey], bytes]) -> None:
    """So many bytes of records to a reader whose handshake is done, in pieces of ``step`` bytes."""
    key = RecordKey(SUITE, SECRET)
    wire = bytearray()
    while len(wire) < size:
        wire += content(key)
    reader = RecordReader(MemoryBIO())
    reader.set_key(RecordKey(SUITE, SECRET))
    reader.application_data_allowed = True
    room = memoryview(bytearray(4096))
    try:
        for start in range(0, len(wire), step):
            reader._incoming.write(wire[start : start + step])
            while reader.read_into(room):
                pass
            while reader.other_pending and reader.read_message(any_message) is not None:
                pass
    except TLSError:
        return


def ticket_in_pieces(size: int) -> None:
    """One handshake message that comes in records of one byte each."""
    message = b"\x04" + vector(3, bytes(size // 6))
    key = RecordKey(SUITE, SECRET)
    reader = RecordReader(MemoryBIO())
    reader.set_key(RecordKey(SUITE, SECRET))
    for index in range(len(message)):
        reader._incoming.write(seal_inner(key, message[index : index + 1] + b"\x16"))
        reader.read_message(any_message)


def peek(size: int, fragment: int) -> None:
    hello = b"\x01" + vector(3, bytes(size))
    wire = b"".join(plain(22, hello[start : start + fragment]) for start in range(0, len(hello), fragment))
    reader = ClientHelloReader(2**24)
    for start in range(len(wire)):
        reader.feed(wire[start : start + 1])
    with pytest.raises(TLSError):
        reader.outcome()


def dribbled(size: int) -> None:
    """A message that is never whole, byte by byte to a machine."""
    machine = flows.WIRES[0]()[1]
    wire = plain(22, b"\x01" + vector(3, bytes(60_000))[:2] + bytes(size))
    for start in range(len(wire)):
        machine.incoming.write(wire[start : start + 1])
        try:
            machine.do_handshake()
        except TLSError:
            return


INPUTS: dict[str, Callable[[int], object]] = {
    "extensions that nobody knows": lambda n: codecs.an_extension_block(block(CH, n, lambda number: b"")),
    "extensions that have no place": lambda n: codecs.an_extension_block(block(CT, n, lambda number: b"x" * 9)),
    "authorities": lambda n: codecs.an_extension_block(
        bytes((CR,)) + vector(2, b"\0\x2f" + vector(2, vector(2, b"\0\1x" * (n // 3))))
    ),
    "key shares": lambda n: codecs.an_extension_block(
        bytes((CH,)) + vector(2, b"\0\x33" + vector(2, vector(2, b"\0\x1d\0\1x" * (n // 5))))
    ),
    "PSK identities": lambda n: codecs.an_extension_block(
        bytes((CH,)) + vector(2, b"\0\x29" + vector(2, vector(2, b"\0\1x\0\0\0\0" * (n // 7)) + b"\0\0"))
    ),
    "ALPN protocols": lambda n: codecs.an_extension_block(
        bytes((CH,)) + vector(2, b"\0\x10" + vector(2, vector(2, b"\1x" * (n // 2))))
    ),
    "groups": lambda n: codecs.an_extension_block(
        bytes((CH,)) + vector(2, b"\0\x0a" + vector(2, vector(2, b"\0\x1d" * (n // 2))))
    ),
    "a cookie": lambda n: codecs.an_extension_block(bytes((CH,)) + Extensions([Cookie(bytes(n))]).encode()),
    "small certificates": lambda n: codecs.a_message(certificate(n, 1)),
    "large certificates": lambda n: codecs.a_message(certificate(4 * n, 2000)),
    "small records": lambda n: established(n, 1400, lambda key: seal_inner(key, b"x\x17")),
    "records that come byte by byte": lambda n: established(
        n // 4, 1, lambda key: seal_inner(key, b"x" * 100 + b"\x17")
    ),
    "padding": lambda n: established(8 * n, 1400, lambda key: seal_inner(key, b"x\x17" + bytes(1000))),
    "key updates": lambda n: established(n, 1400, lambda key: seal_inner(key, b"\x18\0\0\1\0" * 9 + b"\x16")),
    "a ticket in pieces": ticket_in_pieces,
    "a ClientHello in small records": lambda n: peek(n // 4, 2),
    "a ClientHello byte by byte": lambda n: peek(n // 4, 2**14),
    "a handshake that does not go on": lambda n: dribbled(n // 4),
    "a chain that cannot be parsed": lambda n: stored.a_chain(b"\0" + b"\0\4junk" * (n // 6)),
    "PEM that goes on": lambda n: stored.a_credential(b"\0" + b"-----BEGIN CERTIFICATE-----\nAAAA\n" * (n // 30)),
    "keys that do not end": lambda n: stored.a_credential(
        b"\0-----BEGIN CERTIFICATE-----\n" + b"-----BEGIN PRIVATE KEY-----\n" * (n // 28)
    ),
    "a ticket": lambda n: stored.a_ticket(b"\0" + bytes(n)),
    "a session": lambda n: stored.a_ticket(b"\2TLSc\1" + bytes(n)),
    "a warning": lambda n: codecs.plain_records(b"\xff" + plain(21, b"\1\0") * (n // 7)),
    "unknown": lambda n: UnknownExtension(1, bytes(n)).encode(),
}


@pytest.mark.parametrize("what", INPUTS)
def test_eight_times_the_bytes_run_about_eight_times_the_lines(what: str) -> None:
    run = INPUTS[what]
    run(SIZE)  # what is done once
    short, long = (cost_of(lambda _data, size=size: run(size), b"").lines for size in (SIZE, TIMES * SIZE))  # type: ignore[misc]
    assert long <= 1.25 * TIMES * short + 100, f"{short} lines for {SIZE} bytes, {long} for {TIMES * SIZE}"


@pytest.mark.parametrize("what", INPUTS)
def test_eight_times_the_bytes_take_no_quadratic_time(what: str) -> None:
    run = INPUTS[what]

    def seconds(size: int) -> float:
        began = time.process_time()
        run(size)
        return time.process_time() - began

    for _attempt in range(4):
        short, long = (min(seconds(size) for _ in range(2)) for size in (2 * SIZE, 2 * TIMES * SIZE))
        if long <= 3 * TIMES * short + 0.002:
            return
    pytest.fail(f"{short:.4f} s for {2 * SIZE} bytes, {long:.4f} s for {2 * TIMES * SIZE}")
