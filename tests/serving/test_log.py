"""The log of a server: readable while it is attacked, and made for machines, too."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
import trio.testing

from trio_tls import (
    Alert,
    AlertReceived,
    CertificateVerificationError,
    ConfigByHello,
    ServerMetrics,
    TLSError,
    TLSStream,
    UnexpectedEOF,
)
from trio_tls.serving.log import MOST_LINES, WINDOW, ServerLog

from ..peers import distrustful_client
from ..support import HOST, Machines
from .servers import MemoryServer, echo, messages


def facts(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if record.name == "trio_tls"]


async def bad_client(server: MemoryServer) -> None:
    client = server.listener.connect()
    await client.send_all(b"garbage, garbage, garbage")
    while await client.receive_some():
        pass
    await client.aclose()


async def test_of_many_failures_of_a_kind_some_are_logged_and_the_rest_is_a_number(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Exception] = []
    metrics = ServerMetrics()
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo)
        await server.start(metrics=metrics, on_handshake_error=lambda error, stream: told.append(error))
        for _ in range(MOST_LINES + 25):
            await bad_client(server)
        silent = server.listener.connect()
        await silent.aclose()  # another kind, which is logged at once
        await trio.testing.wait_all_tasks_blocked()
        assert len(messages(caplog)) == MOST_LINES + 1
        assert len(told) == MOST_LINES + 26  # it sees each
        await trio.sleep(WINDOW + 1)
        assert messages(caplog)[-1] == (
            "25 more of handshake failed with PeerMisbehaved in 10 seconds were not logged one by one"
        )
        await bad_client(server)  # a new window
        await trio.sleep(10 * WINDOW)
        assert len(messages(caplog)) == MOST_LINES + 3
        nursery.cancel_scope.cancel()
    assert len(messages(caplog)) == MOST_LINES + 3
    assert metrics.log_lines_suppressed == 25
    summary = facts(caplog)[MOST_LINES + 1]
    assert (summary["event"], summary["of"], summary["error"]) == ("suppressed", "handshake_failed", "PeerMisbehaved")
    assert summary["suppressed"] == 25 and summary["seconds"] == pytest.approx(WINDOW)


async def test_what_was_suppressed_is_told_when_the_server_ends(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo)
        await server.start()
        for _ in range(MOST_LINES + 1):
            await bad_client(server)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert messages(caplog)[-1].startswith("1 more of handshake failed with PeerMisbehaved in ")


async def test_a_next_window_tells_of_the_last_one_first(
    mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    log = ServerLog(ServerMetrics())
    for _ in range(MOST_LINES + 2):
        log.handshake_failed("a peer", UnexpectedEOF("gone"), 0.1)
    mock_clock.jump(2 * WINDOW)
    log.handshake_failed("a peer", UnexpectedEOF("gone"), 0.1)
    assert len(messages(caplog)) == MOST_LINES + 2
    assert messages(caplog)[-2].startswith("2 more of handshake failed with UnexpectedEOF in 20 seconds")
    log.flush()
    assert len(messages(caplog)) == MOST_LINES + 2  # there is nothing more to tell


async def test_a_failed_handshake_is_a_record_with_fields(machines: Machines, caplog: pytest.LogCaptureFixture) -> None:
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo, machines)
        await server.start()
        client = TLSStream(server.listener.connect(), distrustful_client(machines), server_hostname=HOST)
        with pytest.raises(trio.BrokenResourceError):
            await client.do_handshake()
        await client.aclose()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    (record,) = facts(caplog)
    assert record["event"] == "handshake_failed"
    assert record["peer"] == "a peer without an address"
    assert (record["error"], record["alert"], record["sent_by_peer"]) == ("AlertReceived", "unknown_ca", True)
    assert 0 <= record["seconds"] < 30
    assert record["levelno"] == logging.WARNING


async def test_a_connection_that_fails_later_is_a_record_with_fields(
    machines: Machines, caplog: pytest.LogCaptureFixture
) -> None:
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo, machines)
        await server.start()
        client = server.connect()
        await client.do_handshake()
        await trio.testing.wait_all_tasks_blocked()
        assert client.transport_stream is not None
        await client.transport_stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    (record,) = facts(caplog)
    assert (record["event"], record["error"], record["alert"]) == ("connection_failed", "UnexpectedEOF", None)
    assert record["sent_by_peer"] is None


async def test_a_failure_of_the_application_comes_with_its_traceback(
    machines: Machines, caplog: pytest.LogCaptureFixture
) -> None:
    def choose(need: object) -> None:
        raise LookupError("a defect")

    chosen = Machines(machines.name, machines.client, ConfigByHello(choose), machines.version)
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo, chosen)
        await server.start()
        async with server.connect() as client:
            with pytest.raises(TLSError):
                await client.do_handshake()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert "in choose\n" in caplog.text and "LookupError: a defect\n" in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        AlertReceived("the peer has failed", alert=Alert.internal_error, sent_by_peer=True),
        CertificateVerificationError("it is refused", alert=Alert.internal_error),
        TLSError("the peer has done something strange", alert=Alert.decode_error),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_failure_of_the_peer_has_no_traceback(error: TLSError, caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise OSError("what ssl says")
    except OSError as cause:
        error.__cause__ = cause
    ServerLog(ServerMetrics()).handshake_failed("a peer", error, 0.0)
    assert [record["exc_info"] for record in facts(caplog)] == [None]
