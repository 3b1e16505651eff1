"""Sessions that any of several hosts resumes, and each of them once."""

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from trio_tls import Credential, ServerConfig, TLSStream, serve_tls_over_tcp
from trio_tls.redis import Redis, RedisSessionStore


async def main(
    port: int,
    certificate: str,
    redis_url: str,
    handler: Callable[[TLSStream[Any]], Awaitable[object]],
    task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
) -> None:
    async with Redis.from_url(redis_url) as redis:
        store = RedisSessionStore(redis)
        config = ServerConfig(
            credentials=Credential.from_files(certificate),
            session_store=store,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.run)
            await serve_tls_over_tcp(
                handler, port, config, task_status=task_status
            )
