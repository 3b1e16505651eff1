"""``--workers``: the command as the supervisor of its workers.

How this works. The port is chosen, and held, by sockets of the supervisor that do not listen; each worker binds its
own beside them. Workers tell what happens to connections, each line with the worker's number; the supervisor tells
what happens to workers, that the server listens once all of them do, and its end.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from ..ports import bound_sockets
from ..workers import Worker, WorkerEvent, run_workers
from .address import Endpoint, address_of
from .console import OutputClosed
from .events import ServerEvents
from .problem import ExitStatus, Problem, leaves, network_problem
from .signals import until_stopped

__all__ = ["supervise"]


def supervise(
    workers: int,
    where: Endpoint,
    events: ServerEvents,
    serve: Callable[[Worker, list[socket.socket], trio.Event], Awaitable[ExitStatus]],
    stop_grace: float,
) -> int:
    """Serve with several processes; the exit status.

    Args:
      workers: how many.
      where: the address that they listen on together.
      events: tells what happens.
      serve: what a worker does, on listeners at these sockets' addresses, until the event is set.
      stop_grace: seconds that workers have to stop.

    Raises:
      Problem: the address cannot be had.
      OutputClosed: nobody reads what is told.
    """
    try:
        held = bound_sockets(where.port, where.host)
    except OSError as error:
        raise network_problem(error, str(where)) from error
    waited_for = set(range(1, workers + 1))

    def tell(event: WorkerEvent) -> None:
        if event.kind == "ready" and event.number in waited_for:
            waited_for.remove(event.number)
            if not waited_for:
                events.listens([address_of(each.family, each.getsockname()) for each in held])
        elif event.kind != "started":
            events.of_worker(event)
        events.check()

    try:
        status = run_workers(partial(_work, held, serve), workers, on_event=tell, stop_grace=stop_grace)
    finally:
        for each in held:
            each.close()
    events.end()
    return status


def _work(
    held: list[socket.socket],
    serve: Callable[[Worker, list[socket.socket], trio.Event], Awaitable[ExitStatus]],
    worker: Worker,
) -> int:
    """In a worker."""

    async def until_orphaned(stop: trio.Event) -> ExitStatus:
        async def obey() -> None:
            await worker.orphaned()
            stop.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(obey)
            status = await serve(worker, held, stop)
            nursery.cancel_scope.cancel()
        return status

    try:
        return trio.run(until_stopped, until_orphaned)
    except BaseException as error:
        for cause in leaves(error):
            if isinstance(cause, OutputClosed):
                return ExitStatus.OUTPUT_CLOSED
            if isinstance(cause, Problem):
                sys.stderr.write(f"trio-tls: worker {worker.number}: {cause}\n")
                return cause.status
        raise
