"""run_workers: processes that are replaced when they die, and stopped together.

Each test runs a program of its own, since a fork copies whoever calls it.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from trio_tls import TLSError, TLSStream, Worker, open_tls_over_tcp_listeners, run_workers
from trio_tls.ports import bound_sockets, listeners_at

from .interop.processes import Process, running
from .redis_server import free_port
from .serving.servers import open_files
from .support import HOST, client_config, server_certificate, server_config

EXAMPLE = Path(__file__).parent.parent / "docs" / "examples" / "workers.py"

#: What the programs begin with: ``body`` is what a worker does, and ``tell`` reports.
PROGRAM = """
import os, signal, sys, time, trio
from trio_tls import run_workers

def say(text):  # in one piece, though several processes write
    os.write(1, f"{{text}}\\n".encode())

def tell(event):
    say(f"{{event.kind}} {{event.number}} {{event.pid}} {{event.text}}")

def work(worker):
{body}

say(f"exit {{run_workers(work, {count}, on_event=tell, stop_grace={grace})}}")
"""

#: A worker that runs until it is told to stop.
OBEDIENT = """
async def main():
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.stop_when_told, stop)
        worker.ready()
        worker.ready()
        await stop.wait()
        nursery.cancel_scope.cancel()
    say(f"bye {worker.number}")
trio.run(main)
"""


@asynccontextmanager
async def program(body: str, *, count: int = 2, grace: float = 20) -> AsyncIterator[Process]:
    indented = textwrap.indent(textwrap.dedent(body), "    ")
    async with running(sys.executable, "-c", PROGRAM.format(body=indented, count=count, grace=grace)) as process:
        yield process


def pid_of(process: Process, number: int) -> int:
    """Of the worker that was ready last with this number."""
    return int(re.findall(rb"ready %d (\d+)" % number, process.output)[-1])


def kill(process: Process, number: signal.Signals) -> None:
    """Send the supervisor a signal."""
    process._process.send_signal(number)


async def test_a_killed_worker_is_replaced_and_sigterm_stops_all() -> None:
    async with program(OBEDIENT) as process:
        await process.shows("ready", times=4)  # in the kind and in the text
        first = pid_of(process, 1)
        os.kill(first, signal.SIGKILL)
        await process.shows(f"ended 1 {first} worker 1 was killed by SIGKILL (process {first})")
        await process.shows("ready", times=6)
        assert pid_of(process, 1) != first
        kill(process, signal.SIGTERM)
        await process.shows("exit 0\n")
        output = await process.ends()
    assert output.count(b"bye") == 2
    assert output.count(b"with the exit status 0") == 2


async def test_ctrl_c_reaches_the_supervisor_alone_and_is_its_exit_status() -> None:
    async with program(OBEDIENT) as process:
        await process.shows("ready", times=4)
        os.kill(pid_of(process, 1), signal.SIGINT)
        kill(process, signal.SIGINT)
        await process.shows("exit 130\n")
        assert (await process.ends()).count(b"bye") == 2


async def test_sighup_is_passed_on() -> None:
    body = """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    worker.ready()
    while signal.sigwait({signal.SIGHUP}):
        say(f"reload {worker.number}")
    """
    async with program(body) as process:
        await process.shows("ready", times=4)
        kill(process, signal.SIGHUP)
        await process.shows("reload 1\n")
        await process.shows("reload 2\n")
        kill(process, signal.SIGTERM)
        await process.shows("was killed by SIGTERM", times=2)
        await process.shows("exit 0\n")


async def test_a_worker_that_does_nothing_about_sighup_is_not_killed_by_it() -> None:
    async with program(OBEDIENT) as process:
        await process.shows("ready", times=4)
        kill(process, signal.SIGHUP)
        kill(process, signal.SIGTERM)
        await process.shows("exit 0\n")
        assert (await process.ends()).count(b"bye") == 2
    assert b"was killed" not in process.output


async def test_a_service_manager_that_signals_every_process_does_not_cut_the_grace_short() -> None:
    body = """
    async def main():
        stop = trio.Event()
        with trio.open_signal_receiver(signal.SIGUSR1) as signals:
            async with trio.open_nursery() as nursery:
                await nursery.start(worker.stop_when_told, stop)
                worker.ready()
                await stop.wait()
                say(f"stopping {worker.number}")
                await signals.__anext__()
                nursery.cancel_scope.cancel()
    trio.run(main)
    """
    async with program(body) as process:
        await process.shows("ready", times=4)
        workers = [pid_of(process, 1), pid_of(process, 2)]
        for pid in workers:
            os.kill(pid, signal.SIGTERM)
        kill(process, signal.SIGTERM)
        await process.shows("stopping 1\n")
        await process.shows("stopping 2\n")
        for pid in workers:
            os.kill(pid, signal.SIGTERM)  # as the supervisor does, but certainly before what comes now
            os.kill(pid, signal.SIGUSR1)
        await process.shows("exit 0\n")
    assert process.output.count(b"with the exit status 0") == 2


@pytest.fixture
def worker() -> Iterator[Worker]:
    """A worker whose supervisor lives."""
    lifeline, other_end = os.pipe()
    news = os.open(os.devnull, os.O_WRONLY)
    yield Worker(1, lifeline, news)
    for each in (lifeline, other_end, news):
        os.close(each)


async def test_the_same_sigterm_once_more_changes_nothing_while_the_worker_ends(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    caught: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: caught.append(number))
    try:
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.stop_when_told, stop)
            signal.raise_signal(signal.SIGTERM)
            await stop.wait()
            signal.raise_signal(signal.SIGTERM)  # nobody gets to look at this one
            nursery.cancel_scope.cancel()
        signal.raise_signal(signal.SIGTERM)
        assert not caught
        later = time.monotonic() + 2
        monkeypatch.setattr(time, "monotonic", lambda: later)
        signal.raise_signal(signal.SIGTERM)
        assert caught == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_a_worker_that_was_not_told_to_stop_leaves_sigterm_as_it_was(worker: Worker) -> None:
    before = signal.getsignal(signal.SIGTERM)
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.stop_when_told, trio.Event())
        assert signal.getsignal(signal.SIGTERM) != before
        nursery.cancel_scope.cancel()
    assert signal.getsignal(signal.SIGTERM) == before


async def test_a_second_sigterm_counts_when_it_is_not_the_first_once_more(
    worker: Worker, autojump_clock: MockClock
) -> None:
    caught: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: caught.append(number))
    try:
        stop, ended = trio.Event(), trio.Event()

        async def run(task_status: trio.TaskStatus[None]) -> None:
            await worker.stop_when_told(stop, task_status=task_status)
            ended.set()

        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            signal.raise_signal(signal.SIGTERM)
            await stop.wait()
            await trio.sleep(0.5)
            signal.raise_signal(signal.SIGTERM)
            await trio.sleep(1)
            assert not ended.is_set() and not caught
            signal.raise_signal(signal.SIGTERM)
            await ended.wait()
        assert caught == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_several_tasks_may_wait_for_the_end_of_the_supervisor(worker: Worker) -> None:
    files = open_files()
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.stop_when_told, trio.Event())
        nursery.start_soon(worker.orphaned)
        nursery.start_soon(worker.orphaned)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert open_files() == files


#: What makes one call of `os.fork` or `os.pipe` fail.
FAILING = """
def open_files():
    return len(os.listdir("/proc/self/fd"))

