"""Accepting connections, from several listeners, as far as there is room.

How this works. As `trio.serve_listeners`, with two differences: a connection is accepted when there is room for it, so
that those who wait do so in the kernel's queue; and running out of file descriptors is a line in the log now and then,
not a traceback ten times a second.

Each listener accepts one connection in a turn of the event loop, whatever arrives. So a flood of connects takes its
turn with everything else, and never all of the time.
"""

from __future__ import annotations

import errno
from typing import Any, TypeVar

import trio

from ..stream import TLSStream
from .connections import Connections
from .log import ServerLog

__all__ = ["accept_connections"]

T_Stream = TypeVar("T_Stream", bound=trio.abc.Stream)
T_Listener = TypeVar("T_Listener", bound=trio.abc.Listener[Any])

#: What accept(2) says when the system is out of something that others may give back.
OUT_OF_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

#: Seconds until it is tried again.
PAUSE = 0.1


async def accept_connections(
    listeners: list[T_Listener],
    connections: Connections[T_Stream],
    log: ServerLog,
    *,
    nursery: trio.Nursery,
    task_status: trio.TaskStatus[list[T_Listener]],
) -> None:
    """Accept until cancelled, and run each connection in ``nursery``. The listeners are closed at the end.

    Raises:
      Exception: what a listener raises, but for the system being out of file descriptors or memory.
    """
    async with trio.open_nursery() as accepting:
        for listener in listeners:
            accepting.start_soon(_accept_from, listener, connections, log, nursery)
        task_status.started(listeners)


async def _accept_from(
    listener: trio.abc.Listener[TLSStream[T_Stream]],
    connections: Connections[T_Stream],
    log: ServerLog,
    nursery: trio.Nursery,
) -> None:
    async with listener:
        while True:
            await connections.wait_for_room()
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno not in OUT_OF_ROOM:
                    raise
                log.accept_failed(error, PAUSE)
                await trio.sleep(PAUSE)
            else:
                await connections.admit(stream, nursery)
