"""How the processes of the load test talk: a line of JSON there, a line of JSON back."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

ROOT = Path(__file__).parents[3]


def raise_the_limit_of_files() -> None:
    """Thousands of sockets are more than a process may have by default."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def obey(commands: dict[str, Callable[..., Awaitable[Any]]]) -> None:
    """Carry out the commands on standard input until it ends."""
    buffer = b""
    async with trio.lowlevel.FdStream(os.dup(0)) as stdin:
        async for part in stdin:
            *lines, buffer = (buffer + part).split(b"\n")
            for line in lines:
                name, arguments = json.loads(line)
                answer = await commands[name](**arguments)
                print(json.dumps(answer), flush=True)


class Worker:
    """One of the processes, seen from the test."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._buffer = b""

    async def tell(self, name: str, **arguments: object) -> Any:
        """Give a command, and wait for its answer."""
        assert self._process.stdin is not None and self._process.stdout is not None
        await self._process.stdin.send_all(json.dumps([name, arguments]).encode() + b"\n")
        while b"\n" not in self._buffer:
            part = await self._process.stdout.receive_some()
            assert part, f"{self._process.args!r} has ended"
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def rss(self) -> int:
        """Its memory in KiB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1])

    def files(self) -> int:
        """How many file descriptors it has."""
        return len(list(Path(f"/proc/{self._process.pid}/fd").iterdir()))

    def seconds(self) -> float:
        """Processor time that it has taken."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def worker(module: str, *arguments: str, behind: bool = False, real_time: bool = False) -> AsyncIterator[Worker]:
    """A process that runs ``tests.serving.load.<module>``; its standard error is ours.

    Args:
      module: the last part of its name.
      arguments: for it.
      behind: whether it gets what the others leave of the processors, or nearly so.
      real_time: whether these processes come before everything else on this machine.
    """
    priority = ["chrt", "--rr", "1" if behind else "2"] if real_time else ["nice", "-n", "5" if behind else "0"]
    command = [*priority, sys.executable, "-m", f"tests.serving.load.{module}", *arguments]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    try:
        yield Worker(process)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


def may_be_real_time() -> bool:
    """Whether this user may start such processes; root may, if there is ``chrt``, of util-linux."""
    return (
        shutil.which("chrt") is not None and subprocess.run(["chrt", "--rr", "1", "true"], check=False).returncode == 0
    )
