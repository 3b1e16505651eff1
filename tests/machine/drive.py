"""Drives two machines against each other in memory, without Trio: what these unit tests share."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from trio_tls.errors import TLSError
from trio_tls.machine.factory import create_machine
from trio_tls.machine.interface import Machine, Need, Want
from trio_tls.machine.openssl import OpenSSLMachine

from ..support import HOST, Machines

VERSIONS = {"1.3": ssl.TLSVersion.TLSv1_3, "1.2": ssl.TLSVersion.TLSv1_2}


def machine_pair(
    client: ssl.SSLContext, server: ssl.SSLContext, *, host: str = HOST, session: ssl.SSLSession | None = None
) -> tuple[OpenSSLMachine, OpenSSLMachine]:
    """Both ends, before the handshake: (client, server)."""
    return (
        OpenSSLMachine(client, server_side=False, server_hostname=host, session=session),
        OpenSSLMachine(server, server_side=True, server_hostname=None),
    )


def pair_of(machines: Machines) -> tuple[Machine, Machine]:
    """Both ends of whatever kind, before the handshake: (client, server)."""
    return (
        create_machine(machines.client, server_side=False, server_hostname=HOST, session=None),
        create_machine(machines.server, server_side=True, server_hostname=None, session=None),
    )


def carry(sender: Machine, receiver: Machine) -> bytes:
    """Move all ciphertext that waits at ``sender`` to ``receiver``; what it was."""
    ciphertext = sender.outgoing.read()
    receiver.incoming.write(ciphertext)
    return ciphertext


def go_on(machine: Machine) -> Want | Need | None:
    """`Machine.do_handshake`, until it is done or has to wait: it may have let its last flight leave before."""
    want = machine.do_handshake()
    return machine.do_handshake() if want is Want.WRITE else want


def shake_hands(client: Machine, server: Machine) -> None:
    """Do the whole handshake, the last flight included."""
    while not (client.handshake_done and server.handshake_done):
        for end, peer in ((client, server), (server, client)):
            end.do_handshake()
            carry(end, peer)


def fail_handshake(client: Machine, server: Machine) -> dict[str, TLSError]:
    """Run the handshake until nothing moves any more; the failures of ``"client"`` and ``"server"``.

    A client of TLS 1.3 is done before the server looks at its certificate: its failure comes when it reads.
    """
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
            moved = bool(carry(end, peer)) or moved
    return failures


def read(machine: Machine, size: int = 1 << 20) -> bytes | Want:
    """One `read_into`, as bytes; ``b""`` for close_notify."""
    buffer = bytearray(size)
    count = machine.read_into(memoryview(buffer))
    return count if isinstance(count, Want) else bytes(buffer[:count])


def write_all(sender: Machine, receiver: Machine, data: bytes) -> None:
    """Write all of ``data`` and carry it over."""
    with memoryview(data) as view:
        position = 0
        while position < len(data):
            accepted = sender.write(view[position:])
            if isinstance(accepted, int):
                position += accepted
            carry(sender, receiver)


def raised(step: Callable[[], object]) -> TLSError:
    """The TLSError that ``step`` raises."""
    try:
        step()
    except TLSError as error:
        return error
    raise AssertionError("no TLSError was raised")


def records(ciphertext: bytes) -> list[bytes]:
    """The TLS records in ``ciphertext``, each with its header."""
    found = []
    while ciphertext:
        length = 5 + int.from_bytes(ciphertext[3:5], "big")
        found.append(ciphertext[:length])
        ciphertext = ciphertext[length:]
    return found
