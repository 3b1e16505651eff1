"""ChoosingMachine keeps the contract of a machine before there is one to go on with."""

from __future__ import annotations

import pytest

from trio_tls import TLSError
from trio_tls.machine.choosing import ChoosingMachine, machine_behind
from trio_tls.machine.factory import create_machine
from trio_tls.machine.interface import Machine, Want

from ..support import HOST, client_context, server_config, server_context
from .drive import carry, raised, shake_hands


def choosing(answer: object) -> ChoosingMachine:
    def make(config: object) -> Machine:
        return create_machine(config, server_side=True, server_hostname=None, session=None)

    return ChoosingMachine(lambda need: answer, make, max_bytes=20_000)


def test_before_the_choice_it_wants_to_read_and_has_nothing_to_say() -> None:
    machine = choosing(None)
    assert machine.do_handshake() is Want.READ
    assert machine.read_into(memoryview(bytearray(10))) is Want.READ
    assert machine.write(memoryview(b"x")) is Want.READ
    assert machine.read_short(10) is None
    assert (machine.buffered, machine.session, machine.sent_fatal_alert) == (0, None, False)
    for too_early in (machine.update_keys, lambda: machine.export_keying_material(b"x", b"", 1)):
        with pytest.raises(ValueError, match="before the handshake is done"):
            too_early()
    machine.shutdown()
    assert machine.outgoing.pending == 0
    machine.incoming.write(b"GET")
    assert machine.trailing_data() == b"GET"
    assert machine_behind(machine) is machine


def test_a_failure_is_sticky_in_both_directions() -> None:
    machine = choosing(None)
    machine.incoming.write(b"GET / HTTP/1.1")
    for step in (
        machine.do_handshake,
        machine.do_handshake,
        lambda: machine.read_into(memoryview(bytearray(1))),
        lambda: machine.write(memoryview(b"x")),
    ):
        with pytest.raises(TLSError, match="does not speak TLS but HTTP"):
            step()
    assert machine.sent_fatal_alert


@pytest.mark.parametrize("kind", ["own", "ssl"])
def test_once_chosen_it_is_the_machine_that_was_chosen(kind: str) -> None:
    server = choosing(server_config() if kind == "own" else server_context())
    client = create_machine(client_context(), server_side=False, server_hostname=HOST, session=None)
    shake_hands(client, server)
    assert server.handshake_done
    assert server.info is not None
    assert server.info.server_name == HOST
    assert machine_behind(server) is server.chosen
    assert server.introspection.version() == "TLSv1.3"
    assert client.write(memoryview(b"hello")) == 5
    carry(client, server)
    buffer = bytearray(10)
    assert server.read_into(memoryview(buffer)) == 5
    assert buffer[:5] == b"hello"
    server.shutdown()
    carry(server, client)
    assert client.read_into(memoryview(buffer)) == 0
    assert server.trailing_data() == b""
    assert not server.sent_fatal_alert


def test_ctrl_c_in_the_function_is_kept_as_the_reason() -> None:
    def interrupt(need: object) -> None:
        raise KeyboardInterrupt

    def make(config: object) -> Machine:
        pytest.fail("nothing was chosen")

    server = ChoosingMachine(interrupt, make, max_bytes=20_000)
    client = create_machine(client_context(), server_side=False, server_hostname=HOST, session=None)
    assert client.do_handshake() is Want.READ
    carry(client, server)
    with pytest.raises(KeyboardInterrupt):
        server.do_handshake()
    assert "interrupted" in str(raised(server.do_handshake))
