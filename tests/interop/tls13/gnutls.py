"""GnuTLS: ``gnutls-serv`` and ``gnutls-cli``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import trio

from trio_tls import Alert, NamedGroup, TLSStream

from ...blocking import concurrently
from ...support import HOST, receive_exactly
from ..processes import Process, command_named, running
from .peer import End, Listening, Peer, Setup, TerminalEnd, free_port

ALERTS = {
    Alert.unknown_ca: "CA is unknown",
    Alert.certificate_required: "Certificate is required",
    Alert.no_application_protocol: "No supported application protocol",
}

GROUPS = {
    NamedGroup.secp256r1: "GROUP-SECP256R1",
    NamedGroup.secp384r1: "GROUP-SECP384R1",
    NamedGroup.x25519: "GROUP-X25519",
}

ORIGIN = "GnuTLS (Debian's gnutls-bin)"


class _Echo(TerminalEnd):
    """``gnutls-serv --echo``; with ``--http`` one that ends after its answer."""

    async def exchange(self, ours: TLSStream[Any], data: bytes) -> None:
        async def received() -> None:
            assert await receive_exactly(ours, len(data)) == data

        await concurrently(partial(ours.send_all, data), received)

    async def update_keys(self, ours: TLSStream[Any], *, request: bool) -> None:
        assert request, "it always asks for ours in return"
        await ours.send_all(b"**REHANDSHAKE**\n")  # under TLS 1.3, what it sends is a KeyUpdate
        answer = b"Successfully executed command\n"
        assert await receive_exactly(ours, len(answer)) == answer

    async def finish(self, ours: TLSStream[Any]) -> None:
        await ours.send_all(b"GET / HTTP/1.0\r\n\r\n")


class _Terminal(TerminalEnd):
    async def update_keys(self, ours: TLSStream[Any], *, request: bool) -> None:
        told = self.process.output.count(b"Rekey")
        await self.process.typed("^rekey^" if request else "^rekey1^")
        await self.process.shows("Rekey", times=told + 1)

    async def finish(self, ours: TLSStream[Any]) -> None:
        await self.process.end_of_input()


class _Server(Listening):
    def __init__(self, process: Process, port: int) -> None:
        self.port = port
        self._process = process

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[trio.SocketStream, End]]:
        end = _Echo(self._process, ALERTS, end="", trouble="Error")
        yield await trio.open_tcp_stream("127.0.0.1", self.port), end


class GnuTLS(Peer):
    """The programs of GnuTLS."""

    name = "gnutls"
    rejects_with = MappingProxyType({"server": Alert.access_denied, "client": Alert.bad_certificate})
    receives_after_its_end = frozenset({"client"})
    cuts_after_our_end = frozenset({"client"})

    def require(self) -> None:
        for name in ("gnutls-serv", "gnutls-cli"):
            command_named(name, ORIGIN)

    @asynccontextmanager
    async def server(self, setup: Setup) -> AsyncIterator[Listening]:
        files, port = setup.files, free_port()
        pem = files.pem(setup.key, strange=setup.strange)
        options: list[str | Path] = ["--port", str(port), "--x509certfile", pem, "--x509keyfile", pem, *_common(setup)]
        if setup.demands:
            ca = files.authority(strange=setup.distrusts)
            options += ["--require-client-cert", "--verify-client-cert", "--x509cafile", ca]
        else:
            options.append("--disable-client-cert")
        if setup.strange:
            options += ["--debug", "5"]  # or else it does not tell which alert it received
        options.append("--http" if setup.closes else "--echo")
        async with running(command_named("gnutls-serv", ORIGIN), *options) as process:
            await process.shows(f"IPv4 0.0.0.0 port {port}...done")
            yield _Server(process, port)

    @asynccontextmanager
    async def client(self, setup: Setup, port: int) -> AsyncIterator[End]:
        options = _client_options(setup, port)
        async with running(command_named("gnutls-cli", ORIGIN), *options, "--inline-commands") as process:
            yield _Terminal(process, ALERTS, end="Peer has closed the GnuTLS connection", trouble="Error")

    async def visit_twice(self, setup: Setup, port: int) -> None:
        options = [*_client_options(setup, port), "--resume", "--waitresumption"]
        async with running(command_named("gnutls-cli", ORIGIN), *options) as process:
            await process.shows("This is a resumed session")
            await process.shows("greeting")
            await process.end_of_input()
            await process.ends()


def _common(setup: Setup) -> list[str | Path]:
    versions = "NORMAL:-VERS-ALL:+VERS-TLS1.3"
    groups = "" if setup.group is None else f":-GROUP-ALL:+{GROUPS[setup.group]}"
    options: list[str | Path] = ["--priority", versions + groups]
    for protocol in setup.alpn:
        options += ["--alpn", protocol]
    return options


def _client_options(setup: Setup, port: int) -> list[str | Path]:
    files = setup.files
    options: list[str | Path] = ["--port", str(port), "--x509cafile", files.authority(strange=setup.distrusts)]
    options += ["--sni-hostname", HOST, "--verify-hostname", HOST, *_common(setup)]
    if setup.certified:
        pem = files.pem(setup.key, strange=setup.strange)
        options += ["--x509certfile", pem, "--x509keyfile", pem]
    return [*options, "127.0.0.1"]
