"""Where sessions lie until they are used: with a client by server, with a server by the identity in the ticket.

How this works. Whoever takes a session removes it: "Clients SHOULD NOT reuse a ticket for multiple connections. Reuse
of a ticket allows passive observers to correlate different connections" (RFC 9846 appendix C.4), and a server whose
sessions are used once gives their PSKs up with them (section 8.1). Both kinds have a Protocol, for a store of the
application's own, and a class that keeps them in memory, within bounds.

Neither class has a clock. What has expired lies there until it is taken, when whoever took it looks at its age, or
until something newer takes its place.

The two classes may be used from several threads: each step is one operation of a built-in type, and the one that
hands a session out also removes it. In a race a session may get lost, which costs a full handshake; none is handed
out twice.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .sessions import Session

__all__ = ["ClientSessionCache", "MemorySessionStore", "ServerSessionStore", "SessionCache"]

#: Bytes of a server's session. Only a client that presents a lot of certificates makes it longer.
MOST_STATE = 2**14


class ClientSessionCache(Protocol):
    """Keeps a client's sessions. The machine calls its methods in the midst of a connection: they must not block."""

    def put(self, key: bytes, session: Session) -> None:
        """Keep a session.

        Args:
          key: of the server and the configuration; nothing secret, of any length.
          session: see `Session.to_bytes` to store it elsewhere.
        """
        ...

    def take(self, key: bytes) -> Session | None:
        """Remove a session of this key and return it, the newest first; None if there is none.

        It may have expired: the machine looks, and takes the next.
        """
        ...


class SessionCache:
    """Keeps a client's sessions in memory: a `ClientSessionCache`.

    Args:
      maxsize: of how many servers sessions are kept. The server that gave none for the longest time is dropped first.
      per_server: how many sessions are kept of one server, the newest. That is how many connections to it can be
        opened at once with a resumed session each.

    Raises:
      ValueError: one of them is less than 1.
    """

    __slots__ = ("_shelves", "maxsize", "per_server")

    def __init__(self, maxsize: int = 1000, per_server: int = 4) -> None:
        if maxsize < 1 or per_server < 1:
            raise ValueError(f"maxsize and per_server must be at least 1, not {maxsize!r} and {per_server!r}")
        self.maxsize: int = maxsize
        self.per_server: int = per_server
        self._shelves: OrderedDict[bytes, deque[Session]] = OrderedDict()

    def put(self, key: bytes, session: Session) -> None:
        """As `ClientSessionCache.put`. What exceeds a bound is dropped, the oldest first."""
        shelf = self._shelves.pop(key, None)
        if shelf is None:
            shelf = deque(maxlen=self.per_server)
        shelf.append(session)
        self._shelves[key] = shelf
        if len(self._shelves) > self.maxsize:
            self._shelves.popitem(last=False)

    def take(self, key: bytes) -> Session | None:
        """As `ClientSessionCache.take`."""
        shelf = self._shelves.get(key)
        if shelf is None:
            return None
        try:
            session = shelf.pop()
        except IndexError:  # another thread was faster
            return None
        if not shelf:
            self._shelves.pop(key, None)
        return session

    def clear(self) -> None:
        """Drop all sessions."""
        self._shelves.clear()

    def __len__(self) -> int:
        """How many sessions there are."""
        return sum(map(len, tuple(self._shelves.values())))

    def __repr__(self) -> str:
        return f"<SessionCache with {len(self)} sessions>"


class ServerSessionStore(Protocol):
    """Keeps a server's sessions, so that its tickets are mere names of them.

    For servers that want to forget a PSK for certain once it is used, or to revoke sessions. Sealed tickets
    (`TicketKeys`) need no store.
    """

    def put(self, identity: bytes, state: bytes, expires: float) -> None:
        """Keep a session. Called in the midst of a connection: it must not block.

        Args:
          identity: random; the client will name it.
          state: the session. It is a secret.
          expires: when it may be forgotten, seconds since 1970.
        """
        ...

    def take(self, identity: bytes) -> bytes | Awaitable[bytes | None] | None:
        """Remove a session and return it, at once or awaitably; None if there is none.

        Args:
          identity: what a client named: any bytes at all.
        """
        ...


class MemorySessionStore:
    """Keeps a server's sessions in memory: a `ServerSessionStore`, for one process.

    Args:
      maxsize: how many to keep; the oldest is dropped first. One takes about a kilobyte, and the certificates that its
        client presented, if any. One of more than 16 KiB is not kept, as no sealed ticket is that long: such a client
        gets full handshakes.

    Raises:
      ValueError: it is less than 1.
    """

    __slots__ = ("_states", "maxsize")

    def __init__(self, maxsize: int = 10_000) -> None:
        if maxsize < 1:
            raise ValueError(f"maxsize must be at least 1, not {maxsize!r}")
        self.maxsize: int = maxsize
        self._states: OrderedDict[bytes, bytes] = OrderedDict()

    def put(self, identity: bytes, state: bytes, expires: float) -> None:
        """As `ServerSessionStore.put`. What has expired is not looked for: it is the oldest, and goes first."""
        if len(state) > MOST_STATE:
            return
        self._states[identity] = state
        if len(self._states) > self.maxsize:
            self._states.popitem(last=False)

    def take(self, identity: bytes) -> bytes | None:
        """As `ServerSessionStore.take`, at once."""
        return self._states.pop(identity, None)

    def clear(self) -> None:
        """Drop all sessions: no ticket that was issued is good any more."""
        self._states.clear()

    def __len__(self) -> int:
        """How many sessions there are."""
        return len(self._states)

    def __repr__(self) -> str:
        return f"<MemorySessionStore with {len(self)} sessions>"
