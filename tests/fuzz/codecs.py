"""Targets of one layer each: messages, extensions, the record layer and the peek at a ClientHello.

How this works. What decodes has to encode to the same bytes. The record layer is fed twice: raw bytes as they are, and
contents that are protected as a peer would do it, so that mutation gets behind the encryption.
"""

from __future__ import annotations

from trio_tls import TLSError
from trio_tls.machine.bio import MemoryBIO
from trio_tls.machine.client_hello import ClientHelloInfo, ClientHelloReader
from trio_tls.machine.tls13.extensions import Extensions, MessageContext
from trio_tls.machine.tls13.messages import ClientHello, ServerHello, decode_message
from trio_tls.machine.tls13.record import RecordKey
from trio_tls.machine.tls13.record_reader import RecordReader
from trio_tls.machine.tls13.wire import Reader

from ..machine.tls13.records import FINISHED, KEY_UPDATE, SECRET, SUITE, any_message, plain, seal_inner
from ..machine.tls13.test_codec_fuzz import EVERYTHING, SOUND
from .target import Defect, Source, foreseen

CONTEXTS = list(MessageContext)

#: The most that a `ClientHelloReader` of the tests reads.
MOST_PEEKED = 4096


def a_message(data: bytes) -> None:
    """A handshake message: the first byte is its type."""
    kind, body = data[0] if data else 0, data[1:]
    try:
        message = decode_message(kind, body)
    except TLSError as error:
        foreseen(error)
        if error.__cause__ is not None:
            raise Defect("it was only caught at the boundary, and not foreseen") from error
        return
    again = message.encode()[4:]
    bare = isinstance(message, ClientHello | ServerHello) and not len(message.extensions)
    if again != body and not (bare and again == body + b"\0\0"):
        raise Defect(f"{message!r} encodes to other bytes: {again.hex()}")


def message_seeds() -> list[bytes]:
    return [sound[:1] + sound[4:] for sound in SOUND]


def an_extension_block(data: bytes) -> None:
    """The extensions of a message: the first byte says of which."""
    context = CONTEXTS[data[0] % len(CONTEXTS)] if data else CONTEXTS[0]
    reader = Reader(data[1:], "a message")
    try:
        extensions = Extensions.decode(reader, context)
        reader.finish()
    except TLSError as error:
        foreseen(error)
        return
    if extensions.encode() != data[1:]:
        raise Defect(f"{extensions!r} encodes to other bytes")


def extension_seeds() -> list[bytes]:
    blocks = [bytes((CONTEXTS.index(MessageContext.CLIENT_HELLO),)) + EVERYTHING.extensions.encode()]
    for sound in SOUND:
        message = decode_message(sound[0], sound[4:])
        extensions = getattr(message, "extensions", None)
        if isinstance(extensions, Extensions):
            blocks += [bytes((index,)) + extensions.encode() for index in range(len(CONTEXTS))]
    return blocks


def plain_records(data: bytes) -> None:
    """Bytes before there are keys: the first one says in what pieces they come."""
    _read_all(RecordReader(MemoryBIO()), _cut(data[1:], data[0] + 1 if data else 1), room=0)


def plain_seeds() -> list[bytes]:
    hello = EVERYTHING.encode()
    flight = plain(22, hello[:50]) + plain(22, hello[50:]) + plain(20, b"\1") + plain(21, b"\2\x28")
    return [b"\xff" + flight, b"\x05" + flight, b"\xff" + plain(22, FINISHED * 3), b"\xff" + plain(23, bytes(40))]


def protected_records(data: bytes) -> None:
    """Contents that a peer has protected: each has a type, padding and a length before it."""
    source = Source(data)
    how = source.number()
    key = RecordKey(SUITE, SECRET)
    records: list[bytes] = []
    while source:
        kind, padding, size = source.number(), source.number(), source.number(2)
        content = source.piece(size % 2**14)
        if kind == 0xFF:
            records.append(content)  # raw, under no key
        else:
            records.append(seal_inner(key, content + bytes((kind,)) + bytes(padding)))
    reader = RecordReader(MemoryBIO())
    reader.set_key(RecordKey(SUITE, SECRET))
    reader.application_data_allowed = bool(how & 1)
    reader.ccs_allowed = bool(how & 2)
    if how & 4:
        reader.skip_early_data()
    if how & 8:
        reader.record_size_limit = 64
    if how >> 4 == 15:  # each record comes alone, and so is read as streams do it
        pieces: list[bytes] = records
    else:
        wire = b"".join(records)
        pieces = _cut(wire, 1 + (how >> 4) * 97 if how >> 4 else len(wire) + 1)
    _read_all(reader, pieces, room=1 + how * 7)


def protected_seeds() -> list[bytes]:
    def content(kind: int, data: bytes, padding: int = 0) -> bytes:
        return bytes((kind, padding)) + len(data).to_bytes(2, "big") + data

    flight = content(22, FINISHED) + content(23, b"hello" * 40) + content(22, KEY_UPDATE, 9) + content(21, b"\1\0")
    empty = content(23, b"") * 40
    return [bytes((how,)) + flight for how in (1, 3, 5, 9, 0x11, 0xF3)] + [b"\1" + empty, b"\7" + content(0xFF, flight)]


def _cut(wire: bytes, step: int) -> list[bytes]:
    return [wire[start : start + step] for start in range(0, len(wire), step)]


def _read_all(reader: RecordReader, pieces: list[bytes], *, room: int) -> None:
    """Feed the pieces, and read after each: data if ``room``, else messages."""
    buffer = memoryview(bytearray(room))
    given = taken = 0
    try:
        for piece in pieces:
            reader._incoming.write(piece)
            given += len(piece)
            if room:
                taken += len(reader.read_short(room) or b"")
            while True:
                count = reader.read_into(buffer) if room else 0
                taken += count
                if not count:
                    if room and not reader.other_pending:
                        break
                    if reader.read_message(any_message) is None:
                        break
    except TLSError as error:
        foreseen(error)
    if taken > given:
        raise Defect(f"{taken} bytes of data came out of {given} bytes of records")


def a_peek(data: bytes) -> None:
    """The first bytes of a connection: the first one says in what pieces they come."""
    step, wire = (data[0] or 4096, data[1:]) if data else (1, b"")
    reader = ClientHelloReader(MOST_PEEKED)
    at = 0
    while not reader.decided:
        piece = wire[at : at + min(step, MOST_PEEKED - at)]
        if at == MOST_PEEKED:
            raise Defect("it wants more than it was allowed to read")
        reader.feed(piece)
        at += len(piece)
        if not piece and not reader.decided:
            raise Defect("it is undecided at the end of the stream")
    if bytes(reader.data) != wire[:at]:
        raise Defect("what was read is not what is kept")
    try:
        found = reader.outcome()
    except TLSError as error:
        if error.alert is not None:
            raise Defect("a peek sends no alert") from error
        foreseen(error)
        return
    if found is not None and not isinstance(found, ClientHelloInfo):
        raise Defect(f"{found!r} is no ClientHello")


def peek_seeds() -> list[bytes]:
    hello = EVERYTHING.encode()
    return [
        b"\0" + plain(22, hello),
        b"\1" + plain(22, hello[:3]) + plain(22, hello[3:]),
        b"\0" + b"".join(plain(22, hello[at : at + 9]) for at in range(0, len(hello), 9)),
        b"\0GET / HTTP/1.1\r\n\r\n",
        b"\0" + plain(22, FINISHED),
    ]
