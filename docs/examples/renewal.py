"""A server that takes a new certificate without a restart."""

import signal
from typing import Any

import trio

from trio_tls import (
    Credential,
    ServerConfig,
    TLSListener,
    TLSStream,
    open_tls_over_tcp_listeners,
    serve_tls,
)


async def renew_on_sighup(
    listeners: list[TLSListener[trio.SocketStream]], certificate: str
) -> None:
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        async for _ in signals:
            try:
                credential = Credential.from_files(certificate)
            except (OSError, ValueError) as error:
                print("the old certificate stays:", error)
                continue
            for listener in listeners:
                listener.config = ServerConfig(credentials=credential)
            print("new connections get the new certificate")


async def echo(stream: TLSStream[Any]) -> None:
    async for data in stream:
        await stream.send_all(data)


async def main(
    port: int,
    certificate: str,
    task_status: trio.TaskStatus[list[TLSListener[trio.SocketStream]]],
) -> None:
    config = ServerConfig(credentials=Credential.from_files(certificate))
    listeners = await open_tls_over_tcp_listeners(port, config)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(renew_on_sighup, listeners, certificate)
        await serve_tls(echo, listeners, task_status=task_status)
