"""The server: `serve_tls_over_tcp` as an application would run it, echoing what comes."""

from __future__ import annotations

import gc
import logging
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import trio

from trio_tls import ServerMetrics, TLSStream, serve_tls_over_tcp

from ...support import machines_named
from .talking import obey, raise_the_limit_of_files


async def echo(stream: TLSStream[trio.SocketStream]) -> None:
    """As a careful application: a client that says nothing for ten minutes is let go."""
    while True:
        with trio.move_on_after(600) as patience:
            data = await stream.receive_some(65536)
            await stream.send_all(data)
        if patience.cancelled_caught or not data:
            return


class Pauses:
    """How long Python's garbage collector stops everything, in milliseconds."""

    def __init__(self) -> None:
        self.longest = self._began = 0.0
        gc.callbacks.append(self._note)

    def _note(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self.longest = max(self.longest, 1000 * (time.perf_counter() - self._began))

    def take(self) -> float:
        """The longest since the last call."""
        longest, self.longest = self.longest, 0.0
        return longest


async def main(machine: str, directory: str, handshake_timeout: float) -> None:
    log = Path(directory, "server.log")
    logging.basicConfig(filename=log, format="%(message)s")
    metrics, told = ServerMetrics(), 0
    stop, pauses = trio.Event(), Pauses()

    def on_handshake_error(error: Exception, stream: TLSStream[trio.SocketStream]) -> None:
        nonlocal told
        told += 1

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(
            partial(
                serve_tls_over_tcp,
                echo,
                0,
                machines_named(machine).server,
                host="127.0.0.1",
                handshake_timeout=handshake_timeout,
                max_connections=10_000,
                plain_http=True,
                on_handshake_error=on_handshake_error,
                metrics=metrics,
                stop=stop,
            )
        )

        async def port() -> int:
            return int(listener.transport_listener.socket.getsockname()[1])

        async def look() -> dict[str, Any]:
            gc.collect()
            return {
                "open": metrics.connections_open,
                "accepted": metrics.connections_accepted,
                "done": metrics.handshakes_done.total(),
                "failed": {kind.error: 0 for kind in metrics.handshakes_failed}
                | {kind.error: count for kind, count in metrics.handshakes_failed.items()},
                "handshakes_failed": metrics.handshakes_failed.total(),
                "connections_failed": metrics.connections_failed.total(),
                "told": told,
                "tasks": trio.lowlevel.current_statistics().tasks_living,
                "log_lines": (await trio.Path(log).read_text()).count("\n"),
                "suppressed": metrics.log_lines_suppressed,
            }

        async def longest_pause() -> float:
            return pauses.take()

        async def end() -> None:
            stop.set()

        await obey({"port": port, "look": look, "longest_pause": longest_pause, "stop": end})
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    gc.set_threshold(1_000, 1_000_000)  # as the manual advises to servers of thousands of connections
    raise_the_limit_of_files()
    trio.run(main, sys.argv[1], sys.argv[2], float(sys.argv[3]))
