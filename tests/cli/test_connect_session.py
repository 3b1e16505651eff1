"""``trio-tls connect`` as a process: pipes, terminals, Ctrl-C in each phase, against ``openssl s_server`` and worse."""

from __future__ import annotations

import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from trio_tls import TLSStream

from ..support import HOST, receive_exactly, server_context
from .conftest import Files
from .driving import (
    COMMAND,
    VERSIONS,
    on_a_terminal,
    on_both_machines,
    plain_server,
    ran,
    running,
    s_server,
    serving,
    spoken,
)


def trusting(files: Files) -> tuple[str | Path, ...]:
    return ("--ca-file", files.ca, "--server-name", HOST)


# -- pipes -------------------------------------------------------------------------------------------------


@spoken
async def test_a_megabyte_goes_both_ways_and_both_ends_are_orderly(
    files: Files, options: tuple[str, ...], version: str
) -> None:
    data = bytes(range(256)) * 4096
    async with serving(server_context(VERSIONS[version])) as port:
        with trio.fail_after(30):
            command = [*COMMAND, "connect", f"127.0.0.1:{port}", *trusting(files), *options]
            done = await trio.run_process(command, stdin=data, capture_stdout=True, capture_stderr=True, check=False)
    assert done.returncode == 0
    assert done.stdout == data, "a pipe gets every byte as it is"
    assert done.stderr.endswith(b"\nThe server has ended the connection in order (close_notify).\n")
    assert b"\x1b" not in done.stderr


async def test_the_answer_that_comes_after_the_end_of_the_input_is_read(files: Files) -> None:
    async def count(stream: TLSStream[Any]) -> None:
        received = 0
        async for data in stream:
            received += len(data)
        await stream.send_all(f"{received} bytes\n".encode())

    async with serving(server_context(), count) as port:
        result = await ran("connect", f"127.0.0.1:{port}", *trusting(files), "-q", stdin=b"x" * 1000)
    assert (result.status, result.out, result.err) == (0, "1000 bytes\n", "")


@on_both_machines
async def test_a_conversation_with_s_server(files: Files, options: tuple[str, ...]) -> None:
    async with s_server("-cert", files.server) as (peer, port):
        async with running("connect", f"127.0.0.1:{port}", *trusting(files), *options) as run:
            await run.type(b"from the client\n")
            await peer.shows("from the client")
            await peer.write(b"from the server\n")
            await run.shows("from the server\n")
            await run.end_of_input()
            assert await run.ends() == 0
            assert run.out == b"from the server\n"
            assert b"verification passed" in run.err


@on_both_machines
async def test_s_server_sees_the_certificate_and_the_protocol(files: Files, options: tuple[str, ...]) -> None:
    demands = ("-Verify", "1", "-verify_return_error", "-CAfile", files.ca, "-alpn", "h2")
    async with s_server("-cert", files.server, *demands) as (peer, port):
        arguments: tuple[str | Path, ...] = ("--cert", files.client, "--alpn", "h2,http/1.1", "--check", *options)
        result = await ran("connect", f"127.0.0.1:{port}", *trusting(files), *arguments)
        assert result.status == 0, result.err
        await peer.shows("ALPN protocols selected: h2")
        await peer.shows("-----BEGIN CERTIFICATE-----")


async def test_without_input_only_the_server_talks(files: Files) -> None:
    async def greet(stream: TLSStream[Any]) -> None:
        await stream.send_all(b"welcome\n")

    async with serving(server_context(), greet) as port:
        result = await ran("connect", f"127.0.0.1:{port}", *trusting(files), "-q", "--no-input", stdin=b"not this")
    assert (result.status, result.out) == (0, "welcome\n")


async def test_a_connection_that_is_cut_off_is_no_orderly_end(files: Files) -> None:
    async def cut(stream: TLSStream[Any]) -> None:
        assert stream.transport_stream is not None
        await stream.send_all(b"half of")
        await trio.aclose_forcefully(stream.transport_stream)

    async with serving(server_context(), cut) as port:
        result = await ran("connect", f"127.0.0.1:{port}", *trusting(files), "-q", "--no-input")
    assert result.status == 4
    assert result.out == "half of"
    assert result.err.startswith("trio-tls: the connection ended without close_notify")


async def test_a_closed_stdout_ends_it_quietly(files: Files) -> None:
    async def flood(stream: TLSStream[Any]) -> None:
        while True:
            await stream.send_all(b"more\n" * 1000)

    async with serving(server_context(), flood) as port:
        command = [*COMMAND, "connect", f"127.0.0.1:{port}", *map(str, trusting(files)), "-q", "--no-input"]
        process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        with trio.fail_after(30):
            await process.stdout.receive_some(1)
            await process.stdout.aclose()
            assert await process.stderr.receive_some() == b""
            assert await process.wait() == 141


