"""``trio-tls serve --metrics``: what a scraper gets, and that nobody can tie the port up."""

from __future__ import annotations

import json
import re
import socket
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from prometheus_client.parser import text_string_to_metric_families

from trio_tls import ServerMetrics
from trio_tls.cli.metrics import MOST_AT_ONCE, MOST_REQUEST, PATIENCE, open_metrics_listeners, serve_metrics
from trio_tls.cli.problem import ExitStatus, Problem

from ..support import HOST
from .driving import Running, on_both_machines, ran, running
from .test_serve import client, port_of


def get(url: str) -> tuple[int, str, str]:
    """By a client that we have not written: status, content type, and text."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, response.headers["Content-Type"], response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


async def url_of(run: Running) -> str:
    await run.shows("/metrics")
    found = re.search(rb"http://127\.0\.0\.1:\d+/metrics", run.out)
    assert found is not None
    return found[0].decode()


@on_both_machines
async def test_a_scraper_sees_what_has_happened(options: tuple[str, ...], tmp_path: object) -> None:
    async with running("serve", "--port", 0, "--self-signed", HOST, "--metrics", 0, *options) as run:
        port, url = await port_of(run), await url_of(run)
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"garbage, garbage, garbage")
        while await stream.receive_some():
            pass
        await stream.aclose()
        with pytest.raises(trio.BrokenResourceError):
            async with client(port) as distrustful:
                await distrustful.do_handshake()
        await run.shows("unknown_ca")
        status, content_type, text = await trio.to_thread.run_sync(get, url)
        assert (status, content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
        found = {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        assert found["trio_tls_connections_accepted_total",] == 2
        assert found["trio_tls_handshakes_total", "failed"] == 2
        assert found["trio_tls_handshakes_failed_total", "AlertReceived", "unknown_ca", "peer"] == 1
        status, _, text = await trio.to_thread.run_sync(get, url + "?x=1")
        assert status == 200
        status, _, text = await trio.to_thread.run_sync(get, url.replace("/metrics", "/"))
        assert (status, text) == (404, "There is nothing but /metrics.\n")
        run.press_ctrl_c()
        assert await run.ends() == ExitStatus.INTERRUPTED


async def test_the_journal_tells_where_in_json_too() -> None:
    async with running("serve", "--port", 0, "--self-signed", "--metrics", 0, "--json") as run:
        url = await url_of(run)
        (event,) = [each for each in map(json.loads, run.out.splitlines()) if each["event"] == "metrics"]
        assert event["urls"] == [url]


async def test_an_address_that_is_taken_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = await ran("serve", "--port", 0, "--self-signed", "--metrics", address)
    assert said.status == ExitStatus.NETWORK
    assert f"--metrics {address}" in said.err


@pytest.mark.parametrize("address", ["localhost", "70000", "::1:9100", "host:", "http://localhost:9100"])
async def test_what_is_no_address_is_told(address: str) -> None:
    said = await ran("serve", "--self-signed", "--metrics", address)
    assert said.status == ExitStatus.USAGE and "--metrics" in said.err


async def test_each_worker_tells_its_own_counters_on_the_next_port() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/metrics"
    async with running("serve", "--port", 0, "--self-signed", "--workers", 2, "--metrics", port) as run:
        await run.shows(f":{port}/metrics")
        await run.shows(f":{port + 1}/metrics")
        for number in (1, 2):
            text = (await trio.to_thread.run_sync(get, url.replace(str(port), str(port + number - 1))))[2]
            assert f'trio_tls_connections_open{{worker="{number}"}} 0\n' in text
        run.press_ctrl_c()
        assert await run.ends() == ExitStatus.INTERRUPTED


async def test_workers_without_enough_ports_are_told() -> None:
    said = await ran("serve", "--self-signed", "--workers", 2, "--metrics", 65535)
    assert said.status == ExitStatus.USAGE and "leaves no port for each worker" in said.err


# -- the port itself ----------------------------------------------------------------------------------------


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[str, int]]:
    async with trio.open_nursery() as nursery:
        listeners = await open_metrics_listeners(("127.0.0.1", 0))
        nursery.start_soon(serve_metrics, listeners, ServerMetrics(), {"worker": "7"})
        yield listeners[0].socket.getsockname()
        nursery.cancel_scope.cancel()


async def ask(address: tuple[str, int], request: bytes) -> bytes:
    async with await trio.open_tcp_stream(*address) as stream:
        await stream.send_all(request)
        return b"".join([part async for part in stream])


async def test_requests_of_every_kind_have_an_answer() -> None:
    async with serving() as address:
        assert b'trio_tls_connections_open{worker="7"} 0\n' in await ask(address, b"GET /metrics HTTP/1.1\r\n\r\n")
        head = await ask(address, b"HEAD /metrics HTTP/1.0\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n") and head.endswith(b"\r\n\r\n")
        assert (await ask(address, b"POST /metrics HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 405 ")
        for garbage in (b"\x16\x03\x01\r\n\r\n", b"GET /metrics\r\n\r\n", b"x" * (MOST_REQUEST + 1)):
            assert (await ask(address, garbage)).startswith(b"HTTP/1.1 400 ")
        async with await trio.open_tcp_stream(*address) as leaving:
            await leaving.send_all(b"GET /met")
            await leaving.send_eof()
            assert (await leaving.receive_some()).startswith(b"HTTP/1.1 400 ")


async def test_silent_clients_are_let_go_and_keep_nobody_out_for_long(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as address:
        silent = [await trio.open_tcp_stream(*address) for _ in range(MOST_AT_ONCE)]
        autojump_clock.autojump_threshold = float("inf")  # until all of them are in
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert await ask(address, b"") == b""
        autojump_clock.jump(PATIENCE + 1)
        for each in silent:
            assert await each.receive_some() == b""
            await each.aclose()
        assert b"200 OK" in await ask(address, b"GET /metrics HTTP/1.1\r\n\r\n")


async def test_a_host_without_a_name_is_a_problem() -> None:
    with pytest.raises(Problem, match="no host with the name|could not be looked up"):
        await open_metrics_listeners(("no-such-host.invalid", 0))
