"""A method that need not wait is a checkpoint, exactly once; in a cancelled scope it raises, and has done nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from trio_tls import TLSStream
from trio_tls.machine.bio import MemoryBIO
from trio_tls.transport.socket import SocketSender

from .support import Machines, machines_named, tls_pair

Method = Callable[[TLSStream[Any]], Awaitable[object]]

#: What need not wait, once the peer has said something.
METHODS: dict[str, Method] = {
    "do_handshake": lambda stream: stream.do_handshake(),
    "send_all": lambda stream: stream.send_all(b"something"),
    "send_some": lambda stream: stream.send_some(b"something"),
    "send_some of nothing": lambda stream: stream.send_some(b""),
    "flush": lambda stream: stream.flush(),
    "wait_send_all_might_not_block": lambda stream: stream.wait_send_all_might_not_block(),
    "receive_some": lambda stream: stream.receive_some(),
    "receive_some_into": lambda stream: stream.receive_some_into(bytearray(100)),
    "send_eof": lambda stream: stream.send_eof(),
}

#: The same, and what waits for the peer's end.
CANCELLED: dict[str, Method] = {**METHODS, "unwrap": lambda stream: stream.unwrap()}


class Steps(trio.abc.Instrument):
    """Counts how often this task has gone on."""

    def __init__(self) -> None:
        self.count = 0
        self._task = trio.lowlevel.current_task()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += task is self._task


async def steps_of(act: Callable[[], Awaitable[object]]) -> int:
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    try:
        await act()
    finally:
        trio.lowlevel.remove_instrument(steps)
    return steps.count


@pytest.mark.parametrize("fresh", [False, True], ids=["settled", "fresh"])
@pytest.mark.parametrize("method", METHODS)
async def test_a_method_that_need_not_wait_yields_exactly_once(machines: Machines, method: str, fresh: bool) -> None:
    async with tls_pair(machines) as (client, server):
        await server.send_all(b"hello")
        await client.send_all(b"hello")
        if not fresh:  # then the stream knows that there is nothing to look at before a send or a receive
            assert await client.receive_some(1) == b"h"
        with trio.testing.assert_checkpoints():
            assert await steps_of(lambda: METHODS[method](client)) == 1


@pytest.mark.parametrize("fresh", [False, True], ids=["settled", "fresh"])
@pytest.mark.parametrize("method", CANCELLED)
async def test_a_method_in_a_cancelled_scope_raises_and_has_done_nothing(
    machines: Machines, method: str, fresh: bool
) -> None:
    async with tls_pair(machines) as (client, server):
        await server.send_all(b"hello")
        await client.send_all(b"hello")
        if not fresh:
            assert await client.receive_some(1) == b"h"
        with trio.CancelScope() as scope:
            scope.cancel()
            await CANCELLED[method](client)
        assert scope.cancelled_caught
        assert client.plaintext_sent == 5
        await client.send_all(b", there")  # neither sent, nor ended
        assert await client.receive_some() == (b"hello" if fresh else b"ello")
        received = b""
        while len(received) < 12:
            received += await server.receive_some()
        assert received == b"hello, there"


async def test_update_keys_yields_exactly_once_and_does_nothing_in_a_cancelled_scope() -> None:
    async with tls_pair(machines_named("own")) as (client, server):
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.update_keys()
        assert scope.cancelled_caught
        assert isinstance(server.transport_stream, trio.SocketStream)
        descriptor = os.dup(server.transport_stream.socket.fileno())
        with socket.socket(fileno=descriptor) as peeked, pytest.raises(BlockingIOError):
            peeked.recv(1)
        assert await steps_of(client.update_keys) == 1


async def test_closing_yields_exactly_once_also_again_and_after_unwrap(machines: Machines) -> None:
    async with tls_pair(machines) as (client, server):
        await server.aclose()
        for _ in range(2):
            with trio.testing.assert_checkpoints():
                assert await steps_of(client.aclose) == 1
    async with tls_pair(machines) as ends:
        transports: list[trio.abc.Stream] = []

        async def unwrap(end: TLSStream[Any]) -> None:
            transports.append((await end.unwrap())[0])

        async with trio.open_nursery() as nursery:
            for end in ends:
                nursery.start_soon(unwrap, end)
        with trio.testing.assert_checkpoints():
            assert await steps_of(ends[0].aclose) == 1
        for transport in transports:
            await transport.aclose()


async def test_a_send_that_gets_through_at_its_second_attempt_is_a_checkpoint(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tls_pair(machines) as (client, server):
        real, attempts = SocketSender.send_nowait, 0

        def send_nowait(sender: SocketSender, outgoing: MemoryBIO) -> None:
            nonlocal attempts
            attempts += 1
            if attempts > 1:
                real(sender, outgoing)

        monkeypatch.setattr(SocketSender, "send_nowait", send_nowait)
        with trio.testing.assert_checkpoints():
            assert await steps_of(lambda: client.send_all(b"x")) == 1
        assert attempts == 2
        assert await server.receive_some() == b"x"
