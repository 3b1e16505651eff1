"""Flights that arrive in pieces: the machine may look after any byte (row 21), at both ends, in every handshake.

How this works. `HANDSHAKES` makes the two ends of each kind of handshake. Every byte of every flight is once the last
of a piece. Records are cut too: a message may be spread over as many of them as it has bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from trio_tls import Session
from trio_tls.errors import UnexpectedEOF
from trio_tls.machine.interface import Machine
from trio_tls.machine.tls13.extensions import Extensions, RetryGroup, SignatureAlgorithms
from trio_tls.machine.tls13.messages import CertificateRequest
from trio_tls.machine.tls13.registry import NamedGroup
from trio_tls.machine.tls13.signatures import DEFAULT_SCHEMES

from ...support import verifier
from .ends import (
    a_client,
    a_server,
    client_config,
    client_credential,
    connected,
    send,
    server_config,
    server_credential,
    shake_hands,
)
from .scripted_peer import ScriptedClient, ScriptedServer, meet

CLIENT = client_config(key_shares=[NamedGroup.x25519])
SERVER = server_config(groups=[NamedGroup.x25519], tickets=1)
RETRYING = server_config(groups=[NamedGroup.secp256r1])
PROVING = client_config(key_shares=[NamedGroup.x25519], credentials=client_credential())
ASKING = server_config(groups=[NamedGroup.x25519], client_auth="required", verify=verifier())


def full() -> tuple[Machine, Machine]:
    return a_client(CLIENT), a_server(SERVER)


def retried() -> tuple[Machine, Machine]:
    return a_client(CLIENT), a_server(RETRYING)


def proving() -> tuple[Machine, Machine]:
    return a_client(PROVING), a_server(ASKING)


def resumed() -> tuple[Machine, Machine]:
    return a_client(CLIENT, session=a_session()), a_server(SERVER)


def a_session() -> Session:
    if not SESSIONS:
        client, server = connected(CLIENT, SERVER)
        send(server, client, b"x")
        assert isinstance(client.session, Session)
        SESSIONS.append(client.session)
    return SESSIONS[0]


SESSIONS: list[Session] = []
HANDSHAKES: list[Callable[[], tuple[Machine, Machine]]] = [full, retried, resumed, proving]
ALL = pytest.mark.parametrize("make", HANDSHAKES)


def bytewise(flight: bytes) -> Iterable[bytes]:
    return [flight[index : index + 1] for index in range(len(flight))]


class Recorded:
    """The flights of a handshake, while it is done."""

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def __call__(self, flight: bytes) -> Iterable[bytes]:
        if flight:
            self.lengths.append(len(flight))
        return [flight]


class OneCut:
    """Cuts one flight of a handshake in two, and leaves the others whole."""

    def __init__(self, number: int, position: int) -> None:
        self.number, self.position = number, position

    def __call__(self, flight: bytes) -> Iterable[bytes]:
        if not flight:
            return []
        self.number -= 1
        return [flight[: self.position], flight[self.position :]] if self.number == -1 else [flight]


def flights_of(make: Callable[[], tuple[Machine, Machine]]) -> list[int]:
    recorded = Recorded()
    shake_hands(*make(), pieces=recorded)
    return recorded.lengths


@ALL
def test_row_21_every_flight_may_come_byte_by_byte(make: Callable[[], tuple[Machine, Machine]]) -> None:
    client, server = make()
    shake_hands(client, server, pieces=bytewise)
    assert send(client, server, b"there") == b"there"
    assert send(server, client, b"back") == b"back"
    assert client.info is not None
    assert client.info.session_reused == (make is resumed)


def cuts(make: Callable[[], tuple[Machine, Machine]], step: Callable[[int], int]) -> None:
    for number, length in enumerate(flights_of(make)):
        for position in range(1, length, step(length)):
            client, server = make()
            shake_hands(client, server, pieces=OneCut(number, position))
            assert client.handshake_done
            assert server.handshake_done


@ALL
def test_row_21_a_flight_may_be_cut_at_many_points(make: Callable[[], tuple[Machine, Machine]]) -> None:
    cuts(make, lambda length: max(1, length // 40))


@pytest.mark.slow
@ALL
def test_row_21_a_flight_may_be_cut_at_every_point(make: Callable[[], tuple[Machine, Machine]]) -> None:
    cuts(make, lambda length: 1)


@ALL
def test_row_17_a_flight_that_ends_anywhere_is_an_unexpected_end(make: Callable[[], tuple[Machine, Machine]]) -> None:
    for number, length in enumerate(flights_of(make)):
        for position in range(0, length, max(1, length // 12)):
            client, server = make()
            ends = [client, server]
            for flight in range(number + 1):
                sender, receiver = ends[flight % 2], ends[1 - flight % 2]
                sender.do_handshake()
                data = sender.outgoing.read()
                end = min(position, len(data) - 1)  # an ECDSA signature may be a byte shorter this time
                receiver.incoming.write(data[:end] if flight == number else data)
            receiver.incoming.write_eof()
            with pytest.raises(UnexpectedEOF):
                receiver.do_handshake()
            assert not receiver.handshake_done
            assert not receiver.sent_fatal_alert


# -- records ---------------------------------------------------------------------------------------------------

REQUEST = CertificateRequest(b"", Extensions([SignatureAlgorithms(DEFAULT_SCHEMES)]))

#: How a peer by hand does each kind of handshake, and which machine it meets.
BY_HAND: dict[str, Callable[..., Any]] = {
    "client": lambda **how: meet(a_client(CLIENT), ScriptedServer(credential=server_credential(), **how)),
    "client-retried": lambda **how: meet(
        a_client(CLIENT),
        ScriptedServer(
            credential=server_credential(),
            group=NamedGroup.secp256r1,
            retry=[RetryGroup(NamedGroup.secp256r1)],
            **how,
        ),
    ),
    "client-resumed": lambda **how: meet(
        a_client(CLIENT, session=a_session()), ScriptedServer(session=a_session(), **how)
    ),
    "client-proving": lambda **how: meet(
        a_client(PROVING), ScriptedServer(credential=server_credential(), request=REQUEST, **how)
    ),
    "server": lambda **how: meet(a_server(SERVER), ScriptedClient(**how)),
    "server-retried": lambda **how: meet(a_server(RETRYING), ScriptedClient(**how)),
    "server-resumed": lambda **how: meet(a_server(SERVER), ScriptedClient(session=a_session(), **how)),
    "server-asking": lambda **how: meet(a_server(ASKING), ScriptedClient(credential=client_credential(), **how)),
}


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100, 1000])
@pytest.mark.parametrize("kind", BY_HAND)
def test_row_21_messages_may_be_spread_over_records_of_any_size(kind: str, size: int) -> None:
    def cut(flight: bytes) -> Iterable[bytes]:
        return [flight[start : start + size] for start in range(0, len(flight), size)]

    BY_HAND[kind](cut=cut).succeeded()


@pytest.mark.parametrize("kind", BY_HAND)
def test_messages_may_come_in_one_record_each(kind: str) -> None:
    def cut(flight: bytes) -> Iterable[bytes]:
        while flight:
            end = 4 + int.from_bytes(flight[1:4], "big")
            yield flight[:end]
            flight = flight[end:]

    BY_HAND[kind](cut=cut).succeeded()
