"""Standard input to the peer, and the peer to standard output, both at once, each to its own end.

How this works. Standard input and output may be a terminal, a pipe or a file, and they are shared with other
processes, so they cannot be made nonblocking: threads read and write them, and a thread that hangs there when
the connection has ended is left behind. A relay holds one piece of data in each direction, so whoever is slow
slows the other end, and nothing else.
"""

from __future__ import annotations

import errno
import os
import select
from typing import Any

import trio

from ..errors import TLSError
from ..stream import TLSStream
from .console import OutputClosed
from .paper import output_failed
from .printable import TerminalText
from .problem import ExitStatus, Problem

__all__ = ["StandardOutput", "relay"]

#: Bytes that are read at once.
PIECE = 64 * 1024

#: Seconds that a peer may still talk when nothing can be sent to it any more.
LAST_WORDS = 5.0


class StandardOutput:
    """Standard output, for bytes of the peer.

    Args:
      descriptor: its number.
      raw: give a terminal the bytes as they are; else control characters are escaped there. A pipe or a
        file always gets the bytes as they are.
    """

    def __init__(self, descriptor: int, *, raw: bool) -> None:
        self._descriptor = descriptor
        self._text = None if raw or not os.isatty(descriptor) else TerminalText()

    async def write(self, data: bytes, *, final: bool = False) -> None:
        """Write all of ``data``.

        Raises:
          OutputClosed: nobody reads it.
        """
        if self._text is not None:
            data = self._text.feed(data, final=final).encode()
        if data:
            await trio.to_thread.run_sync(self._write, data, abandon_on_cancel=True)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:  # whoever started us has made it so
                select.select((), (self._descriptor,), ())
            except BrokenPipeError:
                raise OutputClosed from None
            except OSError as error:
                raise output_failed(error) from error


async def relay(stream: TLSStream[Any], output: StandardOutput, *, input_descriptor: int | None) -> None:
    """Carry data both ways until the peer has ended its side.

    At the end of the input the peer gets close_notify, and may go on.

    Args:
      stream: the connection.
      output: for what the peer sends.
      input_descriptor: where to read what goes to the peer; None: nothing does.

    Raises:
      TLSError: the connection failed, or was cut off.
      OutputClosed: nobody reads the output.
    """
    sending = _Sending(stream)
    async with trio.open_nursery() as nursery:
        if input_descriptor is not None:
            nursery.start_soon(sending.run, input_descriptor, nursery.cancel_scope)
        async for data in stream:
            await output.write(bytes(data))
        await output.write(b"", final=True)
        sending.failure = None  # the peer has ended in order, and wanted no more
        nursery.cancel_scope.cancel()
    if sending.failure is not None:
        raise sending.failure


class _Sending:
    """The way to the peer. A failure here lets what the peer has said before come out first."""

    def __init__(self, stream: TLSStream[Any]) -> None:
        self._stream = stream
        self.failure: TLSError | None = None

    async def run(self, descriptor: int, conversation: trio.CancelScope) -> None:
        """Send what is read, then close_notify; after a failure, the whole ``conversation`` ends soon."""
        try:
            while data := await trio.to_thread.run_sync(_read, descriptor, abandon_on_cancel=True):
                await self._stream.send_all(data)
            await self._stream.send_eof()
        except TLSError as error:
            self.failure = error
            conversation.deadline = trio.current_time() + LAST_WORDS


def _read(descriptor: int) -> bytes:
    while True:
        try:
            return os.read(descriptor, PIECE)
        except BlockingIOError:  # as for the output
            select.select((descriptor,), (), ())
        except OSError as error:
            if error.errno == errno.EIO:  # a terminal that is gone
                return b""
            sentence = f"standard input cannot be read: {error.strerror or error}"
            raise Problem(ExitStatus.USAGE, sentence, "Check where it comes from, or pass --no-input") from error
