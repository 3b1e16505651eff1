"""What is measured, and what client and server say to each other to do it.

How this works. A connection carries requests. Each starts with a `Request`, a header of fixed size; what
follows depends on its kind: the server sends (DOWNLOAD), receives and acknowledges (UPLOAD), echoes (ECHO), or
just answers (HELLO). The client measures.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

__all__ = ["IDLE", "SEND", "WORKLOADS", "Kind", "Method", "Request", "Workload"]

KiB = 1024
_HEADER = struct.Struct("!BIQ")


class Kind(enum.IntEnum):
    """What the server does."""

    DOWNLOAD = 1
    UPLOAD = 2
    ECHO = 3
    HELLO = 4


class Method(enum.Enum):
    """How a workload is measured."""

    #: Messages on connections that are open: bytes or exchanges per second, and processor time.
    EXCHANGE = "exchange"
    #: A connection for every message: connections per second.
    CONNECT = "connect"
    #: One long send, in a fresh client process: how long its event loop stood still, and what memory it took.
    LONG_SEND = "long send"
    #: Connections that do nothing, in fresh processes: the memory of each.
    HOLD = "hold"
    #: One connection through a relay that counts what passes until the answer has come.
    WIRE = "wire"


@dataclass(frozen=True)
class Request:
    """The header: ``count`` messages of ``size`` bytes."""

    kind: Kind
    size: int
    count: int

    LENGTH = _HEADER.size

    def encode(self) -> bytes:
        """As it goes over the connection."""
        return _HEADER.pack(self.kind, self.size, self.count)

    @classmethod
    def decode(cls, header: bytes) -> Request:
        """The same, from the connection."""
        kind, size, count = _HEADER.unpack(header)
        return cls(Kind(kind), size, count)


@dataclass(frozen=True)
class Workload:
    """One row of the table.

    Attributes:
      name: what ``--only`` takes.
      title: what the table and the chart say.
      size: bytes of one message: a write, or one way of a ping-pong.
      first_count: messages in the first measurement, which warms up and tells how many fit the time. For a method
        that takes no time as its measure, always the count.
      concurrency: how many connections at once.
      resumed: whether the handshakes are resumed ones.
    """

    name: str
    title: str
    kind: Kind
    size: int
    first_count: int
    method: Method = Method.EXCHANGE
    concurrency: int = 1
    resumed: bool = False

    @property
    def timed(self) -> bool:
        """Whether this is about how much happens in a given time."""
        return self.method in (Method.EXCHANGE, Method.CONNECT)

    @property
    def bulk(self) -> bool:
        """Whether this is about many bytes one way."""
        return self.method is Method.EXCHANGE and self.kind in (Kind.DOWNLOAD, Kind.UPLOAD)

    @property
    def unit(self) -> str:
        """Of `rate`."""
        return "MB/s" if self.bulk else "1/s"

    def rate(self, count: int, seconds: float) -> float:
        """How much happened per second, in `unit`."""
        return count * (self.size / 1e6 if self.bulk else 1) / seconds


def _bulk(direction: Kind, name: str, first_counts: dict[int, int]) -> list[Workload]:
    return [
        Workload(f"{name}-{_short(size)}", f"{name}, {_long(size)} writes", direction, size, count)
        for size, count in first_counts.items()
    ]


def _short(size: int) -> str:
    return f"{size // KiB**2}m" if size >= KiB**2 else f"{size // KiB}k"


def _long(size: int) -> str:
    return f"{size // KiB**2} MiB" if size >= KiB**2 else f"{size // KiB} KiB"


#: The workload of Method.LONG_SEND, and that of Method.HOLD.
SEND = "send-200mb"
IDLE = "idle"

_FIRST_COUNTS = {16 * KiB: 160, 64 * KiB: 80, 256 * KiB: 24, 1024 * KiB: 8}
_CONNECT = Method.CONNECT

WORKLOADS = {
    workload.name: workload
    for workload in (
        *_bulk(Kind.DOWNLOAD, "download", _FIRST_COUNTS),
        *_bulk(Kind.UPLOAD, "upload", _FIRST_COUNTS),
        Workload("pingpong-1", "ping-pong, 1 byte", Kind.ECHO, 1, 50),
        Workload("pingpong-1k", "ping-pong, 1 KiB", Kind.ECHO, KiB, 50),
        Workload("pingpong-16k", "ping-pong, 16 KiB", Kind.ECHO, 16 * KiB, 50),
        Workload("echo-100", "100 connections echo 4 KiB", Kind.ECHO, 4 * KiB, 300, concurrency=100),
        Workload("full-1", "full handshakes", Kind.HELLO, 1, 8, _CONNECT),
        Workload("full-64", "full handshakes, 64 at a time", Kind.HELLO, 1, 64, _CONNECT, 64),
        Workload("resumed-1", "resumed handshakes", Kind.HELLO, 1, 8, _CONNECT, resumed=True),
        Workload("resumed-64", "resumed handshakes, 64 at a time", Kind.HELLO, 1, 64, _CONNECT, 64, resumed=True),
        Workload(SEND, "one send of 200 MB", Kind.UPLOAD, 200_000_000, 1, Method.LONG_SEND),
        Workload(IDLE, "idle connections", Kind.HELLO, 1, 200, Method.HOLD),
        Workload("wire", "to the first answer", Kind.HELLO, 777, 1, Method.WIRE),
    )
}
