"""The ``openssl`` command as a peer: ``s_server`` and ``s_client``, run and typed to under Trio.

How this works. Both write what they see to stdout or stderr, and obey letters that are typed at the start of a
line (``K``: KeyUpdate, ``R``: renegotiate, ``Q``: close). `OpenSSL.typed` and `OpenSSL.shows` are a person at that
terminal. ``s_server`` is told port 0, and says the port that it got when it is ready, so nobody waits or guesses.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

#: By what `trio_tls.ConnectionInfo.version` says.
VERSION_OPTION = {"TLSv1.3": "-tls1_3", "TLSv1.2": "-tls1_2"}


def openssl_command() -> str:
    """The path of the ``openssl`` command. Without one, the test is skipped, but in continuous integration it fails."""
    found = shutil.which("openssl")
    if found is None:
        text = "there is no openssl command on the PATH: install OpenSSL to run the interop tests"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)
    return found


#: Seconds; for a process to start, a handshake, and a megabyte, on a busy machine.
PATIENCE = 30


class OpenSSL:
    """One running ``openssl`` process.

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
async def run(*arguments: str | Path) -> AsyncIterator[OpenSSL]:
    """``openssl`` with these arguments; killed at the end, if it has not ended by itself.

    Another program may hang, whatever we promise: the body has `PATIENCE` seconds.
    """
    command = [openssl_command(), *map(str, arguments)]
    with trio.fail_after(PATIENCE):
        async with _run(command) as peer:
            yield peer


@asynccontextmanager
async def _run(command: list[str]) -> AsyncIterator[OpenSSL]:
    async with trio.open_nursery() as nursery:
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        peer = OpenSSL(process)
        nursery.start_soon(peer.read)
        try:
            yield peer
        finally:
            process.kill()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await process.wait()


@asynccontextmanager
async def s_server(*arguments: str | Path) -> AsyncIterator[tuple[OpenSSL, trio.SocketStream]]:
    """``openssl s_server`` on a free port, and a connection to it."""
    async with run("s_server", "-accept", "127.0.0.1:0", *arguments) as peer:
        output = await peer.shows("ACCEPT 127.0.0.1:")
        while not (line := output.partition(b"ACCEPT 127.0.0.1:")[2]).count(b"\n"):
            output = await peer.shows("\n", times=output.count(b"\n") + 1)
        yield peer, await trio.open_tcp_stream("127.0.0.1", int(line.split()[0]))


@asynccontextmanager
async def s_client(*arguments: str | Path) -> AsyncIterator[tuple[OpenSSL, trio.SocketStream]]:
    """``openssl s_client``, and the connection that it has made to us."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]
        async with run("s_client", "-connect", f"127.0.0.1:{port}", *arguments) as peer:
            yield peer, await listener.accept()
