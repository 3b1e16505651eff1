"""Other programs as peers: run under Trio, typed to, and read as by a person at their terminal.

How this works. Such a program writes what it sees to stdout or stderr. `Process.write` types at it, and
`Process.shows` waits until it has written something, so nobody waits for a time or guesses.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

#: Seconds; for a process to start, a handshake, and a megabyte, on a busy machine.
PATIENCE = 30


def command_named(name: str, origin: str) -> str:
    """The path of a command. Without it, the test is skipped, but in continuous integration it fails.

    Args:
      name: the command.
      origin: what to install to have it.
    """
    found = shutil.which(name)
    if found is None:
        absent(f"there is no {name} command on the PATH: install {origin} to run the interop tests")
    assert found is not None
    return found


def absent(text: str) -> None:
    """Skip the test, since a peer is not installed here; in continuous integration, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


class Process:
    """One running program.

    Attributes:
      output: what it has written so far, stdout and stderr together.
    """

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._news = trio.lowlevel.ParkingLot()
        self._ended = False
        self.output = b""

    async def typed(self, text: str) -> None:
        """Type a line, or a command letter, at the process."""
        await self.write(text.encode() + b"\n")

    async def write(self, data: bytes) -> None:
        """Give the process bytes on its stdin."""
        assert self._process.stdin is not None  # it was opened as a pipe
        await self._process.stdin.send_all(data)

    async def end_of_input(self) -> None:
        """Close its stdin."""
        assert self._process.stdin is not None
        await self._process.stdin.aclose()

    async def shows(self, text: str | bytes, *, times: int = 1) -> bytes:
        """Wait until the process has written ``text`` so many times; all of its output."""
        wanted = text.encode() if isinstance(text, str) else text
        while self.output.count(wanted) < times:
            assert not self._ended, f"{wanted!r} is not in the output: {self.output!r}"
            await self._news.park()
        return self.output

    async def ends(self) -> bytes:
        """Wait until it has ended by itself; all of its output."""
        while not self._ended:
            await self._news.park()
        return self.output

    async def read(self) -> None:
        """Keep `output` up to date, to the end of the process."""
        assert self._process.stdout is not None
        try:
            async for part in self._process.stdout:
                self.output += part
                self._news.unpark_all()
        finally:
            self._ended = True
            self._news.unpark_all()


@asynccontextmanager
async def running(
    *command: str | Path, environment: Mapping[str, str] | None = None, patience: float = PATIENCE
) -> AsyncIterator[Process]:
    """A program with these arguments; killed at the end, if it has not ended by itself.

    Another program may hang, whatever we promise: the body has ``patience`` seconds.

    Args:
      command: the program, and its arguments.
      environment: variables for it, beside ours.
      patience: how long all of it may take.
    """
    with trio.fail_after(patience):
        async with _running(list(map(str, command)), environment or {}) as peer:
            yield peer


@asynccontextmanager
async def _running(command: list[str], environment: Mapping[str, str]) -> AsyncIterator[Process]:
    async with trio.open_nursery() as nursery:
        process = await trio.lowlevel.open_process(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )
        peer = Process(process)
        nursery.start_soon(peer.read)
        try:
            yield peer
        except BaseException:
            print(peer.output[-4000:].decode(errors="replace"))  # shown by pytest if the test fails
            raise
        finally:
            process.kill()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await process.wait()
