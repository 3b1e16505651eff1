"""The ``openssl`` command: ``s_server`` and ``s_client``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from trio_tls import Alert, NamedGroup, TLSStream

from ...blocking import concurrently
from ...support import HOST, receive_exactly
from .. import peers
from ..processes import Process
from .peer import End, Listening, Peer, Setup, TerminalEnd

ALERTS = {alert: f"alert number {alert.value}" for alert in Alert}

GROUPS = {NamedGroup.secp256r1: "P-256", NamedGroup.secp384r1: "P-384", NamedGroup.x25519: "X25519"}


class _Terminal(TerminalEnd):
    """Letters at the start of a line are commands."""

    def __init__(self, process: Process, *, server: bool) -> None:
        super().__init__(process, ALERTS, end="DONE" if server else "closed", trouble="unexpected eof")

    async def update_keys(self, ours: TLSStream[Any], *, request: bool) -> None:
        told = self.process.output.count(b"KEYUPDATE")
        await self.process.typed("K" if request else "k")
        if b"ACCEPT" not in self.process.output:
            await self.process.shows("KEYUPDATE", times=told + 1)
        else:
            assert ours.transport_stream is not None
            await trio.lowlevel.wait_readable(ours.transport_stream.socket)  # s_server says nothing

    async def finish(self, ours: TLSStream[Any]) -> None:
        await self.process.typed("Q")


class _Reversing(TerminalEnd):
    """``s_server -rev``: sends each line back, reversed. It can be told to end by a line of ours."""

    async def exchange(self, ours: TLSStream[Any], data: bytes) -> None:
        expected = b"".join(line[::-1] + b"\n" for line in data.splitlines())

        async def received() -> None:
            assert await receive_exactly(ours, len(expected)) == expected

        await concurrently(partial(ours.send_all, data), received)

    async def finish(self, ours: TLSStream[Any]) -> None:
        await ours.send_all(b"CLOSE\n")


class _Server(Listening):
    def __init__(self, process: Process, port: int, end: End) -> None:
        self.port = port
        self._process = process
        self._end = end

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[trio.SocketStream, End]]:
        yield await trio.open_tcp_stream("127.0.0.1", self.port), self._end


class OpenSSLCommand(Peer):
    """``openssl`` of the system."""

    name = "openssl"

    def require(self) -> None:
        peers.openssl_command()

    @asynccontextmanager
    async def server(self, setup: Setup) -> AsyncIterator[Listening]:
        files = setup.files
        options: list[str | Path] = ["-tls1_3", "-cert", files.pem(setup.key, strange=setup.strange), *_common(setup)]
        if setup.demands:
            options += ["-Verify", "3", "-verify_return_error", "-CAfile", files.authority(strange=setup.distrusts)]
        if setup.closes:
            options.append("-rev")
        async with peers.listening_s_server(*options) as (process, port):
            end = (
                _Reversing(process, ALERTS, end="CLOSED", trouble="unexpected eof")
                if setup.closes
                else _Terminal(process, server=True)
            )
            yield _Server(process, port, end)

    @asynccontextmanager
    async def client(self, setup: Setup, port: int) -> AsyncIterator[End]:
        async with peers.run("s_client", *_client_options(setup, port)) as process:
            yield _Terminal(process, server=False)

    async def visit_twice(self, setup: Setup, port: int) -> None:
        session = setup.files.directory / f"session-{port}"
        options = _client_options(setup, port)
        for which in ("-sess_out", "-sess_in"):
            async with peers.run("s_client", *options, which, session) as process:
                assert b"greeting" in await process.ends()


def _common(setup: Setup) -> list[str | Path]:
    options: list[str | Path] = []
    if setup.group is not None:
        options += ["-groups", GROUPS[setup.group]]
    if setup.alpn:
        options += ["-alpn", ",".join(setup.alpn)]
    return options


def _client_options(setup: Setup, port: int) -> list[str | Path]:
    files = setup.files
    options: list[str | Path] = ["-tls1_3", "-connect", f"127.0.0.1:{port}", "-servername", HOST]
    options += ["-CAfile", files.authority(strange=setup.distrusts), "-verify_hostname", HOST, "-verify_return_error"]
    if setup.certified:
        options += ["-cert", files.pem(setup.key, strange=setup.strange)]
    return [*options, *_common(setup)]
