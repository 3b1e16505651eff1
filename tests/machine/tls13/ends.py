"""Our own machine at both ends: configs, and a handshake in memory between two machines."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from trio_tls import ClientConfig, Credential, ServerConfig, Session, TLSError
from trio_tls.machine.interface import Machine, Need, Want

from ...support import HOST, ForgetfulCache, client_certificate, credential_of, server_certificate, verifier
from ..drive import go_on


@cache
def server_credential() -> Credential:
    return credential_of(server_certificate())


@cache
def client_credential() -> Credential:
    return credential_of(client_certificate())


def client_config(**fields: Any) -> ClientConfig:
    """A client that trusts the test CA, and resumes nothing unless it is told to."""
    return ClientConfig(**{"verify": verifier(), "session_cache": ForgetfulCache(), **fields})


def server_config(**fields: Any) -> ServerConfig:
    return ServerConfig(**{"credentials": server_credential(), **fields})


def a_client(
    config: ClientConfig | None = None, *, name: str | None = HOST, session: Session | None = None, **fields: Any
) -> Machine:
    config = config or client_config(**fields)
    return config.create_machine(server_side=False, server_hostname=name, session=session)


def a_server(config: ServerConfig | None = None, **fields: Any) -> Machine:
    config = config or server_config(**fields)
    return config.create_machine(server_side=True, server_hostname=None, session=None)


def at_once(data: bytes) -> Iterable[bytes]:
    return [data]


def shake_hands(client: Machine, server: Machine, *, pieces: Callable[[bytes], Iterable[bytes]] = at_once) -> None:
    """Do the whole handshake; each flight arrives in ``pieces``, and the machine looks after each."""
    while not (client.handshake_done and server.handshake_done):
        moved = False
        for end, peer in ((client, server), (server, client)):
            if not end.outgoing.pending and not end.handshake_done:
                assert not isinstance(end.do_handshake(), Need)
            flight = end.outgoing.read()
            moved = moved or bool(flight)
            for piece in pieces(flight):
                peer.incoming.write(piece)
                if not peer.handshake_done:
                    go_on(peer)
        assert moved, "the handshake has stopped"


def fail(client: Machine, server: Machine) -> dict[str, TLSError]:
    """Run the handshake until nothing moves any more; the failures of ``"client"`` and ``"server"``."""
    failures: dict[str, TLSError] = {}
    moved = True
    while moved:
        moved = False
        for name, end, peer in (("client", client, server), ("server", server, client)):
            try:
                if end.do_handshake() is None:
                    end.read_into(memoryview(bytearray(100)))
            except TLSError as failure:
                failures.setdefault(name, failure)
            flight = end.outgoing.read()
            peer.incoming.write(flight)
            moved = moved or bool(flight)
    return failures


def pass_on(sender: Machine, receiver: Machine) -> bytes:
    """Move what waits at ``sender`` to ``receiver``; what it was."""
    flight = sender.outgoing.read()
    receiver.incoming.write(flight)
    return flight


def read(machine: Machine, size: int = 2**16) -> bytes | Want:
    """One `read_into`, as bytes; ``b""`` for close_notify."""
    buffer = bytearray(size)
    count = machine.read_into(memoryview(buffer))
    return count if isinstance(count, Want) else bytes(buffer[:count])


def send(sender: Machine, receiver: Machine, data: bytes) -> bytes | Want:
    """Write, carry over and read."""
    assert sender.write(memoryview(data)) == len(data)
    pass_on(sender, receiver)
    return read(receiver)


def connected(
    client: ClientConfig | None = None, server: ServerConfig | None = None, **how: Any
) -> tuple[Machine, Machine]:
    """Both ends after a handshake: (client, server)."""
    ends = a_client(client, **how), a_server(server)
    shake_hands(*ends)
    return ends