async def test_streams_that_the_caller_has_closed_are_taken_as_empty(files: Files) -> None:
    async with serving(server_context()) as port:
        words = ["connect", f"127.0.0.1:{port}", *map(str, trusting(files)), "-q"]
        shell = ["sh", "-c", 'exec "$@" <&- >&-', "sh", *COMMAND, *words]
        with trio.fail_after(30):
            done = await trio.run_process(shell, capture_stderr=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


# -- a terminal --------------------------------------------------------------------------------------------


async def test_a_person_at_a_terminal(files: Files) -> None:
    async def answer(stream: TLSStream[Any]) -> None:
        async for data in stream:
            await stream.send_all(b"you said: \x1b[31m" + bytes(data).strip() + b"\x07\r\n")
        await stream.send_all("good\u202ebye\r\n".encode())

    async with serving(server_context(), answer) as port:
        async with on_a_terminal("connect", f"127.0.0.1:{port}", *trusting(files)) as run:
            await run.shows("Ctrl-D ends it.")
            assert b"\x1b[" in run.out, "rich is installed for the tests"
            await run.type(b"hello\n")
            await run.shows("you said: \\x1b[31mhello\\x07\r\n")
            await run.type(b"\x04")
            await run.shows("good\\u202ebye\r\n")
            await run.shows("in order")
            assert await run.ends() == 0


async def test_raw_lets_a_terminal_have_everything(files: Files) -> None:
    async def ring(stream: TLSStream[Any]) -> None:
        await stream.send_all(b"bell \x07\n")

    async with serving(server_context(), ring) as port:
        where = ("connect", f"127.0.0.1:{port}", *trusting(files), "--no-input", "--raw")
        async with on_a_terminal(*where, NO_COLOR="1") as run:
            await run.shows("bell \x07")
            assert await run.ends() == 0
            assert b"\x1b" not in run.out, "NO_COLOR is honoured"


async def test_ctrl_c_at_a_terminal(files: Files) -> None:
    async with serving(server_context()) as port:
        async with on_a_terminal("connect", f"127.0.0.1:{port}", *trusting(files)) as run:
            await run.shows("Ctrl-D ends it.")
            await run.type(b"\x03")
            await run.shows("interrupted")
            assert await run.ends() == 130


# -- Ctrl-C in each phase ----------------------------------------------------------------------------------


async def test_ctrl_c_while_connecting() -> None:
    with trio.socket.socket() as listener:
        await listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        # One connection fills this queue; the system leaves the next ones without an answer.
        fillers = [trio.socket.socket() for _ in range(3)]
        async with trio.open_nursery() as nursery:
            for filler in fillers:
                nursery.start_soon(partial(filler.connect, ("127.0.0.1", port)))
            async with running("connect", f"127.0.0.1:{port}") as run:
                await run.shows(f"connecting   to 127.0.0.1:{port}\n")
                run.press_ctrl_c()
                assert await run.ends() == 130
                assert run.err.endswith(b"\ninterrupted\n")
                assert b"connected" not in run.err
            nursery.cancel_scope.cancel()
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize("arguments", [(), ("--starttls", "smtp")])
async def test_ctrl_c_while_the_server_is_silent(arguments: tuple[str, ...]) -> None:
    reached = trio.Event()

    async def silent(stream: trio.SocketStream) -> None:
        if not arguments:
            await stream.receive_some()  # the ClientHello
        reached.set()
        await trio.sleep_forever()

    async with plain_server(silent) as port:
        async with running("connect", f"127.0.0.1:{port}", *arguments) as run:
            await run.shows("connecting")
            await reached.wait()
            run.press_ctrl_c()
            assert await run.ends() == 130
            assert run.err.endswith(b"\ninterrupted\n")


async def test_ctrl_c_in_the_conversation_ends_it_in_order(files: Files) -> None:
    ended: list[bytes] = []

    async def listen(stream: TLSStream[Any]) -> None:
        await receive_exactly(stream, 6)
        await stream.send_all(b"hello\n")
        ended.append(await stream.receive_some())  # raises, if it was no orderly end

    async with serving(server_context(), listen) as port:
        async with running("connect", f"127.0.0.1:{port}", *trusting(files)) as run:
            await run.type(b"hello\n")
            await run.shows("hello\n")
            run.press_ctrl_c()
            assert await run.ends() == 130
            assert run.err.endswith(b"\ninterrupted\n")
        while not ended:
            await trio.testing.wait_all_tasks_blocked()
    assert ended == [b""], "close_notify"


async def test_ctrl_c_while_nobody_reads_the_output(files: Files) -> None:
    async def flood(stream: TLSStream[Any]) -> None:
        while True:
            await stream.send_all(b"more\n" * 10000)

    async with serving(server_context(), flood) as port:
        command = [*COMMAND, "connect", f"127.0.0.1:{port}", *map(str, trusting(files)), "-q"]
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stderr is not None
        with trio.fail_after(30):
            await process.stdout.receive_some(1)
            process.send_signal(2)
            assert await process.stderr.receive_some() == b"\ninterrupted\n"
            assert await process.wait() == 130


async def test_ctrl_c_is_json_where_json_was_asked_for() -> None:
    reached = trio.Event()

    async def silent(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        reached.set()
        await trio.sleep_forever()

    async with plain_server(silent) as port:
        async with running("connect", f"127.0.0.1:{port}", "--json") as run:
            await reached.wait()
            run.press_ctrl_c()
            assert await run.ends() == 130
            assert b'"exit_status": 130' in run.out
            assert b'"kind": "interrupted"' in run.out
            assert run.err == b""
