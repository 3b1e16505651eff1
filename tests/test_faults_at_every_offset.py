"""The connection is cut, reset or altered at every byte of the handshake: both ends are told, and nobody hangs.

How this works. Offsets count the bytes of one direction. On streams, `ChaosStream` cuts or resets what one end
receives; then both ends go on as users do, closing after a failure, so the other end learns of it too. Altered
bits are tried on bare machines, where every run is exact: which byte of which record was hit is known, and so
is whether the outcome is a legitimate one. A stride of them is tried on streams again.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from trio_tls import TLSError, TLSStream, TransportError, UnexpectedEOF
from trio_tls.machine.interface import Machine
from trio_tls.testing import Chaos, ChaosStream

from .machine.drive import pair_of, read
from .support import HOST, Machines, receive_exactly, socket_pair

PING, PONG = b"from the client", b"from the server"

#: Virtual seconds after which an end gives up. They differ, so that one end sees the other go.
CLIENT_PATIENCE, SERVER_PATIENCE = 20, 40


@dataclass
class Outcome:
    """How a connection went: what each end raised (None: nothing), who was connected, and who gave up waiting."""

    errors: dict[str, Exception | None] = field(default_factory=dict)
    connected: set[str] = field(default_factory=set)
    gave_up: set[str] = field(default_factory=set)


async def use(name: str, end: TLSStream[Any], outcome: Outcome) -> None:
    """A handshake, one message each way, and a close, as a user would do it."""
    mine, theirs, patience = (PING, PONG, CLIENT_PATIENCE) if name == "client" else (PONG, PING, SERVER_PATIENCE)
    outcome.errors[name] = None
    async with end:
        try:
            with trio.move_on_after(patience) as scope:
                await end.do_handshake()
                outcome.connected.add(name)
                await end.send_all(mine)
                received = await receive_exactly(end, len(theirs))
                assert received == theirs, "never altered, and never cut short without an error"
        except TLSError as error:
            outcome.errors[name] = error
        if scope.cancelled_caught:
            outcome.gave_up.add(name)


async def connection(machines: Machines, client: trio.abc.Stream, server: trio.abc.Stream) -> Outcome:
    """One connection over these transports, to its end."""
    outcome = Outcome()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(use, "client", TLSStream(client, machines.client, server_hostname=HOST), outcome)
        nursery.start_soon(use, "server", TLSStream(server, machines.server, server_side=True), outcome)
    return outcome


async def chaotic_connection(machines: Machines, towards: str, chaos: Chaos) -> Outcome:
    """A connection in which ``chaos`` befalls what one end receives."""
    ends: list[trio.abc.Stream] = list(memory_stream_pair())
    index = ("client", "server").index(towards)
    ends[index] = ChaosStream(ends[index], receive=chaos)
    return await connection(machines, *ends)


def flights(machines: Machines) -> dict[str, int]:
    """How many bytes a handshake has in each direction; in the next one, signatures may be longer or shorter."""
    crossing = Crossing(machines)
    crossing.run()
    return crossing.handshake_lengths


def check_told(error: Exception | None, kinds: type[TLSError] | tuple[type[TLSError], ...]) -> None:
    assert isinstance(error, kinds)
    assert type(error) is not TLSError, "a failure has a name"
    assert str(error) and error.hint


@pytest.mark.parametrize("towards", ["client", "server"])
@pytest.mark.parametrize("fault", ["eof", "reset"])
async def test_eof_and_reset_at_every_byte_of_the_handshake_are_told_to_both_ends(
    machines: Machines, towards: str, fault: str, autojump_clock: MockClock
) -> None:
    for offset in itertools.count():
        chaos = Chaos(eof_at=offset) if fault == "eof" else Chaos(reset_at=offset)
        outcome = await chaotic_connection(machines, towards, chaos)
        if towards in outcome.connected:
            break  # the fault lay behind the whole handshake
        other = "server" if towards == "client" else "client"
        check_told(outcome.errors[towards], UnexpectedEOF if fault == "eof" else TransportError)
        check_told(outcome.errors[other], (UnexpectedEOF, TransportError))
        assert not outcome.gave_up
    assert offset > 250, "a ClientHello and a Finished, or a server's flight, are no shorter"


async def test_without_a_fault_the_same_connection_succeeds(machines: Machines, autojump_clock: MockClock) -> None:
    for towards in ("client", "server"):
        outcome = await chaotic_connection(machines, towards, Chaos(split=1))
        assert outcome == Outcome({"client": None, "server": None}, connected={"client", "server"})


async def relay(
    source: trio.SocketStream, target: trio.SocketStream, most: int | None, cut: trio.CancelScope | None
) -> None:
    """Pass bytes on; after ``most`` of them, the whole connection is cut."""
    passed = 0
    while data := await source.receive_some(1 if most is not None else None):
        if passed == most:
            assert cut is not None
            cut.cancel()
            return
        try:
            await target.send_all(data)
        except trio.BrokenResourceError:
            return
        passed += len(data)
    await target.send_eof()


@pytest.mark.parametrize("towards", ["client", "server"])
async def test_a_connection_over_sockets_that_is_cut_anywhere_is_told_to_both_ends(
    machines: Machines, towards: str
) -> None:
    for offset in itertools.count(step=29):
        client, beside_client = socket_pair()
        server, beside_server = socket_pair()
        to_client, to_server = (offset, None) if towards == "client" else (None, offset)
        outcome = Outcome()

        async def run_relays() -> None:
            with trio.CancelScope() as cut:
                async with beside_client, beside_server, trio.open_nursery() as nursery:  # noqa: B023  # runs at once
                    nursery.start_soon(relay, beside_client, beside_server, to_server, cut)  # noqa: B023
                    nursery.start_soon(relay, beside_server, beside_client, to_client, cut)  # noqa: B023

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run_relays)
                nursery.start_soon(use, "client", TLSStream(client, machines.client, server_hostname=HOST), outcome)
                nursery.start_soon(use, "server", TLSStream(server, machines.server, server_side=True), outcome)
        if towards in outcome.connected:
            break
        for error in outcome.errors.values():
            check_told(error, (UnexpectedEOF, TransportError))
    assert offset > 250


# -- altered bits ------------------------------------------------------------------------------------------


class Crossing:
    """A handshake and one message each way between bare machines, with one bit inverted on the way.

    Args:
      towards: who receives the altered byte.
      offset: which byte of that direction; None: none is altered.
      bit: the bit's value in the byte.
    """

    def __init__(self, machines: Machines, towards: str = "", offset: int | None = None, bit: int = 1) -> None:
        client, server = pair_of(machines)
        self.ends = {"client": client, "server": server}
        self.wires = {"client": bytearray(), "server": bytearray()}
        self.errors: dict[str, TLSError] = {}
        self.received: dict[str, bytes] = {}
        self.fault = (towards, offset, bit)
        self.handshake_lengths: dict[str, int] = {}

    def run(self) -> None:
        """The handshake, until nothing moves any more."""
        moved = True
        while moved:
            moved = False
            for name, other in (("client", "server"), ("server", "client")):
                self._step(name, self.ends[name].do_handshake)
                moved = self._carry(name, other) or moved
        self.handshake_lengths = {towards: len(wire) for towards, wire in self.wires.items()}

    def exchange(self) -> None:
        """One message each way."""
        for name, other, message in (("client", "server", PING), ("server", "client", PONG)):
            if name not in self.errors and self.ends[name].handshake_done:
                self._step(name, partial(self.ends[name].write, memoryview(message)))
            self._carry(name, other)
        for name, end in self.ends.items():
            if end.handshake_done:
                self._step(name, partial(self._read, name, end))
        for name, other in (("client", "server"), ("server", "client")):
            if self._carry(name, other) and self.ends[other].handshake_done:  # an alert
                self._step(other, partial(self._read, other, self.ends[other]))

    def _read(self, name: str, end: Machine) -> None:
        got = read(end)
        if isinstance(got, bytes):
            self.received[name] = got

    def _step(self, name: str, step: Any) -> None:
        try:
            step()
        except TLSError as error:
            self.errors.setdefault(name, error)

    def _carry(self, sender: str, receiver: str) -> bool:
        ciphertext = bytearray(self.ends[sender].outgoing.read())
        towards, offset, bit = self.fault
        wire = self.wires[receiver]
        if receiver == towards and offset is not None and len(wire) <= offset < len(wire) + len(ciphertext):
            ciphertext[offset - len(wire)] ^= bit
        wire += ciphertext
        self.ends[receiver].incoming.write(ciphertext)
        return bool(ciphertext)

    @property
    def both_complete(self) -> bool:
        return not self.errors and self.received == {"client": PONG, "server": PING}

    def place(self) -> tuple[int, int]:
        """The altered byte's place: (the type of its record, its offset in that record)."""
        towards, offset, bit = self.fault
        assert offset is not None
        wire = bytearray(self.wires[towards])
        wire[offset] ^= bit  # as it was sent
        start = 0
        while True:
            length = 5 + int.from_bytes(wire[start + 3 : start + 5], "big")
            if offset < start + length:
                return wire[start], offset - start
            start += length


