"""serve_tls: a server that one bad client cannot disturb.

How this works. `trio.serve_listeners` accepts, and starts a task for each connection. The task does the
handshake, under a deadline, and only then calls the handler. What goes wrong is sorted by whose fault it
is: a failed handshake, and a `TLSError` that escapes the handler, are that one client's, so they are logged
and end that one connection; any other exception is the program's, so it propagates.

Every connection has a cancel scope of its own. That is what a graceful stop works on, because the nursery of
the handlers may be the caller's.
"""

from __future__ import annotations

import inspect
import logging
import math
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import trio

from .errors import TLSError
from .stream import TLSStream

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

__all__ = ["serve_tls"]

LOGGER = logging.getLogger("trio_tls")

T_Stream = TypeVar("T_Stream", bound=trio.abc.Stream)
T_Listener = TypeVar("T_Listener", bound=trio.abc.Listener[Any])


async def serve_tls(
    handler: Callable[[TLSStream[T_Stream]], Awaitable[object]],
    listeners: list[T_Listener],
    *,
    handler_nursery: trio.Nursery | None = None,
    task_status: trio.TaskStatus[list[T_Listener]] = trio.TASK_STATUS_IGNORED,
    handshake_timeout: float = 30.0,
    max_handshakes: int | None = None,
    on_handshake_error: Callable[[Exception, TLSStream[T_Stream]], object] | None = None,
    stop: trio.Event | None = None,
    stop_grace: float = 10.0,
) -> None:
    """Accept connections on ``listeners``, do each one's handshake, and run ``handler(stream)`` for it.

    When a handshake fails (garbage, plain HTTP, nothing at all, a bad or missing client certificate, a
    reset), the server logs one line with the peer's address to the logger ``trio_tls``, tells
    ``on_handshake_error``, and closes that connection. Neither the server nor another client is disturbed.

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
      max_handshakes: how many handshakes may be under way at once; further clients wait for their turn, and
        the time of each begins with its own handshake. Default: no limit, because as many silent clients
        as the limit allows would hold up all others for ``handshake_timeout`` seconds. Set it to bound the
        processor time that a burst of clients takes, and set a short timeout with it.
      on_handshake_error: called with the exception (a `TLSError`, or `trio.TooSlowError` after the timeout)
        and the stream, before the stream is closed; may be an async function. An exception from it is
        logged, and nothing else.
      stop: set this event for a graceful stop. The listeners are closed, and with them every connection whose
        handshake is not done; handlers may finish; then this function returns.
      stop_grace: seconds that handlers may still take after ``stop``; then they are cancelled, and their
        streams closed as ever.

    Cancelled: the listeners are closed, and so is every connection that runs in the server's own nursery;
    its close_notify leaves if it can without waiting.

    Raises:
      ValueError: a limit makes no sense.
    """
    if not handshake_timeout > 0:
        raise ValueError(f"handshake_timeout must be more than 0 seconds, not {handshake_timeout!r}")
    if max_handshakes is not None and max_handshakes < 1:
        raise ValueError(f"max_handshakes must be at least 1, or None for no limit, not {max_handshakes!r}")
    if not stop_grace >= 0:
        raise ValueError(f"stop_grace must be a number of seconds, 0 or more, not {stop_grace!r}")
    connections = _Connections(handler, handshake_timeout, max_handshakes, on_handshake_error)
    accepting = trio.CancelScope()

    async def stop_accepting(stop: trio.Event) -> None:
        await stop.wait()
        accepting.cancel()

    async with trio.open_nursery() as nursery:
        if stop is not None:
            nursery.start_soon(stop_accepting, stop)
        with accepting:
            await trio.serve_listeners(
                connections.run,
                listeners,
                handler_nursery=nursery if handler_nursery is None else handler_nursery,
                task_status=task_status,
            )
        await connections.finish(stop_grace)


