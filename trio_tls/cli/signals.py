"""How a server of the command is stopped: the first SIGINT or SIGTERM asks, the second insists.

How this works. A service manager sends SIGTERM to every process of a service, and the supervisor of workers passes on
its own. So a SIGTERM right after the first signal is that one once more. Who presses Ctrl-C twice means it.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from ..workers import SAME_SIGNAL
from .problem import ExitStatus

__all__ = ["until_stopped"]


async def until_stopped(serve: Callable[[trio.Event], Awaitable[ExitStatus]]) -> ExitStatus:
    """Run a server until it ends, by itself or by signals.

    Args:
      serve: given the event that asks it to stop gracefully; it is cancelled at the second signal, though not at a
        SIGTERM within a second of the first.

    Returns: its own exit status; after a signal that of the signal: SIGTERM is a success.
    """
    stop = trio.Event()
    stopped: list[ExitStatus] = []
    status = ExitStatus.OK

    async def obey(signals: Any, server: trio.CancelScope) -> None:
        first: float | None = None
        async for number in signals:
            now = trio.current_time()
            if first is None:
                first = now
            elif number == signal.SIGTERM and now - first <= SAME_SIGNAL:
                continue
            stopped.append(ExitStatus.INTERRUPTED if number == signal.SIGINT else ExitStatus.OK)
            if stop.is_set():
                server.cancel()
            stop.set()

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(obey, signals, nursery.cancel_scope)
            status = await serve(stop)
            nursery.cancel_scope.cancel()
    return stopped[-1] if stopped else status
