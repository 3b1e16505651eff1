"""The examples of the manual do what the manual says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import trio

from trio_tls import TLSStream

from .support import HOST, ForeignStream, client_context, receive_exactly, server_context, socket_pair

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_in_the_manual_and_in_a_test() -> None:
    manual = "".join(path.read_text() for path in EXAMPLES.parent.glob("*.rst"))
    tests = Path(__file__).read_text() + (Path(__file__).parent / "test_readme.py").read_text()
    for path in EXAMPLES.glob("*.py"):
        assert f"literalinclude:: examples/{path.name}" in manual
        assert f'"{path.stem}"' in tests


async def test_starttls_begins_and_ends_tls_on_one_connection() -> None:
    plain_client, plain_server = socket_pair()

    async def server() -> None:
        assert await receive_exactly(plain_server, 9) == b"STARTTLS\n"
        await plain_server.send_all(b"ready\n")
        secure = TLSStream(plain_server, server_context(), server_side=True)
        assert await receive_exactly(secure, 6) == b"secret"
        plain, trailing = await secure.unwrap()
        assert trailing == b""
        await plain.send_all(b"in the clear")

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server)
            assert await example("starttls").client(plain_client, client_context(), HOST) == b"in the clear"
    for end in (plain_client, plain_server):
        await end.aclose()


async def test_any_stream_can_be_sent_to_with_timeouts_once_it_is_entered() -> None:
    transport, peer = socket_pair(buffer=4096)
    data = bytes(range(256)) * 4000

    async def server() -> None:
        async with TLSStream(peer, server_context(), server_side=True) as stream:
            received = await receive_exactly(stream, 100_000)
            await trio.sleep(2)  # the mock clock's: the client's timeouts expire meanwhile
            received += await receive_exactly(stream, len(data) - len(received))
            await stream.send_all(b"all" if received == data else b"garbled")

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server)
            answer = await example("any_stream").request(ForeignStream(transport), client_context(), HOST, data)
    assert answer == b"all"


async def test_the_graceful_server_tells_failures_and_stops(caplog: pytest.LogCaptureFixture) -> None:
    stop = trio.Event()
    failures: list[str] = []

    async def serve(task_status: trio.TaskStatus[object]) -> None:
        failures.extend(await example("graceful_server").main(server_context(), stop, task_status))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(serve)
            port = listener.transport_listener.socket.getsockname()[1]
            async with await trio.open_tcp_stream("127.0.0.1", port) as plain:
                await plain.send_all(b"GET / HTTP/1.1\r\n\r\n")
                async for _ in plain:
                    pass
            tcp = await trio.open_tcp_stream("127.0.0.1", port)
            async with TLSStream(tcp, client_context(), server_hostname=HOST) as stream:
                await stream.send_all(b"still here")
                assert await receive_exactly(stream, 10) == b"still here"
                stop.set()
                await stream.send_all(b"!")  # handlers may finish
                assert await stream.receive_some() == b"!"
    assert len(failures) == 1 and "HTTP" in failures[0]
    assert "HTTP" in caplog.text
