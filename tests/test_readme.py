"""What the README says is true: its examples run as they stand, its commands are those of the CI, its rows hold.

The examples talk through a proxy of ours that stalls until the client has told that it timed out: so the
retries that they are there to show do happen, whatever the speed of the machine.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import trio_tls
from trio_tls import TLSStream

from .peers import RecordingStream
from .support import (
    HOST,
    authority,
    client_context,
    pattern,
    receive_exactly,
    server_certificate,
    server_context,
    socket_pair,
)

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
EXAMPLES = ROOT / "docs" / "examples"

#: Bytes of the client that pass before the proxy stalls its request.
STALL_AFTER = 200_000


# -- what stands in it ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["client", "server"])
def test_the_example_in_the_readme_is_the_file_in_the_manual(name: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert (EXAMPLES / f"{name}.py").read_text() in blocks


def test_the_readme_has_no_other_python_than_the_examples() -> None:
    assert README.count("```python") == 2


def test_ci_runs_the_test_command_of_the_readme() -> None:
    command = re.search(r"```sh\n(.*nox -s tests)\n", README)
    assert command is not None
    assert command.group(1) in (ROOT / ".ci" / "run").read_text().splitlines()


def test_every_link_to_a_file_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_public_name_is_in_the_reference() -> None:
    reference = (ROOT / "docs" / "reference.rst").read_text()
    for name in trio_tls.__all__:
        assert re.search(rf":: (?:trio_tls\.)?{name}\b", reference), name


# -- its examples --------------------------------------------------------------------------------------------


class StallingProxy:
    """Passes bytes between one client and the server, and stalls twice until told to go on."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self.answer = trio.Event()
        self.accept_more = trio.Event()

    async def serve(self, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        async with listener:
            task_status.started(listener.socket.getsockname()[1])
            client = await listener.accept()
        server = await trio.open_tcp_stream("127.0.0.1", self._server_port)
        async with client, server, trio.open_nursery() as nursery:
            nursery.start_soon(self._pass_to_server, client, server)
            nursery.start_soon(self._pass_to_client, server, client)

    async def _pass_to_server(self, client: trio.SocketStream, server: trio.SocketStream) -> None:
        passed = 0
        async for data in client:
            await server.send_all(data)
            passed += len(data)
            if passed > STALL_AFTER:
                await self.accept_more.wait()
        await server.send_eof()

    async def _pass_to_client(self, server: trio.SocketStream, client: trio.SocketStream) -> None:
        await self.answer.wait()
        async for data in server:
            await client.send_all(data)
        await client.send_eof()


class Lines:
    """The lines that a process prints, as it prints them; ``""`` once it has ended."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._received = b""

    async def read(self) -> str:
        while b"\n" not in self._received:
            data = await self._stream.receive_some()
            if not data:
                return ""
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return line.decode()


@asynccontextmanager
async def running(*arguments: str | Path) -> AsyncIterator[Lines]:
    """A Python program, until the block ends."""
    command = [sys.executable, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    async with trio.open_nursery() as nursery:
        process = await nursery.start(
            partial(trio.run_process, command, env=environment, stdout=subprocess.PIPE, check=False)
        )
        yield Lines(process.stdout)
        process.kill()


def unused_port() -> int:
    with socket.create_server(("", 0)) as probe:
        return int(probe.getsockname()[1])


async def test_the_client_and_the_server_lose_nothing_when_they_time_out_and_retry(tmp_path: Path) -> None:
    ca, certificate = tmp_path / "ca.pem", tmp_path / "server.pem"
    authority().cert_pem.write_to_path(ca)
    server_certificate().private_key_and_cert_chain_pem.write_to_path(certificate)
    port = unused_port()
    said: list[str] = []
    with trio.fail_after(60):
        async with running(EXAMPLES / "server.py", str(port), certificate) as server_says:
            assert await server_says.read() == f"listening on port {port}"
            async with trio.open_nursery() as nursery:
                proxy = StallingProxy(port)
                proxy_port = await nursery.start(proxy.serve)
                async with running(EXAMPLES / "client.py", "localhost", str(proxy_port), ca) as client_says:
                    while line := await client_says.read():
                        said.append(line)
                        if line == "the server is slow; the same handshake goes on":
                            proxy.answer.set()
                        elif line.startswith("slow: "):
                            proxy.accept_more.set()
                nursery.cancel_scope.cancel()
    assert said[0] == "the server is slow; the same handshake goes on"
    assert any(line.startswith("slow: ") for line in said)
    assert said[-1] == "the server has received every byte once"


# -- its comparison: each row, on trio.SSLStream and on ours -------------------------------------------------------


def theirs(transport: trio.abc.Stream, context: ssl.SSLContext | None = None, **options: Any) -> Any:
    """A client on trio.SSLStream."""
    return trio.SSLStream(transport, context or client_context(), server_hostname=HOST, **options)


def ours(transport: trio.abc.Stream, context: ssl.SSLContext | None = None, **options: Any) -> Any:
    """A client on TLSStream."""
    return TLSStream(transport, context or client_context(), server_hostname=HOST, **options)


def server_on(transport: trio.abc.Stream) -> TLSStream[trio.abc.Stream]:
    return TLSStream(transport, server_context(), server_side=True)


async def together(*functions: Callable[[], Awaitable[object]]) -> None:
    async with trio.open_nursery() as nursery:
        for function in functions:
            nursery.start_soon(function)


async def cancelled_while_blocked(function: Callable[[], Awaitable[object]]) -> None:
    """Run ``function`` until everybody waits, and cancel it there."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(function)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_row_a_handshake_that_was_cancelled() -> None:
    for make, goes_on in ((theirs, False), (ours, True)):
        a, b = socket_pair()
        client = make(a)
        await cancelled_while_blocked(client.do_handshake)
        if goes_on:
            await together(client.do_handshake, server_on(b).do_handshake)
        else:
            with pytest.raises(trio.BrokenResourceError):
                await client.do_handshake()
        a.socket.close()
        b.socket.close()


async def test_row_another_task_that_waits_for_a_cancelled_handshake(autojump_clock: trio.testing.MockClock) -> None:
    for make, takes_over in ((theirs, False), (ours, True)):
        a, b = socket_pair()
        client = make(a)
        with trio.move_on_after(60) as patience:
            async with trio.open_nursery() as nursery:
                scope = trio.CancelScope()

                async def first(client: Any = client, scope: trio.CancelScope = scope) -> None:
                    with scope:
                        await client.do_handshake()

                nursery.start_soon(first)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(client.do_handshake)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
                nursery.start_soon(server_on(b).do_handshake)
        assert patience.cancelled_caught is not takes_over
        a.socket.close()
        b.socket.close()


async def test_row_a_receive_after_a_send_that_was_cancelled() -> None:
    for make, unaffected in ((theirs, False), (ours, True)):
        a, b = socket_pair(buffer=4096)
        client, server = make(a), server_on(b)
        await together(client.do_handshake, server.do_handshake)
        await server.send_all(b"readable")
        await cancelled_while_blocked(partial(client.send_all, bytes(1_000_000)))
        if unaffected:
            assert await receive_exactly(client, 8) == b"readable"
        else:
            with pytest.raises(trio.BrokenResourceError):
                await client.receive_some()
        a.socket.close()
        b.socket.close()


async def test_row_what_the_peer_learns_when_its_certificate_is_rejected() -> None:
    for make, alert_leaves, has_text in ((theirs, False, False), (ours, True, True)):
        a, b = trio.testing.memory_stream_pair()
        client = make(a, ssl.create_default_context())  # it does not know the CA of the tests
        async with trio.open_nursery() as nursery:
            told: list[trio.BrokenResourceError] = []

            async def serve(b: trio.abc.Stream = b, told: list[trio.BrokenResourceError] = told) -> None:
                try:
                    await server_on(b).do_handshake()
                except trio.BrokenResourceError as error:
                    told.append(error)

            nursery.start_soon(serve)
            with pytest.raises(trio.BrokenResourceError) as failure:
                await client.do_handshake()
            await trio.testing.wait_all_tasks_blocked()
            assert bool(told) is alert_leaves
            assert bool(str(failure.value)) is has_text
            nursery.cancel_scope.cancel()


async def test_row_how_much_a_receive_returns() -> None:
    data = pattern(200_000)
    for make, one_record in ((theirs, True), (ours, False)):
        a, b = trio.testing.memory_stream_pair()
        client, server = make(a), server_on(b)
        await together(client.do_handshake, server.do_handshake)
        async with server:
            await server.send_all(data)
            assert (len(await client.receive_some(len(data))) <= 16 * 1024) is one_record


async def test_row_what_a_large_send_keeps_in_memory() -> None:
    for make, at_once in ((theirs, True), (ours, False)):
        a, b = trio.testing.memory_stream_pair()
        recorder = RecordingStream(a)
        async with make(recorder) as client, server_on(b) as server:
            await together(client.do_handshake, server.do_handshake)
            await together(
                partial(client.send_all, bytes(8_000_000)),
                partial(receive_exactly, server, 8_000_000),
            )
        assert (max(map(len, recorder.sent)) > 8_000_000) is at_once
        assert at_once or max(map(len, recorder.sent)) < 1_000_000


async def test_row_a_close_before_the_handshake_with_a_silent_peer(autojump_clock: trio.testing.MockClock) -> None:
    for make, returns in ((theirs, False), (ours, True)):
        a, _ = trio.testing.memory_stream_pair()
        with trio.move_on_after(60) as patience:
            await make(a).aclose()
        assert patience.cancelled_caught is not returns


async def test_row_half_close() -> None:
    assert not hasattr(theirs(trio.testing.memory_stream_pair()[0]), "send_eof")
    a, b = socket_pair()
    client, server = ours(a), server_on(b)
    await together(client.do_handshake, server.do_handshake)
    await client.send_eof()
    assert await server.receive_some() == b""
    await server.send_all(b"going on")
    assert await receive_exactly(client, 8) == b"going on"
    await together(client.aclose, server.aclose)
