"""``trio-tls proxy`` with several processes, shared tickets, counters, and limits."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from trio_tls import TLSError, TLSStream
from trio_tls.cli import main

from ..redis_server import free_port
from ..support import HOST, authority, client_certificate, client_context, server_config
from .conftest import Files
from .driving import Running, on_both_machines, plain_server, ran, running, serving, stop_now
from .test_metrics import get, url_of
from .test_proxy import everything, plain_echo
from .test_serve import client
from .test_site import command, in_both_commands
from .test_workers import children_of, echoed, events, serial_of, shows


@asynccontextmanager
async def before(backend: int, *arguments: str | Path | int) -> AsyncIterator[tuple[Running, int]]:
    """The proxy before this backend, and its port."""
    async with running("proxy", "127.0.0.1:0", backend, *arguments) as run:
        while not (found := re.search(rb"listening.*?127\.0\.0\.1:(\d+).*\n", run.out)):
            await run._news.park()
        yield run, int(found[1])
        await stop_now(run)


@asynccontextmanager
async def workers(count: int, *arguments: str | Path | int) -> AsyncIterator[tuple[Running, int]]:
    """The proxy with so many workers before an echo, and its port."""
    async with plain_server(plain_echo) as backend, before(backend, "--workers", count, *arguments) as (run, port):
        yield run, port


async def samples(url: str) -> dict[tuple[str, ...], float]:
    """What is told there: by name and labels."""
    status, _, text = await trio.to_thread.run_sync(get, url)
    assert status == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


# -- several processes ---------------------------------------------------------------------------------------


@on_both_machines
async def test_a_worker_that_is_killed_loses_its_own_connections_alone(files: Files, options: tuple[str, ...]) -> None:
    async with workers(2, "--cert", files.server, "--json", *options) as (run, port):
        streams: list[TLSStream[Any]] = []
        by_worker: dict[int, list[TLSStream[Any]]] = {}
        while len(by_worker) < 2:  # until the kernel has given some to either
            transport = await trio.open_tcp_stream("127.0.0.1", port)
            stream = TLSStream(transport, client_context(), server_hostname=HOST)
            streams.append(stream)
            await stream.send_all(b"x")
            assert await stream.receive_some() == b"x"
            ours = f"127.0.0.1:{transport.socket.getsockname()[1]}"
            while not (told := [each for each in events(run, "connection") if each["peer"] == ours]):
                await run._news.park()
            by_worker.setdefault(told[0]["worker"], []).append(stream)
        os.kill(int(children_of(run.process)[0]), signal.SIGKILL)
        await run.shows("was killed by SIGKILL")
        (ended,) = events(run, "worker ended")
        for stream in by_worker.pop(ended["worker"]):
            with pytest.raises(TLSError):
                await stream.receive_some()
        ((_, others),) = by_worker.items()
        for stream in others:
            await stream.send_all(b"still here")
            assert await stream.receive_some() == b"still here"
        await run.shows('"worker ready"')
        for _ in range(4):
            await echoed(port)
        for stream in streams:
            await stream.aclose()


@on_both_machines
async def test_sighup_and_ctrl_c_reach_every_worker(files: Files, tmp_path: Path, options: tuple[str, ...]) -> None:
    path = tmp_path / "cert.pem"
    shutil.copy(files.server, path)
    async with workers(2, "--cert", path, "--stop-grace", 20, *options) as (run, port):
        before = await serial_of(port)
        path.write_bytes(authority().issue_cert(HOST).private_key_and_cert_chain_pem.bytes())
        run.process.send_signal(signal.SIGHUP)
        await shows(run, "the certificate's files were read again\n", 2)
        assert await serial_of(port) != before
        async with client(port) as stream:
            await stream.send_all(b"1")
            assert await stream.receive_some() == b"1"
            run.press_ctrl_c()
            await run.shows("stopping: 1 open connection has 20 seconds to finish\n")
            await stream.send_all(b"2")
            assert await stream.receive_some() == b"2"
        assert await run.ends() == 130
        assert run.out.endswith(b"\nstopped\n")


@on_both_machines
async def test_a_worker_that_replaces_another_begins_with_the_newest_certificate(
    files: Files, tmp_path: Path, options: tuple[str, ...]
) -> None:
    path = tmp_path / "cert.pem"
    shutil.copy(files.server, path)
    async with workers(1, "--cert", path, *options) as (run, port):
        before = await serial_of(port)
        path.write_bytes(authority().issue_cert(HOST).private_key_and_cert_chain_pem.bytes())
        os.kill(int(children_of(run.process)[0]), signal.SIGKILL)
        await run.shows("worker 1 is ready")
        assert await serial_of(port) != before


async def test_workers_speak_tls_with_the_backend_for_clients_that_do_not(files: Files) -> None:
    trust = ("--to-tls", "--backend-ca-file", files.ca, "--backend-name", HOST)
    async with serving(server_config()) as backend:
        async with before(backend, *trust, "--workers", 2) as (run, port):
            assert b" (plain) for " in run.out
            assert run.out.endswith(b", 2 workers\n")
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(b"hello")
                await stream.send_eof()
                assert await everything(stream) == b"hello"
            run.process.send_signal(signal.SIGTERM)
            assert await run.ends() == 0


# -- counters ------------------------------------------------------------------------------------------------


@on_both_machines
async def test_each_worker_tells_its_counters(files: Files, options: tuple[str, ...]) -> None:
    metrics = free_port()
    async with workers(2, "--cert", files.server, "--metrics", metrics, *options) as (run, port):
        await shows(run, "/metrics", 2)
        for _ in range(6):
            await echoed(port, context=client_context())
        done = 0.0
        for number in (1, 2):
            told = await samples(f"http://127.0.0.1:{metrics + number - 1}/metrics")
            done += told["trio_tls_handshakes_total", str(number), "done"]
        assert done == 6


async def test_connections_of_clients_without_tls_are_counted_and_their_failures_too(files: Files) -> None:
    trust = ("--to-tls", "--backend-ca-file", files.ca, "--backend-name", HOST, "--metrics", 0, "--json")
    async with serving(server_config()) as backend:
        async with before(backend, *trust) as (run, port):
            url = await url_of(run)
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(b"hello")
                assert await stream.receive_some() == b"hello"
                told = await samples(url)
                assert (told["trio_tls_connections_open",], told["trio_tls_received_bytes_total",]) == (1, 5)
                await stream.send_eof()
                assert await everything(stream) == b""
            await run.shows('"end"')
            told = await samples(url)
            assert told["trio_tls_connections_open",] == 0
            assert told["trio_tls_connections_accepted_total",] == told["trio_tls_connection_seconds_count",] == 1
            assert told["trio_tls_received_bytes_total",] == told["trio_tls_sent_bytes_total",] == 5


@on_both_machines
async def test_a_backend_that_fails_is_counted(files: Files, options: tuple[str, ...]) -> None:
    async def met(backend: int, *trust: str | Path) -> list[str]:
        arguments = ("--cert", files.server, *trust, "--metrics", 0, *options)
        async with before(backend, *arguments) as (run, port), client(port) as stream:
            assert await stream.receive_some() == b""
            await run.shows("failed: ")
            told = await samples(await url_of(run))
            return [key[1] for key in told if key[0] == "trio_tls_connections_failed_total"]

    strange = ("--to-tls", "--backend-ca-file", files.strange_ca, "--backend-name", HOST)
    async with serving(server_config()) as backend:
        assert await met(backend, *strange) == ["CertificateVerificationError"]
    assert await met(free_port()) == ["OSError"]


# -- limits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["own", "openssl", "plain"])
async def test_who_comes_when_it_is_full_is_refused_if_that_is_asked_for(files: Files, side: str) -> None:
    sides: tuple[str | Path, ...] = ("--to-tls", "--backend-ca-file", files.ca, "--backend-name", HOST)
    if side != "plain":
        sides = ("--cert", files.server, *(("--openssl",) if side == "openssl" else ()))
    limits = ("--max-connections", 1, "--when-full", "refuse")
    async with plain_server(plain_echo) as plain, serving(server_config()) as sealed:
        backend = sealed if side == "plain" else plain
        async with before(backend, *sides, *limits, "--metrics", 0) as (run, port):
            url = await url_of(run)

            async def connected() -> trio.abc.Stream:
                tcp = await trio.open_tcp_stream("127.0.0.1", port)
                return tcp if side == "plain" else TLSStream(tcp, client_context(), server_hostname=HOST)

            async with await connected() as first:
                await first.send_all(b"x")
                assert await first.receive_some() == b"x"
                async with await connected() as second:
                    with suppress(trio.BrokenResourceError):
                        assert await second.receive_some() == b""
                await run.shows("failed: refused, as there are as many connections as --max-connections allows")
                assert (await samples(url))["trio_tls_connections_refused_total", "connections"] == 1
                await first.send_all(b"x")
                assert await first.receive_some() == b"x"
            await run.shows(" ended: ")
            answer = b""
            with trio.fail_after(30):
                while not answer:  # the line is written a moment before the place is free
                    async with await connected() as third:
                        with suppress(trio.BrokenResourceError):
                            await third.send_all(b"x")
                            answer = bytes(await third.receive_some())
            assert answer == b"x"


@in_both_commands
@on_both_machines
async def test_plain_http_is_answered_if_that_is_asked_for(files: Files, name: str, options: tuple[str, ...]) -> None:
    limits = ("--plain-http", "--max-handshakes", 1, "--when-full", "refuse")
    async with command(name, "--cert", files.server, *limits, *options) as (run, port):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await everything(stream)).startswith(b"HTTP/1.1 400 ")
        await run.shows("failed: the peer does not speak TLS but HTTP")
        async with await trio.open_tcp_stream("127.0.0.1", port):  # and says nothing: it holds the only turn
            await run.shows("failed: ")
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                with suppress(trio.BrokenResourceError):
                    assert await stream.receive_some() == b""
            await run.shows("refused, as there are as many handshakes as --max-handshakes allows")


# -- who the client is ---------------------------------------------------------------------------------------


@on_both_machines
async def test_the_backend_is_told_whose_certificate_the_client_has_by_every_worker(
    files: Files, options: tuple[str, ...]
) -> None:
    heard: list[bytes] = []

    async def listens(stream: trio.SocketStream) -> None:
        heard.append(await everything(stream))
        await stream.send_eof()

    demand = ("--client-cert", "require", "--ca-file", files.ca, "--proxy-protocol", "v2", "--workers", 2)
    async with plain_server(listens) as backend:
        async with before(backend, "--cert", files.server, *demand, *options) as (_, port):
            context = client_context()
            client_certificate().configure_cert(context)
            for _ in range(4):
                async with client(port, context) as stream:
                    await stream.send_eof()
                    assert await stream.receive_some() == b""
    assert len(heard) == 4
    for each in heard:
        # Flags: TLS, a certificate on this connection (5 when it is of a session); it was verified (0).
        assert re.search(rb"\x20\x00.[\x05\x07]\x00\x00\x00\x00\x21", each, re.DOTALL), each
        assert b"Testing cert" in each, "what it is called"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--workers", "257"], "--workers 257 is more than 256"),
        (["--ticket-secrets", "x", "--openssl"], "--ticket-secrets goes without --openssl"),
        (["--workers", "2", "--metrics", "65535"], "--metrics 65535 leaves no port for each worker"),
        (["--ticket-secrets", "/dev/null"], "no ticket secret in the text"),
    ],
)
def test_a_mistake_is_one_sentence(capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str) -> None:
    assert main(["proxy", "0", "1", "--self-signed", *arguments]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("listen", "arguments", "sentence"),
    [
        ("unix:x", ["--self-signed", "--workers", "2"], "--workers goes without LISTEN at unix:PATH"),
        ("0", ["--to-tls", "--ticket-secrets", "x"], "--ticket-secrets needs --cert or --self-signed"),
        ("0", ["--to-tls", "--max-handshakes", "2"], "--max-handshakes needs --cert or --self-signed"),
        ("0", ["--to-tls", "--plain-http"], "--plain-http needs --cert or --self-signed"),
        ("0", ["--to-tls", "--unknown-name", "refuse"], "--unknown-name needs --cert or --self-signed"),
        ("0", ["--to-tls", "--key", "x"], "--key needs --cert or --self-signed"),
    ],
)
def test_what_is_about_tls_with_clients_needs_it(
    capsys: pytest.CaptureFixture[str], listen: str, arguments: list[str], sentence: str
) -> None:
    assert main(["proxy", listen, "1", *arguments]) == 2
    assert sentence in capsys.readouterr().err


async def test_a_port_in_use_is_told_once_and_by_the_supervisor(files: Files) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]
        result = await ran("proxy", port, 1, "--workers", 2, "--cert", files.server)
        assert result.status == 3
        assert result.err.startswith(f"trio-tls: 127.0.0.1:{port} is in use already")


async def test_of_several_certificates_json_tells_which_was_read_again(files: Files) -> None:
    async with workers(1, "--cert", files.server, "--cert", files.server, "--json") as (run, port):
        await echoed(port)
        run.process.send_signal(signal.SIGHUP)
        await shows(run, '"reloaded"', 2)
        for line in run.out.splitlines():
            if json.loads(line)["event"] == "reloaded":
                assert json.loads(line)["certificate"] == str(files.server)
