"""A cache of TLS sessions, for clients on an ``ssl.SSLContext``.

How this works. A session is taken out of the cache when a connection is made with it, and what that connection got from
the server (a TLS 1.3 server sends tickets after the handshake) is put in when it ends. So none is used twice: "Clients
SHOULD NOT reuse a ticket for multiple connections" (RFC 9846 appendix C.4), and one that a server chokes on is gone.

CPython ties an `ssl.SSLSession` to its context, by a strong reference. If the cache held the sessions, it would keep
every context alive that it ever saw. So they lie on a shelf of their context, and go with it; what the cache holds is
the order in which they were put there.
"""

from __future__ import annotations

import ssl
import weakref
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

from .core import T_Stream
from .stream import TLSStream

__all__ = ["SSLSessionCache", "SessionKeepingStream"]

#: The attribute of a context that has the shelves, one for each cache.
SHELVES = "_trio_tls_sessions"


class SSLSessionCache:
    """Sessions to resume, for clients whose configuration is an `ssl.SSLContext`.

    A resumed handshake needs no certificates, no signatures and, with TLS 1.2, one round trip less. ::

        cache = SSLSessionCache()
        async with await open_tls_over_tcp_stream(host, 443, context, session_cache=cache) as stream:
            ...

    A session belongs to the context object it was made with, the server's name, and the port (or what else is given as
    ``key``). It is used for one connection: of two that are opened at once, the second does a full handshake. A session
    that the server refuses, because it has expired or the server has forgotten it, costs nothing: the handshake is
    a full one. `ConnectionInfo.session_reused` tells which it was.

    What `ssl` cannot do: a session cannot be pickled or stored, and it is of no use with another context, though that
    be configured in the same way. So a cache is good for one process, and for contexts that are kept. It keeps no
    context alive: the sessions go with theirs. A resumed handshake does not check the server's certificate again, since
    that was done when the session was made; who changes what a context trusts should take a new one.

    Args:
      maxsize: how many sessions to keep, at least 1. What was put in first is dropped first.

    Raises:
      ValueError: ``maxsize`` makes no sense.
    """

    def __init__(self, maxsize: int = 100) -> None:
        if maxsize < 1:
            raise ValueError(f"maxsize must be at least 1, not {maxsize!r}")
        self.maxsize = maxsize
        self._order: OrderedDict[tuple[weakref.ref[ssl.SSLContext], str | None, Hashable], None] = OrderedDict()
        self._seen: weakref.WeakKeyDictionary[TLSStream[Any], bytes] = weakref.WeakKeyDictionary()

    def __len__(self) -> int:
        """How many sessions there are."""
        return sum(context() is not None for context, _, _ in self._order)

    def resume(self, stream: TLSStream[Any], key: Hashable = None) -> bool:
        """Let ``stream`` offer a session that is here for its context and server name; whether there is one.

        For streams that `open_tls_over_tcp_stream` did not make. Call it before the handshake, and `keep` at the end.

        Args:
          stream: a client's stream.
          key: what else distinguishes servers of one name; `open_tls_over_tcp_stream` takes the port.

        Raises:
          ValueError: a server's stream; or its handshake is done; or it does not run on an `ssl.SSLContext`.
        """
        context = _context_of(stream)
        if stream.info is not None:
            raise ValueError("the handshake is done: it is too late to resume a session")
        session = self._shelf(context).pop((stream.server_hostname, key), None)
        self._order.pop((weakref.ref(context), stream.server_hostname, key), None)
        if session is None:
            return False
        stream.session = session
        self._seen[stream] = session.id
        return True

    def keep(self, stream: TLSStream[Any], key: Hashable = None) -> bool:
        """Keep the session of ``stream``, if it has one that can be resumed; whether it has.

        With TLS 1.3 it has none before some data was received: the server sends its tickets after the handshake.
        The stream may be closed already.

        Args:
          stream: a client's stream.
          key: as for `resume`.

        Raises:
          ValueError: a server's stream, or one that does not run on an `ssl.SSLContext`.
        """
        context = _context_of(stream)
        session = stream.session if stream.info is not None else None
        if not isinstance(session, ssl.SSLSession) or not (session.has_ticket or session.id):
            return False
        if session.id == self._seen.get(stream) and stream.version() == "TLSv1.3":
            return False  # used up for this connection, or kept already; the server has sent no other ticket
        self._seen[stream] = session.id
        name = stream.server_hostname
        self._shelf(context)[name, key] = session
        place = (weakref.ref(context), name, key)
        self._order[place] = None
        self._order.move_to_end(place)
        while len(self._order) > self.maxsize:
            oldest, name, key = next(iter(self._order))
            self._drop(oldest, name, key)
        return True

    def clear(self) -> None:
        """Drop all sessions."""
        for place in list(self._order):
            self._drop(*place)

    def _drop(self, reference: weakref.ref[ssl.SSLContext], name: str | None, key: Hashable) -> None:
        del self._order[reference, name, key]
        context = reference()
        if context is not None:
            del self._shelf(context)[name, key]

    def _shelf(self, context: ssl.SSLContext) -> dict[tuple[str | None, Hashable], ssl.SSLSession]:
        """The sessions of ``context`` that are in this cache."""
        shelves: weakref.WeakKeyDictionary[SSLSessionCache, dict[tuple[str | None, Hashable], ssl.SSLSession]]
        shelves = context.__dict__.setdefault(SHELVES, weakref.WeakKeyDictionary())
        return shelves.setdefault(self, {})


class SessionKeepingStream(TLSStream[T_Stream]):
    """A client's stream that resumes a session from a cache, and keeps its own there when it ends."""

    _session_cache: SSLSessionCache
    _session_key: Hashable

    def use(self, cache: SSLSessionCache, key: Hashable) -> None:
        """Resume now, and keep later. Comes before anything else."""
        cache.resume(self, key)
        self._session_cache, self._session_key = cache, key

    async def aclose(self) -> None:
        """As `TLSStream.aclose`."""
        try:
            await super().aclose()
        finally:
            if not self._machine.sent_fatal_alert:  # else its session identifier MUST be forgotten (RFC 5246 7.2.2)
                self._session_cache.keep(self, self._session_key)

    async def unwrap(self) -> tuple[T_Stream, bytes]:
        """As `TLSStream.unwrap`."""
        unwrapped = await super().unwrap()
        self._session_cache.keep(self, self._session_key)
        return unwrapped


def _context_of(stream: TLSStream[Any]) -> ssl.SSLContext:
    if stream.server_side:
        raise ValueError("a session is resumed by the client; this stream is a server's")
    try:
        return stream.context
    except AttributeError:
        raise ValueError("this stream does not run on an ssl.SSLContext, so it has no ssl.SSLSession") from None
