"""A server that counts what happens, and logs what a program can read."""

import json
import logging
import ssl
from collections.abc import Callable
from functools import partial

import trio

from trio_tls import ServerMetrics, TLSStream, serve_tls_over_tcp


class AsJSON(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        facts: dict[str, object] = {"text": record.getMessage()}
        for name in (
            "event",
            "peer",
            "error",
            "alert",
            "sent_by_peer",
            "seconds",
        ):
            facts[name] = getattr(record, name, None)
        return json.dumps(facts)


async def echo(stream: TLSStream[trio.SocketStream]) -> None:
    async for data in stream:
        await stream.send_all(data)


async def main(
    context: ssl.SSLContext,
    show: Callable[[str], object],
    task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED,
) -> None:
    metrics = ServerMetrics()
    serve = partial(
        serve_tls_over_tcp,
        echo,
        0,
        context,
        host="127.0.0.1",
        max_connections=1000,  # fewer than file descriptors
        plain_http=True,
        metrics=metrics,
    )
    async with trio.open_nursery() as nursery:
        task_status.started(await nursery.start(serve))
        while True:
            await trio.sleep(10)
            show(f"{metrics.connections_open} open")
            show(f"failed: {metrics.handshakes_failed.most_common(3)}")
            show(metrics.prometheus({"instance": "a"}))  # what a scraper gets
