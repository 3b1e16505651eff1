"""Two streams joined: what either receives, the other sends, each way to its own end.

How this works. A `Splice` has two ways, and each way holds one piece of data at most: it receives the next one when the
last has been sent, so whoever is slow slows the other end, and nothing else. The end of one way is passed on as a
half-close, while the other way goes on. Sends are counted, so cancelling `Splice.run` loses nothing: call it again.

What cannot be passed on is told apart: an end that fails is a `SpliceBroken`, and then `cut` makes the other end see a
failure, too. An orderly end there would make a truncated answer look like a whole one. What came before the failure
shall arrive all the same: `delivered` waits for that.
"""

from __future__ import annotations

import math
import socket
import struct
import sys
from collections.abc import Callable
from typing import TypeAlias

import trio

from ..stream import TLSStream

__all__ = ["End", "Splice", "SpliceBroken", "TooLongSilent", "cut", "delivered"]

#: What can be joined.
End: TypeAlias = "TLSStream[trio.SocketStream] | trio.SocketStream"

#: Seconds that an end which takes nothing more may still talk: a server may answer before it has read all. And those in
#: which an end has to take some of what was sent to it, before it is cut off.
LAST_WORDS = 5.0


class SpliceBroken(Exception):
    """One end has failed; ``__cause__`` is how.

    Attributes:
      end: which one.
    """

    def __init__(self, end: End, cause: Exception) -> None:
        super().__init__(str(cause))
        self.end = end
        self.__cause__: BaseException | None = cause


class TooLongSilent(Exception):
    """Nothing has moved either way for longer than is allowed."""


class Splice:
    """Joins two streams.

    Args:
      one: one end, with its handshake done if it is TLS.
      other: the other end.
      patience: seconds for which nothing may move either way; default: no limit.
    """

    def __init__(self, one: End, other: End, *, patience: float = math.inf) -> None:
        self._there = _Way(one, other)
        self._back = _Way(other, one)
        self._patience = patience

    @property
    def there(self) -> int:
        """Bytes from one to the other."""
        return self._there.count

    @property
    def back(self) -> int:
        """Bytes from the other to the one."""
        return self._back.count

    async def run(self) -> None:
        """Carry data both ways, until both have ended.

        Cancelled: nothing is lost; call it again.

        Raises:
          SpliceBroken: an end has failed.
          TooLongSilent: nothing has moved for too long.
        """
        failures: list[SpliceBroken] = []
        silence = trio.CancelScope()

        def moved() -> None:
            silence.deadline = trio.current_time() + self._patience

        async def carry(way: _Way, both: trio.CancelScope) -> None:
            try:
                await way.run(moved)
            except SpliceBroken as broken:
                failures.append(broken)
                # An end that takes nothing more may still talk; one that has failed to talk is done for.
                both.deadline = trio.current_time() + LAST_WORDS if broken.end is way.sink else -math.inf

        moved()
        with silence:
            async with trio.open_nursery() as nursery:
                for way in (self._there, self._back):
                    nursery.start_soon(carry, way, nursery.cancel_scope)
        if failures:
            raise failures[0]
        if silence.cancelled_caught:
            raise TooLongSilent


class _Way:
    """One way: from a source to a sink."""

    def __init__(self, source: End, sink: End) -> None:
        self.source = source
        self.sink = sink
        self.count = 0
        self._held = memoryview(b"")
        self._ending = False
        self._ended = False

    async def run(self, moved: Callable[[], None]) -> None:
        """Carry data to its end, and then the end itself; ``moved`` is called at each step."""
        while not self._ended:
            end = self.sink if self._held or self._ending else self.source
            try:
                await self._step()
            except (trio.BrokenResourceError, OSError) as error:
                raise SpliceBroken(end, error) from error
            moved()

    async def _step(self) -> None:
        if self._held:
            sent = await _send_some(self.sink, self._held)
            self._held = self._held[sent:]
            self.count += sent
        elif self._ending:
            await self.sink.send_eof()
            self._ended = True
        else:
            self._held = memoryview(await self.source.receive_some())
            self._ending = not self._held


async def _send_some(end: End, data: memoryview) -> int:
    """Send a prefix, and say how long it was. A cancel that raises has sent nothing."""
    if isinstance(end, TLSStream):
        return await end.send_some(data)
    return await end.socket.send(data)


async def delivered(end: End) -> None:
    """Wait until the peer has all that was sent, for as long as it takes more of it every few seconds.

    For the end that is well, before it is `cut`: a reset throws away what the kernel has not sent yet. Only Linux tells
    how much that is; elsewhere this returns at once.
    """
    transport = end.transport_stream if isinstance(end, TLSStream) else end
    if transport is None:
        return  # closed already
    try:
        with trio.move_on_after(LAST_WORDS) as patience:
            if isinstance(end, TLSStream):
                await end.flush()
            before = _unsent(transport)
            # The kernel tells nobody when its queue is empty, so it has to be asked again and again.
            while before and not transport.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                await trio.sleep(0.01)
                if (now := _unsent(transport)) < before:
                    before, patience.deadline = now, trio.current_time() + LAST_WORDS
    except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
        pass  # it is closed, or broken; or this system does not tell


def _unsent(transport: trio.SocketStream) -> int:
    """Bytes in the kernel that the peer's has not acknowledged; none for a Unix domain socket, which loses none."""
    closed = transport.socket.fileno() < 0
    if sys.platform != "linux" or closed or transport.socket.family == socket.AF_UNIX:
        return 0
    import fcntl  # noqa: PLC0415  # not on every system
    import termios  # noqa: PLC0415

    counted = fcntl.ioctl(transport.socket.fileno(), termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(counted, sys.byteorder, signed=True)


async def cut(end: End) -> None:
    """Close a stream such that its peer sees a failure, and no orderly end: a reset, and no close_notify.

    A Unix domain socket has no reset: without TLS on it, its peer sees an end all the same.
    """
    transport = end.transport_stream if isinstance(end, TLSStream) else end
    if transport is None:
        return  # closed already
    try:
        transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass  # it is closed, or broken
    await trio.aclose_forcefully(transport)
