"""A server of the command from its start to its end, in one process or in several: ``serve`` and ``proxy`` alike.

How this works. `run_service` runs it here, or once in each worker. There it listens, keeps what is made of files up to
date, tells its counters, and is stopped gracefully (`trio_tls.cli.signals`). What is done with the clients is the
command's own: a `Service`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import trio

from ..listener import TLSListener
from ..metrics import ServerMetrics
from ..ports import listeners_at
from ..workers import Worker
from .address import Endpoint, address_of
from .events import ServerEvents
from .listening import ToldListener, listen, remove
from .metrics import open_metrics_listeners, serve_metrics
from .problem import ExitStatus
from .reloaded import Reloaded, keep
from .server_options import Processes
from .signals import until_stopped
from .site import Site
from .supervised import supervise

__all__ = ["Service", "run_service"]

E = TypeVar("E", bound=ServerEvents)

#: Seconds beside the grace of a stop until a worker that does not end is killed.
PATIENCE = 5.0


class Service(Protocol):
    """What a command does with its clients, in one process."""

    @property
    def site(self) -> Site | None:
        """What is presented to clients; None: they speak no TLS."""
        ...

    @property
    def reloads(self) -> Sequence[Reloaded[Any]]:
        """What else is made of files."""
        ...

    @property
    def events(self) -> ServerEvents:
        """Tells what happens."""
        ...

    @property
    def metrics(self) -> ServerMetrics:
        """Counts what happens."""
        ...

    @property
    def open(self) -> int:
        """How many connections are open, with their handshake done."""
        ...

    @property
    def status(self) -> ExitStatus:
        """The exit status."""
        ...

    def door(self, listener: trio.SocketListener) -> trio.abc.Listener[Any]:
        """The listener that clients come in by."""
        ...

    async def serve(self, listeners: Sequence[trio.abc.Listener[Any]], stop: trio.Event) -> None:
        """Serve until ``stop`` is set, and the connections have ended or their time is over."""
        ...

    def check_keylog(self) -> None:
        """Raise a `Problem` if secrets of connections could not be written to ``--keylog``."""
        ...


def run_service(
    processes: Processes,
    where: Endpoint,
    make: Callable[[E, trio.Event], Service],
    events: Callable[[int | None], E],
    stop_grace: float,
) -> int:
    """Serve; the exit status.

    Args:
      processes: how many there are to be.
      where: the address to listen on.
      make: makes what a process serves, until the event is set.
      events: makes what tells of it; of a worker, given its number.
      stop_grace: seconds that connections have to finish at the end.

    Raises:
      Problem: the server could not start.
      OutputClosed: nobody reads what is told.
    """

    async def serve(stop: trio.Event) -> ExitStatus:
        return await _serve(make(events(None), stop), where, processes.metrics, stop)

    async def work(worker: Worker, held: list[socket.socket], stop: trio.Event) -> ExitStatus:
        return await _serve(make(events(worker.number), stop), where, processes.metrics, stop, worker=worker, held=held)

    if processes.workers is None:
        return trio.run(until_stopped, serve)
    return supervise(processes.workers, where, events(None), work, stop_grace + PATIENCE)


async def _serve(
    service: Service,
    where: Endpoint,
    metrics: tuple[str, int] | None,
    stop: trio.Event,
    *,
    worker: Worker | None = None,
    held: Sequence[socket.socket] = (),
) -> ExitStatus:
    """In one process; of several, on sockets of its own beside those that are held."""
    events, site = service.events, service.site
    number = None if worker is None else worker.number
    of_metrics: list[trio.SocketListener] = []
    if site is not None:
        await site.prepare()
    if metrics is not None:
        of_metrics = await open_metrics_listeners(metrics, number)
    listeners = await listen(where) if worker is None else listeners_at(list(held))
    doors = [service.door(each) for each in listeners]
    told = [ToldListener(each) for each in doors]
    reloads = list(service.reloads)
    if site is not None:
        reloads += site.serve([each for each in doors if isinstance(each, TLSListener)], events.reloaded)

    async def announce_the_stop() -> None:
        await stop.wait()
        for each in told:
            await each.closed.wait()  # who reads the line shall find that done
        if service.open:
            events.stopping(service.open)

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(events.watch)
            nursery.start_soon(announce_the_stop)
            await nursery.start(keep, reloads)
            if site is not None:
                nursery.start_soon(site.follow_ticket_secrets)
            if worker is None:
                events.listens(_addresses(listeners))
            else:
                worker.ready()
            if of_metrics:
                events.metrics(_addresses(of_metrics))
                labels = {} if number is None else {"worker": str(number)}
                nursery.start_soon(serve_metrics, of_metrics, service.metrics, labels)
            await service.serve(told, stop)
            nursery.cancel_scope.cancel()
    finally:
        events.flush()
        if where.unix:
            remove(where.unix)
    if worker is None:
        events.end()
    service.check_keylog()
    return service.status


def _addresses(listeners: Sequence[trio.SocketListener]) -> list[str]:
    return [address_of(each.socket.family, each.socket.getsockname()) for each in listeners]
