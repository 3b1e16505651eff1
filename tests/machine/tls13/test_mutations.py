"""Damaged handshakes: each field of each message, and many at random. Nothing but a TLSError comes of it.

How this works. The peers by hand damage a message before it joins the transcript: so signatures and Finished fit what
was sent, and the damage gets as far into the machine as it can. An ``internal_error`` would mean that the machine has
met an exception of its own: that is a defect, whatever was sent (rows 27 and 83). Seeds are fixed, and a failure names
its own.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from trio_tls.alerts import Alert
from trio_tls.errors import TLSError
from trio_tls.machine.interface import Machine
from trio_tls.machine.tls13.messages import KeyUpdate

from . import test_splits
from .edits import on
from .ends import a_client, a_server, connected, server_credential
from .records import plain
from .scripted_peer import DATA, HANDSHAKE, Meeting, ScriptedClient, ScriptedPeer, ScriptedServer, meet
from .test_splits import BY_HAND

#: How many handshakes are damaged in each of the random tests.
QUICK, SLOW = 400, 20_000

KINDS = pytest.mark.parametrize("kind", BY_HAND)


def messages_of(kind: str) -> dict[str, bytes]:
    """Every message that the peer by hand sends in this kind of handshake."""
    sent: dict[str, bytes] = {}

    def keep(name: str, raw: bytes) -> bytes:
        sent[name] = raw
        return raw

    BY_HAND[kind](edit=keep).succeeded()
    return sent


def with_body(raw: bytes, body: bytes) -> bytes:
    return raw[:1] + len(body).to_bytes(3, "big") + body


# -- each field ------------------------------------------------------------------------------------------------


@KINDS
def test_row_25_a_message_with_one_byte_more_or_less_is_a_decode_error(kind: str) -> None:
    for name, raw in messages_of(kind).items():
        for body in (raw[4:] + b"\0", raw[4:-1]):
            meeting = BY_HAND[kind](edit=on(name, functools.partial(lambda body, raw: with_body(raw, body), body)))
            assert refusal(meeting) is Alert.decode_error, name


def vectors(name: str, raw: bytes) -> Iterator[tuple[int, int]]:
    """Where a message has lengths: (position, bytes of the length)."""
    position = 4
    if name.endswith("client_hello"):
        for width, skip in ((1, 34), (2, 0), (1, 0)):
            position += skip
            yield position, width
            position += width + int.from_bytes(raw[position : position + width], "big")
    elif name in {"server_hello", "hello_retry_request"}:
        yield position + 34, 1
        position += 35 + raw[position + 34] + 3
    elif name in {"certificate_request", "certificate"}:
        yield position, 1
        position += 1
    if name == "certificate":
        yield position, 3
        position += 3
        while position < len(raw):
            yield position, 3
            position += 3 + int.from_bytes(raw[position : position + 3], "big")
            yield position, 2
            position += 2
    elif name == "certificate_verify":
        yield position + 2, 2
    elif name != "finished":
        yield position, 2
        position += 2
        while position < len(raw):
            yield position + 2, 2
            position += 4 + int.from_bytes(raw[position + 2 : position + 4], "big")


@KINDS
def test_row_27_a_length_that_is_too_large_is_a_decode_error_wherever_it_stands(kind: str) -> None:
    seen = 0
    for name, raw in messages_of(kind).items():
        for position, width in vectors(name, raw):

            def enlarge(raw: bytes, position: int = position, width: int = width) -> bytes:
                return raw[:position] + b"\xff" * width + raw[position + width :]

            assert refusal(BY_HAND[kind](edit=on(name, enlarge))) is Alert.decode_error, (name, position)
            seen += 1
    assert seen >= 3


#: What may be answered to one byte that was changed; the fields that have one answer have tests of their own.
SOUND = {
    Alert.decode_error,
    Alert.illegal_parameter,
    Alert.unexpected_message,
    Alert.decrypt_error,
    Alert.protocol_version,
    Alert.missing_extension,
    Alert.unsupported_extension,
    Alert.handshake_failure,
    Alert.no_application_protocol,
    Alert.unrecognized_name,
    Alert.bad_certificate,
    Alert.unsupported_certificate,
    Alert.certificate_unknown,
    Alert.certificate_expired,
    Alert.certificate_required,
    Alert.unknown_ca,
    Alert.bad_record_mac,  # it chose other keys than the peer
    Alert.record_overflow,
}


@KINDS
def test_row_83_any_byte_of_any_message_may_be_another_one(kind: str) -> None:
    for name, raw in messages_of(kind).items():
        step = max(1, len(raw) // 60)
        for position in [*range(min(60, len(raw))), *range(60, len(raw), step)]:
            for mask in (0x01, 0xFF):

                def flip(raw: bytes, position: int = position, mask: int = mask) -> bytes:
                    return raw[:position] + bytes((raw[position] ^ mask,)) + raw[position + 1 :]

                judge(tolerant(kind, edit=on(name, flip)), (name, position, mask))


def refusal(meeting: Meeting) -> Alert | None:
    assert meeting.failure is not None, "the machine has accepted it"
    assert not meeting.failure.sent_by_peer
    assert meeting.peer.alerts == [meeting.failure.alert]
    return meeting.failure.alert


# -- at random -------------------------------------------------------------------------------------------------


class Fragile:
    """A peer that gives up without a word where the machine does what it has no script for."""

    def __init__(self, peer: ScriptedPeer) -> None:
        self.peer = peer
        self.run = peer.run
        self.listen = self._listen
        peer.run = self._run  # type: ignore[method-assign]
        self._peers_listen = peer.listen
        peer.listen = self._listen  # type: ignore[method-assign]

    def _run(self) -> Any:
        try:
            yield from self.run()
        except Exception:
            return

    def _listen(self) -> None:
        try:
            self._peers_listen()
        except Exception:
            self.peer.incoming.read()


def tolerant(kind: str, **how: Any) -> Meeting:
    """A handshake whose peer may lose its way."""
    meetings: list[Meeting] = []

    class Client(ScriptedClient):
        def __init__(self, **how: Any) -> None:
            super().__init__(**how)
            Fragile(self)

    class Server(ScriptedServer):
        def __init__(self, **how: Any) -> None:
            super().__init__(**how)
            Fragile(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_splits, "ScriptedClient", Client)
        patch.setattr(test_splits, "ScriptedServer", Server)
        meetings.append(BY_HAND[kind](**how))
    return meetings[0]


def judge(meeting: Meeting, what: object) -> None:
    """Whatever was sent: the machine went on, waits, or failed by an alert that is about the peer."""
    failure = meeting.failure
    if failure is not None:
        sound(failure, what)
        assert meeting.machine.sent_fatal_alert == (failure.alert is not None and not failure.sent_by_peer)
    bounded(meeting.machine)


def sound(failure: TLSError, what: object) -> None:
    """It is about the peer."""
    assert failure.alert is None or failure.sent_by_peer or failure.alert in SOUND, f"{what}: {failure!r}"


def bounded(machine: Machine) -> None:
    """A machine that has failed or waits holds little of what came."""
    assert machine.buffered <= 2**14
    assert len(machine._reader._handshake) <= 2**17 + 2**14  # type: ignore[attr-defined]


def damaged(raw: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """``raw`` with one to three things wrong; half of the time its header fits the new length."""
    data = bytearray(raw)
    for _ in range(rng.randint(1, 3)):
        position = rng.randrange(len(data) + 1)
        match rng.randrange(7):
            case 0 if position < len(data):
                data[position] ^= 1 << rng.randrange(8)
            case 1 if position < len(data):
                data[position] = rng.choice((0, 1, 0x7F, 0xFF))
            case 2:
                del data[position : position + rng.choice((1, 2, 4, 30))]
            case 3:
                data[position:position] = rng.randbytes(rng.choice((1, 2, 4, 30)))
            case 4:
                data[position:position] = data[position : position + rng.choice((4, 40))]
            case 5:
                other = rng.choice(others)
                start = rng.randrange(len(other))
                data[position:position] = other[start : start + rng.choice((4, 40, 200))]
            case _:
                data += bytes(rng.choice((1, 100)))
    if rng.random() < 0.6 and len(data) >= 4:
        return with_body(bytes(data[:1]), bytes(data[4:]))
    return bytes(data)


def damage(kind: str, seed: int, sent: dict[str, bytes]) -> None:
    rng = random.Random(seed)
    victims = set(rng.choices(list(sent), k=rng.choice((1, 1, 1, 2, 3))))
    others = list(sent.values())

    def edit(name: str, raw: bytes) -> list[bytes]:
        if name not in victims:
            return [raw]
        match rng.randrange(8):
            case 0:
                return []
            case 1:
                return [raw, raw]
            case 2:
                return [rng.choice(others), raw]
            case _:
                return [damaged(raw, rng, others)]

    def cut(flight: bytes) -> Iterator[bytes]:
        size = rng.choice((2**14, 2**14, 2**14, 1000, 50, 7))
        for start in range(0, len(flight), size):
            yield flight[start : start + size]

    judge(tolerant(kind, edit=edit, cut=cut), (kind, seed))


@KINDS
def test_row_83_damaged_handshakes_raise_nothing_but_a_tls_error(kind: str) -> None:
    sent = messages_of(kind)
    for seed in range(QUICK // len(BY_HAND)):
        damage(kind, seed, sent)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@KINDS
def test_row_83_very_many_damaged_handshakes_raise_nothing_but_a_tls_error(kind: str) -> None:
    sent = messages_of(kind)
    for seed in range(1000, 1000 + SLOW // len(BY_HAND)):
        damage(kind, seed, sent)


def wire_damage(seed: int) -> None:
    """Bytes altered on the way between two machines of ours: after the hellos that is a record's tag, as a rule."""
    rng = random.Random(seed)
    ends: list[Machine] = [a_client(), a_server()]
    for turn in range(6):
        sender, receiver = ends[turn % 2], ends[1 - turn % 2]
        try:
            if sender.do_handshake() is None:
                sender.read_into(memoryview(bytearray(100)))
        except TLSError as error:
            sound(error, seed)
        flight = bytearray(sender.outgoing.read())
        if flight and rng.random() < 0.5:
            flight[rng.randrange(len(flight))] ^= 1 << rng.randrange(8)
        receiver.incoming.write(bytes(flight))
    assert all(isinstance(end.handshake_done, bool) for end in ends)


