"""A Redis client that is just enough for this package.

How this works. What we ask Redis for is in the way of a handshake, so it has to be cancelled like a handshake, at any
point, without a thread that goes on. The ``redis`` package can block or run under asyncio, neither of which does
that. The protocol (RESP 2) is a dozen lines for commands and a dozen for the four kinds of reply that our commands
have, and the connection may be a `TLSStream` like any other; so it is spoken here.

A command takes a connection that is idle, or opens one, sends, and reads the reply; then the connection is idle
again. One on which anything goes wrong, a cancel in the middle included, is closed: nobody can know what is still to
come on it. A connection that was idle may have been closed by the server meanwhile; then the command is given to a
fresh one, once. So a command may be done twice, which does no harm to any of ours.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import unquote, urlsplit

import trio

from ..machine.interface import MachineFactory
from ..tcp import open_tls_over_tcp_stream

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Redis", "RedisError"]

#: What a command may answer.
Reply: TypeAlias = "bytes | int | None"

#: Bytes of one reply. A session has 16 KiB at the most.
MOST_REPLY = 2**20

DEFAULT_PORT = 6379


class RedisError(Exception):
    """Redis could not be reached, did not answer in time, or refused a command; the text tells which."""


class Redis(trio.abc.AsyncResource):
    """Connections to one Redis server (or Valkey, or what else speaks RESP 2). ``async with`` closes them.

    Args:
      host: its name or address.
      port: its TCP port.
      path: of its Unix domain socket, instead of host and port.
      config: speak TLS, by this `ClientConfig` or `ssl.SSLContext`. Without it everything is in the clear.
      username: for AUTH.
      password: for AUTH.
      database: the number of the database.
      timeout: seconds that a command may take, with its connection. A handshake waits for it.
      most_idle: how many connections are kept open while nobody uses them.
      most_connections: how many there are at the same time. A command waits for one, within its ``timeout``.

    Raises:
      ValueError: a number makes no sense.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        *,
        path: str | None = None,
        config: ssl.SSLContext | MachineFactory | None = None,
        username: str | None = None,
        password: str | None = None,
        database: int = 0,
        timeout: float = 1.0,
        most_idle: int = 4,
        most_connections: int = 32,
    ) -> None:
        if not timeout > 0:
            raise ValueError(f"timeout must be more than 0 seconds, not {timeout!r}")
        if database < 0 or most_idle < 0:
            raise ValueError(f"database and most_idle must be 0 or more, not {database!r} and {most_idle!r}")
        if most_connections < 1:
            raise ValueError(f"most_connections must be at least 1, not {most_connections!r}")
        self._host, self._port, self._path = host, port, path
        self._config = config
        self._username, self._password = username, password
        self._database = database
        self._timeout = timeout
        self._most_idle = most_idle
        self._idle: deque[_Connection] = deque()
        self._limiter = trio.CapacityLimiter(most_connections)

    @classmethod
    def from_url(cls, url: str, *, config: ssl.SSLContext | MachineFactory | None = None, timeout: float = 1.0) -> Self:
        """``redis://[user:password@]host[:port][/database]``, ``rediss://...`` for TLS, or ``unix:///path``.

        Args:
          url: the address.
          config: how TLS is spoken. Default for ``rediss``: `ssl.create_default_context`.
          timeout: as for the class.

        Raises:
          ValueError: it is no such URL.
        """
        parts = urlsplit(url)
        number = parts.path.strip("/") if parts.scheme != "unix" else ""
        if parts.scheme not in {"redis", "rediss", "unix"} or (number and not number.isdecimal()):
            raise ValueError("a Redis URL looks like redis://host:6379/0, rediss://user:password@host or unix:///path")
        if config is not None and parts.scheme != "rediss":
            raise ValueError(f"TLS is spoken with rediss:// alone, not with {parts.scheme}://")
        if parts.scheme == "rediss" and config is None:
            config = ssl.create_default_context()
        return cls(
            parts.hostname or "127.0.0.1",
            parts.port or DEFAULT_PORT,
            path=parts.path if parts.scheme == "unix" else None,
            config=config,
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            database=int(number or 0),
            timeout=timeout,
        )

    async def call(self, *words: bytes | str | int) -> bytes | int | None:
        """Do one command; its reply: bytes, a number, or None for nil.

        Cancelled: the command may have been done or not.

        Raises:
          RedisError: it could not be done, or Redis has refused it.
        """
        answer = self.calls([words])
        del words  # see `calls`
        (reply,) = await answer
        return reply

    async def calls(self, commands: Sequence[Sequence[bytes | str | int]]) -> list[bytes | int | None]:
        """Do several commands, with one round trip; their replies.

        Cancelled: each command may have been done or not.

        Raises:
          RedisError: they could not be done, or Redis has refused one. The others may have been done.
        """
        try:
            return await self._calls_in_time(commands)
        except RedisError as error:
            raise _without_frames(error)
        finally:
            del commands  # they have sessions in them, or the secrets of tickets

    async def _calls_in_time(self, commands: Sequence[Sequence[bytes | str | int]]) -> list[Reply]:
        with trio.move_on_after(self._timeout) as patience:
            async with self._limiter:
                return await self._calls(commands)
        assert patience.cancelled_caught  # otherwise there is an answer, or an exception
        raise RedisError(f"{self!r} has not answered for {self._timeout:g} seconds: is it there, and not overloaded?")

    async def _calls(self, commands: Sequence[Sequence[bytes | str | int]]) -> list[Reply]:
        request = b"".join(map(_encoded, commands))
        while True:
            fresh = not self._idle
            connection = await self._connect() if fresh else self._idle.pop()
            try:
                replies = await connection.ask(request, len(commands))
            except (trio.BrokenResourceError, EOFError, OSError) as error:
                await connection.close_now()
                await self.aclose()  # the others are of the same age, or older
                if fresh:
                    raise RedisError(f"the connection to {self!r} failed: {_words(error)}") from error
            except BaseException:
                await connection.close_now()
                raise
            else:
                await self._keep(connection)
                for reply in replies:
                    if isinstance(reply, RedisError):
                        raise reply
                return [reply for reply in replies if not isinstance(reply, RedisError)]

    async def _connect(self) -> _Connection:
        try:
            stream: trio.abc.Stream
            if self._path is not None:
                stream = await trio.open_unix_socket(self._path)
            elif self._config is not None:
                stream = await open_tls_over_tcp_stream(self._host, self._port, self._config)
            else:
                stream = await trio.open_tcp_stream(self._host, self._port)
        except OSError as error:
            raise RedisError(f"{self!r} cannot be reached: {error}") from error
        connection = _Connection(stream)
        greeting: list[Sequence[bytes | str | int]] = []
        if self._password is not None:
            greeting.append(("AUTH", *([self._username] if self._username else []), self._password))
        if self._database:
            greeting.append(("SELECT", self._database))
        try:
            for command in greeting:
                (reply,) = await connection.ask(_encoded(command), 1)
                if isinstance(reply, RedisError):
                    raise reply
        except (trio.BrokenResourceError, EOFError) as error:
            await connection.close_now()
            raise RedisError(f"the connection to {self!r} failed: {_words(error)}") from error
        except BaseException:
            await connection.close_now()
            raise
        return connection

    async def _keep(self, connection: _Connection) -> None:
        if len(self._idle) < self._most_idle:
            self._idle.append(connection)
        else:
            await connection.close_now()

    async def aclose(self) -> None:
        """Close the idle connections. The next command opens a new one."""
        while self._idle:
            await self._idle.pop().close_now()

    def __repr__(self) -> str:
        return f"<Redis at {self._path or f'{self._host}:{self._port}'}>"


