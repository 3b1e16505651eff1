"""Many clients held, hundreds of attackers of each kind, and a soak: the good ones notice little, and nothing leaks.

How this works. The same messages are timed three times: when nobody attacks, when the attackers attack another server
on this machine (``elsewhere``: what they take from everybody by being here), and when they attack this one. What the
server is responsible for is the difference between the last two.

The scaled-down form runs with the slow tests. ``nox -s load`` runs the full one, which takes some minutes for each
machine and wants two cores for itself; what it measured is in the manual (docs/servers.rst). There, if that is allowed,
the processes of the first test have real-time priority, the attackers the least of them: attackers of real life do not
take the processor away from those who measure, and other programs of this machine shall not, either.
"""

from __future__ import annotations

import os
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from .talking import Worker, may_be_real_time, worker

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Scale:
    """How much of it.

    Attributes:
      clients: connections that are held.
      attackers: attackers of each of the eight kinds.
      each: seconds between two messages of a client, and between two attacks of an attacker.
      seconds: how long each measurement takes.
      handshakes: of the soak.
      handshake_timeout: the server's.
      tolerance: milliseconds that the attack may add to the 99th percentile, when that has doubled already; for the
        small form on a machine that is busy with other tests.
    """

    clients: int
    attackers: int
    each: float
    seconds: float
    handshakes: int
    handshake_timeout: float
    tolerance: float


FULL = Scale(clients=2000, attackers=200, each=5, seconds=30, handshakes=50_000, handshake_timeout=10, tolerance=1)
SMALL = Scale(clients=150, attackers=15, each=1, seconds=4, handshakes=1000, handshake_timeout=2, tolerance=40)

SCALE = FULL if os.environ.get("TRIO_TLS_LOAD") == "full" else SMALL

#: Whether nothing else on this machine may disturb.
REAL_TIME = SCALE is FULL and may_be_real_time()

#: What a process may grow by in KiB, when it should not: allocators keep a little of what they had.
FLAT = 8 * 1024

SERVERS = pytest.mark.parametrize("machine", ["ssl-1.3", "own"])


async def settled(server: Worker, *, files: int) -> None:
    """Wait until the server has dealt with everybody who left, and with those who left before they were accepted."""
    with trio.fail_after(SCALE.handshake_timeout + 30):
        while (await server.tell("look"))["open"] or server.files() != files:  # noqa: ASYNC110  # another process
            await trio.sleep(0.2)


@SERVERS
@pytest.mark.timeout(1800)
async def test_good_clients_are_served_while_others_attack(machine: str, tmp_path: Path) -> None:
    run = partial(worker, real_time=REAL_TIME)

    def serve(name: str) -> AbstractAsyncContextManager[Worker]:
        (directory := tmp_path / name).mkdir()
        return run("server", machine, str(directory), str(SCALE.handshake_timeout))

    async with serve("this") as server:
        port = str(await server.tell("port"))
        files = server.files()
        tasks = (await server.tell("look"))["tasks"]
        async with run("good_clients", port) as good:

            async def measure(seconds: float = SCALE.seconds) -> dict[str, Any]:
                await server.tell("longest_pause")
                used, began = server.seconds(), trio.current_time()
                measured: dict[str, Any] = await good.tell("measure", seconds=seconds, each=SCALE.each)
                measured["core"] = round((server.seconds() - used) / (trio.current_time() - began), 2)
                measured["gc"] = round(await server.tell("longest_pause"), 1)
                return measured

            await good.tell("connect", count=SCALE.clients)
            await measure(SCALE.seconds / 2)  # warm
            rss = server.rss()
            quiet = await measure()
            async with serve("other") as other, run("attackers", str(await other.tell("port")), behind=True) as bad:
                await bad.tell("attack", count=SCALE.attackers, each=SCALE.each)
                await measure(SCALE.seconds / 2)  # until all of them are at work
                elsewhere = await measure()
            async with run("attackers", port, behind=True) as bad:
                await bad.tell("attack", count=SCALE.attackers, each=SCALE.each)
                await measure(SCALE.seconds / 2)
                rss_attacked = server.rss()
                attacks = await bad.tell("count")
                attacked = await measure()
                attacks = {kind: count - attacks.get(kind, 0) for kind, count in (await bad.tell("count")).items()}
                rss_later = server.rss()
                assert (await good.tell("transfer", size=1 << 20)) == {"wrong": 0}
        seen = await server.tell("look")
        await settled(server, files=files)
        after = await server.tell("look")

        print(f"\n{machine}: {SCALE.clients} clients, {SCALE.attackers} attackers of each kind, {REAL_TIME=}")
        print(f"quiet: {quiet}, {rss} KiB\nelsewhere: {elsewhere}\nattacked: {attacked}")
        print(f"memory under attack: {rss_attacked} KiB, then {rss_later} KiB")
        print(f"attacks in {SCALE.seconds:g} seconds: {attacks}; the server: {seen}")
        assert set(attacks) | {"slow_loris"} >= {"garbage", "plain_http", "reset", "key_updates", "empty_records"}
        assert all(count > 0 for kind, count in attacks.items() if kind != "slow_loris")
        assert attacked["wrong"] == 0 and attacked["messages"] > quiet["messages"] / 2
        assert attacked["p99"] < 2 * max(quiet["p99"], elsewhere["p99"]) + SCALE.tolerance
        assert rss_later - rss_attacked < FLAT
        assert seen["told"] == seen["handshakes_failed"] > 0
        assert {"PeerMisbehaved", "TooSlowError", "UnexpectedEOF", "TransportError"} <= set(seen["failed"])
        assert seen["connections_failed"] >= attacks["key_updates"] + attacks["empty_records"] - 2 * SCALE.attackers
        assert seen["log_lines"] < 10 + 12 * len(seen["failed"]) * (3 * SCALE.seconds / 10 + 2)
        assert server.files() == files
        assert after["tasks"] <= tasks + 1
        await server.tell("stop")


@SERVERS
@pytest.mark.timeout(1800)
async def test_many_handshakes_leave_nothing_behind(machine: str, tmp_path: Path) -> None:
    async with worker("server", machine, str(tmp_path), str(SCALE.handshake_timeout)) as server:
        port = str(await server.tell("port"))
        files = server.files()
        async with worker("good_clients", port) as clients:
            await clients.tell("soak", count=SCALE.handshakes // 5)  # until caches and pools have their size
            before = server.rss()
            soak = await clients.tell("soak", count=SCALE.handshakes)
            await settled(server, files=files)
            after = server.rss()
        print(f"\n{machine}: {SCALE.handshakes} handshakes in {soak['seconds']:.1f} s, {before} KiB, then {after} KiB")
        assert soak["wrong"] == 0
        assert after - before < FLAT
        assert (await server.tell("look"))["handshakes_failed"] == 0
        assert server.files() == files
