"""TLS over a Unix domain socket."""

from __future__ import annotations

import os
import ssl

import trio

from .machine.interface import MachineFactory
from .machine.tls13.sessions import Session
from .stream import TLSStream

__all__ = ["open_tls_over_unix_socket"]


async def open_tls_over_unix_socket(
    path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
    config: ssl.SSLContext | MachineFactory,
    *,
    server_hostname: str | bytes | None,
    https_compatible: bool = False,
    session: ssl.SSLSession | Session | None = None,
    grace: float = 1.0,
) -> TLSStream[trio.SocketStream]:
    """Connect to the Unix domain socket at ``path``, and wrap the connection in a `TLSStream`.

    No handshake is done: the first send or receive does it, or call `TLSStream.do_handshake`.

    Args:
      path: where the socket lies in the file system.
      config: as for `TLSStream`.
      server_hostname: the name that the server's certificate must have: a path is none. None only if the
        configuration checks no name.
      https_compatible: as for `TLSStream`.
      session: as for `TLSStream`.
      grace: as for `TLSStream`.

    Cancelled: nothing stays open.

    Raises:
      OSError: there is no such socket, or nobody listens.
      ValueError: the configuration cannot be used by a client; the connection has been closed again.
    """
    socket_stream = await trio.open_unix_socket(path)
    try:
        return TLSStream(
            socket_stream,
            config,
            server_hostname=server_hostname,
            https_compatible=https_compatible,
            session=session,
            grace=grace,
        )
    except BaseException:
        await trio.aclose_forcefully(socket_stream)
        raise