before = open_files()
real, calls = os.{name}, 0
def failing():
    global calls
    calls += 1
    if calls == {number}:
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return real()
os.{name} = failing

def tell(event):
"""


def failing(name: str, number: int) -> str:
    """The program, in which that call fails."""
    source = PROGRAM.format(body=textwrap.indent(textwrap.dedent(OBEDIENT), "    "), count=2, grace=20)
    source = source.replace("\ndef tell(event):\n", FAILING.format(name=name, number=number))
    return source + "say(f'files {open_files() - before}')\n"


@pytest.mark.parametrize(("name", "number"), [("fork", 3), ("pipe", 5)])
async def test_a_worker_for_which_there_is_no_room_is_started_later(name: str, number: int) -> None:
    async with running(sys.executable, "-c", failing(name, number)) as process:
        await process.shows("ready", times=4)
        os.kill(pid_of(process, 1), signal.SIGKILL)
        await process.shows(
            "delayed 1 0 worker 1 cannot be started, and it is tried again soon: [Errno 11] Resource temporarily"
        )
        await process.shows("ready", times=6)
        os.kill(pid_of(process, 1), signal.SIGKILL)
        await process.shows("ready", times=8)
        kill(process, signal.SIGTERM)
        await process.shows("exit 0\n")
        await process.shows("files 0\n")


async def test_if_there_is_no_room_for_the_first_workers_that_is_an_error() -> None:
    async with running(sys.executable, "-c", failing("fork", 2)) as process:
        await process.shows("BlockingIOError: [Errno 11] Resource temporarily unavailable\n")
        await process.ends()
    assert b"exit 0" not in process.output


async def test_who_does_not_stop_is_killed_after_the_grace_period() -> None:
    body = """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    worker.ready()
    while signal.sigwait({signal.SIGTERM}):
        say("no")
    """
    async with program(body, grace=0.5) as process:
        await process.shows("ready", times=4)
        kill(process, signal.SIGTERM)
        await process.shows("no\n", times=2)
        kill(process, signal.SIGTERM)
        await process.shows("was killed by SIGKILL", times=2)
        await process.shows("exit 0\n")


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ("return 7", 7, b""),
        pytest.param("raise SystemExit(8)", 8, b"", marks=pytest.mark.slow),
        pytest.param("raise SystemExit('no certificate')", 1, b"", marks=pytest.mark.slow),
        ("raise LookupError('no certificate')", 1, b"LookupError: no certificate\n"),
        pytest.param("return None", 1, b"", marks=pytest.mark.slow),
        ("os.kill(os.getpid(), signal.SIGKILL)", 1, b"killed by SIGKILL"),
    ],
)
async def test_if_none_was_ever_ready_all_of_it_ends(body: str, status: int, told: bytes) -> None:
    later = "if worker.number == 2:\n    signal.pause()\n"
    async with program(later + body) as process:
        await process.shows(f"exit {status}\n")
        assert told in process.output


@pytest.mark.slow
async def test_one_that_keeps_ending_is_started_again_after_pauses_that_grow() -> None:
    body = """
    say(f"begun at {time.monotonic()}")
    worker.ready()
    """
    async with program(body, count=1) as process:
        await process.shows("begun at", times=6)
        kill(process, signal.SIGTERM)
        await process.shows("exit 0\n")
    moments = [float(each) for each in re.findall(rb"begun at ([\d.]+)\n", process.output)]
    pauses = [later - sooner for sooner, later in itertools.pairwise(moments)]
    assert pauses[4] > pauses[0] + 0.4, pauses  # 1.6 seconds, and 0.1


async def test_workers_stop_when_their_supervisor_is_killed() -> None:
    async with program(OBEDIENT) as process:
        await process.shows("ready", times=4)
        kill(process, signal.SIGKILL)
        await process.shows("bye 1\n")
        await process.shows("bye 2\n")


@pytest.mark.slow
async def test_an_error_of_who_is_told_comes_out_once_the_workers_are_stopped() -> None:
    source = PROGRAM.format(body=textwrap.indent(textwrap.dedent(OBEDIENT), "    "), count=2, grace=20)
    source = source.replace("def tell(event):\n", "def tell(event):\n    if event.kind == 'ready': 1 / 0\n")
    async with running(sys.executable, "-c", source) as process:
        output = await process.ends()
    assert b"ZeroDivisionError" in output
    assert b"exit" not in output.replace(b"exit status", b"")


async def test_by_default_what_happens_is_logged() -> None:
    source = PROGRAM.format(body="    return 3", count=1, grace=1).replace(", on_event=tell", "")
    async with running(sys.executable, "-c", source) as process:
        output = await process.ends()
    assert re.search(rb"worker 1 ended with the exit status 3 \(process \d+\)\nexit 3\n", output)


def test_mistakes_are_told_at_once() -> None:
    def work(worker: Worker) -> None:
        pytest.fail("never called")

    with pytest.raises(ValueError, match="at least 1 worker, not 0"):
        run_workers(work, 0)
    with pytest.raises(ValueError, match="stop_grace must be"):
        run_workers(work, 1, stop_grace=-1)
    caught: list[Exception] = []

    def elsewhere() -> None:
        try:
            run_workers(work, 1)
        except ValueError as error:
            caught.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])


# -- ports -----------------------------------------------------------------------------------------------------------


async def test_several_listeners_share_a_port_and_a_held_one_takes_no_connection() -> None:
    (held,) = bound_sockets(0, "127.0.0.1")
    port = held.getsockname()[1]
    with held:
        with pytest.raises(OSError, match="all attempts"):
            await trio.open_tcp_stream("127.0.0.1", port)
        (one,) = listeners_at([held])
        (other,) = await open_tls_over_tcp_listeners(port, server_config(), host="127.0.0.1", reuse_port=True)
        other_listener = other.transport_listener
        assert isinstance(other_listener, trio.SocketListener)
        async with one, other:
            assert one.socket.getsockname() == other_listener.socket.getsockname()
            async with await trio.open_tcp_stream("127.0.0.1", port):
                pass


async def test_a_port_that_is_not_shared_cannot_be_had() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            await open_tls_over_tcp_listeners(port, server_config(), host="127.0.0.1", reuse_port=True)


async def test_what_cannot_be_had_leaves_no_socket_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    (held,) = bound_sockets(0, "127.0.0.1")
    gone = socket.socket()
    gone.close()
    with held, pytest.raises(OSError, match="Bad file descriptor"):
        listeners_at([held, gone])
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: [(1234, socket.SOCK_STREAM, 0, "", ())])
    with pytest.raises(OSError, match="not supported"):
        bound_sockets(0, None)
    monkeypatch.undo()
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    with pytest.raises(OSError, match="no SO_REUSEPORT"):
        bound_sockets(0, "127.0.0.1")


async def test_who_listens_badly_is_told_and_leaves_nothing_open() -> None:
    with pytest.raises((OverflowError, OSError)):
        await open_tls_over_tcp_listeners(0, server_config(), host="127.0.0.1", reuse_port=True, backlog=2**40)


def test_all_addresses_are_bound_where_no_host_is_named() -> None:
    sockets = bound_sockets(0, None)
    assert sockets
    for each in sockets:
        each.close()


# -- the recipe of the manual ------------------------------------------------------------------------------------------


@asynccontextmanager
async def recipe(tmp_path: Path) -> AsyncIterator[tuple[Process, int]]:
    certificate, port = tmp_path / "server.pem", free_port()
    server_certificate().private_key_and_cert_chain_pem.write_to_path(str(certificate))
    async with running(sys.executable, EXAMPLE, str(port), certificate, tmp_path / "secrets") as process:
        while True:
            try:
                await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
                break
            except OSError:
                await trio.sleep(0.05)
        yield process, port


async def greeted(port: int, session: Any = None) -> tuple[TLSStream[Any], int]:
    """A connection, and the process at its other end."""
    tcp = await trio.open_tcp_stream("127.0.0.1", port)
    stream = TLSStream(tcp, client_config(), server_hostname=HOST, session=session)
    try:
        greeting = b""
        while not greeting.endswith(b"\n"):
            greeting += await stream.receive_some()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream, int(greeting.split()[-1])


async def both_workers(port: int) -> set[int]:
    """Connect until two processes have answered."""
    seen: set[int] = set()
    while len(seen) < 2:
        try:
            stream, pid = await greeted(port)
        except (OSError, trio.BrokenResourceError):
            continue
        seen.add(pid)
        await stream.aclose()
    return seen


async def test_kill_9_of_a_worker_under_load_loses_its_own_connections_alone(tmp_path: Path) -> None:
    async with recipe(tmp_path) as (process, port):
        victim, _survivor = sorted(await both_workers(port))
        rounds: dict[int, int] = {}
        owner: dict[int, int] = {}
        lost: list[int] = []
        stopping = False
        connected = trio.Event()

        async def ping(number: int) -> None:
            stream, owner[number] = await greeted(port)
            async with stream:
                while not stopping:
                    message = b"%d" % rounds.setdefault(number, 0)
                    try:
                        await stream.send_all(message)
                        answer = await stream.receive_some()
                    except TLSError:
                        lost.append(number)
                        return
                    assert answer == message
                    rounds[number] += 1
                    if len(rounds) == 40 and min(rounds.values()) > 0:
                        connected.set()

        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(ping, number)
            await connected.wait()
            os.kill(victim, signal.SIGKILL)
            fresh = await both_workers(port)
            before = dict(rounds)
            others = [number for number in rounds if owner[number] != victim]
            while any(rounds[number] < before[number] + 5 for number in others):  # noqa: ASYNC110
                await trio.sleep(0.01)  # another process answers
            stopping = True
        assert victim not in fresh
        assert sorted(lost) == sorted(number for number in owner if owner[number] == victim)
        assert 0 < len(lost) < 40
        kill(process, signal.SIGTERM)
        assert await process._process.wait() == 0


async def test_sighup_makes_every_worker_read_its_files(tmp_path: Path) -> None:
    async with recipe(tmp_path) as (process, port):
        workers = await both_workers(port)
        (tmp_path / "server.pem").write_bytes(b"nothing")
        for attempt in (1, 2):  # who demands is answered each time, and who only looks is told once
            kill(process, signal.SIGHUP)
            await process.shows("is refused, and the old one stays", times=2 * attempt)
        assert await both_workers(port) == workers
        kill(process, signal.SIGTERM)
        assert await process._process.wait() == 0


@pytest.mark.slow
async def test_a_session_of_one_worker_is_resumed_at_another_also_after_it_was_replaced(tmp_path: Path) -> None:
    async with recipe(tmp_path) as (_, port):
        pids = set()
        session = None
        for attempt in range(20):
            stream, pid = await greeted(port, session)
            session = stream.session
            assert stream.session_reused == bool(attempt)
            await stream.aclose()
            if attempt == 10:
                os.kill(pid, signal.SIGKILL)
                await both_workers(port)
            pids.add(pid)
        assert len(pids) >= 2
