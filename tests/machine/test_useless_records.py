"""Peers that keep us busy with records without data, over both machines: `ssl` itself has no limit for KeyUpdates."""

from __future__ import annotations

import pytest

from trio_tls import Alert, PeerMisbehaved
from trio_tls.machine.factory import create_machine
from trio_tls.machine.interface import Machine, Want

from ..support import HOST, client_config, machines_named, pattern
from .drive import carry, go_on, raised, read, records, shake_hands, write_all

SERVERS = pytest.mark.parametrize("server", ["ssl-1.3", "own"])

#: What both machines let pass without data in between.
PATIENCE = 32


def connected(server: str) -> tuple[Machine, Machine]:
    """A client of ours, which can update its keys on demand, and a server of either machine."""
    client = create_machine(client_config(), server_side=False, server_hostname=HOST, session=None)
    end = create_machine(machines_named(server).server, server_side=True, server_hostname=None, session=None)
    shake_hands(client, end)
    return client, end


def key_updates(client: Machine, count: int) -> bytes:
    for _ in range(count):
        client.update_keys()
    return client.outgoing.read()


@SERVERS
@pytest.mark.parametrize("size", [1, 4, 5, 26, 27, 28, 1000, 4096, 4097, 1 << 20])
def test_a_flood_of_key_updates_is_refused_in_pieces_of_any_size(server: str, size: int) -> None:
    client, end = connected(server)
    flood = key_updates(client, 200)
    taken = 0
    with pytest.raises(PeerMisbehaved, match="without data"):
        for start in range(0, len(flood), size):
            end.incoming.write(flood[start : start + size])
            assert read(end) is Want.READ
            taken = start + size
    assert taken <= (2 * PATIENCE + 1) * 27
    with pytest.raises(PeerMisbehaved, match="without data"):  # it stays failed, both ways
        read(end)
    with pytest.raises(PeerMisbehaved, match="without data"):
        end.write(memoryview(b"x"))


@SERVERS
def test_key_updates_that_come_with_the_clients_last_flight_are_counted_too(server: str) -> None:
    client = create_machine(client_config(), server_side=False, server_hostname=HOST, session=None)
    end = create_machine(machines_named(server).server, server_side=True, server_hostname=None, session=None)
    while not client.handshake_done:
        for machine, peer in ((client, end), (end, client)):
            if machine.do_handshake() is not None or machine is end:
                carry(machine, peer)
    end.incoming.write(client.outgoing.read() + key_updates(client, 4000))
    assert end.do_handshake() is None
    with pytest.raises(PeerMisbehaved, match="without data"):
        read(end)
    assert end.incoming.pending > 90_000  # most of it was not even looked at


@SERVERS
@pytest.mark.parametrize("count", [34, 100, 4000])  # of which the first two are few bytes: a short read looks at them
@pytest.mark.parametrize("behind_finished", [True, False])
def test_no_more_key_updates_are_worked_on_than_it_takes_to_refuse_them(
    server: str, count: int, behind_finished: bool
) -> None:
    """Each costs OpenSSL up to 30 microseconds, for which all other connections wait."""
    client = create_machine(client_config(), server_side=False, server_hostname=HOST, session=None)
    end = create_machine(machines_named(server).server, server_side=True, server_hostname=None, session=None)
    for machine, peer in ((client, end), (end, client)):
        machine.do_handshake()
        carry(machine, peer)
    assert go_on(client) is None
    finished, flood = client.outgoing.read(), key_updates(client, count)
    end.incoming.write(finished + flood if behind_finished else finished)
    assert end.do_handshake() is None
    if not behind_finished:
        end.incoming.write(flood)
    with pytest.raises(PeerMisbehaved, match=f"the peer sent {PATIENCE + 1} (records|messages) in a row without data"):
        assert end.read_short(1 << 16) is None
        read(end)


@SERVERS
@pytest.mark.parametrize("size", [1, 7, 100, 5000, 1 << 20])
def test_key_updates_with_data_in_between_never_add_up(server: str, size: int) -> None:
    client, end = connected(server)
    flight = b""
    for number in range(10):
        flight += key_updates(client, PATIENCE - 2)
        client.write(memoryview(bytes([number])))
        flight += client.outgoing.read()
    received = b""
    for start in range(0, len(flight), size):
        end.incoming.write(flight[start : start + size])
        while isinstance(part := read(end), bytes):
            received += part
    assert received == bytes(range(10))


@SERVERS
def test_one_read_deals_with_so_many_key_updates_and_leaves_the_rest_to_the_next(server: str) -> None:
    """Between two reads of a stream other tasks have their turn."""
    client, end = connected(server)
    for _ in range(50):
        client.write(memoryview(b"x"))
        end.incoming.write(client.outgoing.read() + key_updates(client, PATIENCE - 2))
    assert read(end) in (b"x", b"xx", b"xxx")
    assert end.incoming.pending > 30_000


@SERVERS
@pytest.mark.parametrize("size", [1, 3, 16_000, 200_000])
def test_data_in_records_of_every_length_is_no_flood(server: str, size: int) -> None:
    client, end = connected(server)
    data = pattern(60_000)
    flight = b""
    for length in (1, 2, 16_384, 100, 16_000, 27_513):
        flight += _ciphertext_of(client, data[:length])
        data = data[length:]
    received = b""
    for start in range(0, len(flight), size):
        end.incoming.write(flight[start : start + size])
        while isinstance(part := read(end), bytes):
            received += part
    assert received == pattern(60_000)


@SERVERS
def test_many_short_records_at_once_are_no_flood(server: str) -> None:
    client, end = connected(server)
    flight = b"".join(_ciphertext_of(client, bytes([number % 256])) for number in range(2000))
    assert len(records(flight)) == 2000
    end.incoming.write(flight)
    received = b""
    while isinstance(part := read(end), bytes):
        received += part
    assert received == bytes(number % 256 for number in range(2000))


def test_our_own_machine_says_so_with_an_alert() -> None:
    client, end = connected("own")
    end.incoming.write(key_updates(client, 100))
    with pytest.raises(PeerMisbehaved):
        read(end)
    carry(end, client)
    failure = raised(lambda: read(client))
    assert failure.alert is Alert.unexpected_message and failure.sent_by_peer


def test_a_large_transfer_from_openssl_itself_is_no_flood() -> None:
    machines = machines_named("ssl-1.3")
    client, end = (
        create_machine(machines.client, server_side=False, server_hostname=HOST, session=None),
        create_machine(machines.server, server_side=True, server_hostname=None, session=None),
    )
    shake_hands(client, end)
    data = pattern(1 << 20)
    write_all(client, end, data)
    received = b""
    while isinstance(part := read(end), bytes):
        received += part
    assert received == data


def _ciphertext_of(client: Machine, data: bytes) -> bytes:
    with memoryview(data) as view:
        position = 0
        while position < len(data):
            accepted = client.write(view[position:])
            assert isinstance(accepted, int)
            position += accepted
    return client.outgoing.read()
