"""``trio-tls serve`` as a process: its journal, ``openssl s_client``, browsers, bad clients, Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_tls import TLSStream
from trio_tls.cli import main
from trio_tls.cli.serve import STOP_GRACE

from ..interop import peers
from ..support import HOST, authority, client_context, receive_exactly
from .conftest import Files
from .driving import COMMAND, Running, on_a_terminal, on_both_machines, ran, running, stop_now

Capture = pytest.CaptureFixture[str]


async def port_of(run: Running) -> int:
    """The port that a server tells first."""
    await run.shows("listening")
    while not (found := re.search(rb"127\.0\.0\.1:(\d+)", run.out)):
        await run.shows("\n")
    return int(found[1])


def exists(path: Path) -> bool:
    return path.exists()


@asynccontextmanager
async def server(*arguments: str | Path | int) -> AsyncIterator[tuple[Running, int]]:
    async with running("serve", "--port", 0, *arguments) as run:
        yield run, await port_of(run)
        await stop_now(run)


@asynccontextmanager
async def client(port: int, context: ssl.SSLContext | None = None) -> AsyncIterator[TLSStream[Any]]:
    transport = await trio.open_tcp_stream("127.0.0.1", port)
    async with TLSStream(transport, context or client_context(), server_hostname=HOST) as stream:
        yield stream


# -- what it serves ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "agreed"),
    [((), "TLS_AES_128_GCM_SHA256, group x25519"), (("--openssl",), "TLS_AES_256_GCM_SHA384")],
    ids=["own", "openssl"],
)
async def test_it_echoes_and_tells_each_connection_and_each_failure_in_one_line(
    files: Files, options: tuple[str, ...], agreed: str
) -> None:
    async with server("--cert", files.server, *options) as (run, port):
        assert run.out == f"listening on 127.0.0.1:{port} (echo)\n".encode()
        async with client(port) as stream:
            await stream.send_all(b"hello\n")
            assert await receive_exactly(stream, 6) == b"hello\n"
            assert stream.transport_stream is not None
            ours = stream.transport_stream.socket.getsockname()[1]
        await run.shows(f"127.0.0.1:{ours} connected: TLSv1.3 {agreed}, new session, client certificate none\n")
        transport = await trio.open_tcp_stream("127.0.0.1", port)
        await transport.send_all(b"GET / HTTP/1.1\r\n\r\n")
        await run.shows("failed: the peer does not speak TLS but HTTP")
        await run.shows(". Clients begin with TLS here; browsers do, for https://\n")
        await transport.aclose()
        async with client(port, ssl.create_default_context()) as stream:
            with pytest.raises(trio.BrokenResourceError):
                await stream.do_handshake()
        await run.shows("alert unknown_ca (48)")
        async with client(port) as stream:
            await stream.do_handshake()
            assert stream.transport_stream is not None
            await trio.aclose_forcefully(stream.transport_stream)
        await run.shows("failed: the connection ended without close_notify")
        run.press_ctrl_c()
        assert await run.ends() == 130
        assert run.out.endswith(b"\nstopped\n")
        assert run.err == b"", "the library's log does not tell it twice"


@on_both_machines
async def test_s_client_talks_to_a_throw_away_certificate(tmp_path: Path, options: tuple[str, ...]) -> None:
    ca = tmp_path / "ca.pem"
    names = ("--self-signed", "name.example.org", "--write-ca", ca)
    async with server(*names, "--alpn", "h2,http/1.1", *options) as (run, port):
        await run.shows(f"--ca-file {ca}\n")
        arguments = ("-CAfile", ca, "-verify_hostname", "name.example.org", "-verify_return_error", "-alpn", "http/1.1")
        async with peers.run("s_client", "-connect", f"127.0.0.1:{port}", *arguments) as peer:
            await peer.shows("Verify return code: 0 (ok)")
            await peer.shows("ALPN protocol: http/1.1")
            await peer.write(b"to and fro\n")
            await peer.shows("to and fro\n")
        await run.shows(", ALPN http/1.1, ")


async def test_without_write_ca_the_ca_lies_in_a_file_that_is_told_and_taken_away_again() -> None:
    async with server("--self-signed", "--once") as (run, port):
        await run.shows("--ca-file ")
        path = Path(re.search(rb"--ca-file (.+)\n", run.out)[1].decode())  # type: ignore[index]
        result = await ran("connect", f"localhost:{port}", "--ca-file", path, "-q", stdin=b"hello\n")
        assert (result.status, result.out, result.err) == (0, "hello\n", "")
        assert await run.ends() == 0
    assert not exists(path)


@on_both_machines
@pytest.mark.parametrize("demand", ["request", "require"])
async def test_client_certificates(files: Files, demand: str, options: tuple[str, ...]) -> None:
    demands: tuple[str | Path, ...] = ("--client-cert", demand, "--ca-file", files.ca)
    arguments = ("--cert", files.server, *demands, *options)
    async with server(*arguments, "--json") as (run, port):
        trust = ("--ca-file", files.ca, "--server-name", HOST)
        shown = await ran("connect", f"127.0.0.1:{port}", *trust, "--check", "--cert", files.client)
        assert shown.status == 0
        none = await ran("connect", f"127.0.0.1:{port}", *trust, "--check")
        assert none.status == (0 if demand == "request" else 4)
        bad = await ran("connect", f"127.0.0.1:{port}", *trust, "--check", "--cert", files.strange)
        assert bad.status == 4
        run.press_ctrl_c()
        assert await run.ends() == 130
    events = [json.loads(line) for line in run.out.splitlines()]
    told = [(each["event"], each.get("exit_status"), len(each.get("presented_chain", ()))) for each in events]
    without = ("connection", None, 0) if demand == "request" else ("failure", 5, 0)
    assert told == [
        ("listening", None, 0),
        ("connection", None, 1),
        without,
        ("failure", 5, 0),
        ("stopped", None, 0),
    ]
    assert len(events[1]["local_chain"]) == (0 if options else 1), "OpenSSL does not tell"
    assert events[0]["addresses"] == [f"127.0.0.1:{port}"]
    assert len(events[1]["verified_chain"]) == 2
    assert all(each["time"] for each in events)


async def test_once_ends_with_the_status_of_the_one_connection(files: Files) -> None:
    async with server("--cert", files.server, "--once", "--timeout", "0.1") as (run, port):
        async with await trio.open_tcp_stream("127.0.0.1", port):
            assert await run.ends() == 3
        assert b"failed: the handshake was not done after 0.1 seconds" in run.out


async def test_a_unix_socket_is_served_and_taken_away(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    left_behind = trio.socket.socket(trio.socket.AF_UNIX)
    await left_behind.bind(str(path))
    left_behind.close()
    async with running("serve", "--unix", path, "--cert", files.server) as run:
        await run.shows(f"listening on unix:{path} (echo)\n")
        trust = ("--ca-file", files.ca, "--server-name", HOST)
        result = await ran("connect", "--unix", path, *trust, "-q", stdin=b"hello\n")
        assert (result.status, result.out) == (0, "hello\n")
        second = await ran("serve", "--unix", path, "--cert", files.server)
        assert second.status == 3
        assert f"unix:{path} is in use already" in second.err
        run.process.send_signal(signal.SIGTERM)
        assert await run.ends() == 0
    assert not path.exists()
    path.write_text("no socket")
    refused = await ran("serve", "--unix", path, "--cert", files.server)
    assert refused.status == 3
    assert path.read_text() == "no socket", "nothing but a socket that was left behind is removed"


# -- how it ends -------------------------------------------------------------------------------------------


async def test_ctrl_c_while_idle_ends_it_at_once(files: Files) -> None:
    async with server("--cert", files.server) as (run, _port):
        run.press_ctrl_c()
        assert await run.ends() == 130
        assert run.out.endswith(b"(echo)\nstopped\n")
        assert run.err == b""


async def test_ctrl_c_lets_a_connection_finish(files: Files) -> None:
    async with server("--cert", files.server) as (run, port):
        async with client(port) as stream:
            await stream.send_all(b"1")
            assert await stream.receive_some() == b"1"
            run.press_ctrl_c()
            await run.shows(f"stopping: 1 open connection has {STOP_GRACE:g} seconds to finish\n")
            with pytest.raises(OSError, match="all attempts"):
                await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(b"2")
            assert await stream.receive_some() == b"2"
            await stream.send_eof()
            assert await stream.receive_some() == b""
        assert await run.ends() == 130
        assert run.out.endswith(b"\nstopped\n")


async def test_a_second_ctrl_c_ends_everything_now(files: Files) -> None:
    async with server("--cert", files.server) as (run, port):
        async with client(port) as stream:
            await stream.send_all(b"1")
            assert await stream.receive_some() == b"1"
            run.press_ctrl_c()
            await run.shows("stopping: 1 open connection")
            run.press_ctrl_c()
            assert await stream.receive_some() == b"", "close_notify all the same"
        assert await run.ends() == 130


async def test_a_closed_stdout_ends_it_quietly(files: Files) -> None:
    command = [*COMMAND, "serve", "--port", "0", "--cert", str(files.server)]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    with trio.fail_after(30):
        line = bytes(await process.stdout.receive_some())
        await process.stdout.aclose()
        async with client(int(line.split(b":")[1].split()[0])) as stream:
            await stream.do_handshake()  # which the journal wants to tell
            assert await process.stderr.receive_some() == b""
        assert await process.wait() == 141


async def test_a_terminal_gets_colours(files: Files) -> None:
    async with on_a_terminal("serve", "--port", 0, "--cert", files.server) as run:
        await run.shows("(echo)")
        assert b"\x1b[1m" in run.out
        await run.type(b"\x03")
        assert await run.ends() == 130


async def test_what_a_client_says_of_itself_cannot_harm_the_terminal(files: Files) -> None:
    harmful = authority().issue_cert("x@example.org", common_name="harm\x1b[2J\nless")
    context = client_context()
    harmful.configure_cert(context)
    async with server("--cert", files.server, "--client-cert", "require", "--ca-file", files.ca) as (run, port):
        async with client(port, context) as stream:
            await stream.do_handshake()
            await run.shows("connected")
            await run.shows("\\x1b[2J")
    assert b"\x1b" not in run.out
    assert [line.split()[1] for line in run.out.splitlines()[:2]] == [b"on", b"connected:"]
    assert b"".join(run.out.splitlines()[2:]) in (b"", b"stopped")


# -- mistakes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        ([], 2, "give either --cert or --self-signed"),
        (["--cert", "x", "--self-signed"], 2, "give either --cert or --self-signed"),
        (["--cert", "x", "--write-ca", "y"], 2, "--write-ca needs --self-signed"),
        (["--self-signed", "--client-cert", "require"], 2, "--client-cert require needs --ca-file"),
        (["--self-signed", "--ca-file", "x"], 2, "--ca-file needs --client-cert"),
        (["--self-signed", "", "--port", "0"], 2, "--self-signed: "),
        (["--self-signed", "--write-ca", "/no/such/place"], 2, "--write-ca /no/such/place: No such file or directory"),
        (["--self-signed", "--port", "65536"], 2, "a number from 0 to 65535"),
        (["--self-signed", "--alpn", "h2,h2"], 2, "an ALPN protocol is listed twice"),
        (["--self-signed", "--tls-max", "1.2"], 2, "--tls-max 1.2 needs --openssl"),
        (["--self-signed", "--group", "x"], 2, "--group: x is not known here"),
        (["--self-signed", "--host", "192.0.2.1"], 3, "192.0.2.1:4433 is no address of this machine"),
        (["--cert", "/no/such/file"], 2, "--cert /no/such/file: No such file or directory"),
    ],
)
def test_a_mistake_is_one_sentence(capsys: Capture, arguments: list[str], status: int, sentence: str) -> None:
    assert main(["serve", *arguments]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("trio-tls: ")
    assert sentence in captured.err
    assert len(captured.err.splitlines()) == 2, "a sentence and a hint"


async def test_a_port_in_use(files: Files) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]
        result = await ran("serve", "--port", port, "--cert", files.server)
    assert result.status == 3
    assert result.err.startswith(f"trio-tls: 127.0.0.1:{port} is in use already ({os.strerror(98)})\n")
