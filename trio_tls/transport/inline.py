"""Tier 5: any other stream, sent to with its own ``send_all``.

How this works. Nobody can tell how much a cancelled ``send_all`` has sent. A handshake flight is small, so a
cancel lets it finish, under a shield that is bounded by the grace period: the handshake stays retryable.
Application data is not shielded; a cancel there breaks the send side, and the error says how to avoid it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ..errors import TransportError
from .base import Sender

if TYPE_CHECKING:
    from trio.abc import SendStream

    from ..machine.bio import MemoryBIO

__all__ = ["InlineSender"]


class InlineSender(Sender):
    """``send_all``, awaited by whoever has something to send."""

    counts = False

    def __init__(self, stream: SendStream, grace: float) -> None:
        self._stream = stream
        self._grace = grace

    def send_nowait(self, outgoing: MemoryBIO) -> None:
        pass  # send_all may always wait

    async def send(self, outgoing: MemoryBIO, *, flight: bool) -> None:
        data = outgoing.read()
        if not flight:
            try:
                await self._stream.send_all(data)
            except BaseException:  # a Cancelled may come in a group, when send_all() has a nursery
                self.broken: TransportError | None = self._torn()
                raise
        elif not await self._finish_despite_cancel(data):
            self.broken = self._torn()
            await trio.lowlevel.checkpoint_if_cancelled()

    async def wait_send_all_might_not_block(self) -> None:
        await self._interruptibly(self._stream.wait_send_all_might_not_block)

    def _torn(self) -> TransportError:
        return TransportError(
            f"a send was cancelled while {type(self._stream).__name__}.send_all() was at work, "
            "and nobody can tell how much of it has left",
            hint=(
                "Receiving still works. To make sends cancellable, use 'async with TLSStream(...)': "
                "then a task of the stream's own finishes what was begun"
            ),
        )

    async def _finish_despite_cancel(self, data: bytes) -> bool:
        """``send_all`` in a task of its own, which a cancel of ours gives ``grace`` seconds to finish."""
        task = trio.lowlevel.current_task()
        shield = trio.CancelScope(shield=True)
        failures: list[Exception] = []

        async def send() -> None:
            try:
                with shield:
                    await self._stream.send_all(data)
            except Exception as error:  # it has to rise in the caller, and not in a group
                failures.append(error)
            finally:
                trio.lowlevel.reschedule(task)

        def on_cancel(raise_cancel: object) -> trio.lowlevel.Abort:
            shield.deadline = min(shield.deadline, trio.current_time() + self._grace)
            return trio.lowlevel.Abort.FAILED

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.lowlevel.wait_task_rescheduled(on_cancel)
        if failures:
            raise failures[0]
        return not shield.cancelled_caught
