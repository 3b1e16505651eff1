"""``trio-tls proxy`` with nginx behind it, which we did not write, and curl and wrk in front."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from ..interop.processes import PATIENCE, command_named
from ..interop.processes import running as program
from ..support import HOST, pattern
from .conftest import Files
from .driving import Running, on_both_machines
from .test_proxy import proxy

CONTENT = pattern(5_000_000)

CONFIGURATION = """\
daemon off;
master_process off;
pid {here}/pid;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {here}; proxy_temp_path {here}; fastcgi_temp_path {here};
    uwsgi_temp_path {here}; scgi_temp_path {here};
    keepalive_requests 1000000;
    access_log off;
    root {here}/www;
    log_format told '$proxy_protocol_addr:$proxy_protocol_port';
    server {{ listen unix:{here}/plain; }}
    server {{ listen unix:{here}/told proxy_protocol; access_log {here}/log told; }}
    server {{
        listen unix:{here}/tls ssl; ssl_certificate {pem}; ssl_certificate_key {pem}; ssl_protocols TLSv1.2 TLSv1.3;
    }}
}}
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory whose path is short enough for sockets."""
    directory = tempfile.mkdtemp(prefix="nginx-")
    yield Path(directory)
    shutil.rmtree(directory)


def prepare(place: Path, pem: Path) -> Path:
    (place / "www").mkdir()
    (place / "www" / "large").write_bytes(CONTENT)
    (place / "www" / "small").write_bytes(CONTENT[:1024])
    path = place / "nginx.conf"
    path.write_text(CONFIGURATION.format(here=place, pem=pem))
    return path


@asynccontextmanager
async def nginx(place: Path, files: Files) -> AsyncIterator[None]:
    command = shutil.which("nginx") or shutil.which("/usr/sbin/nginx") or command_named("nginx", "nginx")
    async with program(command, "-e", "stderr", "-c", prepare(place, files.server)):
        with trio.fail_after(PATIENCE):
            while True:
                try:
                    await (await trio.open_unix_socket(place / "tls")).aclose()
                    break
                except OSError:
                    await trio.sleep(0.01)  # it says nothing when it is ready
        yield


async def output_of(name: str, *arguments: str) -> bytes:
    with trio.fail_after(PATIENCE):
        done = await trio.run_process([command_named(name, name), *arguments], capture_stdout=True)
    return done.stdout


def curled(files: Files, port: int, path: str) -> tuple[str, ...]:
    resolved = ("--resolve", f"{HOST}:{port}:127.0.0.1", f"https://{HOST}:{port}{path}")
    return "curl", "-sS", "--fail", "--cacert", str(files.ca), *resolved


@on_both_machines
async def test_curl_gets_every_byte_of_nginx(files: Files, place: Path, options: tuple[str, ...]) -> None:
    async with nginx(place, files), proxy(f"unix:{place}/plain", "--cert", files.server, *options) as (run, port):
        got = await output_of(*curled(files, port, "/large"))
        assert hashlib.sha256(got).digest() == hashlib.sha256(CONTENT).digest()
        await run.shows(" ended: ")
        assert b"failed" not in run.out


@on_both_machines
async def test_nginx_is_a_backend_that_speaks_tls(files: Files, place: Path, options: tuple[str, ...]) -> None:
    trust = ("--to-tls", "--backend-ca-file", files.ca, "--backend-name", HOST)
    async with nginx(place, files), proxy(f"unix:{place}/tls", *trust, *options) as (run, port):
        got = await output_of("curl", "-sS", "--fail", f"http://127.0.0.1:{port}/large")
        assert got == CONTENT
        await run.shows(" ended: ")
        assert b"failed" not in run.out


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_nginx_believes_the_proxy_protocol(files: Files, place: Path, version: str) -> None:
    arguments = (f"unix:{place}/told", "--cert", files.server, "--proxy-protocol", version)
    async with nginx(place, files), proxy(*arguments) as (run, port):
        assert len(await output_of(*curled(files, port, "/small"))) == 1024
        await run.shows(" ended: ")
        (peer,) = re.findall(rb"(127\.0\.0\.1:\d+) ended", run.out)
    assert read(place / "log") == peer + b"\n"


def read(path: Path) -> bytes:
    return path.read_bytes()


@pytest.mark.slow
@on_both_machines
async def test_wrk_finds_no_fault(files: Files, place: Path, options: tuple[str, ...]) -> None:
    run: Running
    async with nginx(place, files), proxy(f"unix:{place}/plain", "--cert", files.server, "-q", *options) as (run, port):
        where = f"https://127.0.0.1:{port}/small"
        report = (await output_of("wrk", "-t1", "-c50", "-d2s", where)).decode()
        assert "Socket errors" not in report, report
        assert "Non-2xx" not in report, report
        assert float(re.search(r"Requests/sec: +([\d.]+)", report)[1]) > 50, report  # type: ignore[index]
        run.press_ctrl_c()
        assert await run.ends() == 130
