"""Pace: handshakes take turns, so that nobody else waits for more than one of them.

How this works. A pass of the event loop runs every task that is ready, and who becomes ready meanwhile waits for its
end. If fifty clients have sent a ClientHello, that would be fifty signatures, some twenty milliseconds, before a
connection that is established gets a word. So whenever a handshake has something to work on, it needs a turn, and there
is one turn in each pass. All others, who need none, run between any two of them.

Who finds the turn of this pass taken queues for a `trio.Lock`. One that is free is had after a checkpoint, which is in
the next pass; one that is released goes to the next in the queue, who also runs in the next pass. So it may be
released at once: what its holder then does before it awaits anything is all that happens by a turn in that pass.
A handshake that is alone waits for nothing.
"""

from __future__ import annotations

import trio

__all__ = ["Pace"]


class Pace(trio.abc.Instrument):
    """The queue of one server's handshakes. As an instrument of trio it hears when a pass is over."""

    def __init__(self) -> None:
        self._lock = trio.Lock()
        self._taken = False

    def before_io_wait(self, timeout: float) -> None:
        """A pass is over."""
        self._taken = False

    async def turn(self) -> None:
        """Wait for a pass of the event loop in which nobody else has had a turn. First come, first served.

        Cancelled: the next in the queue comes forward.
        """
        if self._taken or self._lock.locked():
            async with self._lock:
                pass
        self._taken = True
