"""What a server has to do with a stream that nobody else has: see its traffic and its first bytes, and pace it.

How this works. A stream's machine has two memory BIOs, which count what passes. The first bytes of a connection can
be looked at where they lie, in the incoming one, before a step of the machine takes them.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from ..names import quoted
from ..stream import TLSStream

__all__ = ["first_bytes", "is_closed", "pace_handshake", "peer_of", "traffic_of"]

#: As many as tell one protocol from another.
FIRST_BYTES = 16


def traffic_of(stream: TLSStream[Any]) -> tuple[int, int]:
    """Bytes received and sent so far, as they were on the wire."""
    machine = stream._machine  # noqa: SLF001  # the package's own; the public API counts plaintext
    return machine.incoming.total_consumed + machine.incoming.pending, machine.outgoing.total_consumed


async def first_bytes(stream: TLSStream[Any]) -> bytes:
    """How the connection begins: at least one byte, or none if it ended first. They stay where they are.

    Cancelled: nothing is lost.

    Raises:
      Exception: what the transport raises.
    """
    pump = stream._pump  # noqa: SLF001  # the package's own
    incoming = pump.machine.incoming
    while not incoming.pending and not incoming.eof_written:
        await pump.pull()
    return bytes(incoming.peek()[:FIRST_BYTES])


def pace_handshake(stream: TLSStream[Any], turn: Callable[[], Awaitable[None]]) -> None:
    """Let each step of the handshake that has something to work on await ``turn`` first."""
    stream._pump.turn = turn  # noqa: SLF001  # the package's own


def is_closed(stream: TLSStream[Any]) -> bool:
    """Whether `TLSStream.aclose` was called, so that to call it again does nothing but wait for a turn of the loop."""
    return stream._closed  # noqa: SLF001  # the package's own


def peer_of(stream: TLSStream[Any]) -> str:
    """The peer's address for the log, as ``host:port``, ``[host]:port`` or ``unix:'path'``."""
    transport = stream.transport_stream
    while isinstance(transport, TLSStream):
        transport = transport.transport_stream
    if not isinstance(transport, trio.SocketStream):
        return "a peer without an address"
    try:
        name = transport.socket.getpeername()
    except OSError:
        return "a peer that is gone"
    family = transport.socket.family
    if family == socket.AF_INET6:
        return f"[{name[0]}]:{name[1]}"
    if family == socket.AF_INET:
        return f"{name[0]}:{name[1]}"
    return f"unix:{quoted(str(name))}" if name else "unix"  # the client may have bound it where it liked
