"""Damaged messages: whatever a peer sends, decoding ends with a message or a TLSError, and nothing is lost on the way.

How this works. Messages that are sound are damaged in the ways that break parsers: bytes change, go missing or come
twice, and lengths are a little wrong. The damage comes from a seeded generator, so a failure comes again; its message
names the bytes. The codecs have no two encodings of one value, so what decodes must encode to the same bytes.
"""

from __future__ import annotations

import random

import pytest

from trio_tls import TLSError
from trio_tls.alerts import Alert
from trio_tls.machine.tls13.extensions import (
    ApplicationProtocols,
    CertificateAuthorities,
    Cookie,
    EarlyData,
    EarlyDataLimit,
    Extensions,
    KeyShareEntry,
    KeyShares,
    Padding,
    PostHandshakeAuth,
    PreSharedKeys,
    PskIdentity,
    PskKeyExchangeModes,
    RecordSizeLimit,
    ServerName,
    SignatureAlgorithms,
    SignatureAlgorithmsCert,
    SupportedGroups,
    SupportedVersions,
    UnknownExtension,
)
from trio_tls.machine.tls13.messages import (
    CertificateRequest,
    ClientHello,
    EncryptedExtensions,
    KeyUpdate,
    Message,
    NewSessionTicket,
    ServerHello,
    decode_message,
)

from .traces import TRACES, messages

RANDOM = bytes(32)
PARSING = {Alert.decode_error, Alert.illegal_parameter, Alert.unexpected_message}

EVERYTHING = ClientHello(
    RANDOM,
    RANDOM,
    (0x1301, 0x1302, 0x1303),
    Extensions(
        [
            UnknownExtension(0x1234, b"abc"),
            ServerName("example.com"),
            SupportedGroups((0x11EC, 29, 23)),
            SignatureAlgorithms((0x0804, 0x0403)),
            SignatureAlgorithmsCert((0x0804, 0x0403)),
            ApplicationProtocols((b"h2", b"http/1.1")),
            SupportedVersions((0x0304, 0x0303)),
            KeyShares((KeyShareEntry(29, RANDOM), KeyShareEntry(23, bytes(65)))),
            PskKeyExchangeModes((1, 0)),
            Cookie(b"cookie"),
            RecordSizeLimit(16385),
            EarlyData(),
            CertificateAuthorities((b"one", b"two")),
            PostHandshakeAuth(),
            Padding(20),
            PreSharedKeys((PskIdentity(b"one", 1), PskIdentity(b"two", 2)), (RANDOM, bytes(48))),
        ]
    ),
)

SOUND: tuple[bytes, ...] = (
    EVERYTHING.encode(),
    EncryptedExtensions(
        Extensions([ServerName(None), ApplicationProtocols((b"h2",)), RecordSizeLimit(64), EarlyData()])
    ).encode(),
    CertificateRequest(
        b"context", Extensions([SignatureAlgorithms((0x0804,)), CertificateAuthorities((b"one", b"two"))])
    ).encode(),
    NewSessionTicket(1, 2, b"nonce", b"ticket", Extensions([EarlyDataLimit(1)])).encode(),
    KeyUpdate(request_update=False).encode(),
    *(message for trace in TRACES for _side, message in messages(trace) if len(message) < 600),
)


def damaged(sound: bytes, chance: random.Random) -> bytes:
    """A body with one to three damages."""
    data = bytearray(sound)
    for _each in range(chance.choice((1, 1, 1, 2, 3))):
        at = chance.randrange(len(data) + 1)
        here = data[at : at + 1] or b"\0"
        match chance.randrange(7):
            case 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                data[at : at + 1] = bytes([here[0] ^ 1 << chance.randrange(8)])
            case 2:
                data[at : at + 1] = bytes([(here[0] + chance.choice((-1, 1))) & 0xFF])  # a length is off by one
            case 3:
                del data[at : at + chance.randrange(1, 9)]
            case 4:
                data[at:at] = data[at : at + chance.randrange(1, 40)]
            case 5:
                del data[at:]
            case _:
                data[at : at + 2] = chance.choice((b"\0\0", b"\xff\xff", b"\0\1"))
    return bytes(data)


def received(kind: int, body: bytes) -> Message | TLSError:
    """What a peer's bytes come to; any other exception is a failure of the test."""
    try:
        return decode_message(kind, body)
    except TLSError as error:
        return error


def read(kind: int, body: bytes) -> bool:
    """Whether the bytes are a message; that and how they are refused is looked at."""
    came = received(kind, body)
    which = f"{kind} {body.hex()}"
    if isinstance(came, TLSError):
        assert came.alert in PARSING, which
        assert came.__cause__ is None, which  # it was foreseen, and not only caught at the boundary
        assert len(str(came)) < 300, which
        return False
    again = came.encode()[4:]
    may_be_bare = isinstance(came, ClientHello | ServerHello) and not len(came.extensions)
    assert again == body or (may_be_bare and again == body + b"\0\0"), which
    return True


def attack(cases: int, seed: int) -> int:
    """Decode ``cases`` damaged messages; how many of them still were messages."""
    chance = random.Random(seed)
    still_read = 0
    for case in range(cases):
        sound = SOUND[case % len(SOUND)]
        kind = sound[0] if chance.random() < 0.98 else chance.randrange(256)
        still_read += read(kind, damaged(sound[4:], chance))
    return still_read


def test_row_83_damaged_messages_are_refused_or_read_without_loss() -> None:
    assert 1_000 < attack(cases=5_000, seed=9846) < 4_000  # the damage does damage, and leaves something to reach


def test_row_83_any_one_byte_may_be_another() -> None:
    for sound in SOUND[:5]:
        for at in range(4, len(sound)):
            for change in (0x01, 0x80, 0xFF):
                read(sound[0], sound[4:at] + bytes([sound[at] ^ change]) + sound[at + 1 :])


@pytest.mark.slow
def test_row_83_a_million_damaged_messages_are_refused_or_read_without_loss() -> None:
    assert 200_000 < attack(cases=1_000_000, seed=8446) < 800_000
