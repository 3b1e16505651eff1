"""NSS, the library of Firefox: ``selfserv`` and ``tstclnt``.

How this works. Their certificates are in a database in a directory, which `_database` makes for each setup.
``selfserv`` answers a request with a page that repeats it, and ends; it has room for 10 kB. ``tstclnt`` is a terminal,
but must not be left with a pipe that has ended: it would spin.
"""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from trio_tls import Alert, NamedGroup, TLSStream

from ...support import HOST
from ..processes import Process, command_named, running
from .identities import PASSWORD
from .peer import End, Listening, Peer, Setup, TerminalEnd, free_port

ALERTS = {
    Alert.unknown_ca: "Peer does not recognize and trust the CA that issued your certificate",
    Alert.certificate_required: "SSL_ERROR_RX_CERTIFICATE_REQUIRED_ALERT",
    Alert.no_application_protocol: "SSL_ERROR_NEXT_PROTOCOL_NO_PROTOCOL",
}

GROUPS = {NamedGroup.secp256r1: "P256", NamedGroup.secp384r1: "P384", NamedGroup.x25519: "x25519"}

#: All that the tools have a name for: id-RSASSA-PSS keys are not among their defaults.
SCHEMES = ",".join(
    ["ecdsa_secp256r1_sha256", "ecdsa_secp384r1_sha384", "ecdsa_secp521r1_sha512"]
    + [f"rsa_pss_{kind}_sha{bits}" for kind in ("rsae", "pss") for bits in (256, 384, 512)]
)

ORIGIN = "NSS (Debian's libnss3-tools)"


class _Page(TerminalEnd):
    """``selfserv``: its page has the request in it."""

    async def exchange(self, ours: TLSStream[Any], data: bytes) -> None:
        request = b"GET /" + data + b" HTTP/1.0\r\n\r\n"
        await ours.send_all(request)
        answer = bytearray()
        while part := await ours.receive_some():
            answer += part
        assert request in bytes(answer)

    async def finish(self, ours: TLSStream[Any]) -> None:
        await ours.send_all(b"GET / HTTP/1.0\r\n\r\n")


class _Terminal(TerminalEnd):
    async def finish(self, ours: TLSStream[Any]) -> None:
        await ours.do_handshake()
        await self.process.write(b"goodbye\n")  # it was told to end by now, but sleeps


class _Server(Listening):
    def __init__(self, process: Process, port: int) -> None:
        self.port = port
        self._process = process

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[trio.SocketStream, End]]:
        end = _Page(self._process, ALERTS, end="PR_Read hit EOF", trouble="PR_END_OF_FILE_ERROR")
        yield await trio.open_tcp_stream("127.0.0.1", self.port), end


class NSS(Peer):
    """The tools of NSS."""

    name = "nss"
    sends_after_our_end = frozenset({"client"})
    talks_once = frozenset({"server"})
    protocols = ("http/1.1",)

    def require(self) -> None:
        for name in ("selfserv", "tstclnt", "certutil", "pk12util"):
            command_named(name, ORIGIN)

    @asynccontextmanager
    async def server(self, setup: Setup) -> AsyncIterator[Listening]:
        port = free_port()
        options: list[str | Path] = ["-n", "leaf", "-p", str(port), "-u", "-v", *_common(setup, certified=True)]
        if setup.alpn:
            options.append("-Q")
        if setup.demands:
            options += ["-r", "-r"]
        async with running(command_named("selfserv", ORIGIN), *options) as process:
            await process.shows("About to call accept")
            yield _Server(process, port)

    @asynccontextmanager
    async def client(self, setup: Setup, port: int) -> AsyncIterator[End]:
        options = _client_options(setup, port)
        if setup.closes:
            options.append("-Q")
        async with running(command_named("tstclnt", ORIGIN), *options) as process:
            yield _Terminal(process, ALERTS, end="", trouble="failed")

    async def visit_twice(self, setup: Setup, port: int) -> None:
        request = setup.files.directory / f"request-{port}"
        request.write_bytes(b"hello\n")
        options = [*_client_options(setup, port), "-A", request, "-L", "2"]
        async with running(command_named("tstclnt", ORIGIN), *options) as process:
            await process.ends()


def _common(setup: Setup, *, certified: bool) -> list[str | Path]:
    options: list[str | Path] = [
        "-V",
        "tls1.3:tls1.3",
        "-J",
        SCHEMES,
        "-d",
        f"sql:{_database(setup, certified=certified)}",
    ]
    if setup.group is not None:
        options += ["-I", GROUPS[setup.group]]
    return options


def _client_options(setup: Setup, port: int) -> list[str | Path]:
    options = ["-h", "127.0.0.1", "-a", HOST, "-p", str(port), "-u", *_common(setup, certified=setup.certified)]
    if setup.certified:
        options += ["-n", "leaf"]
    return options


def _database(setup: Setup, *, certified: bool) -> Path:
    """A directory with the certificates of a setup."""
    files = setup.files
    name = f"nss-{setup.key}-{setup.strange}-{setup.distrusts}-{certified}"
    directory = files.directory / name
    if directory.exists():
        return directory
    directory.mkdir()

    def run(command: str, *arguments: str | Path) -> None:
        subprocess.run([command_named(command, ORIGIN), *map(str, arguments)], check=True, capture_output=True)

    where = ["-d", f"sql:{directory}"]
    ca = files.authority(strange=setup.distrusts)
    run("certutil", "-N", *where, "--empty-password")
    run("certutil", "-A", *where, "-n", "ca", "-t", "CT,CT,", "-i", ca)
    if certified:
        run("pk12util", *where, "-i", files.pkcs12(setup.key, strange=setup.strange), "-W", PASSWORD)
    return directory
