"""Where a command listens: a TCP port, or a Unix domain socket, whose file is replaced if nobody listens there."""

from __future__ import annotations

from pathlib import Path
from typing import Generic, TypeVar

import trio

from .address import Endpoint
from .problem import network_problem

__all__ = ["RoomyListener", "ToldListener", "listen", "remove"]

T = TypeVar("T", bound=trio.abc.AsyncResource)


async def listen(where: Endpoint) -> list[trio.SocketListener]:
    """Listen, for plain connections.

    Args:
      where: the address to bind to, or the path of a Unix domain socket; `remove` it at the end.

    Raises:
      Problem: the address cannot be had.
    """
    try:
        unix = where.unix
        if unix is None:
            return await trio.open_tcp_listeners(where.port, host=where.host)
        sock = trio.socket.socket(trio.socket.AF_UNIX)
        try:
            if await _left_behind(unix):
                remove(unix)
            await sock.bind(unix)
            sock.listen(128)
        except BaseException:
            sock.close()
            raise
        return [trio.SocketListener(sock)]
    except OSError as error:
        raise network_problem(error, str(where)) from error


async def _left_behind(path: str) -> bool:
    """Whether this is a socket at which nobody listens any more."""
    try:
        stream = await trio.open_unix_socket(path)
    except ConnectionRefusedError:  # what an ordinary file says, too
        return _is_socket(path)
    except OSError:
        return False
    await stream.aclose()
    return False


def _is_socket(path: str) -> bool:
    return Path(path).is_socket()


def remove(path: str) -> None:
    """Take the file of a Unix domain socket away."""
    Path(path).unlink(missing_ok=True)


class ToldListener(trio.abc.Listener[T], Generic[T]):
    """Wraps a listener, and tells when it is closed.

    Args:
      listener: the listener.

    Attributes:
      closed: set once it is closed.
    """

    def __init__(self, listener: trio.abc.Listener[T]) -> None:
        self._listener = listener
        self.closed: trio.Event = trio.Event()

    async def accept(self) -> T:
        """As the listener's."""
        return await self._listener.accept()

    async def aclose(self) -> None:
        """As the listener's."""
        try:
            await self._listener.aclose()
        finally:
            self.closed.set()


class RoomyListener(trio.abc.Listener[T], Generic[T]):
    """Wraps a listener, and accepts while there is room. Whoever is accepted takes a place in it by itself.

    Args:
      listener: the listener.
      room: how many may be there at once.
    """

    def __init__(self, listener: trio.abc.Listener[T], room: trio.CapacityLimiter) -> None:
        self._listener = listener
        self._room = room

    async def accept(self) -> T:
        """As the listener's, once there is room."""
        async with self._room:
            pass
        return await self._listener.accept()

    async def aclose(self) -> None:
        """As the listener's."""
        await self._listener.aclose()
