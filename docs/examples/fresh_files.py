"""A server whose certificate, and the CA of its clients, may change."""

import os
import signal
import ssl
from typing import Any

import trio

from trio_tls import (
    Credential,
    PrivatePolicy,
    ReloadingConfig,
    ServerConfig,
    TicketKeys,
    TLSListener,
    TLSStream,
    TrustAnchors,
    Verifier,
    open_tls_over_tcp_listeners,
    serve_tls,
)


def own(certificate: str, key: str, clients_ca: str) -> ReloadingConfig:
    ticket_keys = TicketKeys(os.urandom)  # outlive the reloads

    def read() -> ServerConfig:
        anchors = TrustAnchors.from_files(clients_ca)
        return ServerConfig(
            credentials=Credential.from_files(certificate, key),
            client_auth="optional",
            verify=Verifier(anchors, PrivatePolicy()),
            ticket_keys=ticket_keys,
        )

    return ReloadingConfig(read, [certificate, key, clients_ca])


def openssl(certificate: str, key: str) -> ReloadingConfig:
    def read() -> ssl.SSLContext:  # a new one each time
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
        return context

    return ReloadingConfig(read, [certificate, key])


async def reload_on_sighup(
    config: ReloadingConfig,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            await config.reload()


async def echo(stream: TLSStream[Any]) -> None:
    async for data in stream:
        await stream.send_all(data)


async def main(
    port: int,
    config: ReloadingConfig,
    task_status: trio.TaskStatus[list[TLSListener[trio.SocketStream]]],
) -> None:
    listeners = await open_tls_over_tcp_listeners(port, config)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(config.watch)
        await nursery.start(reload_on_sighup, config)
        await serve_tls(echo, listeners, task_status=task_status)
