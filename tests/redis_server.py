"""Debian's redis-server, run for a test."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from trio_tls.redis import Redis

from .interop.processes import command_named, running


@asynccontextmanager
async def redis_server(folder: Path, *options: str | Path | int) -> AsyncIterator[Callable[..., Redis]]:
    """``redis-server`` that listens on ``folder / "redis.sock"``, and saves nothing.

    Args:
      folder: where it runs.
      options: more of its options; by default it does not listen on TCP.

    Yields: what makes clients, with the arguments of `Redis`; they are closed at the end.
    """
    clients: list[Redis] = []

    def connect(**arguments: Any) -> Redis:
        clients.append(Redis(**{"path": str(folder / "redis.sock"), **arguments}))
        return clients[-1]

    command = command_named("redis-server", "redis-server")
    settings = ("--unixsocket", folder / "redis.sock", "--save", "", "--appendonly", "no", "--dir", folder)
    arguments = [str(each) for each in (*settings, *(options or ("--port", 0)))]
    async with running(command, *arguments) as process:
        await process.shows("eady to accept connections")
        try:
            yield connect
        finally:
            for client in clients:
                await client.aclose()


def free_port() -> int:
    """A TCP port that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
