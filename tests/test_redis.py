"""Sessions and ticket secrets in Debian's redis-server: shared, used once, and dispensable."""

from __future__ import annotations

import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from trio_tls import ClientConfig, ServerConfig, Session, SharedTicketKeys, TicketKeys, TLSStream
from trio_tls.redis import Redis, RedisError, RedisSessionStore, RedisTicketSecrets
from trio_tls.testing import CancelMode, Interrupter, sweep

from .redis_server import free_port, redis_server
from .support import (
    HOST,
    authority,
    client_config,
    client_context,
    credential_of,
    receive_exactly,
    server_certificate,
)


def socket_of(folder: Path) -> str:
    return str(folder / "redis.sock")


async def visit(config: ServerConfig, session: Session | None = None) -> tuple[bool, Any]:
    """Connect once; whether the session was resumed, and the next session."""
    near, far = trio.testing.memory_stream_pair()
    client = TLSStream(near, client_config(), server_hostname=HOST, session=session)
    async with client, TLSStream(far, config, server_side=True) as server, trio.open_nursery() as nursery:
        nursery.start_soon(server.send_all, b"x")
        assert await receive_exactly(client, 1) == b"x"
        assert client.info is not None
        return client.info.session_reused, client.session


def server(*, store: RedisSessionStore | None = None, keys: TicketKeys | None = None) -> ServerConfig:
    return ServerConfig(credentials=credential_of(server_certificate()), session_store=store, ticket_keys=keys)


async def written(redis: Redis, count: int) -> None:
    """Wait until so many keys are in Redis: another task writes them, to another process."""
    with trio.fail_after(10):
        while await redis.call("DBSIZE") != count:  # noqa: ASYNC110
            await trio.sleep(0.01)


# -- sessions --------------------------------------------------------------------------------------------------------


