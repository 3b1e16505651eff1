"""What is measured, and what client and server say to each other to do it.

How this works. A connection carries requests. Each starts with a `Request`, a header of fixed size; what
follows depends on its kind: the server sends (DOWNLOAD), receives and acknowledges (UPLOAD), echoes (ECHO), or
just answers one byte (HELLO). The client measures.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

__all__ = ["BULK", "WORKLOADS", "Kind", "Request", "Workload"]

KiB = 1024
_HEADER = struct.Struct("!BIQ")


class Kind(enum.IntEnum):
    DOWNLOAD = 1
    UPLOAD = 2
    ECHO = 3
    HELLO = 4


@dataclass(frozen=True)
class Request:
    """The header: ``count`` messages of ``size`` bytes."""

    kind: Kind
    size: int
    count: int

    LENGTH = _HEADER.size

    def encode(self) -> bytes:
        return _HEADER.pack(self.kind, self.size, self.count)

    @classmethod
    def decode(cls, header: bytes) -> Request:
        kind, size, count = _HEADER.unpack(header)
        return cls(Kind(kind), size, count)


@dataclass(frozen=True)
class Workload:
    """One row of the table.

    Attributes:
      size: bytes of one message: a write, or one way of a ping-pong.
      first_count: messages in the first measurement, which warms up and tells how many fit the time.
      connects: whether every message has a connection of its own.
      fixed: whether ``first_count`` is always the count, and the client process is a fresh one.
    """

    name: str
    kind: Kind
    size: int
    first_count: int
    connects: bool = False
    fixed: bool = False

    @property
    def unit(self) -> str:
        return "MB/s" if self.kind in (Kind.DOWNLOAD, Kind.UPLOAD) else "1/s"

    def rate(self, count: int, seconds: float) -> float:
        """How much happened per second, in `unit`."""
        return count * (self.size / 1e6 if self.unit == "MB/s" else 1) / seconds


BULK = "send-200mb"

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("download-16k", Kind.DOWNLOAD, 16 * KiB, 1000),
        Workload("download-64k", Kind.DOWNLOAD, 64 * KiB, 400),
        Workload("download-256k", Kind.DOWNLOAD, 256 * KiB, 100),
        Workload("download-1m", Kind.DOWNLOAD, 1024 * KiB, 30),
        Workload("upload-256k", Kind.UPLOAD, 256 * KiB, 100),
        Workload("pingpong-1", Kind.ECHO, 1, 300),
        Workload("pingpong-1k", Kind.ECHO, KiB, 300),
        Workload("pingpong-16k", Kind.ECHO, 16 * KiB, 300),
        Workload("handshake", Kind.HELLO, 1, 20, connects=True),
        Workload(BULK, Kind.UPLOAD, 200_000_000, 1, fixed=True),
    )
}
