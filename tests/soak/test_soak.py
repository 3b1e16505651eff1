"""A short soak; ``nox -s soak`` is a long one."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest
import trio

from . import __main__ as soaking
from .__main__ import Watch, main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is looked at in /proc"),
]


def test_a_short_soak_leaves_memory_and_descriptors_as_they_were(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--handshakes", "1200", "--gigabytes", "0.4"]) == 0
    told = capsys.readouterr().out
    assert told.count("descriptors left 0") == 8
    for what in ("600 handshakes", "75 that resume", "75 that fail", "0.2 GB"):
        assert what in told
    assert (
        "in all: 1,200 full handshakes, 150 resumed ones, 150 times some that fail, 0.4 GB on own and ssl-1.3" in told
    )


def test_a_soak_notices_memory_that_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[bytes] = []

    async def leaking(machines: object, count: int, watch: Watch) -> None:
        for _ in range(count):
            kept.append(b"x" * 2**20 * (sys.maxsize > 0))
            watch.look()
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(soaking, "data", leaking)
    assert not soaking.soak("own", "leaks", leaking, 40).well


def test_a_soak_notices_descriptors_that_are_left() -> None:
    kept: list[socket.socket] = []

    async def leaking(machines: object, count: int, watch: Watch) -> None:
        kept.extend(socket.socketpair())
        for _ in range(count):
            watch.look()
        await trio.lowlevel.checkpoint()

    watch = soaking.soak("own", "leaks", leaking, 40)
    for each in kept:
        each.close()
    assert watch.left == 2
    assert not watch.well
