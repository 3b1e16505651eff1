"""A conversation between two bare machines, from the handshake to close_notify, in which one fault befalls the wire.

How this works. A `Conversation` has turns of data, tickets, and KeyUpdates by each end that can start them, with an
answer asked for. Nothing in it waits: it goes on until nothing moves. What was sent, and received, and who has failed
is kept for the tests to judge; the functions at the end make the kinds of handshakes that it begins with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from trio_tls import NamedGroup, TLSError
from trio_tls.machine.factory import create_machine
from trio_tls.machine.interface import Machine, Want

from .peers import Config, certified_client, demanding_server, server_of
from .support import HOST, Machines, machines_named, pattern, server_config

__all__ = ["BEGINNINGS", "ENDS", "LENGTH", "OTHER", "Conversation", "Fault", "full", "resumed", "retried", "sound"]

ENDS = ("client", "server")
OTHER = {"client": "server", "server": "client"}

#: What each end says in each turn.
LENGTH = 20


@dataclass(frozen=True)
class Fault:
    """What befalls the byte at ``offset`` of what comes to one end: a bit is inverted, or nothing comes any more."""

    towards: str
    offset: int
    kind: str

    @property
    def bit(self) -> int:
        return 1 << self.offset % 8


@dataclass
class Conversation:
    """A handshake, turns of data with KeyUpdates between them, and a close; between bare machines.

    Attributes:
      wires: what came towards each end, as it was sent.
      handshake: how much of that was the handshake.
      hit: whether the fault has happened.
      completed: the ends whose handshake is done.
      sent, received: application data, by the end that has sent or received it.
      closed: the ends that have seen close_notify.
    """

    ends: dict[str, Machine]
    updating: tuple[str, ...]
    fault: Fault | None = None
    wires: dict[str, bytearray] = field(default_factory=lambda: {name: bytearray() for name in ENDS})
    handshake: dict[str, int] = field(default_factory=dict)
    errors: dict[str, TLSError] = field(default_factory=dict)
    sent: dict[str, bytearray] = field(default_factory=lambda: {name: bytearray() for name in ENDS})
    received: dict[str, bytearray] = field(default_factory=lambda: {name: bytearray() for name in ENDS})
    closed: set[str] = field(default_factory=set)
    hit: bool = False

    def run(self) -> Conversation:
        self._settle()
        self.handshake = {name: len(wire) for name, wire in self.wires.items()}
        if self.completed == set(ENDS) and not self.errors:
            self._talk()
        for name in ENDS:  # whoever waits now learns that nothing more comes
            self._end(name)
        return self

    @property
    def completed(self) -> set[str]:
        return {name for name in ENDS if self.ends[name].handshake_done}

    def _talk(self) -> None:
        for speaker in (None, *self.updating):
            if speaker is not None:
                self._try(speaker, lambda end: end.update_keys(request_update=True))
                self._settle()
            for name in ENDS:
                self._say(name)
                self._settle()
        for name in ENDS:
            self._try(name, lambda end: end.shutdown())
        self._settle()

    def _say(self, name: str) -> None:
        data = pattern(len(self.sent[name]) + LENGTH, seed=name == "server")[-LENGTH:]

        def write(end: Machine) -> None:
            accepted = end.write(memoryview(data))
            assert accepted == LENGTH, "there is room"
            self.sent[name] += data

        self._try(name, write)

    def _settle(self) -> None:
        """Let both ends go on until nothing moves any more."""
        moved = True
        while moved:
            moved = False
            for name in ENDS:
                self._try(name, lambda end, name=name: self._go_on(name, end))  # type: ignore[misc]
                moved = self._carry(name) or moved

    def _go_on(self, name: str, end: Machine) -> None:
        buffer = memoryview(bytearray(4096))
        while end.do_handshake() is None and name not in self.closed:
            count = end.read_into(buffer)
            if isinstance(count, Want):
                return
            self.received[name] += buffer[:count]
            if not count:
                self.closed.add(name)

    def _try(self, name: str, step: Callable[[Machine], object]) -> None:
        if name not in self.errors:
            try:
                step(self.ends[name])
            except TLSError as error:
                self.errors[name] = error

    def _carry(self, sender: str) -> bool:
        receiver = OTHER[sender]
        flight, fault = bytearray(self.ends[sender].outgoing.read()), self.fault
        wire = self.wires[receiver]
        start = len(wire)
        wire += flight
        incoming = self.ends[receiver].incoming
        if fault is not None and fault.towards == receiver and fault.offset < len(wire):
            if fault.kind == "bit" and not self.hit:
                flight[fault.offset - start] ^= fault.bit
            elif fault.kind == "eof" and not self.hit:
                incoming.write(flight[: fault.offset - start])
                incoming.write_eof()
            self.hit = True
        if not incoming.eof_written:
            incoming.write(flight)
        return bool(flight)

    def _end(self, name: str) -> None:
        incoming = self.ends[name].incoming
        if not incoming.eof_written:
            incoming.write_eof()
        self._try(name, lambda end: self._go_on(name, end))


@cache
def session_of(name: str) -> object:
    """A session to resume, from a first conversation of these machines."""
    machines = machines_named(name)
    first = a_conversation(machines, machines.client, machines.server)
    first.run()
    assert not first.errors
    session = first.ends["client"].session
    assert session is not None
    return session


def a_conversation(machines: Machines, client: Config, server: Config, session: object | None = None) -> Conversation:
    ends = {
        "client": create_machine(client, server_side=False, server_hostname=HOST, session=session),
        "server": create_machine(server, server_side=True, server_hostname=None, session=None),
    }
    return Conversation(ends, tuple(name for name in ENDS if machines.is_own(name)))


def full(machines: Machines) -> Conversation:
    return a_conversation(machines, machines.client, machines.server)


def resumed(machines: Machines) -> Conversation:
    return a_conversation(machines, machines.client, machines.server, session_of(machines.name))


@cache
def retrying_server(name: str) -> Config:
    machines = machines_named(name)
    if machines.is_own("server"):
        return server_config().replace(groups=[NamedGroup.secp256r1])
    context = server_of(machines)
    context.set_ecdh_curve("prime256v1")
    return context


def retried(machines: Machines) -> Conversation:
    return a_conversation(machines, machines.client, retrying_server(machines.name))


@cache
def proving_ends(name: str) -> tuple[Config, Config]:
    machines = machines_named(name)
    return certified_client(machines), demanding_server(machines)


def proving(machines: Machines) -> Conversation:
    return a_conversation(machines, *proving_ends(machines.name))


BEGINNINGS = {make.__name__: make for make in (full, resumed, retried, proving)}


def sound(make: Callable[[Machines], Conversation], machines: Machines) -> Conversation:
    """The conversation without a fault; the shortest of some, as signatures vary in length."""
    runs = [make(machines).run() for _ in range(4)]
    for each in runs:
        assert not each.errors
        assert each.closed == set(ENDS)
        assert all(each.received[name] == each.sent[OTHER[name]] for name in ENDS)
    return min(runs, key=lambda each: sum(map(len, each.wires.values())))
