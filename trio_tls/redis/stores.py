"""What lies in Redis: sessions that can be used once, and the secrets of tickets.

How this works. A session is one key that expires with it. Taking it is ``GETDEL`` (Redis 6.2), which hands a value out
and removes it in one step: of two who present the same ticket, on whichever hosts, one resumes. The machine stores a
session in the midst of a handshake and cannot wait, so `RedisSessionStore.put` only queues; `RedisSessionStore.run`
writes what is queued, many at once. The ticket secrets are one key, whose text is replaced by compare and set.

Without Redis there are full handshakes, and no failed ones: a lookup that fails finds nothing. Whoever has failed is
left alone for a moment, so that not every handshake waits for the timeout.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable

import trio

from ..machine.tls13.session_cache import MOST_STATE
from .client import Redis, RedisError

__all__ = ["RedisSessionStore", "RedisTicketSecrets"]

LOGGER = logging.getLogger("trio_tls")

#: Sessions that are written at once.
BATCH = 100

#: Bytes in the name of a session; ours have 32, but a client may present anything as a ticket.
MOST_IDENTITY = 64

#: Compare and set, in one step. KEYS: where; ARGV: what is there, what shall be.
REPLACE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2]) return 1 end return 0"


class RedisSessionStore:
    """Keeps a server's sessions in Redis: a `ServerSessionStore` for any number of processes and hosts.

    ::

        store = RedisSessionStore(Redis.from_url("rediss://user:password@redis.example.org"))
        config = ServerConfig(credentials=credential, session_store=store)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.run)
            await serve_tls_over_tcp(handler, 443, config)

    Each ticket is good once, wherever it is presented. The sessions are secrets: whoever reads them can take the place
    of your clients. So use TLS and a password where others share the network or the server.

    Args:
      redis: the server. It needs the commands SET and GETDEL (Redis 6.2).
      prefix: what the keys begin with.
      most_waiting: how many sessions may wait to be written. What exceeds that is dropped: those clients get a full
        handshake the next time.
      pause: seconds for which Redis is left alone after it has failed.

    Raises:
      ValueError: a number makes no sense.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        prefix: str = "trio_tls:session:",
        most_waiting: int = 1000,
        pause: float = 1.0,
    ) -> None:
        if most_waiting < 1:
            raise ValueError(f"most_waiting must be at least 1, not {most_waiting!r}")
        if not pause >= 0:
            raise ValueError(f"pause must be a number of seconds, 0 or more, not {pause!r}")
        self._redis = redis
        self._prefix = prefix.encode()
        self._most_waiting = most_waiting
        self._pause = pause
        self._failed_at = float("-inf")
        self._told = False
        self._waiting: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()
        self._news = trio.Event()

    def put(self, identity: bytes, state: bytes, expires: float) -> None:
        """As `ServerSessionStore.put`: `run` writes it. One of more than 16 KiB is not kept."""
        if len(state) <= MOST_STATE and len(self._waiting) < self._most_waiting:
            self._waiting[identity] = (state, expires)
            self._news.set()

    def take(self, identity: bytes) -> bytes | Awaitable[bytes | None] | None:
        """As `ServerSessionStore.take`. None, too, where Redis cannot be asked, which is logged once."""
        waiting = self._waiting.pop(identity, None)
        if waiting is not None:
            return waiting[0]
        if len(identity) > MOST_IDENTITY:
            return None  # nothing that we have given out, so nothing to burden Redis with
        if trio.current_time() - self._failed_at < self._pause:
            return None
        return self._taken(identity)

    async def _taken(self, identity: bytes) -> bytes | None:
        try:
            state = await self._redis.call("GETDEL", self._prefix + identity.hex().encode())
        except RedisError as error:
            self._has_failed(error)
            return None
        self._told = False
        return state if isinstance(state, bytes) else None

    async def run(self) -> None:
        """Write what is put, for ever. Run it in a nursery, beside the server.

        Cancelled: what is still waiting is not written, and its clients get a full handshake.
        """
        while True:
            await self._news.wait()
            if not self._waiting:
                self._news = trio.Event()
                continue
            now = time.time()
            batch = [self._waiting.popitem(last=False) for _ in range(min(BATCH, len(self._waiting)))]
            commands = [
                ("SET", self._prefix + identity.hex().encode(), state, "PX", int(1000 * (expires - now)))
                for identity, (state, expires) in batch
                if expires > now + 1
            ]
            try:
                if commands:
                    await self._redis.calls(commands)
                    self._told = False
            except RedisError as error:
                self._has_failed(error)
                await trio.sleep(self._pause)

    def _has_failed(self, error: RedisError) -> None:
        self._failed_at = trio.current_time()
        if not self._told:
            LOGGER.error("sessions cannot be kept, and clients get full handshakes: %s", error)
        self._told = True

    def __repr__(self) -> str:
        return f"<RedisSessionStore at {self._redis!r}>"


class RedisTicketSecrets:
    """Shares ticket secrets in Redis: a `TicketSecretStore`. See `SharedTicketKeys`.

    Args:
      redis: the server. It needs the commands GET, SET and EVAL.
      key: where the secrets lie.
    """

    def __init__(self, redis: Redis, key: str = "trio_tls:ticket-secrets") -> None:
        self._redis = redis
        self._key = key

    async def read(self) -> bytes | None:
        """As `TicketSecretStore.read`. RedisError if Redis cannot be asked."""
        text = await self._redis.call("GET", self._key)
        return text if isinstance(text, bytes) else None

    async def replace(self, old: bytes | None, new: bytes) -> bool:
        """As `TicketSecretStore.replace`. RedisError if Redis cannot be asked."""
        if old is None:
            answer = self._redis.call("SET", self._key, new, "NX")
        else:
            answer = self._redis.call("EVAL", REPLACE, 1, self._key, old, new)
        del old, new  # a RedisError shows nothing of them: see `Redis.calls`
        return await answer in {b"OK", 1}

    def __repr__(self) -> str:
        return f"<RedisTicketSecrets at {self._redis!r}>"