class _Connection:
    """One connection, at rest between two commands."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def ask(self, request: bytes, count: int) -> list[Reply | RedisError]:
        """Send, and read so many replies. An error reply is returned, so that those behind it are read too."""
        await self._stream.send_all(request)
        return [await self._reply() for _ in range(count)]

    async def _reply(self) -> Reply | RedisError:
        line = await self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            return RedisError(f"Redis refused a command: {rest.decode('ascii', 'backslashreplace')}")
        if kind == b":":
            return _number(rest)
        if kind == b"$":
            size = _number(rest)
            return None if size < 0 else await self._bytes(size)
        raise RedisError(f"this is no Redis, or speaks another protocol: it answered {line[:40]!r}")

    async def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            await self._receive()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    async def _bytes(self, size: int) -> bytes:
        if size > MOST_REPLY:
            raise RedisError(f"Redis answered with {size} bytes: what lies under our keys is not ours")
        while len(self._buffer) < size + 2:
            await self._receive()
        data = bytes(self._buffer[:size])
        del self._buffer[: size + 2]
        return data

    async def _receive(self) -> None:
        if len(self._buffer) > MOST_REPLY:
            raise RedisError("this is no Redis: it answers without end")
        data = await self._stream.receive_some()
        if not data:
            raise EOFError("it was closed")
        self._buffer += data

    async def close_now(self) -> None:
        """Close without a word."""
        with trio.CancelScope(shield=True):  # forceful, so it does not wait
            await trio.aclose_forcefully(self._stream)


def _encoded(words: Sequence[bytes | str | int]) -> bytes:
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def _without_frames(failure: RedisError) -> RedisError:
    """A failure as it rises: the frames that it came through hold the password, and what was to be stored."""
    each: BaseException | None = failure
    while each is not None:
        each.__traceback__ = each.__context__ = None
        each = each.__cause__
    return failure


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


def _number(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        raise RedisError(f"this is no Redis: it answered {text[:40]!r} where a number has to be") from None
