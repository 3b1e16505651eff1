"""A connection that waits takes little memory: what encrypts is made again when it is needed."""

from __future__ import annotations

from typing import Any

import pytest

from trio_tls.machine.interface import Machine
from trio_tls.machine.tls13.connection import TLS13Machine
from trio_tls.machine.tls13.suites import SUITES

from .ends import a_client, a_server, client_config, connected, pass_on, send, server_config


def holds(machine: Machine) -> tuple[bool, bool]:
    """Whether there is a cipher of the library for (reading, writing)."""
    assert isinstance(machine, TLS13Machine)
    keys: list[Any] = [machine._reader._key, machine._writer._key]
    reading, writing = (key is not None and key._aead is not None for key in keys)
    return reading, writing


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("size", [1, 1000, 16384, 60_000])
def test_after_a_rest_both_directions_go_on_with_their_keys_and_numbers(suite: int, size: int) -> None:
    client, server = connected(client_config(cipher_suites=[suite]), server_config())
    for _ in range(3):
        for sender, receiver in ((client, server), (server, client)):
            data = b"d" * size
            for machine in (client, server):
                machine.rest()
                assert holds(machine) == (False, False)
            assert send(sender, receiver, data) == data
            assert holds(sender)[1]
            assert holds(receiver)[0]


def test_keys_change_in_a_rest_as_anywhere() -> None:
    client, server = connected(client_config(), server_config())
    for machine in (client, server):
        machine.rest()
    client.update_keys(request_update=True)
    assert send(client, server, b"question") == b"question"
    for machine in (client, server):
        machine.rest()
    assert send(server, client, b"answer") == b"answer"


def test_there_is_no_rest_in_the_handshake() -> None:
    client, server = a_client(), a_server()
    for machine in (client, server):
        machine.rest()
    while not (client.handshake_done and server.handshake_done):
        for end, peer in ((client, server), (server, client)):
            end.do_handshake()
            held = holds(end)
            end.rest()
            assert end.handshake_done or holds(end) == held
            pass_on(end, peer)
    assert send(client, server, b"x") == b"x"


def test_a_connection_that_is_over_can_rest() -> None:
    client, server = connected(client_config(), server_config())
    for end, peer in ((client, server), (server, client)):
        end.shutdown()
        end.rest()
        pass_on(end, peer)
        assert peer.read_into(memoryview(bytearray(10))) == 0
        peer.rest()
