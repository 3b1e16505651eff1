"""A cut, a reset or an altered bit at every byte of what follows a handshake, and of the less usual handshakes.

How this works. `tests.test_faults_at_every_offset` does this to the handshake that everybody has. Here a
`Conversation` goes on behind it: data, tickets, and KeyUpdates by each end that can start them, with an answer asked
for; so every byte is hit of the records before, in, and after each change of keys, and of close_notify. And it is
begun by resumption, by a HelloRetryRequest, or with a client certificate. Bare machines show EOF and altered bits,
exactly; a reset is an affair of streams.

Whatever is hit: somebody is told, by a named error. No handshake is complete at both ends whose transcript was
altered, nobody is given a byte that was not sent there, and nobody waits once the connection is closed.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from trio_tls import TLSError, TLSStream, TransportError, UnexpectedEOF
from trio_tls.machine.interface import Machine, Want
from trio_tls.testing import Chaos, ChaosStream

from .conversations import BEGINNINGS, ENDS, LENGTH, OTHER, Conversation, Fault, full, resumed, retried, sound
from .support import CROSSED, HOST, MACHINES, Machines, machines_named, pattern, receive_exactly

# -- bare machines -------------------------------------------------------------------------------------------------


def place(wire: bytes | bytearray, offset: int) -> tuple[int, int]:
    """Where a byte stands: (the type of its record, its offset in it)."""
    start = 0
    while True:
        length = 5 + int.from_bytes(wire[start + 3 : start + 5], "big")
        if offset < start + length:
            return wire[start], offset - start
        start += length


def check(conversation: Conversation, fault: Fault) -> bool:
    """Run it with the fault, and see that somebody is told, and nobody deceived; whether the fault was met at all."""
    conversation.fault = fault
    conversation.run()
    if not conversation.hit:
        assert not conversation.errors, fault
        assert fault.offset >= len(conversation.wires[fault.towards]), fault
        return False
    for name in ENDS:
        given = conversation.received[name]
        assert conversation.sent[OTHER[name]][: len(given)] == given, fault
    for error in conversation.errors.values():
        assert str(error) and len(str(error)) < 400, fault
        if type(error) is TLSError:
            # One of OpenSSL's many reasons for which there is no class: then its own words are told.
            assert re.fullmatch(r"OpenSSL failed the connection: .{4,}", error.message), (fault, error)
    assert not conversation.errors or any(type(error) is not TLSError for error in conversation.errors.values()), fault
    if fault.kind == "eof":
        assert isinstance(conversation.errors.get(fault.towards), UnexpectedEOF), (fault, conversation.errors)
        assert fault.towards not in conversation.closed, fault
        return True
    record_type, within = place(conversation.wires[fault.towards], fault.offset)
    if not conversation.errors:
        # The version in the header of a plaintext record is ignored, and in no transcript (RFC 9846 section 5.1).
        assert within in (1, 2) and record_type != 23, (fault, record_type, within)
        assert conversation.closed == set(ENDS), fault
        return True
    if fault.offset < conversation.handshake.get(fault.towards, 0):
        assert conversation.completed != set(ENDS), f"{fault}: complete on an altered transcript"
    return True


def check_all(
    make: Callable[[Machines], Conversation], machines: Machines, *, from_handshake: bool, stride: int, kinds: str
) -> None:
    """Every ``stride``-th byte in both directions: of all, or of what comes behind the handshake."""
    whole = sound(make, machines)
    for kind in kinds.split():
        for towards in ENDS:
            start = 0 if from_handshake else whole.handshake[towards] - 1
            for offset in itertools.count(start, stride):
                conversation = make(machines)
                if not check(conversation, Fault(towards, offset, kind)):
                    break  # it lay behind everything
                if from_handshake and offset >= conversation.handshake[towards]:
                    break
            # Signatures differ in length, so each run has an end of its own, and tells where it is.
            assert offset > start + stride


def pairings(*, only_13: bool) -> list[str]:
    return [name for name in (*MACHINES, *CROSSED) if not (only_13 and name == "ssl-1.2")]


EVERY_PAIRING = pytest.mark.parametrize("name", pairings(only_13=False))
UNUSUAL = pytest.mark.parametrize(
    ("beginning", "name"),
    [
        (beginning, name)
        for beginning in ("resumed", "retried", "proving")
        for name in pairings(only_13=beginning == "retried")
    ],
)


@EVERY_PAIRING
def test_a_cut_or_an_altered_bit_near_a_change_of_keys_is_told(name: str) -> None:
    check_all(full, machines_named(name), from_handshake=False, stride=17, kinds="bit eof")


@UNUSUAL
def test_a_cut_or_an_altered_bit_in_an_unusual_handshake_is_told(beginning: str, name: str) -> None:
    check_all(BEGINNINGS[beginning], machines_named(name), from_handshake=True, stride=43, kinds="bit eof")


@pytest.mark.slow
@EVERY_PAIRING
def test_a_cut_or_an_altered_bit_at_every_byte_near_a_change_of_keys_is_told(name: str) -> None:
    check_all(full, machines_named(name), from_handshake=False, stride=1, kinds="bit eof")


@pytest.mark.slow
@UNUSUAL
def test_an_altered_bit_at_every_byte_of_an_unusual_handshake_is_told_and_a_cut_at_many(
    beginning: str, name: str
) -> None:
    check_all(BEGINNINGS[beginning], machines_named(name), from_handshake=True, stride=1, kinds="bit")
    check_all(BEGINNINGS[beginning], machines_named(name), from_handshake=True, stride=13, kinds="eof")


def test_the_conversation_has_what_is_to_be_hit() -> None:
    """Tickets, and KeyUpdates with their answers, at both ends where both are ours."""
    for name in pairings(only_13=True):
        machines = machines_named(name)
        whole = sound(full, machines)
        updates = len(whole.updating)
        assert updates == machines.is_own("client") + machines.is_own("server")
        for towards in ENDS:
            records = _count(whole.wires[towards][whole.handshake[towards] :])
            # Data in each turn, close_notify, and a KeyUpdate or its answer for each; tickets come from the server.
            assert records >= (1 + updates) + 1 + updates + (towards == "client"), (name, towards, records)
        assert sound(resumed, machines).ends["server"].introspection.session_reused
        assert _count(sound(retried, machines).wires["server"]) > _count(whole.wires["server"]), "a second ClientHello"


def _count(wire: bytes | bytearray) -> int:
    found = 0
    while wire:
        wire = wire[5 + int.from_bytes(wire[3:5], "big") :]
        found += 1
    return found


class Forgiving:
    """A machine that takes the end of the transport for close_notify."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._machine, name)

    def read_into(self, buffer: memoryview) -> int | Want:
        try:
            return self._machine.read_into(buffer)
        except UnexpectedEOF:
            return 0


