"""Numbers and vectors: the presentation language of RFC 9846 section 3, read and written.

How this works. A `Reader` walks over one message. What is inside a vector is read by a `Reader` of its own
(`Reader.sub`), which shares the bytes, ends where the vector ends, and cannot see past it: nothing is copied
until a field is taken. Whoever opens a reader ends it with `Reader.finish`, so bytes too many are noticed at the
level they are at. Every failure is a decode_error; the bounds ``<low..high>`` of a vector are given in bytes, as
the standard has them.

The functions write. They trust the caller, which is our own code: what does not fit raises ValueError,
OverflowError or `struct.error`, and the lower bounds of a vector are not looked at.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from ...errors import PeerMisbehaved
from .misbehaviour import decode_error

__all__ = ["Reader", "uint8", "uint8_vector", "uint16", "uint16_vector", "uint24", "uint32", "vector"]


class Reader:
    """Takes fields off the front of some bytes.

    Args:
      data: the bytes; of a memoryview a copy is made, so that nothing taken later can change.
      what: what the bytes are, for the texts of errors: ``"ClientHello"``.

    Attributes:
      data: all bytes of the outermost reader; a sub-reader shares them.
      offset: where the next field begins in ``data``.
      end: where in ``data`` this reader ends.
      what: as above; a sub-reader begins with its parent's.
    """

    __slots__ = ("data", "end", "offset", "what")

    def __init__(self, data: bytes | memoryview, what: str = "a message") -> None:
        self.data: bytes = bytes(data)
        self.end: int = len(self.data)
        self.offset: int = 0
        self.what: str = what

    @property
    def remaining(self) -> int:
        """Bytes that nobody took yet."""
        return self.end - self.offset

    def finish(self) -> None:
        """Nothing may be left, or it is a decode_error."""
        if self.offset != self.end:
            raise decode_error(f"{self.what} has {self.end - self.offset} bytes too many", "6.2")

    def uint8(self) -> int:
        """One byte."""
        offset = self.offset
        if offset >= self.end:
            raise self._too_short(1)
        self.offset = offset + 1
        return self.data[offset]

    def uint16(self) -> int:
        """A number of two bytes, as all of them big-endian."""
        offset = self.offset
        if offset + 2 > self.end:
            raise self._too_short(2)
        self.offset = offset + 2
        data = self.data
        return data[offset] << 8 | data[offset + 1]

    def uint24(self) -> int:
        """A number of three bytes."""
        return self._number(3)

    def uint32(self) -> int:
        """A number of four bytes."""
        return self._number(4)

    def take(self, size: int) -> bytes:
        """Exactly ``size`` bytes."""
        offset = self.offset
        end = offset + size
        if end > self.end:
            raise self._too_short(size)
        self.offset = end
        return self.data[offset:end]

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self.end - self.offset)

    def vector(self, prefix_bytes: int, low: int = 0, high: int | None = None) -> bytes:
        """The contents of a variable-length vector.

        Args:
          prefix_bytes: how many bytes its length takes.
          low: the fewest bytes that the contents may have.
          high: the most; None: what the length can express.
        """
        end = self._vector_end(prefix_bytes, low, high)
        offset = self.offset
        self.offset = end
        return self.data[offset:end]

    def uint8_vector(self, prefix_bytes: int, low: int = 0, high: int | None = None) -> tuple[int, ...]:
        """A vector of numbers of one byte; arguments as in `vector`."""
        return tuple(self.vector(prefix_bytes, low, high))

    def uint16_vector(self, prefix_bytes: int, low: int = 0, high: int | None = None) -> tuple[int, ...]:
        """A vector of numbers of two bytes; arguments as in `vector`, in bytes like them."""
        end = self._vector_end(prefix_bytes, low, high)
        offset = self.offset
        size = end - offset
        if size % 2:
            # "a 17-byte vector of uint16 would be illegal" (RFC 9846 section 3.4)
            raise decode_error(f"{self.what} has a list of two-byte numbers that is {size} bytes long", "3.4")
        self.offset = end
        return struct.unpack_from(f">{size // 2}H", self.data, offset)

    def sub(self, prefix_bytes: int, low: int = 0, high: int | None = None) -> Reader:
        """A reader for what is inside a vector; arguments as in `vector`. This one goes on behind it."""
        end = self._vector_end(prefix_bytes, low, high)
        inner = Reader(self.data, self.what)
        inner.offset = self.offset
        inner.end = end
        self.offset = end
        return inner

    def _number(self, size: int) -> int:
        offset = self.offset
        end = offset + size
        if end > self.end:
            raise self._too_short(size)
        self.offset = end
        return int.from_bytes(self.data[offset:end], "big")

    def _vector_end(self, prefix_bytes: int, low: int, high: int | None) -> int:
        """Read the length of a vector, and judge it; `offset` is at the first byte inside then."""
        offset = self.offset
        start = offset + prefix_bytes
        if start > self.end:
            raise self._too_short(prefix_bytes)
        size = int.from_bytes(self.data[offset:start], "big")
        if size < low or (high is not None and size > high):
            raise decode_error(f"{self.what} has a vector of {size} bytes, which its bounds do not allow", "3.4")
        self.offset = start
        end = start + size
        if end > self.end:
            raise self._too_short(size)
        return end

    def _too_short(self, size: int) -> PeerMisbehaved:
        return decode_error(f"{self.what} ends inside a field of {size} bytes", "6.2")


def uint8(n: int) -> bytes:
    """``n`` as one byte."""
    return n.to_bytes(1, "big")


def uint16(n: int) -> bytes:
    """``n`` as two bytes."""
    return n.to_bytes(2, "big")


def uint24(n: int) -> bytes:
    """``n`` as three bytes."""
    return n.to_bytes(3, "big")


def uint32(n: int) -> bytes:
    """``n`` as four bytes."""
    return n.to_bytes(4, "big")


def vector(prefix_bytes: int, data: bytes) -> bytes:
    """``data`` behind its length, which takes ``prefix_bytes`` bytes."""
    return len(data).to_bytes(prefix_bytes, "big") + data


def uint8_vector(prefix_bytes: int, numbers: Iterable[int]) -> bytes:
    """Numbers of one byte, as a vector."""
    return vector(prefix_bytes, bytes(numbers))


def uint16_vector(prefix_bytes: int, numbers: Iterable[int]) -> bytes:
    """Numbers of two bytes, as a vector."""
    listed = tuple(numbers)
    return vector(prefix_bytes, struct.pack(f">{len(listed)}H", *listed))
