"""The command, driven as a person would: in this process where only words matter, else as a process of its own.

How this works. `said` runs ``main()`` in a thread, with a Trio loop of its own, so that the test's loop can be its
peer; standard output and error are pytest's. `Running` is a real process, on pipes or on a terminal
(`on_a_terminal`), whose output is waited for, never slept for.
"""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_tls import ServerConfig, TLSStream, serve_tls_over_tcp
from trio_tls.cli import main

from ..interop import peers

COMMAND = (sys.executable, "-m", "trio_tls")

#: Seconds after which a process hangs, on a busy machine.
PATIENCE = 60

#: The options by which the command speaks TLS with one machine and version, and the version.
SPOKEN = {
    "own": ((), "1.3"),
    "openssl-1.3": (("--openssl", "--tls-min", "1.3"), "1.3"),
    "openssl-1.2": (("--openssl", "--tls-max", "1.2"), "1.2"),
}

#: For what does not depend on the version.
MACHINES = {"own": (), "openssl": ("--openssl",)}

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def spoken(function: Any) -> Any:
    """Run the test with each machine and version: its arguments ``options`` and ``version``."""
    return pytest.mark.parametrize(("options", "version"), SPOKEN.values(), ids=SPOKEN)(function)


def on_both_machines(function: Any) -> Any:
    """Run the test with each machine: its argument ``options``."""
    return pytest.mark.parametrize("options", MACHINES.values(), ids=MACHINES)(function)


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it has written."""

    status: int
    out: str
    err: str


async def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path | int) -> Said:
    """Run the command here, to its end."""
    capsys.readouterr()
    with trio.fail_after(PATIENCE):
        status = await trio.to_thread.run_sync(main, [str(each) for each in arguments])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return Said(status, captured.out, captured.err)


async def ran(*arguments: str | Path | int, stdin: bytes = b"") -> Said:
    """Run the command as a process with pipes, to its end."""
    with trio.fail_after(PATIENCE):
        done = await trio.run_process(
            [*COMMAND, *map(str, arguments)], stdin=stdin, capture_stdout=True, capture_stderr=True, check=False
        )
    err = done.stderr.decode()
    assert "Traceback" not in err
    return Said(done.returncode, done.stdout.decode(), err)


class Running:
    """One process under way.

    Attributes:
      out: what it has written to standard output so far (on a terminal: everything).
      err: what it has written to standard error.
    """

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.out = b""
        self.err = b""
        self._open = 2
        self._news = trio.lowlevel.ParkingLot()

    async def type(self, data: bytes) -> None:
        """Write this to its standard input."""
        assert self.process.stdin is not None
        await self.process.stdin.send_all(data)

    async def end_of_input(self) -> None:
        """Close its standard input."""
        assert self.process.stdin is not None
        await self.process.stdin.aclose()

    async def shows(self, text: str) -> None:
        """Wait until it has written this."""
        while text.encode() not in self.out + self.err:
            assert self._open, f"{text!r} is not in the output: {self.out!r} {self.err!r}"
            await self._news.park()

    def press_ctrl_c(self) -> None:
        """As the terminal does it."""
        self.process.send_signal(signal.SIGINT)

    async def ends(self) -> int:
        """Wait for its end; its exit status."""
        while self._open:
            await self._news.park()
        status = await self.process.wait()
        assert b"Traceback" not in self.out + self.err, (self.out + self.err).decode()
        return status

    async def read(self, name: str, stream: trio.abc.ReceiveStream | None) -> None:
        """Keep what it has written up to date."""
        assert stream is not None
        try:
            async for part in stream:
                setattr(self, name, getattr(self, name) + part)
                self._news.unpark_all()
        finally:
            self._open -= 1
            self._news.unpark_all()


async def stop_now(run: Running) -> None:
    """Stop a server in its own way, however many connections are open: the first signal asks, another one insists."""
    while run.process.returncode is None:
        run.press_ctrl_c()  # two that come together are one, so again
        with trio.move_on_after(0.05):
            await run.process.wait()


@asynccontextmanager
async def running(
    *arguments: str | Path | int, before: tuple[str, ...] = (), environment: dict[str, str] | None = None
) -> AsyncIterator[Running]:
    """The command as a process with pipes; killed at the end, if it has not ended by itself."""
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            process = await trio.lowlevel.open_process(
                [*before, *COMMAND, *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=os.environ | (environment or {}),
            )
            run = Running(process)
            nursery.start_soon(run.read, "out", process.stdout)
            nursery.start_soon(run.read, "err", process.stderr)
            try:
                yield run
            finally:
                process.kill()
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    await process.wait()


#: Runs a command on a terminal of its own, and carries what is typed and shown.
TERMINAL = (sys.executable, "-c", "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))")


def on_a_terminal(*arguments: str | Path | int, **environment: str) -> Any:
    """As `running`, but standard input, output and error are a terminal; all that it shows is in ``out``."""
    plain = {"TERM": "xterm", "NO_COLOR": "", "COLUMNS": "100", "LINES": "40"}
    return running(*arguments, before=TERMINAL, environment=plain | environment)


def files_in(directory: Path) -> list[Path]:
    """What lies there."""
    return sorted(directory.iterdir())


async def echo(stream: TLSStream[Any]) -> None:
    async for data in stream:
        await stream.send_all(data)


@asynccontextmanager
async def serving(
    context: ssl.SSLContext | ServerConfig, handler: Callable[[TLSStream[Any]], Awaitable[object]] = echo
) -> AsyncIterator[int]:
    """A TLS server in this process; its port."""
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(serve_tls_over_tcp, handler, 0, context, host="127.0.0.1"))
        yield listener.transport_listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def plain_server(handler: Callable[[trio.SocketStream], Awaitable[object]]) -> AsyncIterator[int]:
    """A TCP server without TLS, in this process; its port."""
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def s_server(*arguments: str | Path) -> AsyncIterator[tuple[peers.OpenSSL, int]]:
    """``openssl s_server`` on a free port: what it shows, and the port."""
    async with peers.run("s_server", "-accept", "127.0.0.1:0", *arguments) as peer:
        while not (line := peer.output.partition(b"ACCEPT 127.0.0.1:")[2]).count(b"\n"):
            await peer.shows("\n", times=peer.output.count(b"\n") + 1)
        yield peer, int(line.split()[0])
