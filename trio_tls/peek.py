"""One port for TLS and for other protocols: look at the first bytes, and give them to whom they belong.

How this works. A `ClientHelloPeek` reads from the connection until its first bytes tell what it is, and keeps them.
Nobody can put bytes back into a stream, so they are handed on: to a `TLSStream` as ``initial_data``, or to the handler
of the other protocol, together with the stream.
"""

from __future__ import annotations

import trio

from .machine.client_hello import ClientHelloInfo, ClientHelloReader

__all__ = ["ClientHelloPeek", "peek_client_hello"]

#: One record of the greatest size. A ClientHello takes 200 to 2000 bytes, most of that the key shares.
MAX_BYTES = 16 * 1024 + 256


class ClientHelloPeek:
    """The first bytes of a connection, read until they tell whether it is TLS, and what its client offers.

    ::

        peek = ClientHelloPeek(stream)
        hello = await peek.read()  # after a cancel: call it again
        if hello is None:
            await speak_plainly(stream, peek.data)
        else:
            tls = TLSStream(stream, context_for(hello.server_name), server_side=True, initial_data=peek.data)

    A protocol whose server speaks first cannot be told apart in this way: its clients wait, and so does `read`. Use a
    timeout.

    Args:
      stream: the connection.
      max_bytes: the most to read, at least 5.

    Raises:
      ValueError: ``max_bytes`` makes no sense.
    """

    def __init__(self, stream: trio.abc.ReceiveStream, *, max_bytes: int = MAX_BYTES) -> None:
        if max_bytes < 5:
            raise ValueError(f"max_bytes must be at least 5, not {max_bytes!r}")
        self._stream = stream
        self._max_bytes = max_bytes
        self._reader = ClientHelloReader(max_bytes)
        self._client_hello: ClientHelloInfo | None = None

    @property
    def data(self) -> bytes:
        """All bytes that were read so far, and so are no longer in the stream. At most ``max_bytes``."""
        return bytes(self._reader.data)

    @property
    def client_hello(self) -> ClientHelloInfo | None:
        """What the client says; None if it speaks no TLS, or `read` has not returned yet."""
        return self._client_hello

    async def read(self) -> ClientHelloInfo | None:
        """Read until the whole ClientHello is there, or it is certain that there is none.

        Returns: what the ClientHello says. None: the connection does not begin with a TLS handshake, or ended before
        its first byte.

        Cancelled: nothing is lost; call it again.

        Raises:
          PeerMisbehaved: it begins as TLS does, but not with a well-formed ClientHello of at most ``max_bytes``. The
            bytes are in `data`, and nothing was sent: to let the client know, give them to a `TLSStream`, whose
            handshake fails with the right alert.
          UnexpectedEOF: the connection ended in the middle of the ClientHello.
          BaseException: what the stream's ``receive_some`` raises.
        """
        reader = self._reader
        if reader.decided:
            await trio.lowlevel.checkpoint()
        while not reader.decided:
            reader.feed(await self._stream.receive_some(self._max_bytes - len(reader.data)))
        self._client_hello = reader.outcome()
        return self._client_hello


async def peek_client_hello(stream: trio.abc.ReceiveStream, *, max_bytes: int = MAX_BYTES) -> ClientHelloPeek:
    """Read the first bytes of a connection, until they tell whether it is TLS, and what its client offers.

    In one call, for who closes the connection when this is cancelled or fails; else make a `ClientHelloPeek`, which
    keeps the bytes then too.

    Args:
      stream: the connection.
      max_bytes: the most to read.

    Returns: the result: `ClientHelloPeek.client_hello` and `ClientHelloPeek.data`.

    Cancelled: what was read is lost.

    Raises: as `ClientHelloPeek.read`.
    """
    peek = ClientHelloPeek(stream, max_bytes=max_bytes)
    await peek.read()
    return peek
