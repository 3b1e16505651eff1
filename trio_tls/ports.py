"""TCP ports that several processes listen on together (SO_REUSEPORT).

How this works. Each process has a socket of its own, bound to the same address; the kernel spreads new connections
over those that listen. So no process stands in the way of another, and with one that dies only its own connections go.
`trio.open_tcp_listeners` has no such option, so the sockets are made here, as it makes them.
"""

from __future__ import annotations

import errno
import socket
import sys

import trio

__all__ = ["bound_sockets", "listeners_at", "open_shared_tcp_listeners"]

#: As trio has it: as many as the system allows.
BACKLOG = 65535


def bound_sockets(port: int, host: str | bytes | None) -> list[socket.socket]:
    """Sockets that are bound to a port which others may share, and do not listen: to choose and to hold the port.

    Args:
      port: the TCP port; 0 lets the system choose one for each address.
      host: the address to bind to; None: all of them, IPv4 and IPv6.

    Raises:
      OSError: the port cannot be had, also since somebody listens there who does not share it.
    """
    sockets: list[socket.socket] = []
    errors: list[OSError] = []
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    try:
        for family, kind, protocol, _, address in found:
            try:
                sockets.append(_bound(family, kind, protocol, address))
            except OSError as error:
                # No IPv6 here, say; trio passes over such an address, too.
                errors.append(error)
                if error.errno not in _UNSUPPORTED:
                    raise
        if not sockets:
            raise errors[0]
    except BaseException:
        for each in sockets:
            each.close()
        raise
    return sockets


def listeners_at(sockets: list[socket.socket], *, backlog: int | None = None) -> list[trio.SocketListener]:
    """Listeners of this process's own at the addresses of ``sockets``, which stay as they are.

    Raises:
      OSError: an address cannot be had.
    """
    made: list[socket.socket] = []
    try:
        for each in sockets:
            made.append(_bound(each.family, each.type, each.proto, each.getsockname()))  # noqa: PERF401  # may fail
        return _listening(made, backlog)
    except BaseException:
        for each in made:
            each.close()
        raise


async def open_shared_tcp_listeners(
    port: int, *, host: str | bytes | None = None, backlog: int | None = None
) -> list[trio.SocketListener]:
    """As `trio.open_tcp_listeners`, on a port that other processes of this user may share.

    Raises:
      OSError: the port cannot be had.
    """
    sockets = await trio.to_thread.run_sync(bound_sockets, port, host)  # a name may take time to be looked up
    try:
        return _listening(sockets, backlog)
    except BaseException:
        for each in sockets:
            each.close()
        raise


def _listening(sockets: list[socket.socket], backlog: int | None) -> list[trio.SocketListener]:
    for each in sockets:
        each.listen(BACKLOG if backlog is None else backlog)
        each.setblocking(False)
    return [trio.SocketListener(trio.socket.from_stdlib_socket(each)) for each in sockets]


#: What a system says of a kind of address that it does not have.
_UNSUPPORTED = {errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT}


def _bound(family: int, kind: int, protocol: int, address: object) -> socket.socket:
    made = socket.socket(family, kind, protocol)
    try:
        if sys.platform != "win32":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        option = getattr(socket, "SO_REUSEPORT", None)
        if option is None:
            raise OSError("this system has no SO_REUSEPORT, so processes cannot share a port")
        made.setsockopt(socket.SOL_SOCKET, option, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)  # type: ignore[arg-type]  # getaddrinfo's own, or getsockname's
    except BaseException:
        made.close()
        raise
    return made
