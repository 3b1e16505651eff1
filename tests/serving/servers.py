"""Servers for the tests of serving: in memory, where time is trio's `MockClock`, or on loopback."""

from __future__ import annotations

import gc
import pathlib
import socket
import struct
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias

import pytest
import trio
import trio.testing

from trio_tls import TLSListener, TLSStream, serve_tls, serve_tls_over_tcp

from ..peers import Config
from ..support import HOST, Machines, client_context, machines_named, server_context

MemoryStream: TypeAlias = "trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]"


class MemoryListener(trio.abc.Listener["MemoryStream"]):
    """Accepts connections in memory, made by `connect`."""

    def __init__(self) -> None:
        self._arrivals, self._queue = trio.open_memory_channel[MemoryStream](100)

    def connect(self) -> MemoryStream:
        client, server = trio.testing.memory_stream_pair()
        self.arrive(server)
        return client

    def arrive(self, server: MemoryStream) -> None:
        """A connection, of which this is the server's end."""
        self._arrivals.send_nowait(server)

    async def accept(self) -> MemoryStream:
        return await self._queue.receive()

    async def aclose(self) -> None:
        self._queue.close()
        await trio.lowlevel.checkpoint()

    @property
    def closed(self) -> bool:
        return self._queue.statistics().open_receive_channels == 0


class MemoryServer:
    """`serve_tls` over a `MemoryListener`, running in ``nursery``."""

    def __init__(
        self,
        nursery: trio.Nursery,
        handler: Callable[[TLSStream[MemoryStream]], Awaitable[object]],
        machines: Machines | None = None,
    ) -> None:
        self.machines = machines or machines_named("ssl-1.3")
        self.listener = MemoryListener()
        self.returned = trio.Event()
        self._nursery = nursery
        self._handler = handler

    async def start(self, **options: Any) -> None:
        async def serve(task_status: trio.TaskStatus[object]) -> None:
            listeners = [TLSListener(self.listener, self.machines.server)]
            await serve_tls(self._handler, listeners, task_status=task_status, **options)
            self.returned.set()

        await self._nursery.start(serve)

    def connect(self) -> TLSStream[MemoryStream]:
        return TLSStream(self.listener.connect(), self.machines.client, server_hostname=HOST)


def open_files() -> int:
    gc.collect()  # what earlier tests have left is not ours to count
    return len(list(pathlib.Path("/proc/self/fd").iterdir()))


async def echo(stream: TLSStream[Any]) -> None:
    async for data in stream:
        await stream.send_all(data)


async def serve_on_loopback(
    nursery: trio.Nursery,
    handler: Callable[[TLSStream[trio.SocketStream]], Awaitable[object]],
    config: Config | None = None,
    **options: Any,
) -> tuple[str, int]:
    """`serve_tls_over_tcp` in ``nursery``; its address."""
    serve = partial(serve_tls_over_tcp, handler, 0, config or server_context(), host="127.0.0.1", **options)
    (listener,) = await nursery.start(serve)
    host, port = listener.transport_listener.socket.getsockname()
    return host, port


async def connect(address: tuple[str, int], config: Config | None = None) -> TLSStream[trio.SocketStream]:
    transport = await trio.open_tcp_stream(*address)
    return TLSStream(transport, config or client_context(), server_hostname=HOST)


async def reset(stream: trio.SocketStream) -> None:
    """Close with a reset instead of an end."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await stream.aclose()


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "trio_tls"]
