"""``--metrics``: the server's counters, on a plain HTTP port of their own, as Prometheus asks for them.

How this works. One request, one answer, and the connection is closed: that is all that a scraper needs. It is meant for
a private address, and still nobody can use it to tie the server up: requests are short and have a deadline, and only so
many are answered at once.

A server of several workers has as many pages, because each worker is a process that counts for itself: worker N
answers on the port behind that of worker N - 1, and puts the label ``worker="N"`` on every value. Prometheus adds up.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from http import HTTPStatus

import trio

from ..metrics import ServerMetrics
from .address import joined
from .problem import network_problem

__all__ = ["open_metrics_listeners", "serve_metrics"]

#: Seconds for a request and its answer, the longest request, and how many of them at once.
PATIENCE, MOST_REQUEST, MOST_AT_ONCE = 5.0, 8 * 1024, 16

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


async def open_metrics_listeners(address: tuple[str, int], worker: int | None = None) -> list[trio.SocketListener]:
    """Listen for who asks.

    Args:
      address: the host and the port; 0: any.
      worker: the number of the worker that does; the first takes this port, and the others those behind it.

    Raises:
      Problem: the address cannot be had.
    """
    host, port = address
    if worker is not None and port:
        port += worker - 1
    try:
        return await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise network_problem(error, f"--metrics {joined(host, port)}") from error


async def serve_metrics(
    listeners: list[trio.SocketListener], metrics: ServerMetrics, labels: Mapping[str, str] | None = None
) -> None:
    """Serve ``/metrics`` until cancelled.

    Args:
      listeners: from `open_metrics_listeners`; closed at the end.
      metrics: what to tell.
      labels: put on every value.
    """
    await trio.serve_listeners(
        partial(_answer, metrics, dict(labels or {}), trio.CapacityLimiter(MOST_AT_ONCE)), listeners
    )


async def _answer(
    metrics: ServerMetrics, labels: Mapping[str, str], room: trio.CapacityLimiter, stream: trio.SocketStream
) -> None:
    """One request."""
    try:
        room.acquire_nowait()
    except trio.WouldBlock:
        return
    try:
        with trio.move_on_after(PATIENCE):
            request = await _request(stream)
            if request is None:
                status, body = HTTPStatus.BAD_REQUEST, "This is an HTTP port; ask for /metrics.\n"
            elif request[0] not in ("GET", "HEAD"):
                status, body = HTTPStatus.METHOD_NOT_ALLOWED, "GET or HEAD /metrics.\n"
            elif request[1] != "/metrics":
                status, body = HTTPStatus.NOT_FOUND, "There is nothing but /metrics.\n"
            else:
                status, body = HTTPStatus.OK, metrics.prometheus(labels)
            encoded = body.encode()
            head = (
                f"HTTP/1.1 {status.value} {status.phrase}\r\n"
                f"Content-Type: {CONTENT_TYPE if status is HTTPStatus.OK else 'text/plain; charset=utf-8'}\r\n"
                f"Content-Length: {len(encoded)}\r\n"
                "Connection: close\r\n"
                "\r\n"
            )
            await stream.send_all(head.encode() + (b"" if request and request[0] == "HEAD" else encoded))
            await stream.send_eof()
            while await stream.receive_some(MOST_REQUEST):  # so that no reset overtakes the answer
                pass
    except trio.BrokenResourceError:
        pass  # the scraper is gone
    finally:
        room.release()


async def _request(stream: trio.SocketStream) -> tuple[str, str] | None:
    """The method and the path of a request; None if it is none."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some(MOST_REQUEST)
        data += more
        if not more or len(data) > MOST_REQUEST:
            return None
    words = data.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return None
    return words[0], words[1].partition("?")[0]
