"""Clients that speak no TLS, served as `trio_tls.serve_tls` serves those who do: with limits, counters and a stop."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio

from ..errors import ServerFull
from ..metrics import ServerMetrics
from .listening import RoomyListener
from .server_options import Limits

__all__ = ["serve_plain"]


async def serve_plain(
    handler: Callable[[trio.SocketStream], Awaitable[object]],
    listeners: Sequence[trio.abc.Listener[trio.SocketStream]],
    *,
    limits: Limits,
    on_refusal: Callable[[ServerFull, trio.SocketStream], object],
    metrics: ServerMetrics,
    traffic: Callable[[trio.SocketStream], tuple[int, int]],
    stop: trio.Event,
    stop_grace: float,
) -> None:
    """Serve until ``stop`` is set, and the connections have ended or their time is over.

    Args:
      handler: is run for each connection.
      listeners: where they come in; closed at the end.
      limits: what they may take; what is about handshakes is of no account.
      on_refusal: is told whom a limit keeps out.
      metrics: counts connections.
      traffic: how many bytes a connection has received and sent so far.
      stop: as for `trio_tls.serve_tls`.
      stop_grace: as for `trio_tls.serve_tls`.
    """
    refuses = limits.when_full == "refuse"
    room = trio.CapacityLimiter(limits.max_connections or math.inf)

    async def take(client: trio.SocketStream) -> None:
        metrics.connections_accepted += 1
        async with client:
            try:
                if refuses:
                    room.acquire_nowait()
                else:
                    await room.acquire()
            except trio.WouldBlock:
                metrics.connections_refused["connections"] += 1
                on_refusal(ServerFull("connections"), client)
                return
            try:
                await counted(client)
            finally:
                room.release()

    async def counted(client: trio.SocketStream) -> None:
        began = trio.current_time()
        metrics.connection_begins(client, partial(traffic, client))
        try:
            await handler(client)
        finally:
            metrics.connection_ends(client, trio.current_time() - began)

    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            doors: list[trio.abc.Listener[trio.SocketStream]] = (
                list(listeners) if refuses else [RoomyListener(each, room) for each in listeners]
            )
            accepting.start_soon(partial(trio.serve_listeners, take, doors, handler_nursery=connections))
            await stop.wait()
            accepting.cancel_scope.cancel()
        connections.cancel_scope.deadline = trio.current_time() + stop_grace