def check_altered(machines: Machines, towards: str, stride: int) -> None:
    """Invert one bit of every ``stride``-th byte, and check what becomes of it."""
    length = flights(machines)[towards]
    named = 0
    for offset in range(0, length, stride):
        crossing = Crossing(machines, towards, offset, bit=1 << (offset % 8))
        crossing.run()
        if offset >= crossing.handshake_lengths[towards]:
            continue  # this handshake's signature was shorter than those that were measured
        crossing.exchange()
        record_type, within = crossing.place()
        where = f"byte {offset} towards the {towards}: byte {within} of a record of type {record_type}"
        if crossing.both_complete:
            # The version in the header of a plaintext record is ignored, and no part of the transcript
            # (RFC 9846 section 5.1). Nothing else may be altered unnoticed.
            assert within in (1, 2), where
            assert record_type != 23, f"{where}: it is authenticated there (RFC 9846 section 5.2)"
            continue
        if not crossing.errors:
            # A length field that has grown: the receiver waits for bytes that do not come.
            assert not (crossing.ends["client"].handshake_done and crossing.ends["server"].handshake_done), where
            continue
        for error in crossing.errors.values():
            assert str(error) and error.hint and len(str(error)) < 400, where
        done = crossing.ends["client"].handshake_done and crossing.ends["server"].handshake_done
        assert not done, f"{where}: complete on an altered transcript"
        named += any(type(error) is not TLSError for error in crossing.errors.values())
        assert any(type(error) is not TLSError for error in crossing.errors.values()), (where, crossing.errors)
    assert named > 0.8 * len(range(0, length, stride)), "most alterations are found out, not waited out"


@pytest.mark.parametrize("towards", ["client", "server"])
def test_one_altered_bit_never_goes_unnoticed(machines: Machines, towards: str) -> None:
    check_altered(machines, towards, stride=7)


@pytest.mark.slow
@pytest.mark.parametrize("towards", ["client", "server"])
def test_one_altered_bit_at_every_byte_never_goes_unnoticed(machines: Machines, towards: str) -> None:
    check_altered(machines, towards, stride=1)


@pytest.mark.parametrize("towards", ["client", "server"])
async def test_one_altered_bit_on_a_stream_hangs_nobody(
    machines: Machines, towards: str, autojump_clock: MockClock
) -> None:
    for offset in range(0, flights(machines)[towards], 23):
        outcome = await chaotic_connection(machines, towards, Chaos(flip_bit=8 * offset + offset % 8))
        errors = [error for error in outcome.errors.values() if error is not None]
        if not errors:
            # The ignored version of a plaintext record, again; nobody was even made to wait.
            assert not outcome.gave_up
            continue
        assert any(type(error) is not TLSError for error in errors), errors
        # Only a grown length field makes the ends wait; the first to give up closes, and so tells the other.
        assert outcome.gave_up in (set(), {"client"})
