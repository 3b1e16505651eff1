"""A connection that waits takes little memory: what encrypts is made again when it is needed."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.exceptions import UnsupportedAlgorithm

from trio_tls import CipherSuiteNumber, TLSError
from trio_tls.alerts import Alert
from trio_tls.machine.interface import Machine
from trio_tls.machine.tls13.connection import TLS13Machine
from trio_tls.machine.tls13.key_schedule import Secret
from trio_tls.machine.tls13.record import RecordKey
from trio_tls.machine.tls13.suites import SUITES

from .ends import a_client, a_server, client_config, connected, pass_on, send, server_config


def rest(machine: Machine) -> None:
    """Tell a machine that it waits."""
    assert machine.rest is not None
    machine.rest()


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
                rest(machine)
                assert holds(machine) == (False, False)
            assert send(sender, receiver, data) == data
            assert holds(sender)[1]
            assert holds(receiver)[0]


def test_keys_change_in_a_rest_as_anywhere() -> None:
    client, server = connected(client_config(), server_config())
    for machine in (client, server):
        rest(machine)
    client.update_keys(request_update=True)
    assert send(client, server, b"question") == b"question"
    for machine in (client, server):
        rest(machine)
    assert send(server, client, b"answer") == b"answer"


def test_there_is_no_rest_in_the_handshake() -> None:
    client, server = a_client(), a_server()
    for machine in (client, server):
        rest(machine)
    while not (client.handshake_done and server.handshake_done):
        for end, peer in ((client, server), (server, client)):
            end.do_handshake()
            held = holds(end)
            rest(end)
            assert end.handshake_done or holds(end) == held
            pass_on(end, peer)
    assert send(client, server, b"x") == b"x"


def test_a_connection_that_is_over_can_rest() -> None:
    client, server = connected(client_config(), server_config())
    for end, peer in ((client, server), (server, client)):
        end.shutdown()
        rest(end)
        pass_on(end, peer)
        assert peer.read_into(memoryview(bytearray(10))) == 0
        rest(peer)


def test_a_number_is_not_taken_for_a_record_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    client, server = connected(client_config(), server_config())
    assert isinstance(client, TLS13Machine)
    rest(client)
    key: Any = client._writer._key
    suite = key._suite
    with monkeypatch.context() as patch:
        patch.setattr(key, "_suite", None)
        for size in (10, 20_000):
            with pytest.raises(AttributeError):
                client.write(memoryview(bytes(size)))
    assert key._suite is suite
    assert send(client, server, b"x") == b"x"


@pytest.mark.parametrize("end", ["client", "server"])
def test_a_cipher_that_the_library_refuses_ends_the_handshake_with_an_alert(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ChaCha20 is refused where only FIPS is allowed."""

    def refused(key: bytes) -> Any:
        raise UnsupportedAlgorithm("not in this provider")

    number = CipherSuiteNumber.TLS_CHACHA20_POLY1305_SHA256
    refusing: Any = refused
    broken = replace(SUITES[number], aead=refusing)
    client, server = a_client(client_config(cipher_suites=[number])), a_server()
    client.do_handshake()
    pass_on(client, server)
    if end == "client":
        server.do_handshake()
        pass_on(server, client)
    machine = client if end == "client" else server
    monkeypatch.setitem(SUITES, number, broken)
    with pytest.raises(TLSError, match="not in this provider") as caught:
        machine.do_handshake()
    assert caught.value.alert is Alert.internal_error
    assert machine.outgoing.pending
    assert isinstance(machine, TLS13Machine)
    assert machine._reader._key is None
    assert machine._writer._key is None


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_key_is_not_copied_so_that_no_number_is_used_twice_with_it(copied: Callable[[object], object]) -> None:
    key = RecordKey(SUITES[CipherSuiteNumber.TLS_AES_128_GCM_SHA256], Secret(bytes(32)))
    with pytest.raises(TypeError, match="not pickled or copied"):
        copied(key)
