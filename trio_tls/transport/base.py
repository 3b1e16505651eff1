"""What the pump asks of the two halves of a transport.

Both are used by one task at a time; the pump sees to that. An exception of the stream below rises as it is:
the pump, not the transport, decides what it means.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..errors import TransportError
    from ..machine.bio import MemoryBIO

__all__ = ["Interruptible", "Receiver", "Sender"]


class Interruptible:
    """An await that another task can end early, without harm: the waiter just looks again."""

    _scope: trio.CancelScope | None = None

    def interrupt(self) -> None:
        """End the wait that is under way, if there is one."""
        if self._scope is not None:
            self._scope.cancel()

    async def _interruptibly(self, wait: Callable[[], Awaitable[object]]) -> None:
        """Await something harmless, such that `interrupt` ends it."""
        try:
            with trio.CancelScope() as self._scope:
                await wait()
        finally:
            self._scope = None


class Sender(Interruptible, abc.ABC):
    """The half that sends.

    Attributes:
      counts: whether a cancelled `send` leaves an exact count, so that anybody may go on (tiers 1 to 4).
      waits_inside: whether a task of its own sends (tier 4), so a reader need not help.
      broken: why nothing more can be sent, or None.
    """

    counts: bool = True
    waits_inside: bool = False
    broken: TransportError | None = None

    @abc.abstractmethod
    def send_nowait(self, outgoing: MemoryBIO) -> None:
        """Send what can leave without waiting, and consume it; nothing where this transport cannot."""

    def send_last_words(self, outgoing: MemoryBIO) -> None:
        """As `send_nowait`, right before the transport is closed: to be queued below is enough."""
        self.send_nowait(outgoing)

    @abc.abstractmethod
    async def send(self, outgoing: MemoryBIO, *, flight: bool) -> None:
        """Wait until some of ``outgoing`` (not empty) has left, and consume that.

        Args:
          outgoing: where the ciphertext lies.
          flight: whether all of it is a handshake flight, which a cancel must not tear.
        """

    @abc.abstractmethod
    async def wait_send_all_might_not_block(self) -> None:
        """As `trio.abc.SendStream.wait_send_all_might_not_block`."""

    def finish(self) -> bool:
        """Send the transport's own EOF, without waiting; False where the transport cannot."""
        return False


class Receiver(Interruptible, abc.ABC):
    """The half that receives.

    Attributes:
      expects_to_wait: whether `receive_nowait` would most likely find nothing, so that trying it first is waste.
      rest: to be called when a wait turns out to be long: it frees memory, and raises nothing. None: there is none to
        free.
    """

    expects_to_wait: bool = False
    rest: Callable[[], None] | None = None

    def receive_nowait(self, incoming: MemoryBIO) -> bool:
        """Append what is there without waiting (perhaps EOF); False if nothing is, or nobody can tell."""
        return False

    @abc.abstractmethod
    async def receive(self, incoming: MemoryBIO) -> None:
        """Wait for bytes or EOF and append them. May return without any after `interrupt`."""
