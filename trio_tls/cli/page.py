"""What ``trio-tls serve --www`` answers: HTTP/1.1, one request for each connection.

How this works. ``/`` is the page about the visitor's own handshake, ``/json`` the same for programs. A request is read
to the end of its head and no further; what it says beyond its first line changes nothing. The page needs no script
and nothing from elsewhere, and the headers forbid both.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import trio

from .page_html import STYLE_HASH, html_of
from .visit import Visit

__all__ = ["answer"]

#: The longest request head that is read, in bytes; how long it may take, and how long its first byte, in seconds.
#: The latter is short, for browsers connect ahead of need: such a connection is older than the session, and a reload
#: that used it would resume nothing.
HEAD_LIMIT = 64 * 1024
HEAD_TIMEOUT = 30.0
IDLE_TIMEOUT = 5.0

#: After an answer that comes before the whole request: bytes and seconds of the rest that are read away, since
#: closing a socket with unread bytes takes the answer away from the client.
REST_LIMIT = 1024 * 1024
REST_TIMEOUT = 1.0

HTML, JSON, TEXT = "text/html; charset=utf-8", "application/json", "text/plain; charset=utf-8"

#: The one style that the page has is allowed by its hash. All else is not.
POLICY = (
    f"default-src 'none'; style-src '{STYLE_HASH}'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

HEADERS = (
    f"Content-Security-Policy: {POLICY}",
    "X-Content-Type-Options: nosniff",
    "Referrer-Policy: no-referrer",
    "Cross-Origin-Resource-Policy: same-origin",
    "Cache-Control: no-store",
    "Connection: close",
)


async def answer(stream: trio.abc.Stream, visit: Visit) -> None:
    """Read one request, and answer it; the caller closes the stream. A visitor that asks for nothing gets nothing.

    Args:
      stream: the connection.
      visit: what there is to tell.
    """
    head = await _head(stream)
    if not head:
        return
    method, target = _request_line(head)
    if not method:
        await _refuse(stream, "400 Bad Request", "That is no HTTP/1.1 request.")
    elif method not in ("GET", "HEAD"):
        await _refuse(stream, "405 Method Not Allowed", "GET and HEAD only.", "Allow: GET, HEAD")
    elif target not in _PAGES:
        await _refuse(stream, "404 Not Found", "There is / for people, and /json for programs.")
    else:
        kind, write = _PAGES[target]
        response = _response("200 OK", kind, write(visit).encode())
        if method == "HEAD":
            response = response.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        await stream.send_all(response)


def _json(visit: Visit) -> str:
    return json.dumps(visit.as_json(), indent=2) + "\n"


_PAGES: dict[str, tuple[str, Callable[[Visit], str]]] = {"/": (HTML, html_of), "/json": (JSON, _json)}


async def _head(stream: trio.abc.Stream) -> bytes:
    """What has come up to the end of the head, the limit, the end or the timeout."""
    head = bytearray()
    with trio.move_on_after(IDLE_TIMEOUT) as patience:
        while b"\r\n\r\n" not in head and b"\n\n" not in head and len(head) <= HEAD_LIMIT:
            try:
                part = await stream.receive_some()
            except trio.BrokenResourceError:
                if head:
                    raise
                break  # connected ahead of need, and gone: nobody has missed anything
            if not part:
                break
            if not head:
                patience.deadline = trio.current_time() + HEAD_TIMEOUT
            head += part
    return bytes(head)


def _request_line(head: bytes) -> tuple[str, str]:
    """The method, and the path without its query; ``""`` for both, if this is no such line."""
    words = head.partition(b"\n")[0].decode("latin-1").split()
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return "", ""
    return words[0], words[1].partition("?")[0]


async def _refuse(stream: trio.abc.Stream, status: str, words: str, *more: str) -> None:
    await stream.send_all(_response(status, TEXT, f"{words}\n".encode(), *more))
    with trio.move_on_after(REST_TIMEOUT):
        read = 0
        while read < REST_LIMIT and (part := await stream.receive_some()):
            read += len(part)


def _response(status: str, kind: str, body: bytes, *more: str) -> bytes:
    head = (f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *HEADERS, *more)
    return "\r\n".join((*head, "", "")).encode() + body