class _Connections(Generic[T_Stream]):
    """The connections of one server."""

    def __init__(
        self,
        handler: Callable[[TLSStream[T_Stream]], Awaitable[object]],
        handshake_timeout: float,
        max_handshakes: int | None,
        on_handshake_error: Callable[[Exception, TLSStream[T_Stream]], object] | None,
    ) -> None:
        self._handler = handler
        self._handshake_timeout = handshake_timeout
        self._slots = trio.CapacityLimiter(math.inf if max_handshakes is None else max_handshakes)
        self._on_handshake_error = on_handshake_error
        self._handshaking: set[trio.CancelScope] = set()
        self._handling: set[trio.CancelScope] = set()
        self._stopping = False
        self._one_less = trio.lowlevel.ParkingLot()

    async def run(self, stream: TLSStream[T_Stream]) -> None:
        """One connection, from its handshake to its end."""
        peer = _address(stream)
        scope = trio.CancelScope()
        self._handshaking.add(scope)
        if self._stopping:
            scope.cancel()
        try:
            async with stream:  # outside the scope: whom a stop cuts off is still told by close_notify
                with scope:
                    if not await self._handshake(stream, peer):
                        return
                    self._handshaking.remove(scope)
                    self._handling.add(scope)
                    await self._handle(stream, peer)
        finally:
            self._handshaking.discard(scope)
            self._handling.discard(scope)
            self._one_less.unpark_all()

    async def finish(self, grace: float) -> None:
        """Let the handlers finish, for ``grace`` seconds; cancel everything else now."""
        self._stopping = True
        deadline = trio.current_time() + grace
        for scope in self._handling:
            scope.deadline = min(scope.deadline, deadline)
        for scope in self._handshaking:
            scope.cancel()
        while self._handling or self._handshaking:
            await self._one_less.park()

    async def _handshake(self, stream: TLSStream[T_Stream], peer: str) -> bool:
        """Whether the handshake succeeded; if not, that has been told."""
        failure: Exception | None = None
        async with self._slots:
            with trio.move_on_after(self._handshake_timeout) as patience:
                try:
                    await stream.do_handshake()
                except Exception as error:  # whatever it is, it is about this client alone
                    failure = error
            if patience.cancelled_caught:
                failure = trio.TooSlowError(f"the handshake was not done after {self._handshake_timeout:g} seconds")
        if failure is None:
            return True
        expected = isinstance(failure, (TLSError, trio.TooSlowError))
        LOGGER.warning(
            "TLS handshake with %s failed: %s", peer, _one_line(failure), exc_info=None if expected else failure
        )
        if self._on_handshake_error is not None:
            try:
                answer = self._on_handshake_error(failure, stream)
                if inspect.isawaitable(answer):
                    await answer
            except Exception:
                LOGGER.exception("on_handshake_error failed for %s", peer)
        return False

    async def _handle(self, stream: TLSStream[T_Stream], peer: str) -> None:
        """Run the handler; a TLSError ends here."""
        try:
            await self._handler(stream)
        except TLSError as error:
            LOGGER.warning("TLS connection with %s failed: %s", peer, _one_line(error))
        except BaseExceptionGroup as group:  # the handler had a nursery
            failures, rest = group.split(TLSError)
            if failures is None:
                raise
            for failure in _leaves(failures):
                LOGGER.warning("TLS connection with %s failed: %s", peer, _one_line(failure))
            if rest is not None:
                raise rest from rest.__cause__


def _leaves(error: BaseException | None) -> list[BaseException]:
    """The exceptions in a group, at any depth."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in _leaves(part)]
    return [] if error is None else [error]


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _address(stream: TLSStream[Any]) -> str:
    """The peer's address for the log, as ``host:port``, ``[host]:port`` or ``unix:path``."""
    transport = stream.transport_stream
    while isinstance(transport, TLSStream):
        transport = transport.transport_stream
    if not isinstance(transport, trio.SocketStream):
        return "a peer without an address"
    try:
        name = transport.socket.getpeername()
    except OSError:
        return "a peer that is gone"
    family = transport.socket.family
    if family == socket.AF_INET6:
        return f"[{name[0]}]:{name[1]}"
    if family == socket.AF_INET:
        return f"{name[0]}:{name[1]}"
    return f"unix:{name}"
