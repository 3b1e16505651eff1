"""ChaosStream: a transport that delays, splits, gathers, stalls, resets, ends early or flips a bit.

How this works. Each direction has a `Chaos`, which says what befalls its bytes, and a `ChaosDirection`, which
knows how many have crossed and stops at the offsets that the `Chaos` names. All randomness comes from a seed.

Receiving is as cancel-safe as that of the stream below: what came from it lies in a buffer while this stream
waits, and leaves the buffer in the same breath in which ``receive_some`` returns.

Sending comes in two kinds. `ChaosStream` has only ``send_all``, of which nobody can tell how much a cancel left
unsent: for a `~trio_tls.TLSStream` it is a transport of tier 4 or 5. `CountedChaosStream` adds an exact
``send_some``, which makes it one of tier 2.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import trio
import trio.testing

__all__ = ["Chaos", "ChaosDirection", "ChaosStream", "CountedChaosStream"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chaos:
    """What befalls the bytes of one direction. By default nothing does.

    Offsets count the bytes of this direction, from 0; what stands before an offset crosses unharmed. Where
    several fall on one offset, the stall comes first, then the reset, then the EOF.

    Attributes:
      delay: seconds that each piece waits; or ``(least, most)``, and each piece waits at random between them.
      split: a piece has at most so many bytes; 1 is one byte at a time.
      partial: a piece is a random part of what could cross at once.
      coalesce: when receiving, wait until so many bytes are there (or EOF) and give them out as one.
      coalesce_for: when receiving, gather for so many seconds after the first byte. With ``coalesce``:
        whichever is reached first.
      stall_at: the byte at this offset does not cross before `ChaosDirection.release` is called.
      reset_at: from this offset on, `trio.BrokenResourceError` is raised.
      eof_at: at this offset the direction ends. A receiver gets ``b""``; a sender's peer gets EOF, and the
        sender is not told: its bytes vanish.
      flip_bit: the bit at this offset, counted in bits, the most significant of each byte first, is inverted.

    Raises:
      ValueError: a number is out of range.
    """

    delay: float | tuple[float, float] = 0.0
    split: int | None = None
    partial: bool = False
    coalesce: int | None = None
    coalesce_for: float | None = None
    stall_at: int | None = None
    reset_at: int | None = None
    eof_at: int | None = None
    flip_bit: int | None = None

    def __post_init__(self) -> None:
        least, most = self.delay_range
        if not 0 <= least <= most:
            raise ValueError(f"delay must be seconds, 0 or more, or (least, most), not {self.delay!r}")
        for name in ("split", "coalesce"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ValueError(f"{name} must be at least 1, not {count!r}")
        if self.coalesce_for is not None and not self.coalesce_for >= 0:
            raise ValueError(f"coalesce_for must be seconds, 0 or more, not {self.coalesce_for!r}")
        for name in ("stall_at", "reset_at", "eof_at", "flip_bit"):
            offset = getattr(self, name)
            if offset is not None and offset < 0:
                raise ValueError(f"{name} must be an offset, 0 or more, not {offset!r}")

    @property
    def delay_range(self) -> tuple[float, float]:
        """The least and the most that a piece waits, in seconds."""
        return self.delay if isinstance(self.delay, tuple) else (self.delay, self.delay)

    @property
    def gathers(self) -> bool:
        """Whether a receiver waits for more than what comes first."""
        return self.coalesce is not None or self.coalesce_for is not None


class ChaosDirection:
    """One direction of a `ChaosStream`.

    Attributes:
      chaos: what befalls the bytes from now on; may be exchanged at any time.
      position: how many bytes have crossed.
      stalled: set once somebody waits at ``stall_at``.
    """

    def __init__(self, chaos: Chaos, randomness: random.Random) -> None:
        self.chaos = chaos
        self.position = 0
        self.stalled: trio.Event = trio.Event()
        self._random = randomness
        self._released = trio.Event()

    def release(self) -> None:
        """End the stall, or let it never happen."""
        self._released.set()

    @property
    def ended(self) -> bool:
        """Whether ``eof_at`` has been reached."""
        return self.chaos.eof_at is not None and self.position >= self.chaos.eof_at

    async def pass_barrier(self) -> None:
        """Wait out a stall that is due here.

        Raises:
          trio.BrokenResourceError: ``reset_at`` has been reached.
        """
        stall_at = self.chaos.stall_at
        if stall_at is not None and self.position >= stall_at and not self._released.is_set():
            self.stalled.set()
            await self._released.wait()
        if self.chaos.reset_at is not None and self.position >= self.chaos.reset_at:
            await trio.lowlevel.checkpoint()
            raise trio.BrokenResourceError(f"chaos: connection reset at byte {self.position}")

    async def hold(self) -> None:
        """Wait as long as the next piece is delayed; a checkpoint at least."""
        least, most = self.chaos.delay_range
        await trio.sleep(least if least == most else self._random.uniform(least, most))

    def piece_of(self, available: int) -> int:
        """How many of ``available`` bytes, at least one of them, make up the next piece."""
        chaos = self.chaos
        barriers: list[int | None] = [chaos.reset_at, chaos.eof_at, None if self._released.is_set() else chaos.stall_at]
        distances: list[int] = [at - self.position for at in barriers if at is not None and at > self.position]
        most = min(available, *distances, available if chaos.split is None else chaos.split)
        return self._random.randint(1, most) if chaos.partial else most

    def damage(self, piece: bytes) -> bytes:
        """``piece``, which stands at the current position, as it comes out at the other side."""
        if self.chaos.flip_bit is None:
            return piece
        byte, bit = divmod(self.chaos.flip_bit, 8)
        index = byte - self.position
        if not 0 <= index < len(piece):
            return piece
        return piece[:index] + bytes((piece[index] ^ 0x80 >> bit,)) + piece[index + 1 :]


class ChaosStream(trio.abc.Stream):
    """A stream around another one, on which its bytes suffer `Chaos`.

    Args:
      stream: the stream that carries the bytes. It is closed with this one.
      send: what befalls the bytes that are sent.
      receive: what befalls the bytes that are received.
      seed: of everything random. Same seed, same calls, same chaos.

    Attributes:
      transport_stream: ``stream``.
      sending: the `ChaosDirection` of ``send``.
      receiving: the `ChaosDirection` of ``receive``.

    Raises:
      ValueError: ``send`` gathers (a send that waits for the next one would wait for ever), or has ``eof_at``
        and ``stream`` has no ``send_eof``.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        send: Chaos | None = None,
        receive: Chaos | None = None,
        seed: int = 0,
    ) -> None:
        if send is not None and send.gathers:
            raise ValueError("only a receiver can gather; put coalesce= into receive=, or around the other end")
        if send is not None and send.eof_at is not None and not hasattr(stream, "send_eof"):
            raise ValueError(f"eof_at= needs a stream with send_eof(), which {type(stream).__name__} has not")
        self.transport_stream = stream
        self.sending: ChaosDirection = ChaosDirection(send or Chaos(), random.Random(f"{seed} send"))
        self.receiving: ChaosDirection = ChaosDirection(receive or Chaos(), random.Random(f"{seed} receive"))
        self._received = bytearray()
        self._received_eof = False
        self._eof_sent = False
        self._closed = False
        self._send_guard = _OneAtATime("another task is sending on this ChaosStream")
        self._receive_guard = _OneAtATime("another task is receiving on this ChaosStream")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of ``data``, piece by piece. Cancelled: some of it was sent, and nobody can tell how much."""
        with self._send_guard, memoryview(data).cast("B") as view:
            if not len(view):
                await self._check_open()
                await self.transport_stream.send_all(b"")
            position = 0
            while position < len(view):
                piece = await self._next_piece(view[position:])
                position += len(piece)
                if not self.sending.ended:
                    damaged = self.sending.damage(piece)
                    self.sending.position += len(piece)
                    await self.transport_stream.send_all(damaged)
                    await self._send_eof_if_due()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait out a stall, then wait for the stream below."""
        with self._send_guard:
            await self._check_open()
            await self.sending.pass_barrier()
            await self._check_open()
            await self.transport_stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive the next piece; ``b""`` at the end. Cancelled: nothing is lost."""
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError("max_bytes must be >= 1")
        direction = self.receiving
        with self._receive_guard:
            await self._check_open()
            await direction.pass_barrier()
            if direction.ended:
                await trio.lowlevel.checkpoint()
                return b""
            await self._gather()
            await direction.hold()
            await self._check_open()
            if not self._received:
                return b""
            available = len(self._received)
            count = direction.piece_of(available if max_bytes is None else min(available, max_bytes))
            piece = direction.damage(bytes(self._received[:count]))
            del self._received[:count]
            direction.position += count
            return piece

    async def aclose(self) -> None:
        """Close the stream below. Whoever stalls gets `trio.ClosedResourceError`."""
        self._closed = True
        self.sending.release()
        self.receiving.release()
        await self.transport_stream.aclose()

    async def _check_open(self) -> None:
        if self._closed:
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError("this ChaosStream was closed")

    async def _next_piece(self, view: memoryview) -> bytes:
        """What of ``view`` may go now, once it may. Behind ``eof_at`` that is all of it, to nowhere."""
        await self._check_open()
        await self.sending.pass_barrier()
        await self.sending.hold()
        await self._check_open()
        if not self.sending.ended:
            return bytes(view[: self.sending.piece_of(len(view))])
        await self._send_eof_if_due()
        return bytes(view)

    async def _send_eof_if_due(self) -> None:
        if self.sending.ended and not self._eof_sent:
            self._eof_sent = True
            with trio.CancelScope(shield=True):  # what was sent before it has been counted, and must be told
                await self.transport_stream.send_eof()  # type: ignore[attr-defined]  # tested in __init__

    async def _gather(self) -> None:
        """Wait until there is something to give out, and as much as ``coalesce`` asks for."""
        if not self._received:
            await self._receive_more()
        chaos = self.receiving.chaos
        if chaos.gathers:
            with trio.move_on_after(float("inf") if chaos.coalesce_for is None else chaos.coalesce_for):
                while not self._received_eof and (chaos.coalesce is None or len(self._received) < chaos.coalesce):
                    await self._receive_more()

    async def _receive_more(self) -> None:
        if not self._received_eof:
            data = await self.transport_stream.receive_some()
            self._received += data
            self._received_eof = not data


class CountedChaosStream(ChaosStream):
    """A `ChaosStream` that tells how much it has sent: it has a cancel-safe ``send_some``.

    Args:
      stream: a stream that can itself be counted: one with ``send_some`` (a `~trio_tls.TLSStream`), a
        `trio.SocketStream`, a stream of `trio.testing.memory_stream_pair`; or a `trio.StapledStream` of those.
      send, receive, seed: as for `ChaosStream`.

    Raises:
      TypeError: ``stream`` cannot be counted.
      ValueError: as `ChaosStream`.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        send: Chaos | None = None,
        receive: Chaos | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(stream, send=send, receive=receive, seed=seed)
        send_half: Any = stream.send_stream if isinstance(stream, trio.StapledStream) else stream
        self._send_counted = _counted_send(send_half)
        self._flush_below: Callable[[], Awaitable[None]] | None = getattr(send_half, "flush", None)

    async def send_some(self, data: bytes | bytearray | memoryview) -> int:
        """Send the next piece of ``data``; how many bytes that was. Cancelled: none were sent."""
        with self._send_guard, memoryview(data).cast("B") as view:
            return await self._send_piece(view)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of ``data``, piece by piece."""
        with self._send_guard, memoryview(data).cast("B") as view:
            position = await self._send_piece(view)
            while position < len(view):
                position += await self._send_piece(view[position:])

    async def flush(self) -> None:
        """Let the stream below send what it has queued, if it is of the kind that queues. Cancelled: call it again."""
        with self._send_guard:
            await self._check_open()
            if self._flush_below is None:
                await trio.lowlevel.checkpoint()
            else:
                await self._flush_below()

    async def _send_piece(self, view: memoryview) -> int:
        if not len(view):
            await self._check_open()
            await trio.lowlevel.checkpoint()
            return 0
        piece = await self._next_piece(view)
        if self.sending.ended:
            return len(piece)
        count = await self._send_counted(self.sending.damage(piece))
        self.sending.position += count
        await self._send_eof_if_due()
        return count


class _OneAtATime:
    """A second task gets BusyResourceError, as from Trio's own streams."""

    def __init__(self, message: str) -> None:
        self._busy = False
        self._message = message

    def __enter__(self) -> None:
        if self._busy:
            raise trio.BusyResourceError(self._message)
        self._busy = True

    def __exit__(self, *exc_info: object) -> None:
        self._busy = False


def _counted_send(half: Any) -> Callable[[bytes], Awaitable[int]]:
    """A send on ``half`` that either raises, and has sent nothing, or says how much it has sent."""

    async def send_on_socket(data: bytes) -> int:
        try:
            return await half.socket.send(data)  # type: ignore[no-any-return]
        except OSError as error:
            raise trio.BrokenResourceError(f"socket connection broken: {error}") from error

    async def send_to_memory(data: bytes) -> int:
        await trio.lowlevel.checkpoint_if_cancelled()
        with trio.CancelScope(shield=True):  # there is always room, so it does not block
            await half.send_all(data)
        return len(data)

    if callable(getattr(half, "send_some", None)):
        return half.send_some  # type: ignore[no-any-return]
    if isinstance(half, trio.SocketStream):
        return send_on_socket
    if isinstance(half, trio.testing.MemorySendStream):
        return send_to_memory
    raise TypeError(f"nobody can tell how much a cancelled send on {type(half).__name__} has sent; use ChaosStream")
