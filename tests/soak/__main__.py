"""``python -m tests.soak``: many handshakes and many bytes, with memory that stays flat.

How this works. For each machine, connections are made and closed, some at a time: full handshakes, resumed ones, and
such as fail. Then one connection carries data both ways. The resident memory is looked at all the while. What a library
leaks, it leaks with every connection or every byte: so the median of the last quarter is held against that of the
second one, when all caches are warm. Between the two lies half of the run; what may be lost is so much a connection, or
so much a megabyte, and on top of that what an allocator needs to move.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from trio_tls import TLSError, TLSStream

from ..support import HOST, Machines, machines_named, pattern, socket_pair

#: Connections that are open at a time.
AT_A_TIME = 16

#: Bytes by which the resident memory may have grown whatever ran: an allocator moves by so much.
SLACK = 2**20

#: Bytes by which it may have grown on top of that for each connection, and for each MB of data.
EACH = 32

CHUNK = pattern(256 * 1024)

STATM, DESCRIPTORS = Path("/proc/self/statm"), Path("/proc/self/fd")


@dataclass
class Watch:
    """The resident memory and the descriptors of this process over time; what the memory may grow by, in bytes.

    ``left`` tells how many descriptors there were at the end that were not there before.
    """

    name: str
    most_growth: int = SLACK
    descriptors: int = field(default_factory=lambda: len(list(DESCRIPTORS.iterdir())))
    resident: list[int] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    left: int = 0

    def look(self) -> None:
        self.resident.append(int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))

    @property
    def growth(self) -> int:
        """Bytes."""
        quarter = max(1, len(self.resident) // 4)
        return round(
            statistics.median(self.resident[-quarter:]) - statistics.median(self.resident[quarter : 2 * quarter])
        )

    def end(self, what: str) -> None:
        """Look a last time, and print what came of it."""
        gc.collect()
        self.look()
        self.left = len(list(DESCRIPTORS.iterdir())) - self.descriptors
        print(
            f"{self.name:8} {what:28} {time.monotonic() - self.began:7.1f} s  "
            f"resident {self.resident[-1] / 2**20:.1f} MiB, grown by {self.growth / 2**20:+.2f} MiB "
            f"of {self.most_growth / 2**20:.2f} MiB at the most, "
            f"descriptors left {self.left}",
            flush=True,
        )

    @property
    def well(self) -> bool:
        """Whether nothing has leaked."""
        return self.growth <= self.most_growth and self.left == 0


async def connect(machines: Machines, session: Any = None) -> tuple[TLSStream[Any], TLSStream[Any]]:
    transports = socket_pair()
    client = TLSStream(transports[0], machines.client, server_hostname=HOST, session=session)
    server = TLSStream(transports[1], machines.server, server_side=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        nursery.start_soon(server.do_handshake)
    return client, server


async def full(machines: Machines) -> None:
    """A handshake, a message each way, and an orderly end."""
    await talk_and_close(await connect(machines))


async def talk_and_close(ends: tuple[TLSStream[Any], TLSStream[Any]]) -> None:
    await talk(ends)
    for end in ends:
        await end.aclose()


async def talk(ends: tuple[TLSStream[Any], TLSStream[Any]]) -> None:
    client, server = ends
    await client.send_all(b"there")
    assert await server.receive_some() == b"there"
    await server.send_all(b"back")
    assert await client.receive_some() == b"back"


class Resuming:
    """The same, with the session of a first connection resumed.

    It is one session for all, and asked for once: CPython loses 6 KiB each time that `ssl.SSLObject.session` is read.
    """

    def __init__(self) -> None:
        self._session: Any = None

    async def __call__(self, machines: Machines) -> None:
        if self._session is None:
            ends = await connect(machines)
            await talk(ends)
            self._session = ends[0].session
            await talk_and_close(ends)
        ends = await connect(machines, self._session)
        assert ends[0].session_reused
        await talk_and_close(ends)


async def failing(machines: Machines) -> None:
    """A handshake that fails, one that is cancelled, and a peer that is gone without a word."""
    for before in (b"no TLS at all", b"\x16\x03\x01\0\x05\x01\0\0\x01\0"):
        near, far = socket_pair()
        server = TLSStream(near, machines.server, server_side=True)
        await far.send_all(before)
        try:
            await server.do_handshake()
        except TLSError:
            pass
        else:
            raise AssertionError("that was no handshake")
        await far.aclose()
        await server.aclose()
    near, far = socket_pair()
    client = TLSStream(near, machines.client, server_hostname=HOST)
    with trio.move_on_after(0):
        await client.do_handshake()
    await client.aclose()
    await far.aclose()
    client, server = await connect(machines)
    transport = client.transport_stream
    assert transport is not None
    await transport.aclose()
    try:
        await server.receive_some()
    except TLSError:
        pass
    else:
        raise AssertionError("that was no close_notify")
    await server.aclose()
    await client.aclose()


def many(live: Callable[[Machines], Awaitable[None]]) -> Callable[[Machines, int, Watch], Awaitable[None]]:
    """So many such lives, some at a time."""

    async def run(machines: Machines, count: int, watch: Watch) -> None:
        watch.most_growth = SLACK + EACH * count // 2
        left = iter(range(count))
        every = max(1, count // 100)

        async def one_after_another() -> None:
            for number in left:
                await live(machines)
                if number % every == 0:
                    watch.look()

        async with trio.open_nursery() as nursery:
            for _ in range(min(AT_A_TIME, count)):
                nursery.start_soon(one_after_another)

    return run


handshakes = many(full)


async def data(machines: Machines, size: int, watch: Watch) -> None:
    """``size`` bytes over one connection, half of them each way."""
    chunks = max(4, size // len(CHUNK) // 2)
    watch.most_growth = SLACK + EACH * size // 10**6 // 2

    async def send(stream: TLSStream[Any]) -> None:
        for number in range(chunks):
            await stream.send_all(CHUNK)
            if number % max(1, chunks // 50) == 0:
                watch.look()

    async def receive(stream: TLSStream[Any]) -> None:
        expected = memoryview(CHUNK)
        at = left = 0
        left = chunks * len(CHUNK)
        while left:
            received = await stream.receive_some()
            assert received, "the connection ended early"
            view = memoryview(received)
            left -= len(view)
            while view:
                part = min(len(view), len(CHUNK) - at)
                assert view[:part] == expected[at : at + part], "the data was altered"
                view, at = view[part:], (at + part) % len(CHUNK)

    ends = await connect(machines)
    async with trio.open_nursery() as nursery:
        for end in ends:
            nursery.start_soon(send, end)
            nursery.start_soon(receive, end)
    for end in ends:
        await end.aclose()


def soak(name: str, what: str, run: Callable[[Machines, int, Watch], Awaitable[None]], amount: int) -> Watch:
    machines = machines_named(name)
    trio.run(handshakes, machines, 20, Watch(name))  # what is made once
    gc.collect()
    watch = Watch(name)
    trio.run(run, machines, amount, watch)
    watch.end(what)
    return watch


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--handshakes", type=int, default=100_000, help="connections, shared among the machines")
    parser.add_argument("--gigabytes", type=float, default=10.0, help="data, shared among the machines")
    parser.add_argument("--machines", nargs="*", default=["own", "ssl-1.3"], help="as tests.support names them")
    options = parser.parse_args(arguments)
    if not STATM.exists():
        parser.error("this needs /proc/self/statm, which Linux has")
    share = len(options.machines)
    connections, size = options.handshakes // share, int(options.gigabytes * 1e9 / share)
    few = connections // 8
    began, watches = time.monotonic(), list[Watch]()
    for name in options.machines:
        for what, run, amount in (
            (f"{connections} handshakes", handshakes, connections),
            (f"{few} that resume", many(Resuming()), few),
            (f"{few} that fail", many(failing), few),
            (f"{size / 1e9:g} GB", data, size),
        ):
            watches.append(soak(name, what, run, amount))
    resident = [each / 2**20 for watch in watches for each in watch.resident]
    print(
        f"in all: {share * connections:,} full handshakes, {share * few:,} resumed ones, "
        f"{share * few:,} times some that fail, {share * size / 1e9:g} GB on {' and '.join(options.machines)} "
        f"in {(time.monotonic() - began) / 60:.1f} minutes; "
        f"resident memory {min(resident):.1f} to {max(resident):.1f} MiB, "
        f"grown by {max(watch.growth for watch in watches) / 2**20:.2f} MiB at the most"
    )
    return 0 if all(watch.well for watch in watches) else 1


if __name__ == "__main__":
    sys.exit(main())