class Careless(Forgiving):
    """A machine that gives out something else than was sent."""

    def read_into(self, buffer: memoryview) -> int | Want:
        count = self._machine.read_into(buffer)
        if isinstance(count, int) and count:
            buffer[0] ^= 1
        return count


@pytest.mark.parametrize("defective", [Forgiving, Careless])
def test_a_machine_with_a_defect_fails_the_check(defective: Callable[[Machine], Any]) -> None:
    machines = machines_named("own")
    end = len(sound(full, machines).wires["client"])
    conversation = full(machines)
    conversation.ends["client"] = defective(conversation.ends["client"])
    with pytest.raises(AssertionError):
        check(conversation, Fault("client", end - 20, "eof"))


# -- streams: a reset ----------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What each end has raised, and received."""

    errors: dict[str, Exception | None] = field(default_factory=dict)
    received: dict[str, bytes] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)


async def converse(name: str, end: TLSStream[Any], updating: tuple[str, ...], outcome: Outcome) -> None:
    """One end of the conversation, as a user would have it."""
    mine, theirs = (pattern(1000, seed=each == "server") for each in (name, OTHER[name]))
    outcome.errors[name], outcome.received[name] = None, b""
    position = 0
    async with end:
        try:
            for speaker in (None, *updating):
                if speaker == name:
                    await end.update_keys(request_update=True)
                if name == "client":
                    await end.send_all(mine[position : position + LENGTH])
                outcome.received[name] += await receive_exactly(end, LENGTH)
                if name == "server":
                    await end.send_all(mine[position : position + LENGTH])
                position += LENGTH
            await end.send_eof()
            assert await end.receive_some() == b""
            outcome.finished.add(name)
        except TLSError as error:
            outcome.errors[name] = error
    assert theirs.startswith(outcome.received[name])


async def reset_at(machines: Machines, towards: str, offset: int) -> tuple[Outcome, int]:
    """A conversation whose transport is reset there, and how many bytes had come to this end."""
    transports: list[trio.abc.Stream] = list(memory_stream_pair())
    index = ENDS.index(towards)
    chaos = transports[index] = ChaosStream(transports[index], receive=Chaos(reset_at=offset))
    updating = tuple(name for name in ENDS if machines.is_own(name))
    outcome = Outcome()
    client = TLSStream(transports[0], machines.client, server_hostname=HOST)
    server = TLSStream(transports[1], machines.server, server_side=True)
    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(converse, "client", client, updating, outcome)
            nursery.start_soon(converse, "server", server, updating, outcome)
    return outcome, chaos.receiving.position


async def check_resets(machines: Machines, stride: int) -> None:
    for towards in ENDS:
        first = sound(full, machines).handshake[towards] - 1
        for offset in itertools.count(first, stride):
            outcome, reached = await reset_at(machines, towards, offset)
            if reached < offset:
                assert outcome.finished == set(ENDS)
                break  # it lay behind everything
            if towards not in outcome.finished:
                assert isinstance(outcome.errors[towards], TransportError), (towards, offset, outcome)
                assert isinstance(outcome.errors[OTHER[towards]], TLSError | None), (towards, offset, outcome)
        assert offset > first + stride


@EVERY_PAIRING
async def test_a_reset_near_a_change_of_keys_is_told(name: str, autojump_clock: MockClock) -> None:
    await check_resets(machines_named(name), stride=31)


@pytest.mark.slow
@EVERY_PAIRING
async def test_a_reset_at_every_byte_near_a_change_of_keys_is_told(name: str, autojump_clock: MockClock) -> None:
    await check_resets(machines_named(name), stride=1)
