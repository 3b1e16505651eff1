"""MemoryBIO: bytes on their way between a machine and a transport.

How this works. The bytes lie in a queue of chunks, and no chunk is ever resized or moved. A chunk is a
range of some buffer: immutable `bytes` that a writer handed over (taken without a copy), or a `bytearray`
that was made for `MemoryBIO.reserve`. So a view that `peek` or `reserve` gave stays valid across an await
while somebody else writes, consumes or commits: a resized bytearray would raise BufferError there.

It has what `ssl.MemoryBIO` has (``read``, ``write``, ``pending``, ``write_eof``, ``eof``) and, beside it,
what avoids copies: ``reserve(n)`` and ``commit(n)`` for ``recv_into``, ``peek()`` and ``consume(n)`` for sends
that may be partial.
"""

from __future__ import annotations

from collections import deque

__all__ = ["MemoryBIO"]

#: Shorter writes are copied into a shared chunk; longer `bytes` are queued as they are.
SMALL = 2048


class _Chunk:
    """The bytes ``buffer[start:end]``; only a bytearray can grow, into ``buffer[end:]``."""

    __slots__ = ("buffer", "end", "start")

    def __init__(self, buffer: bytes | bytearray, start: int, end: int) -> None:
        self.buffer = buffer
        self.start = start
        self.end = end


class MemoryBIO:
    """A byte queue with stable views.

    Args:
      limit: how many bytes the queue should hold; `room` counts down from it. The limit is for who asks
        first (application data): `write` itself never refuses, so alerts, handshake flights and
        close_notify always find room. None: no limit.
    """

    __slots__ = ("_chunks", "_eof", "_limit", "_pending", "_reserved", "total_consumed")

    def __init__(self, limit: int | None = None) -> None:
        self._chunks: deque[_Chunk] = deque()
        self._pending = 0
        self._eof = False
        self._limit = limit
        self._reserved: tuple[bytearray, int, int] | None = None
        self.total_consumed = 0
        """Bytes that ever left the queue; with `pending`, it tells when a given byte has left."""

    @property
    def pending(self) -> int:
        """Bytes in the queue."""
        return self._pending

    @property
    def room(self) -> int:
        """Bytes of application data that may still be queued."""
        if self._limit is None:
            raise ValueError("this MemoryBIO has no limit")
        return max(0, self._limit - self._pending)

    @property
    def eof(self) -> bool:
        """Whether everything was read and `write_eof` was called."""
        return self._eof and not self._pending

    @property
    def eof_written(self) -> bool:
        """Whether `write_eof` was called; there may still be bytes to read."""
        return self._eof

    def write_eof(self) -> None:
        """Say that no more bytes will come."""
        self._eof = True

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append ``data``; how many bytes that were (always all of them)."""
        if self._eof:
            raise ValueError("cannot write() after write_eof()")
        length = data.nbytes if isinstance(data, memoryview) else len(data)
        if not length:
            return 0
        if type(data) is bytes and not self._pending:
            self._chunks.append(_Chunk(data, 0, length))  # immutable, so it can be queued as it is
        elif length >= SMALL and not 0 < self._pending < SMALL:
            self._chunks.append(_Chunk(bytes(data), 0, length))
        else:
            self._copy_in(data, length)
        self._pending += length
        return length

    def _copy_in(self, data: bytes | bytearray | memoryview, length: int) -> None:
        tail = self._chunks[-1] if self._chunks else None
        if (
            tail is None
            or self._reserved is not None  # the free space behind the tail may be lent out
            or not isinstance(tail.buffer, bytearray)
            or len(tail.buffer) - tail.end < length
        ):
            # A few bytes are taken along, so that they leave in one send with what follows them: a Finished
            # with the first request, tickets with the first answer. Views of the old chunk stay as they are.
            few = bytes(self.peek()) if len(self._chunks) == 1 and self._pending < SMALL else b""
            size = len(few) + length
            room = bytearray(max(SMALL, size) if self._chunks else size)
            room[: len(few)] = few
            tail = _Chunk(room, 0, len(few))
            if few:
                self._chunks.clear()
            self._chunks.append(tail)
        buffer = tail.buffer
        assert isinstance(buffer, bytearray)  # just made, or just tested
        with memoryview(buffer) as view:  # slice assignment through a view can never resize
            view[tail.end : tail.end + length] = memoryview(data).cast("B")
        tail.end += length

    def reserve(self, size: int) -> memoryview:
        """``size`` writable bytes for ``recv_into``; `commit` then says how many of them were filled.

        A second reservation replaces the first.
        """
        if self._eof:
            raise ValueError("cannot reserve() after write_eof()")
        if size < 1:
            raise ValueError("reserve at least one byte")
        tail = self._chunks[-1] if self._chunks else None
        if tail is not None and isinstance(tail.buffer, bytearray) and len(tail.buffer) - tail.end >= size:
            buffer, start = tail.buffer, tail.end
        else:
            buffer, start = bytearray(size), 0
        self._reserved = (buffer, start, start + size)
        return memoryview(buffer)[start : start + size]

    def commit(self, size: int) -> None:
        """Append the first ``size`` bytes of the reservation, which is over then. 0 gives it up."""
        if self._reserved is None:
            raise ValueError("commit() without reserve()")
        buffer, start, end = self._reserved
        if not 0 <= size <= end - start:
            raise ValueError(f"commit({size}) of a reservation of {end - start} bytes")
        self._reserved = None
        if not size:
            return
        tail = self._chunks[-1] if self._chunks else None
        if tail is not None and tail.buffer is buffer and tail.end == start:
            tail.end += size
        else:
            self._chunks.append(_Chunk(buffer, start, start + size))
        self._pending += size

    def peek(self) -> memoryview:
        """The first contiguous bytes of the queue, without taking them; empty if there are none."""
        if not self._chunks:
            return memoryview(b"")
        chunk = self._chunks[0]
        return memoryview(chunk.buffer)[chunk.start : chunk.end]

    def consume(self, size: int) -> None:
        """Take ``size`` bytes off the front."""
        if not 0 <= size <= self._pending:
            raise ValueError(f"consume({size}) of {self._pending} pending bytes")
        self._pending -= size
        self.total_consumed += size
        chunks = self._chunks
        while size:
            head = chunks[0]
            held = head.end - head.start
            if held > size:
                head.start += size
                return
            chunks.popleft()
            size -= held

    def read(self, size: int = -1) -> bytes:
        """Take up to ``size`` bytes off the front; negative: all of them."""
        size = self._pending if size < 0 else min(size, self._pending)
        parts = []
        while size:
            view = self.peek()[:size]
            parts.append(bytes(view))
            self.consume(len(view))
            size -= len(view)
        return parts[0] if len(parts) == 1 else b"".join(parts)