async def test_a_session_of_one_server_is_resumed_at_another_and_once(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as connect, trio.open_nursery() as nursery:
        redis = connect()
        stores = [RedisSessionStore(connect()) for _ in range(2)]
        one, other = (server(store=store) for store in stores)
        for store in stores:
            nursery.start_soon(store.run)
        _, session = await visit(one)
        await written(redis, 2)
        resumed, next_session = await visit(other, session)
        assert resumed
        assert not (await visit(one, session))[0], "it was used"
        assert not (await visit(other, session))[0]
        await written(redis, 1 + 1 + 2 + 2)
        assert (await visit(one, next_session))[0]
        nursery.cancel_scope.cancel()


async def test_of_many_who_present_one_ticket_at_once_one_resumes(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as connect, trio.open_nursery() as nursery:
        store = RedisSessionStore(connect())
        nursery.start_soon(store.run)
        config = server(store=store)
        _, session = await visit(config)
        await written(connect(), 2)
        outcomes: list[bool] = []

        async def resume() -> None:
            outcomes.append((await visit(config, session))[0])

        async with trio.open_nursery() as visitors:
            for _ in range(10):
                visitors.start_soon(resume)
        assert sorted(outcomes) == [False] * 9 + [True]
        nursery.cancel_scope.cancel()


async def test_what_is_not_written_yet_is_found_here_and_nowhere_twice(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as connect:
        store = RedisSessionStore(connect(), most_waiting=2)
        config = server(store=store)
        _, session = await visit(config)  # nobody runs the store
        assert (await visit(config, session))[0]
        assert not (await visit(config, session))[0]
        store.put(b"1", b"state", time.time() + 60)
        store.put(b"2", b"x" * 2**15, time.time() + 60)
        store.put(b"3", b"state", time.time() + 60)
        assert await taken(store, b"3") is None, "too many wait"
        assert await taken(store, b"2") is None, "it is too long"
        assert store.take(b"x" * 65) is None, "no name of ours: nobody is asked"


async def taken(store: RedisSessionStore, identity: bytes) -> bytes | None:
    answer = store.take(identity)
    return answer if answer is None or isinstance(answer, bytes) else await answer


async def test_sessions_expire_and_those_that_have_are_not_written(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as connect, trio.open_nursery() as nursery:
        redis = connect()
        store = RedisSessionStore(redis, prefix="p:")
        nursery.start_soon(store.run)
        store.put(b"\x01", b"old", time.time() - 1)
        store.put(b"\x02", b"state", time.time() + 3600)
        await written(redis, 1)
        left = await redis.call("PTTL", "p:02")
        assert isinstance(left, int) and 3_590_000 < left <= 3_600_000
        assert await taken(store, b"\x02") == b"state"
        assert repr(store) == f"<RedisSessionStore at <Redis at {socket_of(tmp_path)}>>"
        nursery.cancel_scope.cancel()


async def test_without_redis_there_are_full_handshakes_and_one_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    redis = Redis(path=socket_of(tmp_path))
    store = RedisSessionStore(redis, pause=0)
    config = server(store=store)
    async with redis, trio.open_nursery() as nursery:
        async with redis_server(tmp_path) as connect:
            nursery.start_soon(store.run)
            _, session = await visit(config)
            await written(connect(), 2)
        for _ in range(3):
            resumed, _ = await visit(config, session)
            assert not resumed
        (record,) = caplog.records
        assert record.getMessage().startswith(
            f"sessions cannot be kept, and clients get full handshakes: <Redis at {socket_of(tmp_path)}> "
        ) or record.getMessage().startswith("sessions cannot be kept, and clients get full handshakes: the connection")
        async with redis_server(tmp_path) as connect:
            _, session = await visit(config)
            await written(connect(), 2)
            assert (await visit(config, session))[0], "it is back, and so is resumption"
        nursery.cancel_scope.cancel()


async def test_after_a_failure_redis_is_left_alone_for_a_moment(tmp_path: Path) -> None:
    store = RedisSessionStore(Redis(path=socket_of(tmp_path)), pause=3600)
    assert await taken(store, b"x") is None
    assert store.take(b"x") is None, "at once: nobody was asked"


@pytest.mark.parametrize("mode", list(CancelMode))
async def test_a_lookup_may_be_cancelled_at_any_step(tmp_path: Path, mode: CancelMode) -> None:
    async with redis_server(tmp_path) as connect:
        redis = connect()

        async def scenario(interrupter: Interrupter) -> None:
            await redis.aclose()
            await redis.call("SET", "key", "value")
            assert await interrupter.call(lambda: redis.call("GET", "key")) == b"value"
            assert await interrupter.call(partial(redis.call, "ECHO", "other")) == b"other"

        report = await sweep(scenario, mode)
        assert report.cancelled > 0
        await redis.aclose()


# -- secrets ---------------------------------------------------------------------------------------------------------


async def test_secrets_in_redis_are_made_once_and_replaced_by_one(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as connect:
        stores = [RedisTicketSecrets(connect()) for _ in range(4)]
        keys: list[SharedTicketKeys] = []

        async def load(store: RedisTicketSecrets) -> None:
            keys.append(await SharedTicketKeys.load(store))

        async with trio.open_nursery() as nursery:
            for store in stores:
                nursery.start_soon(load, store)
        assert len({each.secrets for each in keys}) == 1
        old = await stores[0].read()
        assert old is not None
        assert await stores[0].replace(old, old + b"# one\n")
        assert not await stores[1].replace(old, old + b"# other\n")
        assert not await stores[2].replace(None, b"x")
        _, session = await visit(server(keys=keys[0]))
        assert (await visit(server(keys=keys[1]), session))[0]
        assert await keys[0].rotate(stores[0])
        await keys[1].refresh(stores[1])
        assert keys[0].secrets == keys[1].secrets
        assert len(keys[0].secrets) == 2
        assert repr(stores[0]) == f"<RedisTicketSecrets at <Redis at {socket_of(tmp_path)}>>"


WORKER = """
import os, sys, trio
from trio_tls import *
from trio_tls.redis import *

async def main():
    redis = Redis(path=sys.argv[1])
    keys = await SharedTicketKeys.load(RedisTicketSecrets(redis))
    config = ServerConfig(credentials=Credential.from_files(sys.argv[2]), ticket_keys=keys)
    async def hello(stream):
        await stream.send_all(b"%d" % os.getpid())
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(lambda task_status: serve_tls_over_tcp(
            hello, 0, config, host="127.0.0.1", task_status=task_status))
        print(listener.transport_listener.socket.getsockname()[1], flush=True)

trio.run(main)
"""


async def test_a_session_of_one_process_is_resumed_at_another(tmp_path: Path) -> None:
    certificate = tmp_path / "server.pem"
    server_certificate().private_key_and_cert_chain_pem.write_to_path(str(certificate))
    command = [sys.executable, "-c", WORKER, socket_of(tmp_path), str(certificate)]
    async with redis_server(tmp_path), trio.open_nursery() as nursery:
        processes = [await nursery.start(partial(trio.run_process, command, stdout=subprocess.PIPE)) for _ in range(2)]
        ports = [int(await process.stdout.receive_some()) for process in processes]
        session, answers = None, []
        for port in (*ports, *ports):
            tcp = await trio.open_tcp_stream("127.0.0.1", port)
            async with TLSStream(tcp, client_config(), server_hostname=HOST, session=session) as client:
                process = b""
                async for part in client:
                    process += part
                answers.append((process, client.session_reused))
                session = client.session
                assert isinstance(session, Session)
        pids = [b"%d" % process.pid for process in processes]
        assert answers == [(pids[0], False), (pids[1], True), (pids[0], True), (pids[1], True)]
        nursery.cancel_scope.cancel()


# -- the client --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ssl", "own"])
async def test_redis_over_tls_with_a_user_and_a_password(tmp_path: Path, kind: str) -> None:
    pem, ca, port = tmp_path / "server.pem", tmp_path / "ca.pem", free_port()
    server_certificate().private_key_and_cert_chain_pem.write_to_path(str(pem))
    authority().cert_pem.write_to_path(str(ca))
    tls = ("--port", 0, "--tls-port", port, "--tls-cert-file", pem, "--tls-key-file", pem, "--tls-ca-cert-file", ca)
    options = (
        *tls,
        "--tls-auth-clients",
        "no",
        "--bind",
        "127.0.0.1",
        "--user",
        "me",
        "on",
        ">pass/word",
        "~*",
        "+@all",
    )
    config: ssl.SSLContext | ClientConfig = client_context() if kind == "ssl" else client_config()
    url = f"rediss://me:pass%2Fword@127.0.0.1:{port}/3"
    async with redis_server(tmp_path, *options) as connect, Redis.from_url(url, config=config, timeout=5) as redis:
        assert await redis.call("SET", "x", b"\r\n\x00") == b"OK"
        assert await redis.calls([("GET", "x"), ("GET", "y"), ("DEL", "x")]) == [b"\r\n\x00", None, 1]
        wrong = Redis.from_url(f"rediss://me:wrong@127.0.0.1:{port}", config=config)
        with pytest.raises(RedisError, match="WRONGPASS"):
            await wrong.call("GET", "x")
        with pytest.raises(RedisError, match="the connection to <Redis at localhost.*failed: .*certificate"):
            await connect(path=None, host="localhost", port=port, config=ssl.create_default_context()).call("GET", "x")
        with pytest.raises(RedisError, match="the connection to .* failed"):
            await connect(path=None, port=port, password="x").call("GET", "x")


async def test_a_refused_command_is_an_error_and_the_connection_goes_on(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as connect:
        redis = connect(database=1, most_idle=1)
        with pytest.raises(RedisError, match="Redis refused a command: ERR unknown command 'NONSENSE'"):
            await redis.calls([("SET", "x", 7), ("NONSENSE",), ("SET", "y", 8)])
        assert await redis.calls([("GET", "x"), ("GET", "y")]) == [b"7", b"8"]
        async with trio.open_nursery() as nursery:  # more at once than are kept
            for _ in range(5):
                nursery.start_soon(redis.call, "GET", "x")
        await redis.aclose()
        assert await redis.call("GET", "x") == b"7"
        with pytest.raises(RedisError, match="DB index is out of range"):
            await connect(database=99).call("GET", "x")
        await redis.aclose()


async def test_a_connection_that_was_closed_while_idle_is_replaced(tmp_path: Path) -> None:
    async with redis_server(tmp_path) as connect:
        redis, other = connect(), connect()
        assert await redis.call("SET", "x", "1") == b"OK"
        await other.call("CLIENT", "KILL", "TYPE", "normal")
        assert await redis.call("GET", "x") == b"1"


@asynccontextmanager
async def speaking(answer: bytes, *, close: bool = False) -> AsyncIterator[Redis]:
    """A server that answers everything with these bytes."""

    async def handle(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        with suppress(trio.BrokenResourceError):  # whoever is told too much goes before the end
            await stream.send_all(answer)
            if not close:
                async for _ in stream:
                    pass

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        yield Redis("127.0.0.1", listener.socket.getsockname()[1], timeout=0.2)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("answer", "close", "text"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", False, r"this is no Redis, .*: it answered b'HTTP/1.1 400 Bad Request'"),
        (b":many\r\n", False, "answered b'many' where a number has to be"),
        (b"$2000000\r\n", False, "answered with 2000000 bytes"),
        (b"+" + bytes(2**20 + 70_000), False, "answers without end"),
        (b"$5\r\nhal", True, "the connection to <Redis at 127.0.0.1:.* failed: it was closed"),
        (b"", True, "failed: it was closed"),
        (b"$5\r\nhal", False, "has not answered for 0.2 seconds"),
    ],
)
async def test_what_is_no_redis_is_told(answer: bytes, close: bool, text: str) -> None:
    async with speaking(answer, close=close) as redis:
        with pytest.raises(RedisError, match=text):
            await redis.call("GET", "x")


async def test_one_that_cannot_be_reached_is_told() -> None:
    with pytest.raises(RedisError, match="<Redis at 127.0.0.1:1> cannot be reached"):
        await Redis(port=1).call("GET", "x")


async def test_there_are_never_more_connections_than_allowed() -> None:
    open_now, most = 0, 0

    async def handle(stream: trio.SocketStream) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        async for data in stream:
            await trio.testing.wait_all_tasks_blocked(0.005)  # the others come meanwhile
            await stream.send_all(b"$-1\r\n" * data.count(b"GET"))
        open_now -= 1

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        async with Redis(port=listener.socket.getsockname()[1], most_connections=3, timeout=30) as redis:
            async with trio.open_nursery() as askers:
                for _ in range(20):
                    askers.start_soon(redis.call, "GET", "x")
        nursery.cancel_scope.cancel()
    assert most == 3


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Redis(timeout=0), "timeout must be more than 0"),
        (lambda: Redis(database=-1), "must be 0 or more"),
        (lambda: Redis(most_connections=0), "most_connections must be at least 1"),
        (lambda: Redis.from_url("http://x"), "a Redis URL looks like"),
        (lambda: Redis.from_url("redis://x/y"), "a Redis URL looks like"),
        (lambda: Redis.from_url("redis://x", config=client_config()), "rediss:// alone"),
        (lambda: RedisSessionStore(Redis(), most_waiting=0), "most_waiting must be at least 1"),
        (lambda: RedisSessionStore(Redis(), pause=-1), "pause must be"),
    ],
)
def test_mistakes_are_told_at_once(make: Callable[[], object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


def test_urls() -> None:
    assert repr(Redis.from_url("redis://host:7/1")) == "<Redis at host:7>"
    assert repr(Redis.from_url("rediss://:secret@host")) == "<Redis at host:6379>"
    assert repr(Redis.from_url("unix:///run/redis.sock")) == "<Redis at /run/redis.sock>"
