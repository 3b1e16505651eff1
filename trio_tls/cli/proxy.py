"""``trio-tls proxy``: TLS for a server or a client that speaks none.

How this works. `trio_tls.serve_tls` takes the clients, or `serve_plain` those who speak no TLS; the rest of its life it
has in common with every server of the command (`trio_tls.cli.service`). For each client a connection to the backend is
made, and a `Splice` joins the two. What ends in order ends in order on both sides; all else is cut off on both
(`trio_tls.cli.splice.cut`), also what a stop or a cancel interrupts.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import trio

from ..errors import ServerFull, UnexpectedEOF
from ..listener import TLSListener
from ..metrics import FailureKind, ServerMetrics
from ..serve import serve_tls
from ..stream import TLSStream
from . import report
from .address import peer_address
from .backend import Backend, broken
from .client_failures import client_problem
from .events import ServerEvents
from .facts import ConnectionFacts, connection_facts
from .log import switched_off
from .plain_clients import serve_plain
from .problem import ExitStatus, Problem, in_seconds
from .proxy_header import Agreed, header
from .proxy_options import ProxyOptions
from .reloaded import Reloaded
from .service import run_service
from .site import Site, site_of
from .splice import End, Splice, SpliceBroken, TooLongSilent, cut, delivered

__all__ = ["Proxy", "ProxyEvents", "run"]


def run(arguments: argparse.Namespace) -> int:
    """Run the command; the exit status.

    Raises:
      Problem: the proxy could not start.
    """
    options = ProxyOptions.of(arguments)
    with ExitStack() as stack:
        site = None
        if options.clients is not None:
            several = options.processes.workers is not None
            site = stack.enter_context(site_of(options.clients, several=several))
        backend = Backend(options.backend, options.to_backend, options.limits.timeout)
        stack.enter_context(switched_off())
        return run_service(
            options.processes,
            options.listen,
            lambda events, _: Proxy(options, site, backend, events),
            partial(ProxyEvents, options, None if site is None else site.authority),
            options.stop_grace,
        )


class Proxy:
    """The command at work, in one process: a `Service`.

    Args:
      options: what was asked for.
      site: what is presented to clients; None: they speak no TLS.
      backend: where they are taken.
      events: tells what happens.

    Attributes:
      site: as given.
      events: as given.
      metrics: what has happened, as numbers.
      reloads: what TLS with the backend is made of.
      status: the exit status.
      open: how many connections are open, with their handshake done.
    """

    def __init__(self, options: ProxyOptions, site: Site | None, backend: Backend, events: ProxyEvents) -> None:
        self._options = options
        self._backend = backend
        self._plain: WeakKeyDictionary[trio.SocketStream, Splice] = WeakKeyDictionary()
        self.site: Site | None = site
        self.events: ProxyEvents = events
        self.metrics: ServerMetrics = ServerMetrics()
        self.reloads: Sequence[Reloaded[Any]] = () if backend.config is None else (backend.config,)
        for each in self.reloads:
            each.told = events.reloaded
        self.status: ExitStatus = ExitStatus.OK
        self.open: int = 0

    # -- the clients -----------------------------------------------------------------------------------------

    def door(self, listener: trio.SocketListener) -> trio.abc.Listener[Any]:
        """The listener that clients come in by."""
        return listener if self.site is None else TLSListener(listener, self.site.config)

    async def serve(self, listeners: Sequence[trio.abc.Listener[Any]], stop: trio.Event) -> None:
        """Serve until ``stop`` is set, and the connections have ended or their time is over."""
        options = self._options
        if self.site is None:
            await serve_plain(
                self.take,
                listeners,
                limits=options.limits,
                on_refusal=self._refused,
                metrics=self.metrics,
                traffic=self._traffic,
                stop=stop,
                stop_grace=options.stop_grace,
            )
        else:
            await serve_tls(
                self.take,
                list(listeners),
                **options.limits.arguments,
                on_handshake_error=self._handshake_failed,
                metrics=self.metrics,
                stop=stop,
                stop_grace=options.stop_grace,
            )

    def check_keylog(self) -> None:
        """Raise a `Problem` if secrets of connections could not be written to ``--keylog``."""
        if self.site is not None:
            self.site.check_keylog()
        self._backend.check_keylog()

    def _handshake_failed(self, error: Exception, client: TLSStream[trio.SocketStream]) -> None:
        peer = peer_address(client.transport_stream)
        openssl = self._options.clients is not None and self._options.clients.tls.openssl
        self.events.failure(peer, client_problem(error, openssl=openssl))

    def _refused(self, full: ServerFull, client: trio.SocketStream) -> None:
        self.events.failure(peer_address(client), client_problem(full, openssl=False))

    def _traffic(self, client: trio.SocketStream) -> tuple[int, int]:
        splice = self._plain.get(client)
        return (0, 0) if splice is None else (splice.there, splice.back)

    # -- one connection --------------------------------------------------------------------------------------

    async def take(self, client: End) -> None:
        """One client, with its handshake done; whoever calls closes its stream."""
        transport = client.transport_stream if isinstance(client, TLSStream) else client
        peer = peer_address(transport)
        facts = None
        if isinstance(client, TLSStream) and (not self._options.quiet or self._options.proxy_protocol):
            facts = connection_facts(client, verified=self._asks_for_certificates)
        self.events.connection(peer, facts)
        self.open += 1
        try:
            backend = await self._backend.connect(self._header(transport, facts))
            await self._join(peer, client, backend)
        except Problem as problem:
            self.metrics.connections_failed[_kind_of(problem)] += 1
            self.events.failure(peer, problem)
        finally:
            self.open -= 1

    @property
    def _asks_for_certificates(self) -> bool:
        return self._options.clients is not None and self._options.clients.client_cert is not None

    async def _join(self, peer: str, client: End, backend: End) -> None:
        began = trio.current_time()
        splice = Splice(client, backend, patience=self._options.idle_timeout or math.inf)
        if not isinstance(client, TLSStream):
            self._plain[client] = splice
        whole = False
        left: str | None = None
        try:
            await splice.run()
            whole = True
            await backend.aclose()
        except SpliceBroken as broken:
            of_client = broken.end is client
            await delivered(backend if of_client else client)
            if not isinstance(broken.__cause__, UnexpectedEOF):
                raise self._problem(broken, peer, of_client=of_client) from broken
            # Browsers and HTTPS servers leave so, when all is said: no failure to tell, but no orderly end either.
            left = "client" if of_client else "backend"
        except TooLongSilent:
            seconds = in_seconds(self._options.idle_timeout or math.inf)
            sentence = f"nothing has come from either end for {seconds}"
            raise Problem(ExitStatus.NETWORK, sentence, "--idle-timeout decides how long that may last") from None
        finally:
            if not whole:
                with trio.CancelScope(shield=True):
                    await cut(client)
                    await cut(backend)
        self.events.connection_ended(peer, splice, trio.current_time() - began, left=left)

    def _problem(self, failure: SpliceBroken, peer: str, *, of_client: bool) -> Problem:
        """What has broken, in words."""
        error = failure.__cause__
        assert error is not None  # it is made of one
        return broken(error, peer) if of_client else self._backend.broken(error)

    def _header(self, transport: trio.SocketStream | None, facts: ConnectionFacts | None) -> bytes:
        """What the backend is told of the client before everything else."""
        version = self._options.proxy_protocol
        if version is None:
            return b""
        agreed = None
        if facts is not None:
            presented = facts.presented_chain
            agreed = Agreed(
                facts.version,
                facts.cipher_suite,
                facts.alpn,
                facts.server_name,
                presented[0].common_name if presented else None,
                bool(presented),
                facts.session_reused,
            )
        return header(version, *_ends(transport), agreed)


class ProxyEvents(ServerEvents):
    """What happens, on standard output.

    Args:
      options: what was asked for.
      authority: where the CA of a throw-away certificate lies.
      worker: as for `Events`.
    """

    def __init__(self, options: ProxyOptions, authority: Path | None, worker: int | None = None) -> None:
        super().__init__(as_json=options.json, stop_grace=options.stop_grace, worker=worker)
        self._options = options
        self._authority = authority

    def listens(self, addresses: list[str]) -> None:
        """The proxy listens."""
        options, authority = self._options, self._authority
        spoken = {True: "plain", False: "TLS"}
        clients, backend = spoken[options.clients is None], spoken[options.to_backend is None]
        workers = options.processes.workers
        by = "" if workers is None else f", {workers} worker{'s'[: workers != 1]}"
        self.say(
            {
                "event": "listening",
                "addresses": addresses,
                "clients": clients.lower(),
                "backend": str(options.backend),
                "to_backend": backend.lower(),
                "ca_file": authority and str(authority),
            },
            f"listening on {', '.join(addresses)} ({clients}) for {options.backend} ({backend}){by}",
            "bold",
        )
        if options.to_backend is not None and options.to_backend.insecure:
            sys.stderr.write("WARNING: --backend-insecure: the backend's certificate is NOT checked\n")
        if authority is not None and not self.as_json:
            self.paper.line(f"clients have to trust this CA: --ca-file {authority}")

    def connection(self, peer: str, facts: ConnectionFacts | None) -> None:
        """A client is there; None: it speaks no TLS."""
        if not self._options.quiet:
            told = {} if facts is None else facts.as_json()
            text = "" if facts is None else f": {report.brief(facts)}"
            self.say({"event": "connection", "peer": peer, **told}, f"{peer} connected{text}", "green")

    def connection_ended(self, peer: str, splice: Splice, seconds: float, *, left: str | None) -> None:
        """A connection has ended; ``left``: who has left without close_notify."""
        if not self._options.quiet:
            how = f", the {left} left without close_notify" if left else ""
            self.say(
                {
                    "event": "end",
                    "peer": peer,
                    "bytes_to_backend": splice.there,
                    "bytes_to_client": splice.back,
                    "seconds": round(seconds, 3),
                    "left_without_close_notify": left,
                },
                f"{peer} ended: {splice.there:,} bytes there, {splice.back:,} back, {seconds:.1f} s{how}",
                "dim",
            )


def _kind_of(problem: Problem) -> FailureKind:
    """What a connection has failed of, for the counters."""
    error = problem.error
    if error is None:
        return FailureKind(type(problem.__cause__ or problem).__name__, "", False)
    return FailureKind(type(error).__name__, "" if error.alert is None else error.alert.name, bool(error.sent_by_peer))


def _ends(transport: trio.SocketStream | None) -> tuple[tuple[str, int] | None, tuple[str, int] | None]:
    """The client's address, and the one that it has connected to; None for both where there is no IP."""
    if transport is None or transport.socket.family == trio.socket.AF_UNIX:
        return None, None
    try:
        client, server = transport.socket.getpeername(), transport.socket.getsockname()
    except OSError:
        return None, None  # gone already
    return (client[0], client[1]), (server[0], server[1])
