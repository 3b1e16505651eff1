"""Nagle's algorithm, and the TCP socket below a stream.

How this works. With Nagle's algorithm on, TCP holds a small segment back while an earlier one is not acknowledged, and
a receiver that has nothing to say delays its acknowledgement, by about 40 ms on Linux. So a protocol that writes
twice before it reads waits for both; the notes of ``SSL_connect(3)`` tell of this. Trio turns the algorithm off
(``TCP_NODELAY``) on every `trio.SocketStream`. This module is for who wants it on again, for a protocol of many small
one-way writes: at once, or once the handshake is done.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Literal, TypeAlias

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TCPNoDelay", "apply_tcp_nodelay", "set_tcp_nodelay", "tcp_socket_below"]

#: When ``TCP_NODELAY`` is on; what each word means stands in the docstring of `TLSStream`.
TCPNoDelay: TypeAlias = Literal["always", "handshake", "never"]


def set_tcp_nodelay(stream: trio.abc.AsyncResource, on: bool) -> None:
    """Set ``TCP_NODELAY`` on the TCP socket below ``stream``.

    On (as Trio sets it on every `trio.SocketStream`): each send leaves at once. Off: Nagle's algorithm holds small
    segments back while earlier ones are not acknowledged, which makes fewer packets of many small sends, and makes
    a protocol slow that sends twice before it receives.

    The socket is found through `TLSStream` (and ``trio.SSLStream``) within each other, and through the sending half
    of a `trio.StapledStream`.

    Args:
      stream: the stream, at any depth above its `trio.SocketStream`.
      on: whether sends leave at once.

    Raises:
      ValueError: there is no TCP socket below it; the text says what there is.
      trio.ClosedResourceError: the socket was closed, or the TLSStream unwrapped.
      OSError: the system refused.
    """
    tcp_socket = tcp_socket_below(stream)
    if tcp_socket.fileno() < 0:
        raise trio.ClosedResourceError("the TCP socket below this stream was closed")
    tcp_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, bool(on))


def tcp_socket_below(stream: object) -> trio.socket.SocketType:
    """The TCP socket that ``stream`` sends on.

    Raises: as `set_tcp_nodelay`.
    """
    path = [type(stream).__name__]
    while not isinstance(stream, (trio.SocketStream, trio.SocketListener)):
        if isinstance(stream, trio.StapledStream):
            below: object = stream.send_stream  # it is the sending side that Nagle's algorithm is about
        else:
            below = getattr(stream, "transport_stream", stream)
        if below is stream:
            raise ValueError(
                f"there is no TCP socket below this stream, but a {' on a '.join(path)}; "
                "Nagle's algorithm is about a trio.SocketStream of TCP"
            )
        if below is None:
            raise trio.ClosedResourceError("this TLSStream was unwrapped; its transport is the caller's")
        stream = below
        path.append(type(stream).__name__)
    family = stream.socket.family
    if family not in (socket.AF_INET, socket.AF_INET6):
        name = getattr(family, "name", family)
        raise ValueError(f"the socket below this stream is no TCP socket, but one of {name}; it has no TCP_NODELAY")
    return stream.socket


def apply_tcp_nodelay(stream: object, when: TCPNoDelay) -> Callable[[], None] | None:
    """Set ``TCP_NODELAY`` for a connection that begins; returns what is left to do once its handshake is done.

    Raises: as `set_tcp_nodelay`.
    """
    if when == "always":
        return None  # as Trio has set it, on whatever transport this is
    if when not in ("handshake", "never"):
        raise ValueError(f"tcp_nodelay must be 'always', 'handshake' or 'never', not {when!r}")
    tcp_socket = tcp_socket_below(stream)

    def let_segments_wait() -> None:
        # Failing means that the connection is gone, and the next send or receive says so in better words.
        with contextlib.suppress(OSError):
            tcp_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, False)

    if when == "handshake":
        return let_segments_wait
    let_segments_wait()
    return None
