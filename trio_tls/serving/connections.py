"""Connections: the life of each connection of a server, from the handshake to the close.

How this works. What goes wrong is sorted by whose fault it is: a failed handshake, and a `TLSError` that escapes the
handler, are that one client's, so they are counted, logged, and end that one connection; any other exception is the
program's, so it propagates.

A connection has two cancel scopes. In ``work`` run the handshake and the handler; a stop gives it a deadline. ``life``
is around it and around the close, so whom a stop cuts off is still told by close_notify; its deadline is for a
transport that does not close. The scopes are what a stop works on, because the nursery may be the caller's. Where a
cancel shall leave the handlers some time, ``life`` is shielded, and only a stop ends it.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, Literal, TypeAlias, TypeVar

import trio

from ..errors import ServerFull, TLSError
from ..metrics import AgreedParameters, FailureKind, ServerMetrics
from ..stream import TLSStream
from .inside import is_closed, pace_handshake, peer_of, traffic_of
from .log import ServerLog
from .pacing import Pace
from .plain_http import answer_plain_http

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

__all__ = ["Connections", "OnHandshakeError", "WhenFull"]

T_Stream = TypeVar("T_Stream", bound=trio.abc.Stream)

OnHandshakeError: TypeAlias = Callable[[Exception, TLSStream[T_Stream]], object]

#: What becomes of a client that comes when a limit is reached.
WhenFull: TypeAlias = Literal["wait", "refuse"]

#: Seconds that a transport may take to close, after a stop has cut its connection off. A stream's own grace period for
#: its close_notify is shorter.
CLOSE_GRACE = 5.0

#: Refused clients that ``on_handshake_error`` is told about at the same time.
MOST_REFUSALS = 64


@dataclass(eq=False, slots=True)
class _Connection(Generic[T_Stream]):
    """One of them."""

    stream: TLSStream[T_Stream]
    peer: str
    began: float
    life: trio.CancelScope
    work: trio.CancelScope = field(default_factory=trio.CancelScope)
    handshaking: bool = True


class Connections(Generic[T_Stream]):
    """The connections of one server.

    Args:
      handler: as for `trio_tls.serve_tls`, and so are all the others.
      shielded: whether a cancel from outside leaves the connections alone; then somebody has to call `finish`.
      pace: the turns of the handshakes.
    """

    def __init__(
        self,
        handler: Callable[[TLSStream[T_Stream]], Awaitable[object]],
        *,
        handshake_timeout: float,
        max_connections: int | None,
        max_handshakes: int | None,
        when_full: WhenFull,
        plain_http: bool,
        on_handshake_error: OnHandshakeError[T_Stream] | None,
        metrics: ServerMetrics,
        log: ServerLog,
        shielded: bool,
        pace: Pace,
    ) -> None:
        self._handler = handler
        self._handshake_timeout = handshake_timeout
        self._room = None if max_connections is None else trio.CapacityLimiter(max_connections)
        self._turns = None if max_handshakes is None else trio.CapacityLimiter(max_handshakes)
        self._refusals = trio.CapacityLimiter(MOST_REFUSALS)
        self._refuses = when_full == "refuse"
        self._plain_http = plain_http
        self._on_handshake_error = on_handshake_error
        self._metrics = metrics
        self._log = log
        self._shielded = shielded
        self._pace = pace
        self._open: set[_Connection[T_Stream]] = set()
        self._stop_at = math.inf
        self._one_less = trio.lowlevel.ParkingLot()

    # -- coming in -----------------------------------------------------------------------------------------

    async def wait_for_room(self) -> None:
        """Wait until another connection may be accepted. Who comes first is not decided here, but by `admit`."""
        if self._room is not None and not self._refuses:
            async with self._room:
                pass

    async def admit(self, stream: TLSStream[T_Stream], nursery: trio.Nursery) -> None:
        """Start what is to be done with a connection that was accepted, in ``nursery``."""
        self._metrics.connections_accepted += 1
        try:
            if self._room is not None and not await self._enter(self._room, stream):
                await self._refusals.acquire_on_behalf_of(stream)
                nursery.start_soon(self._run_refused, stream)
            else:
                nursery.start_soon(self._run, stream)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise

    async def _enter(self, limit: trio.CapacityLimiter, stream: TLSStream[T_Stream]) -> bool:
        """Whether ``stream`` may come in, if need be after a while."""
        if not self._refuses:
            await limit.acquire_on_behalf_of(stream)
            return True
        try:
            limit.acquire_on_behalf_of_nowait(stream)
        except trio.WouldBlock:
            return False
        return True

    async def _run_refused(self, stream: TLSStream[T_Stream]) -> None:
        try:
            with trio.move_on_after(self._handshake_timeout):  # for what the application does with it
                await self._refuse(stream, "connections")
        finally:
            self._refusals.release_on_behalf_of(stream)
            await trio.aclose_forcefully(stream)

    async def _refuse(self, stream: TLSStream[T_Stream], limit: Literal["connections", "handshakes"]) -> None:
        self._metrics.connections_refused[limit] += 1
        failure, peer = ServerFull(limit), peer_of(stream)
        self._log.refused(peer, failure)
        await self._tell(failure, stream, peer)

    # -- one connection ------------------------------------------------------------------------------------

    async def _run(self, stream: TLSStream[T_Stream]) -> None:
        """One connection, from its handshake to its end."""
        life = trio.CancelScope(shield=self._shielded, deadline=self._stop_at + CLOSE_GRACE)
        connection = _Connection(stream, peer_of(stream), trio.current_time(), life)
        connection.work.deadline = -math.inf if self._stop_at < math.inf else math.inf
        self._open.add(connection)
        self._metrics.connection_begins(connection, partial(traffic_of, stream))
        try:
            with life:
                async with stream:
                    with connection.work:
                        if await self._shakes_hands(connection):
                            connection.handshaking = False
                            await trio.lowlevel.checkpoint()  # or what came behind its last flight were in this pass
                            await self._handle(connection)
        finally:
            self._open.discard(connection)
            self._metrics.connection_ends(connection, trio.current_time() - connection.began)
            if self._room is not None:
                self._room.release_on_behalf_of(stream)
            self._one_less.unpark_all()
            if not is_closed(stream):  # as `trio.serve_listeners`: whatever has happened above
                await trio.aclose_forcefully(stream)

    async def _shakes_hands(self, connection: _Connection[T_Stream]) -> bool:
        """Whether the handshake succeeded; if not, that has been told."""
        if self._turns is None:
            return await self._handshake(connection)
        stream, metrics = connection.stream, self._metrics
        metrics.handshakes_waiting += 1
        try:
            if not await self._enter(self._turns, stream):
                await self._refuse(stream, "handshakes")
                return False
        finally:
            metrics.handshakes_waiting -= 1
        try:
            return await self._handshake(connection)
        finally:
            self._turns.release_on_behalf_of(stream)

    async def _handshake(self, connection: _Connection[T_Stream]) -> bool:
        stream, metrics = connection.stream, self._metrics
        pace_handshake(stream, self._pace.turn)
        began = trio.current_time()
        failure: Exception | None = None
        ended = False
        metrics.handshakes_under_way += 1
        try:
            with trio.move_on_after(self._handshake_timeout) as patience:
                try:
                    if self._plain_http:
                        failure = await answer_plain_http(stream)
                    if failure is None:
                        await stream.do_handshake()
                except Exception as error:  # whatever it is, it is about this client alone
                    failure = error
            ended = True
        finally:
            metrics.handshakes_under_way -= 1
            if not ended:
                metrics.handshakes_cut_off += 1
        seconds = trio.current_time() - began
        if patience.cancelled_caught:
            failure = trio.TooSlowError(f"the handshake was not done after {self._handshake_timeout:g} seconds")
        if failure is None:
            metrics.handshakes_done[_agreed(stream)] += 1
            metrics.handshake_seconds.observe(seconds)
            return True
        try:
            metrics.handshakes_failed[_kind_of(failure)] += 1
            self._log.handshake_failed(connection.peer, failure, seconds)
            await self._tell(failure, stream, connection.peer)
        finally:
            failure = None  # its traceback has this frame: together they would wait for the garbage collector
        return False

    async def _tell(self, failure: Exception, stream: TLSStream[T_Stream], peer: str) -> None:
        """Tell the application."""
        if self._on_handshake_error is None:
            return
        try:
            answer = self._on_handshake_error(failure, stream)
            if inspect.isawaitable(answer):
                await answer
        except Exception as error:
            self._log.callback_failed(peer, error)

    async def _handle(self, connection: _Connection[T_Stream]) -> None:
        """Run the handler; a TLSError ends here."""
        try:
            await self._handler(connection.stream)
        except TLSError as error:
            self._connection_failed(connection, error)
        except BaseExceptionGroup as group:  # the handler had a nursery
            failures, rest = group.split(TLSError)
            if failures is None:
                raise
            for failure in _leaves(failures):
                self._connection_failed(connection, failure)
            if rest is not None:
                raise rest from rest.__cause__

    def _connection_failed(self, connection: _Connection[T_Stream], error: BaseException) -> None:
        self._metrics.connections_failed[_kind_of(error)] += 1
        self._log.connection_failed(connection.peer, error, trio.current_time() - connection.began)

    # -- the end -------------------------------------------------------------------------------------------

    async def finish(self, grace: float) -> None:
        """Let the handlers finish, for ``grace`` seconds; cut everything else off now. Returns when all are closed."""
        self._stop_at = min(self._stop_at, trio.current_time() + grace)
        for connection in self._open:
            connection.life.deadline = min(connection.life.deadline, self._stop_at + CLOSE_GRACE)
            deadline = -math.inf if connection.handshaking else self._stop_at
            connection.work.deadline = min(connection.work.deadline, deadline)
        while self._open:
            await self._one_less.park()


def _agreed(stream: TLSStream[T_Stream]) -> AgreedParameters:
    info = stream.info
    assert info is not None  # the handshake is done
    return AgreedParameters(info.version, info.cipher_suite, info.group or "", info.session_reused)


def _kind_of(error: BaseException) -> FailureKind:
    if not isinstance(error, TLSError) or error.alert is None:
        return FailureKind(type(error).__name__, "", False)
    return FailureKind(type(error).__name__, error.alert.name, error.sent_by_peer)


def _leaves(error: BaseException | None) -> list[BaseException]:
    """The exceptions in a group, at any depth."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in _leaves(part)]
    return [] if error is None else [error]