def test_row_7_bytes_that_are_altered_on_the_way_raise_nothing_but_a_tls_error() -> None:
    for seed in range(QUICK):
        wire_damage(seed)


def garbage(rng: random.Random) -> bytes:
    """Records of anything, or what is not even records."""
    flight = b""
    for _ in range(rng.randint(1, 5)):
        match rng.randrange(4):
            case 0:
                flight += rng.randbytes(rng.randint(1, 300))
            case 1:
                flight += plain(rng.choice((20, 21, 22, 23, 24)), rng.randbytes(rng.choice((0, 1, 2, 40, 400))))
            case 2:
                kind, length = rng.choice((1, 2, 4, 8, 11, 13, 15, 20, 24)), rng.choice((0, 1, 30, 60000))
                flight += plain(22, bytes((kind,)) + length.to_bytes(3, "big") + rng.randbytes(min(length, 90)))
            case _:
                flight += plain(21, bytes((rng.choice((1, 2)), rng.randrange(256))))
    return flight


@pytest.mark.parametrize("make", [a_client, a_server])
def test_row_83_garbage_raises_nothing_but_a_tls_error(make: Callable[[], Machine]) -> None:
    for seed in range(QUICK):
        machine = make()
        machine.do_handshake()
        machine.incoming.write(garbage(random.Random(seed)))
        try:
            machine.do_handshake()
        except TLSError as error:
            sound(error, seed)
        bounded(machine)


