"""The good clients: many connections that are held, on each of which a message is echoed now and then.

What a message took is measured from its send to its last byte; each byte is compared.
"""

from __future__ import annotations

import random
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import trio

from trio_tls import TLSStream

from ...peers import trusting_client
from ...support import HOST, machines_named, pattern, receive_exactly
from .talking import obey, raise_the_limit_of_files

#: How many connections are made at the same time.
AT_ONCE = 50


@dataclass
class Clients:
    """All of them."""

    port: int
    streams: list[TLSStream[trio.SocketStream]] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    messages: int = 0
    wrong: int = 0

    def __post_init__(self) -> None:
        self._context = trusting_client(machines_named("ssl-1.3"))  # each process has a CA of its own
        self._random = random.Random(1)

    async def connect(self, count: int) -> dict[str, Any]:
        """Make ``count`` connections more."""
        turns = trio.CapacityLimiter(AT_ONCE)

        async def one() -> None:
            async with turns:
                transport = await trio.open_tcp_stream("127.0.0.1", self.port)
                stream = TLSStream(transport, self._context, server_hostname=HOST)
                await stream.do_handshake()
                self.streams.append(stream)

        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(one)
        return {"open": len(self.streams)}

    async def measure(self, seconds: float, each: float) -> dict[str, Any]:
        """Send on all connections, on each about every ``each`` seconds; the latencies in milliseconds."""
        self.latencies, self.messages = [], 0
        end = trio.current_time() + seconds
        async with trio.open_nursery() as nursery:
            for stream in self.streams:
                nursery.start_soon(self._talk, stream, end, each)
        ordered = sorted(self.latencies)
        return {
            "messages": self.messages,
            "wrong": self.wrong,
            "p50": round(1000 * ordered[len(ordered) // 2], 2),
            "p99": round(1000 * ordered[len(ordered) * 99 // 100], 2),
            "p999": round(1000 * ordered[len(ordered) * 999 // 1000], 2),
            "max": round(1000 * ordered[-1], 2),
        }

    async def _talk(self, stream: TLSStream[trio.SocketStream], end: float, each: float) -> None:
        await trio.sleep(self._random.uniform(0, each))
        while trio.current_time() < end:
            message = pattern(self._random.randrange(1, 2000), seed=self.messages)
            self.messages += 1
            began = time.perf_counter()
            await stream.send_all(message)
            answer = await receive_exactly(stream, len(message))
            self.latencies.append(time.perf_counter() - began)
            self.wrong += answer != message
            await trio.sleep(self._random.uniform(0.5, 1.5) * each)

    async def transfer(self, size: int) -> dict[str, Any]:
        """Send ``size`` bytes on a few connections at once, and compare what comes back."""
        data = pattern(size)

        async def one(stream: TLSStream[trio.SocketStream]) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.send_all, data)
                self.wrong += await receive_exactly(stream, size) != data

        async with trio.open_nursery() as nursery:
            for stream in self.streams[:5]:
                nursery.start_soon(one, stream)
        return {"wrong": self.wrong}

    async def soak(self, count: int) -> dict[str, Any]:
        """Connect, say a word, hear it, and close, ``count`` times."""
        left, began = count, time.perf_counter()

        async def one_after_the_other() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                transport = await trio.open_tcp_stream("127.0.0.1", self.port)
                async with TLSStream(transport, self._context, server_hostname=HOST) as stream:
                    await stream.send_all(b"word")
                    self.wrong += await receive_exactly(stream, 4) != b"word"

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(one_after_the_other)
        return {"seconds": time.perf_counter() - began, "wrong": self.wrong}

    async def close(self) -> dict[str, Any]:
        """Close all of them."""
        async with trio.open_nursery() as nursery:
            for stream in self.streams:
                nursery.start_soon(stream.aclose)
        self.streams.clear()
        return {}


async def main(port: int) -> None:
    clients = Clients(port)
    await obey(
        {
            "connect": clients.connect,
            "measure": clients.measure,
            "transfer": clients.transfer,
            "soak": clients.soak,
            "close": clients.close,
        }
    )


if __name__ == "__main__":
    raise_the_limit_of_files()
    trio.run(main, int(sys.argv[1]))
