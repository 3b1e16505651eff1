"""The examples of the manual that need other libraries."""

from __future__ import annotations

import importlib.util
import re
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import hypercorn.trio
import pytest
import trio

from ..support import HOST, authority, client_certificate, client_context, machines_named, server_certificate
from .servers import hello, http_server_of, hypercorn_with, listening, proxy

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def slow_hello(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["path"] == "/slow":
        await trio.sleep_forever()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


async def test_httpx_goes_on_after_a_request_that_was_cut_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ca = tmp_path / "ca.pem"
    authority().cert_pem.write_to_path(ca)
    async with hypercorn_with(slow_hello, http_server_of(machines_named("own"))) as port:
        await example("httpx_client").main(f"https://localhost:{port}/", str(ca))
    assert capsys.readouterr().out == "HTTP/2 X25519MLKEM768 hello\n"


async def test_httpcore_goes_through_a_proxy() -> None:
    tls = http_server_of(machines_named("ssl-1.3"), ["http/1.1"])
    async with listening(hello, tls) as (port, _), proxy(tls) as (proxy_port, requests):
        url, proxy_url = f"https://localhost:{port}/", f"https://localhost:{proxy_port}/"
        assert await example("httpcore_client").get(url, proxy_url, client_context()) == b"hello"
    assert len(requests) == 1


async def test_an_application_of_quart_knows_its_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    paths = [str(tmp_path / name) for name in ("ca.pem", "server.pem", "client.pem")]
    authority().cert_pem.write_to_path(paths[0])
    server_certificate().private_key_and_cert_chain_pem.write_to_path(paths[1])
    client_certificate().private_key_and_cert_chain_pem.write_to_path(paths[2])
    context = client_context()
    context.load_cert_chain(paths[2])
    served = hypercorn.trio.serve
    async with trio.open_nursery() as nursery:
        send, receive = trio.open_memory_channel[list[str]](1)

        async def serve(app: Any, config: Any) -> None:
            config.errorlog = None
            async with trio.open_nursery() as inner:
                send.send_nowait(await inner.start(partial(served, app, config)))

        monkeypatch.setattr(hypercorn.trio, "serve", serve)
        nursery.start_soon(example("hypercorn_server").main, "127.0.0.1:0", paths[1], paths[0])
        (bind,) = await receive.receive()
        url = f"https://localhost:{bind.rpartition(':')[2]}/"
        async with httpx.AsyncClient(verify=context) as client:  # httpx and its own TLS
            assert "trustme" in (await client.get(url)).text
        nursery.cancel_scope.cancel()
        send.close()
        receive.close()


async def test_anyio_has_a_handshake_that_goes_on() -> None:
    async def echo(stream: Any) -> None:
        await stream.send_all(await stream.receive_some())

    async with listening(echo, machines_named("own").server) as (port, _):
        answer = await example("anyio_client").request("127.0.0.1", port, client_context(), HOST)
    assert answer == ("TLSv1.3", b"hello")


def test_the_manual_has_the_matrix() -> None:
    rows: set[tuple[str, str]] = set()
    here = Path(__file__).parent
    for path in (*here.glob("test_*.py"), here.with_name("test_starttls_recipes.py")):
        rows |= set(re.findall(r'pytest\.mark\.row\("([^"]+)", "([^"]+)"\)', path.read_text(encoding="utf-8")))
    page = (EXAMPLES.parent / "ecosystem.rst").read_text(encoding="utf-8")
    table = page.partition("what it does over a TLSStream\n")[2].partition("\n\n")[0] + "\n"
    assert table == "".join(f"   * - {library}\n     - {does}\n" for library, does in sorted(rows))
