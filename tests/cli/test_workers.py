"""``trio-tls serve`` with several processes, with shared tickets, and with files that change while it runs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography import x509
from trio.testing import MockClock

from trio_tls import Session, TLSStream
from trio_tls.cli import main
from trio_tls.cli.problem import ExitStatus
from trio_tls.cli.signals import until_stopped

from ..redis_server import free_port, redis_server
from ..support import HOST, authority, client_config, client_context
from .conftest import Files
from .driving import COMMAND, Running, on_both_machines, ran, running
from .test_serve import server
from .test_site import command, in_both_commands


@asynccontextmanager
async def workers(count: int, *arguments: str | Path | int, name: str = "serve") -> AsyncIterator[tuple[Running, int]]:
    async with command(name, "--workers", count, *arguments) as (run, port):
        yield run, port


async def echoed(port: int, *, session: Any = None, context: ssl.SSLContext | None = None) -> TLSStream[Any]:
    """A connection that has said hello and heard it again; closed at once."""
    tcp = await trio.open_tcp_stream("127.0.0.1", port)
    stream = TLSStream(tcp, context or client_config(), server_hostname=HOST, session=session)
    async with stream:
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"hello"
    return stream


def events(run: Running, kind: str) -> list[dict[str, Any]]:
    lines = run.out.splitlines()
    if not run.out.endswith(b"\n"):
        lines = lines[:-1]
    return [each for each in map(json.loads, lines) if each["event"] == kind]


async def shows(run: Running, text: str, times: int) -> None:
    """As `Running.shows`, for what several workers say."""
    while run.out.count(text.encode()) < times:
        await run._news.park()


def children_of(process: trio.Process) -> list[str]:
    return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()


@in_both_commands
@on_both_machines
async def test_workers_share_a_port_and_sessions_and_each_line_says_whose_it_is(
    files: Files, name: str, options: tuple[str, ...]
) -> None:
    async with workers(3, "--cert", files.server, "--json", *options, name=name) as (run, port):
        context = client_context() if options else None
        session: Any = None
        for attempt in range(12):
            stream = await echoed(port, session=session, context=context)
            assert bool(stream.session_reused) == bool(attempt), attempt
            session = stream.session
            assert isinstance(session, ssl.SSLSession if options else Session)
        run.process.send_signal(signal.SIGTERM)
        assert await run.ends() == 0
        assert len({each["worker"] for each in events(run, "connection")}) > 1
        assert len(events(run, "listening")) == len(events(run, "stopped")) == 1
        assert "worker" not in events(run, "listening")[0]
        assert run.err == b""


async def test_a_worker_that_is_killed_is_replaced_and_the_others_go_on(files: Files) -> None:
    async with workers(2, "--cert", files.server) as (run, port):
        assert b"(echo, 2 workers)" in run.out
        children = children_of(run.process)
        os.kill(int(children[0]), signal.SIGKILL)
        await run.shows(f"was killed by SIGKILL (process {children[0]})\n")
        await run.shows("is ready")
        for _ in range(4):
            await echoed(port)
        await run.shows("] 127.0.0.1:")
        run.press_ctrl_c()
        assert await run.ends() == 130
        assert run.out.endswith(b"\nstopped\n")
        assert b"Traceback" not in run.err


async def test_each_worker_has_its_own_counters(files: Files) -> None:
    port, metrics = free_port(), free_port()
    arguments = ("--workers", 1, "--cert", files.server, "--port", port, "--metrics", metrics)
    async with running("serve", *arguments) as run:
        await run.shows("(echo, 1 worker)")
        await echoed(port)
        await run.shows(f"[1] metrics at http://127.0.0.1:{metrics}/metrics\n")
        async with await trio.open_tcp_stream("127.0.0.1", metrics) as http:
            await http.send_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            page = b""
            async for part in http:
                page += part
        assert b'worker="1"' in page


@in_both_commands
async def test_two_servers_with_one_secret_resume_each_others_sessions(files: Files, tmp_path: Path, name: str) -> None:
    arguments = ("--cert", files.server, "--ticket-secrets", tmp_path / "secrets")
    async with command(name, *arguments) as (_, one), workers(2, *arguments, name=name) as (_, other):
        session = (await echoed(one)).session
        for port in (other, one, other):
            stream = await echoed(port, session=session)
            assert stream.session_reused
            session = stream.session


@pytest.mark.slow
@in_both_commands
async def test_two_servers_with_one_redis_resume_each_others_sessions(files: Files, tmp_path: Path, name: str) -> None:
    async with redis_server(tmp_path):
        arguments = ("--cert", files.server, "--ticket-secrets", f"unix://{tmp_path}/redis.sock")
        async with command(name, *arguments) as (_, one), command(name, *arguments) as (_, other):
            session = (await echoed(one)).session
            assert (await echoed(other, session=session)).session_reused


async def serial_of(port: int) -> int:
    stream = await echoed(port)
    der = stream.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


@pytest.mark.parametrize(
    "options",
    [
        (),
        pytest.param(("--openssl",), marks=pytest.mark.slow),
        pytest.param(("--www",), marks=pytest.mark.slow),
        ("--workers", 2),
    ],
    ids=str,
)
async def test_sighup_reads_the_certificate_again_and_a_broken_one_is_refused(
    files: Files, tmp_path: Path, options: tuple[Any, ...]
) -> None:
    path = tmp_path / "cert.pem"
    shutil.copy(files.server, path)
    fresh = authority().issue_cert(HOST)
    number = x509.load_pem_x509_certificate(fresh.cert_chain_pems[0].bytes()).serial_number
    count = 2 if "--workers" in options else 1
    async with server("--cert", path, *options) as (run, port):

        async def served() -> int:
            if "--www" not in options:
                return await serial_of(port)
            result = await ran("connect", f"127.0.0.1:{port}", "--server-name", HOST, "--ca-file", files.ca, "--json")
            return int(json.loads(result.out)["presented_chain"][0]["serial"], 16)

        before = await served()
        path.write_bytes(b"nothing")
        run.process.send_signal(signal.SIGHUP)
        await shows(run, "the old certificate stays, since the new files cannot be used: ", count)
        assert await served() == before
        path.write_bytes(fresh.private_key_and_cert_chain_pem.bytes())
        run.process.send_signal(signal.SIGHUP)
        await shows(run, "the certificate's files were read again\n", count)
        assert await served() == number


async def test_sighup_while_workers_start_kills_none(files: Files) -> None:
    async with running("serve", "--workers", 2, "--port", 0, "--cert", files.server) as run:
        while len(children_of(run.process)) < 2:  # noqa: ASYNC110  # another process
            await trio.sleep(0.001)
        run.process.send_signal(signal.SIGHUP)
        await run.shows("(echo, 2 workers)\n")
        run.press_ctrl_c()
        assert await run.ends() == 130
        assert b"killed" not in run.out


@pytest.mark.parametrize(
    ("number", "pause", "insists"),
    [
        (signal.SIGTERM, 0.5, False),
        (signal.SIGTERM, 1.5, True),
        (signal.SIGINT, 0.0, True),
    ],
)
async def test_a_sigterm_right_after_the_first_signal_does_not_insist(
    number: signal.Signals, pause: float, insists: bool, autojump_clock: MockClock
) -> None:
    finished = False

    async def serve(stop: trio.Event) -> ExitStatus:
        nonlocal finished
        signal.raise_signal(signal.SIGTERM)
        await stop.wait()
        await trio.sleep(pause)
        signal.raise_signal(number)
        await trio.sleep(10)
        finished = True
        return ExitStatus.OK

    assert await until_stopped(serve) == (ExitStatus.INTERRUPTED if number == signal.SIGINT else ExitStatus.OK)
    assert finished is not insists


@pytest.mark.slow
async def test_sighup_without_files_changes_nothing(files: Files) -> None:
    async with server("--self-signed") as (run, _):
        run.process.send_signal(signal.SIGHUP)
        run.press_ctrl_c()
        assert await run.ends() == 130
        assert b"read again" not in run.out


async def test_a_port_in_use_is_told_once_and_by_the_supervisor(files: Files) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]
        result = await ran("serve", "--workers", 2, "--port", port, "--cert", files.server)
        assert result.status == 3
        assert result.err.startswith(f"trio-tls: 127.0.0.1:{port} is in use already")


@pytest.mark.slow
async def test_a_port_for_counters_that_is_in_use_is_told_by_the_worker(files: Files) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]
        result = await ran("serve", "--workers", 1, "--port", 0, "--cert", files.server, "--metrics", port)
        assert result.status == 3
        assert f"trio-tls: worker 1: --metrics 127.0.0.1:{port} is in use already" in result.err


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["--workers", "0"], 2, "a number from 1"),
        (["--workers", "257"], 2, "--workers 257 is more than 256"),
        (["--workers", "2", "--unix", "x"], 2, "--workers goes without --unix"),
        (["--workers", "2", "--once"], 2, "--workers goes without --once"),
        (["--ticket-secrets", "x", "--openssl"], 2, "--ticket-secrets goes without --openssl"),
        (["--ticket-secrets", "/no/such/place"], 2, "--ticket-secrets: "),
        (["--ticket-secrets", "/dev/null"], 2, "no ticket secret in the text"),
        (["--ticket-secrets", "redis://127.0.0.1:1"], 3, "<Redis at 127.0.0.1:1> cannot be reached"),
        (["--ticket-secrets", "redis://x/y"], 2, "a Redis URL looks like"),
    ],
)
def test_a_mistake_is_one_sentence(
    capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, sentence: str
) -> None:
    assert main(["serve", "--self-signed", *arguments]) == status
    captured = capsys.readouterr()
    assert captured.err.startswith("trio-tls: ")
    assert sentence in captured.err


@pytest.mark.slow
async def test_a_closed_stdout_ends_the_supervisor_and_its_workers(files: Files) -> None:
    command = [*COMMAND, "serve", "--workers", "2", "--port", "0", "--cert", str(files.server)]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    with trio.fail_after(30):
        line = bytes(await process.stdout.receive_some())
        assert len(children_of(process)) == 2
        await process.stdout.aclose()
        tcp = await trio.open_tcp_stream("127.0.0.1", int(line.split(b":")[1].split()[0]))
        async with TLSStream(tcp, client_config(), server_hostname=HOST) as stream:
            await stream.do_handshake()  # which a worker wants to tell
        assert await process.stderr.receive_some() == b""
        assert await process.wait() == 141
    await process.stderr.aclose()
