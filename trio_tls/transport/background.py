"""Tier 4: any other stream, inside ``async with``: a task of the stream's own runs ``send_all``.

How this works. The task is shielded, so a cancel of the caller only ends the caller's waiting; the send goes
on. It is the only one that sends on the transport, and the chunk in flight is bytes that nobody else changes.
Its errors are kept for the callers: an exception that rose from the task would cancel the body of the
``async with`` and come out of it in an ExceptionGroup.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from .base import Sender
from .failures import twin_of

if TYPE_CHECKING:
    from trio.abc import SendStream

    from ..machine.bio import MemoryBIO

__all__ = ["BackgroundSender"]


class BackgroundSender(Sender):
    """Waits for the sender task `run`, which must have been started in a nursery."""

    waits_inside = True

    def __init__(self, stream: SendStream) -> None:
        self._stream = stream
        self._work = trio.lowlevel.ParkingLot()
        self._progress = trio.lowlevel.ParkingLot()
        self._shield = trio.CancelScope(shield=True)
        self._error: Exception | None = None
        self._held = False

    async def run(self, outgoing: MemoryBIO) -> None:
        """The sender task."""
        try:
            with self._shield:
                while True:
                    while self._held or not outgoing.pending:
                        await self._work.park()
                    chunk = bytes(outgoing.peek())
                    await self._stream.send_all(chunk)
                    outgoing.consume(len(chunk))
                    self._progress.unpark_all()
        except Exception as error:  # a caller raises it
            self._error = error
        finally:
            self._progress.unpark_all()

    def stop(self) -> None:
        """End the sender task, at once."""
        self._shield.cancel()

    def send_nowait(self, outgoing: MemoryBIO) -> None:
        if outgoing.pending:
            self._work.unpark()

    async def send(self, outgoing: MemoryBIO, *, flight: bool) -> None:
        self._work.unpark()
        if self._error is None:
            await self._progress.park()
        if self._error is not None:
            error, self._error = self._error, twin_of(self._error)
            try:
                raise error
            finally:
                del error  # its frames hold this sender, which may not hold it

    async def wait_send_all_might_not_block(self) -> None:
        # The transport may be asked only while the task is not in send_all(); the pump has waited for that.
        self._held = True
        try:
            await self._interruptibly(self._stream.wait_send_all_might_not_block)
        finally:
            self._held = False
            self._work.unpark()

    def interrupt(self) -> None:
        super().interrupt()
        self._progress.unpark_all()