@pytest.mark.parametrize("role", ["client", "server"])
def test_row_83_garbage_in_messages_after_the_handshake_raises_nothing_but_a_tls_error(role: str) -> None:
    sent = [*messages_of("client").values(), *messages_of("server").values(), KeyUpdate(True).encode()]
    for seed in range(QUICK // 4):
        rng = random.Random(seed)
        meeting = (
            meet(a_client(), ScriptedServer(credential=server_credential()))
            if role == "client"
            else meet(a_server(), ScriptedClient())
        ).succeeded()
        if isinstance(meeting.peer, ScriptedServer):
            sent.append(meeting.peer.ticket())
        for _ in range(3):
            meeting.peer.record(rng.choice((HANDSHAKE, HANDSHAKE, DATA)), damaged(rng.choice(sent), rng, sent))
        meeting.carry()
        meeting.step()
        judge(meeting, (role, seed))


# -- memory ----------------------------------------------------------------------------------------------------


def test_row_20_a_peer_that_sends_for_ever_fills_no_memory() -> None:
    """What may be long ends with its own length; what has no end is refused by its header."""
    for first in (b"\x02\0\xff\xff", b"\x01\0\xff\xff"):
        machine = a_client() if first[0] == 2 else a_server()
        machine.do_handshake()
        machine.incoming.write(plain(22, first))
        sent = 0
        with pytest.raises(TLSError) as caught:
            while sent < 2**20:
                machine.incoming.write(plain(22, bytes(2**13)))
                sent += 2**13
                machine.do_handshake()
        assert caught.value.alert is not Alert.internal_error
        assert sent <= 2**16 + 2**13
        bounded(machine)


def test_row_14_a_peer_that_sends_one_byte_at_a_time_costs_no_more_than_its_bytes() -> None:
    client, server = connected()
    data = bytes(2**14)
    client.write(memoryview(data))
    flight = client.outgoing.read()
    buffer = memoryview(bytearray(2**15))
    for index in range(len(flight) - 1):
        server.incoming.write(flight[index : index + 1])
        if index % 64 == 0:
            server.read_into(buffer)
        assert server.buffered == 0
    server.incoming.write(flight[-1:])
    assert server.read_into(buffer) == len(data)
