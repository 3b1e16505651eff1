"""Tiers 2 and 3: a stream that counts for itself, such as another `TLSStream`.

How this works. ``send_some(data) -> int`` promises what ``send_all`` cannot: cancelled before it accepted
anything it raises, and once it has accepted it returns the count and does not raise. So whatever it returned
is counted at once, and a cancel never leaves an unknown number of bytes behind.

A stream whose ``send_some`` was cancelled after it accepted (a TLSStream) has queued what it accepted, and nobody
else may know. So those bytes stay in our BIO, to be pushed, until the stream's own ``flush`` is through.

A stream may also have ``send_nowait(data) -> int`` and ``receive_nowait(max_bytes) -> bytes``, which raise
``trio.WouldBlock``; a TLSStream does. What ``send_nowait`` accepted may still be queued in it, so that is no
way to send; but it lets our close_notify leave when the stream is closed by a cancelled task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeGuard, cast

import trio

from .base import Sender
from .stream import RECEIVE_SIZE, StreamReceiver, append

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..machine.bio import MemoryBIO

__all__ = ["CountedReceiver", "CountedSender", "CountedStream", "can_count"]


class CountedStream(Protocol):
    """A stream with a cancel-safe, counted send."""

    async def send_some(self, data: bytes | bytearray | memoryview) -> int:
        """Accept a prefix of ``data`` and say how long it is; raise Cancelled only if nothing was accepted."""
        ...

    async def wait_send_all_might_not_block(self) -> None: ...


def can_count(stream: object) -> TypeGuard[CountedStream]:
    """Whether ``stream`` promises an exact count; having ``send_some`` is the promise."""
    return callable(getattr(stream, "send_some", None))


class CountedSender(Sender):
    """``send_some``."""

    def __init__(self, stream: CountedStream) -> None:
        self._stream = stream
        self._send_nowait = getattr(stream, "send_nowait", None)
        self._flush: Callable[[], Awaitable[None]] | None = getattr(stream, "flush", None)
        self._accepted = 0  # bytes that the stream has, but that may still be queued in it

    def send_nowait(self, outgoing: MemoryBIO) -> None:
        pass  # send_some may always wait

    def send_last_words(self, outgoing: MemoryBIO) -> None:
        # While a send_some() is under way, its bytes are not consumed yet: sending would repeat them.
        if self._send_nowait is None or self._scope is not None:
            return
        self._consume_accepted(outgoing)
        while outgoing.pending:
            try:
                outgoing.consume(self._send_nowait(outgoing.peek()))
            except (trio.WouldBlock, trio.NeedHandshakeError):
                return

    async def send(self, outgoing: MemoryBIO, *, flight: bool) -> None:
        try:
            with trio.CancelScope() as self._scope:
                if self._accepted and self._flush is not None:
                    await self._flush()
                else:
                    self._accepted = await self._stream.send_some(outgoing.peek())
                    if self._flush is not None:
                        await trio.lowlevel.checkpoint_if_cancelled()
                self._consume_accepted(outgoing)
        finally:
            self._scope = None

    def _consume_accepted(self, outgoing: MemoryBIO) -> None:
        outgoing.consume(self._accepted)
        self._accepted = 0

    async def wait_send_all_might_not_block(self) -> None:
        await self._interruptibly(self._stream.wait_send_all_might_not_block)


class CountedReceiver(StreamReceiver):
    """``receive_some``, and ``receive_nowait`` where the stream has it."""

    def receive_nowait(self, incoming: MemoryBIO) -> bool:
        receive_nowait = getattr(self._stream, "receive_nowait", None)
        if receive_nowait is None or self._scope is not None:
            return False
        try:
            append(incoming, cast("bytes", receive_nowait(RECEIVE_SIZE)))
        except (trio.WouldBlock, trio.NeedHandshakeError):
            return False
        return True
