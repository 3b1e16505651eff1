"""Plain HTTP on a TLS port, answered so that a person sees what is wrong.

How this works. Two facts decide it: TLS begins with the byte 22, and an HTTP request with the name of its method. The
bytes are looked at before the handshake takes them, because its alert would stand before the answer. The answer is
given on the transport, and then the rest of the request is read away for a moment: closing a socket with unread data
makes the kernel send a reset, and a reset makes the client's kernel forget the answer.
"""

from __future__ import annotations

from typing import Any

import trio

from ..errors import PeerMisbehaved
from ..machine.tls13.misbehaviour import HTTP, not_tls
from ..stream import TLSStream
from .inside import first_bytes

__all__ = ["answer_plain_http"]

PAGE = b"400 Bad Request: this is a TLS port, and the request came in plain HTTP. Use https:// instead of http://\n"

ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\n"
    b"Content-Type: text/plain; charset=us-ascii\r\n"
    b"Content-Length: " + str(len(PAGE)).encode() + b"\r\n"
    b"Connection: close\r\n"
    b"\r\n" + PAGE
)

#: Seconds that the answer and the rest of the request may take.
PATIENCE = 2.0

#: The most that is read of the rest of the request.
MOST_READ = 64 * 1024


async def answer_plain_http(stream: TLSStream[Any]) -> PeerMisbehaved | None:
    """Wait for the client's first byte; if it speaks plain HTTP, answer that.

    Returns: why the handshake is off; None if it may be tried, with every byte still there.

    Cancelled: nothing is lost of a connection that speaks TLS; any other is to be closed.

    Raises:
      Exception: what the transport raises before the first byte.
    """
    begin = await first_bytes(stream)
    if not begin or not any(begin.startswith(method) or method.startswith(begin) for method in HTTP):
        return None
    failure = not_tls(begin, server_side=True)
    failure.alert = None  # none is sent
    if stream.transport_stream is not None:
        with trio.move_on_after(PATIENCE):
            try:
                await _answer(stream.transport_stream)
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # the client has not waited for an answer
    return failure


async def _answer(transport: trio.abc.Stream) -> None:
    await transport.send_all(ANSWER)
    if isinstance(transport, trio.abc.HalfCloseableStream):
        await transport.send_eof()
    left = MOST_READ
    while left > 0 and (data := await transport.receive_some(left)):
        left -= len(data)
