"""ResumableSend: the right retry as the easy one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from .stream import TLSStream

__all__ = ["ResumableSend"]


class ResumableSend:
    """Data on its way through a `TLSStream`, with its own position. Made by `TLSStream.sender`.

    ::

        sender = stream.sender(data)
        while True:
            with trio.move_on_after(5):
                await sender.send()
                break
            print(f"slow: {sender.position} of {len(data)} bytes accepted so far")
    """

    def __init__(self, stream: TLSStream[Any], data: bytes | bytearray | memoryview) -> None:
        self._stream = stream
        self._data = bytes(data)
        self.position = 0
        """Bytes accepted so far."""

    @property
    def remaining(self) -> int:
        """Bytes not accepted yet."""
        return len(self._data) - self.position

    async def send(self) -> None:
        """Send what is left of the data; returns once all of it has been handed to the transport.

        Cancelled: call it again. No byte is sent twice, and none is lost.

        Raises: as `TLSStream.send_all`.
        """
        with memoryview(self._data) as view:
            before = self._stream.plaintext_sent
            try:
                await self._stream.send_all(view[self.position :])
            finally:
                self.position += self._stream.plaintext_sent - before
