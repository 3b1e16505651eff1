"""Running operations up to the point where they block, and cancelling or failing them there, without a clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio
import trio.testing

from trio_tls import TLSStream

Operation = Callable[[], Awaitable[object]]


async def concurrently(*operations: Operation) -> None:
    """Run all of them to the end. An exception of one comes out as it was raised."""
    for failure in await outcomes(*operations):
        if failure is not None:
            raise failure


async def outcomes(*operations: Operation) -> list[Exception | None]:
    """Run all of them to the end, whatever becomes of the others; the exception of each, or None."""
    failures: list[Exception | None] = [None] * len(operations)

    async def run(index: int, operation: Operation) -> None:
        try:
            await operation()
        except Exception as error:
            failures[index] = error

    async with trio.open_nursery() as nursery:
        for index, operation in enumerate(operations):
            nursery.start_soon(run, index, operation)
    return failures


async def unwrap_both(client: TLSStream[Any], server: TLSStream[Any]) -> None:
    """End TLS on both ends, with nothing left over, and close the transports."""
    transports = [client.transport_stream, server.transport_stream]

    async def unwrap(end: TLSStream[Any], transport: trio.abc.Stream | None) -> None:
        assert await end.unwrap() == (transport, b"")

    try:
        await concurrently(partial(unwrap, client, transports[0]), partial(unwrap, server, transports[1]))
    finally:
        for transport in transports:
            if transport is not None:
                await trio.aclose_forcefully(transport)


async def cancel_once_blocked(operation: Operation) -> None:
    """Run ``operation`` until it blocks, and cancel it there. It must not finish."""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def cancel() -> None:
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()

            nursery.start_soon(cancel)
            await operation()
            raise AssertionError("the operation was to block, but it finished")
    assert scope.cancelled_caught


async def cancel_at_once(operation: Operation) -> None:
    """Run ``operation`` under a scope that is cancelled already."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await operation()
    assert scope.cancelled_caught


class Blocked:
    """An operation in the background: where it stands, and how it ended."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.error: Exception | None = None
        self.value: Any = None
        self.scope = trio.CancelScope()

    async def run(self, operation: Operation) -> None:
        try:
            with self.scope:
                self.value = await operation()
        except Exception as error:
            self.error = error
        self.done.set()

    async def result(self) -> Any:
        """Wait for its end; its value, or its exception."""
        await self.done.wait()
        if self.error is not None:
            raise self.error
        return self.value


@asynccontextmanager
async def blocked(*operations: Operation) -> AsyncIterator[tuple[Blocked, ...]]:
    """Start operations in the background, and go on once each of them has blocked. Leaving cancels them."""
    started = tuple(Blocked() for _ in operations)
    async with trio.open_nursery() as nursery:
        for one, operation in zip(started, operations, strict=True):
            nursery.start_soon(one.run, operation)
        await trio.testing.wait_all_tasks_blocked()
        assert not any(one.done.is_set() for one in started), "an operation was to block, but it ended"
        yield started
        nursery.cancel_scope.cancel()
