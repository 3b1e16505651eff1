"""MemoryBIO: bytes on their way between a machine and a transport.

How this works. The bytes lie in a queue of views, and no buffer below one is ever resized or moved: it is
immutable `bytes` that a writer handed over (taken without a copy), or a `bytearray` that keeps its size and is
filled from the front. So a view that `peek` or `reserve` gave stays valid across an await while somebody else
writes, consumes or commits: a resized bytearray would raise BufferError there.

It has what `ssl.MemoryBIO` has (``read``, ``write``, ``pending``, ``write_eof``, ``eof``) and, beside it,
what avoids copies: ``reserve(n)`` and ``commit(n)`` for ``recv_into``, ``peek()`` and ``consume(n)`` for sends
that may be partial.
"""

from __future__ import annotations

__all__ = ["MemoryBIO"]

#: Up to so many bytes in a row are joined, so that they leave in one send; longer `bytes` are queued as they are.
SMALL = 2048


class MemoryBIO:
    """A byte queue with stable views.

    Args:
      limit: how many bytes the queue should hold; `room` counts down from it. The limit is for who asks
        first (application data): `write` itself never refuses, so alerts, handshake flights and
        close_notify always find room. None: no limit.
    """

    __slots__ = ("_eof", "_filled", "_limit", "_reserved", "_tail", "_views", "pending", "total_consumed")

    def __init__(self, limit: int | None = None) -> None:
        self._views: list[memoryview] = []  # few; an empty deque would be the largest thing in an idle connection
        self._tail: bytearray | None = None  # the buffer of the last view, if it has room behind it,
        self._filled = 0  # and where that room begins
        self.pending: int = 0
        """Bytes in the queue. An attribute, since the pump looks at it all the time; only this class sets it."""
        self._eof = False
        self._limit = limit
        self._reserved: tuple[bytearray, int, int] | None = None
        self.total_consumed: int = 0
        """Bytes that ever left the queue; with `pending`, it tells when a given byte has left."""

    @property
    def room(self) -> int:
        """Bytes of application data that may still be queued."""
        if self._limit is None:
            raise ValueError("this MemoryBIO has no limit")
        return max(0, self._limit - self.pending)

    @property
    def eof(self) -> bool:
        """Whether everything was read and `write_eof` was called."""
        return self._eof and not self.pending

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
        pending = self.pending
        if not pending and type(data) is bytes:
            self._views.append(memoryview(data))  # immutable, so it can be queued as it is
            self._tail = None
        elif length >= SMALL and not 0 < pending < SMALL:
            self._views.append(memoryview(bytes(data)))
            self._tail = None
        else:
            self._copy_in(data, length)
        self.pending = pending + length
        return length

    def adopt(self, buffer: bytearray) -> None:
        """`write` without a copy, where one saves no send: ``buffer`` is the queue's from now on.

        Nobody may change it any more.
        """
        length = len(buffer)
        if not length or self._eof or (self.pending and (length < SMALL or self.pending < SMALL)):
            self.write(buffer)
        else:
            self._views.append(memoryview(buffer))
            self._tail = None
            self.pending += length

    def _copy_in(self, data: bytes | bytearray | memoryview, length: int) -> None:
        if len(self._views) == 1 and self.pending + length <= SMALL:
            # The few records of a flight. Whoever has a view of the first ones keeps what he has seen.
            self._views[0] = memoryview(b"".join((self._views[0], data)))
            self._tail = None
            return
        # While the room behind the tail is lent out, nothing else may be written there.
        if self._tail is None or self._reserved is not None or len(self._tail) - self._filled < length:
            # A few bytes are taken along, so that they leave in one send with what follows them: a Finished
            # with the first request, tickets with the first answer. Views of the old buffer stay as they are.
            few = bytes(self._views.pop(0)) if len(self._views) == 1 and self.pending < SMALL else b""
            size = len(few) + length
            self._tail = bytearray(max(SMALL, size) if self.pending else size)
            self._tail[: len(few)] = few
            self._filled = len(few)
            if few:
                self._views.append(memoryview(self._tail)[: self._filled])
        end = self._filled + length
        with memoryview(self._tail) as view:  # slice assignment through a view can never resize
            view[self._filled : end] = memoryview(data).cast("B")
        self._append(self._tail, self._filled, end)

    def _append(self, buffer: bytearray, start: int, end: int) -> None:
        """Queue ``buffer[start:end]``, as more of the last view if it ends there."""
        if self._views and buffer is self._tail and start == self._filled and start:
            start -= len(self._views.pop())
        self._views.append(memoryview(buffer)[start:end])
        self._tail, self._filled = buffer, end

    def reserve(self, size: int) -> memoryview:
        """``size`` writable bytes for ``recv_into``; `commit` then says how many of them were filled.

        A second reservation replaces the first.
        """
        if self._eof:
            raise ValueError("cannot reserve() after write_eof()")
        if size < 1:
            raise ValueError("reserve at least one byte")
        if self._tail is not None and len(self._tail) - self._filled >= size:
            buffer, start = self._tail, self._filled
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
        if size:
            self._append(buffer, start, start + size)
            self.pending += size

    def peek(self) -> memoryview:
        """The first contiguous bytes of the queue, without taking them; empty if there are none."""
        return self._views[0] if self._views else memoryview(b"")

    def take(self, size: int) -> memoryview:
        """`peek` and `consume` in one: the first contiguous bytes, at most ``size``, off the front."""
        view = self._views.pop(0) if self._views else memoryview(b"")
        if len(view) > size:
            self._views.insert(0, view[size:])
            view = view[:size]
        self.pending -= len(view)
        self.total_consumed += len(view)
        if not self.pending:
            self._tail = None
        return view

    def consume(self, size: int) -> None:
        """Take ``size`` bytes off the front."""
        pending = self.pending
        if not 0 <= size <= pending:
            raise ValueError(f"consume({size}) of {pending} pending bytes")
        self.pending = pending - size
        self.total_consumed += size
        if size == pending:
            self._tail = None  # most connections are idle: an empty queue holds no memory
            self._views.clear()
            return
        while size:
            head = self._views.pop(0)
            if len(head) > size:
                self._views.insert(0, head[size:])
                return
            size -= len(head)

    def put_back(self, data: bytes) -> None:
        """Put bytes that were taken off the front there again; they count as never having left."""
        if data:
            self._views.insert(0, memoryview(data))
            self._tail = None  # the last view may be this one now, which has no room behind it
            self.pending += len(data)
            self.total_consumed -= len(data)

    def read(self, size: int = -1) -> bytes:
        """Take up to ``size`` bytes off the front; negative: all of them."""
        size = self.pending if size < 0 else min(size, self.pending)
        parts = []
        while size:
            parts.append(bytes(self.take(size)))
            size -= len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)
