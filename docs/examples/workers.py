"""A server of several processes, on one port."""

import os
import signal
import sys
from functools import partial

import trio

from trio_tls import (
    Credential,
    ReloadingConfig,
    ServerConfig,
    SharedTicketKeys,
    TicketSecretFile,
    TLSStream,
    Worker,
    open_tls_over_tcp_listeners,
    run_workers,
    serve_tls,
)


async def echo(stream: TLSStream[trio.SocketStream]) -> None:
    await stream.send_all(b"this is process %d\n" % os.getpid())
    async for data in stream:
        await stream.send_all(data)


async def reload_on_sighup(config: ReloadingConfig) -> None:
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        async for _ in signals:
            await config.reload()


async def main(
    port: int, certificate: str, secrets: str, worker: Worker
) -> None:
    store = TicketSecretFile(secrets)
    keys = await SharedTicketKeys.load(store)

    def read() -> ServerConfig:
        return ServerConfig(
            credentials=Credential.from_files(certificate),
            ticket_keys=keys,  # the same before and after a reload
        )

    config = ReloadingConfig(read, [certificate])
    listeners = await open_tls_over_tcp_listeners(
        port, config, host="127.0.0.1", reuse_port=True
    )
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.stop_when_told, stop)
        nursery.start_soon(config.watch)
        nursery.start_soon(reload_on_sighup, config)
        nursery.start_soon(keys.follow, store)
        worker.ready()
        await serve_tls(echo, listeners, stop=stop, stop_grace=2)
        nursery.cancel_scope.cancel()


def work(port: int, certificate: str, secrets: str, worker: Worker) -> None:
    trio.run(main, port, certificate, secrets, worker)


if __name__ == "__main__":
    port, certificate, secrets = sys.argv[1:]
    sys.exit(run_workers(partial(work, int(port), certificate, secrets), 2))
