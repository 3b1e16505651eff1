"""``trio-tls serve``: a TLS server for a try, that says what it sees.

How this works. `trio_tls.serve_tls` is the server, and `trio_tls.cli.service` its life. What is here answers the
clients, and tells of them (`Journal`, one line or JSON object for each thing that happens).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any

import trio

from ..errors import TLSError
from ..listener import TLSListener
from ..metrics import ServerMetrics
from ..serve import serve_tls
from ..stream import TLSStream
from . import page
from .address import peer_address
from .client_failures import client_problem
from .events import ServerEvents
from .facts import ConnectionFacts, connection_facts
from .log import switched_off
from .problem import ExitStatus, Problem, in_seconds
from .reloaded import Reloaded
from .report import brief
from .serve_options import ServeOptions
from .service import run_service
from .site import Site, site_of
from .visit import VisitListener, VisitStream

__all__ = ["Journal", "Server", "run"]

#: Seconds that clients have to finish when the server is stopped.
STOP_GRACE = 2.0

#: Seconds for a visitor of ``--www``: to ask, which has a shorter deadline of its own, and to take the answer.
VISIT_TIMEOUT = 60.0


def run(arguments: argparse.Namespace) -> int:
    """Run the command; the exit status.

    Raises:
      Problem: the server could not start.
    """
    options = ServeOptions.of(arguments)
    with site_of(options.clients, several=options.processes.workers is not None) as site, switched_off():
        return run_service(
            options.processes,
            options.listen,
            partial(Server, options, site),
            partial(Journal, options, site),
            STOP_GRACE,
        )


class Server:
    """What is done with each connection: a `Service`.

    Args:
      options: what was asked for.
      site: what is presented.
      events: tells what happens.
      stop: ends it gracefully.

    Attributes:
      site: as given.
      events: as given.
      metrics: what has happened, as numbers.
      reloads: nothing beside the site.
      status: the exit status that the last connection had.
      open: how many connections are open, with their handshake done.
    """

    def __init__(self, options: ServeOptions, site: Site, events: Journal, stop: trio.Event) -> None:
        self._options = options
        self._stop = stop
        self.site: Site = site
        self.events: Journal = events
        self.metrics: ServerMetrics = ServerMetrics()
        self.reloads: Sequence[Reloaded[Any]] = ()
        self.status: ExitStatus = ExitStatus.OK
        self.open: int = 0

    def door(self, listener: trio.SocketListener) -> TLSListener[trio.SocketStream]:
        """The listener that clients come in by."""
        return (VisitListener if self._options.www else TLSListener)(listener, self.site.config)

    async def serve(self, listeners: Sequence[trio.abc.Listener[Any]], stop: trio.Event) -> None:
        """Serve until ``stop`` is set, and the connections have ended or their time is over."""
        await serve_tls(
            self.handle,
            list(listeners),
            **self._options.limits.arguments,
            on_handshake_error=self.handshake_failed,
            metrics=self.metrics,
            stop=stop,
            stop_grace=STOP_GRACE,
        )

    def check_keylog(self) -> None:
        """Raise a `Problem` if secrets of connections could not be written to ``--keylog``."""
        self.site.check_keylog()

    async def handle(self, stream: TLSStream[trio.SocketStream]) -> None:
        """One connection, with its handshake done."""
        peer = peer_address(stream.transport_stream)
        facts = connection_facts(stream, verified=self._options.clients.client_cert is not None)
        self.events.connection(peer, facts)
        self.open += 1
        try:
            if self._options.www:
                assert isinstance(stream, VisitStream)  # the listeners make them so
                with trio.fail_after(VISIT_TIMEOUT):
                    await page.answer(stream, await stream.visit(facts))
            else:
                async for data in stream:
                    await stream.send_all(data)
        except TLSError as error:
            self._failed(peer, error)
        except trio.TooSlowError:
            words = f"the answer was not taken within {in_seconds(VISIT_TIMEOUT)}"
            self._failed(peer, Problem(ExitStatus.NETWORK, words, "The client is slow, or gone"))
        finally:
            self.open -= 1
            self._count()

    def handshake_failed(self, error: Exception, stream: TLSStream[trio.SocketStream]) -> None:
        """One connection, whose handshake failed."""
        self._failed(peer_address(stream.transport_stream), error)
        self._count()

    def _failed(self, peer: str, error: Exception) -> None:
        problem = client_problem(error, openssl=self._options.clients.tls.openssl)
        self.status = problem.status
        self.events.failure(peer, problem)

    def _count(self) -> None:
        if self._options.once:
            self._stop.set()


class Journal(ServerEvents):
    """What happens, on standard output, one line for each event.

    Args:
      options: what was asked for.
      site: what is presented.
      worker: as for `Events`.
    """

    def __init__(self, options: ServeOptions, site: Site, worker: int | None = None) -> None:
        super().__init__(as_json=options.json, stop_grace=STOP_GRACE, worker=worker)
        self._options = options
        self._authority = site.authority

    def listens(self, addresses: list[str]) -> None:
        """The server listens."""
        authority = self._authority
        does = "HTTPS" if self._options.www else "echo"
        if (workers := self._options.processes.workers) is not None:
            does += f", {workers} worker{'s'[: workers != 1]}"
        self.say(
            {"event": "listening", "addresses": addresses, "ca_file": authority and str(authority)},
            f"listening on {', '.join(addresses)} ({does})",
            "bold",
        )
        if authority is not None and not self._options.json:
            self.paper.line(f"clients have to trust this CA: --ca-file {authority}")

    def connection(self, peer: str, facts: ConnectionFacts) -> None:
        """A handshake succeeded."""
        text = f"{peer} connected: {brief(facts)}"
        self.say({"event": "connection", "peer": peer, **facts.as_json()}, text, "green")
