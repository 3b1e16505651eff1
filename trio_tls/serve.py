"""serve_tls: a server that one bad client cannot disturb.

How this works. What is here checks the arguments and puts the parts together, which are in `trio_tls.serving`. For
each listener a task accepts (`accept_connections`), and starts a task for each connection (`Connections`), which does
the handshake, under a deadline, and only then calls the handler. A stop ends the accepting, and then the connections.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio

from .metrics import ServerMetrics
from .serving.accepting import accept_connections
from .serving.connections import Connections, OnHandshakeError, WhenFull
from .serving.log import ServerLog
from .serving.pacing import Pace
from .stream import TLSStream

__all__ = ["serve_tls"]

T_Stream = TypeVar("T_Stream", bound=trio.abc.Stream)
T_Listener = TypeVar("T_Listener", bound=trio.abc.Listener[Any])


async def serve_tls(
    handler: Callable[[TLSStream[T_Stream]], Awaitable[object]],
    listeners: list[T_Listener],
    *,
    handler_nursery: trio.Nursery | None = None,
    task_status: trio.TaskStatus[list[T_Listener]] = trio.TASK_STATUS_IGNORED,
    handshake_timeout: float = 30.0,
    max_connections: int | None = None,
    max_handshakes: int | None = None,
    when_full: WhenFull = "wait",
    plain_http: bool = False,
    on_handshake_error: OnHandshakeError[T_Stream] | None = None,
    metrics: ServerMetrics | None = None,
    stop: trio.Event | None = None,
    stop_grace: float = 10.0,
    cancel_grace: float = 0.0,
) -> None:
    """Accept connections on ``listeners``, do each one's handshake, and run ``handler(stream)`` for it.

    When a handshake fails (garbage, plain HTTP, nothing at all, a bad or missing client certificate, a
    reset), the server logs one line with the peer's address to the logger ``trio_tls``, tells
    ``on_handshake_error``, and closes that connection. Neither the server nor another client is disturbed. Of
    failures of one class ten are logged in ten seconds, and the rest is told as a number.

    A `TLSError` that escapes the handler (alone or in an exception group) means that this client vanished or
    broke the protocol: it ends that connection, is logged, and the server goes on. **Any other exception of
    a handler propagates** and ends the server, as in `trio.serve_tcp`: catch it in the handler, if it should
    not. The stream is closed when the handler is done, in whichever way.

    When ``accept`` runs out of file descriptors, it waits and goes on, as `trio.serve_listeners` does.

    Args:
      handler: an async function; called with the handshake done.
      listeners: any listeners of `TLSStream`, such as `TLSListener`. They are closed at the end.
      handler_nursery: the nursery to run the connections in; default: one of its own.
      task_status: for ``nursery.start``, which returns the listeners.
      handshake_timeout: seconds that a handshake may take. ``math.inf`` for no limit.
      max_connections: how many connections may be open at once, those in their handshake included; what bounds the
        memory and file descriptors of a server on the internet. Default: no limit.
      max_handshakes: how many handshakes may be under way at once; the time of each begins with its turn. Default:
        no limit, because as many silent clients as the limit allows would hold up all others for
        ``handshake_timeout`` seconds. Set it to bound the processor time that a burst of clients takes, and
        set a short timeout with it.
      when_full: what becomes of a client that comes when a limit is reached. ``"wait"``: it waits, without a deadline;
        at ``max_connections`` in the kernel's queue (and one for each listener outside it), at ``max_handshakes`` as
        an open connection. ``"refuse"``: it is closed at once, and ``on_handshake_error`` gets a `ServerFull`.
      plain_http: answer a client that speaks plain HTTP with a 400 which says that this is a TLS port, before it
        is closed. Its handshake counts as failed, as ever.
      on_handshake_error: called with the exception (a `TLSError`, `trio.TooSlowError` after the timeout, `ServerFull`
        for a client that was refused) and the stream, before the stream is closed; may be an async function. It is
        told of every single one, logged or not. An exception from it is logged, and nothing else.
      metrics: counts what happens.
      stop: set this event for a graceful stop. The listeners are closed, and with them every connection whose
        handshake is not done; handlers may finish; then this function returns.
      stop_grace: seconds that handlers may still take after ``stop``; then they are cancelled, and their
        streams closed as ever. A client that does not read delays that by a second at the most (`TLSStream`'s grace),
        and a transport that does not close by five.
      cancel_grace: the same for a cancel of this function, and for an exception that ends it. Default: none, as is
        usual in Trio. Not with ``handler_nursery``, whose owner decides what becomes of the connections.

    Cancelled: the listeners are closed, and so is every connection that runs in the server's own nursery, after
    ``cancel_grace`` seconds; without any, its close_notify leaves if it can without waiting.

    Raises:
      ValueError: an argument makes no sense.
    """
    _check(handshake_timeout, max_connections, max_handshakes, when_full)
    for name, seconds in (("stop_grace", stop_grace), ("cancel_grace", cancel_grace)):
        if not seconds >= 0:
            raise ValueError(f"{name} must be a number of seconds, 0 or more, not {seconds!r}")
    if cancel_grace and handler_nursery is not None:
        raise ValueError("cancel_grace goes without handler_nursery: cancel that nursery when its handlers shall end")
    counted = ServerMetrics() if metrics is None else metrics
    log, pace = ServerLog(counted), Pace()
    connections: Connections[T_Stream] = Connections(
        handler,
        handshake_timeout=handshake_timeout,
        max_connections=max_connections,
        max_handshakes=max_handshakes,
        when_full=when_full,
        plain_http=plain_http,
        on_handshake_error=on_handshake_error,
        metrics=counted,
        log=log,
        shielded=cancel_grace > 0,
        pace=pace,
    )
    accepting = trio.CancelScope()

    async def stop_accepting(stop: trio.Event) -> None:
        await stop.wait()
        accepting.cancel()

    trio.lowlevel.add_instrument(pace)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.tell_suppressed)
            if stop is not None:
                nursery.start_soon(stop_accepting, stop)
            try:
                with accepting:
                    await accept_connections(
                        listeners,
                        connections,
                        log,
                        nursery=nursery if handler_nursery is None else handler_nursery,
                        task_status=task_status,
                    )
                await connections.finish(stop_grace)
            finally:
                if cancel_grace:
                    with trio.CancelScope(shield=True):
                        await connections.finish(cancel_grace)
            nursery.cancel_scope.cancel()
    finally:
        trio.lowlevel.remove_instrument(pace)
        log.flush()


def _check(
    handshake_timeout: float, max_connections: int | None, max_handshakes: int | None, when_full: WhenFull
) -> None:
    if not handshake_timeout > 0:
        raise ValueError(f"handshake_timeout must be more than 0 seconds, not {handshake_timeout!r}")
    for name, limit in (("max_connections", max_connections), ("max_handshakes", max_handshakes)):
        if limit is not None and limit < 1:
            raise ValueError(f"{name} must be at least 1, or None for no limit, not {limit!r}")
    if when_full not in ("wait", "refuse"):
        raise ValueError(f"when_full must be 'wait' or 'refuse', not {when_full!r}")
