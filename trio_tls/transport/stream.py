"""Receiving from any Trio stream, by its own ``receive_some``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from .base import Receiver

if TYPE_CHECKING:
    from trio.abc import ReceiveStream

    from ..machine.bio import MemoryBIO

__all__ = ["RECEIVE_SIZE", "StreamReceiver"]

#: At most so much at a time: larger fresh allocations cost page faults.
RECEIVE_SIZE = 64 * 1024


class StreamReceiver(Receiver):
    """``receive_some``, into the incoming BIO. As cancel-safe as that method is."""

    def __init__(self, stream: ReceiveStream) -> None:
        self._stream = stream

    async def receive(self, incoming: MemoryBIO) -> None:
        try:
            with trio.CancelScope() as self._scope:
                append(incoming, await self._stream.receive_some(RECEIVE_SIZE))
        finally:
            self._scope = None


def append(incoming: MemoryBIO, data: bytes | bytearray) -> None:
    """What ``receive_some`` returned, into the BIO; no bytes mean EOF."""
    if data:
        incoming.write(data)
    else:
        incoming.write_eof()
