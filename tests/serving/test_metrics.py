"""What a server counts: plain values, and Prometheus' text, read by Prometheus' own client."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from prometheus_client.parser import text_string_to_metric_families

from trio_tls import AgreedParameters, FailureKind, Histogram, ServerMetrics, TLSError, TLSStream

from ..peers import demanding_server, distrustful_client
from ..support import HOST, Machines, client_config, receive_exactly, server_config
from .servers import MemoryServer, echo


def values(metrics: ServerMetrics, labels: dict[str, str] | None = None) -> dict[tuple[str, tuple[str, ...]], float]:
    """Every value, by its name and the values of its labels."""
    found = {}
    for family in text_string_to_metric_families(metrics.prometheus(labels)):
        for sample in family.samples:
            found[sample.name.removeprefix("trio_tls_"), tuple(sample.labels.values())] = sample.value
    return found


async def talk(client: TLSStream[Any]) -> None:
    await client.send_all(b"x" * 1000)
    assert await receive_exactly(client, 1000) == b"x" * 1000


async def test_a_good_connection_is_counted(machines: Machines) -> None:
    metrics = ServerMetrics()
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo, machines)
        await server.start(metrics=metrics)
        async with server.connect() as client:
            await talk(client)
            assert (metrics.connections_open, metrics.handshakes_under_way) == (1, 0)
            received, sent = metrics.bytes_received, metrics.bytes_sent
            assert received > 1000 and sent > 1000  # while it is open
        await trio.testing.wait_all_tasks_blocked()
        assert metrics.connections_open == 0
        assert metrics.bytes_received > received and metrics.bytes_sent >= sent  # the close_notify of the client
        nursery.cancel_scope.cancel()
    (agreed,) = metrics.handshakes_done
    assert agreed.version == machines.version and not agreed.resumed
    assert agreed.group == ("X25519MLKEM768" if machines.name == "own" else agreed.group)
    assert metrics.handshake_seconds.count == metrics.connection_seconds.count == 1
    assert (metrics.connections_accepted, metrics.handshakes_failed, metrics.connections_failed) == (1, {}, {})


async def test_a_resumed_session_is_told_from_a_new_one() -> None:
    metrics = ServerMetrics()
    machines = Machines("own", client_config(), server_config(), "TLSv1.3")
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo, machines)
        await server.start(metrics=metrics)
        async with server.connect() as client:
            await talk(client)
            session = client.session
        transport = server.listener.connect()
        async with TLSStream(transport, machines.client, server_hostname=HOST, session=session) as client:
            await talk(client)
        nursery.cancel_scope.cancel()
    assert {agreed.resumed: count for agreed, count in metrics.handshakes_done.items()} == {False: 1, True: 1}
    counted = values(metrics)
    assert sum(value for (name, labels), value in counted.items() if name == "handshakes_done_total") == 2


async def test_failures_are_counted_by_error_and_alert(
    machines: Machines, autojump_clock: trio.testing.MockClock
) -> None:
    metrics = ServerMetrics()
    async with trio.open_nursery() as nursery:
        server = MemoryServer(nursery, echo, machines)
        await server.start(metrics=metrics, handshake_timeout=3)
        silent = server.listener.connect()
        garbage = server.listener.connect()
        await garbage.send_all(b"garbage, garbage, garbage")
        distrustful = TLSStream(server.listener.connect(), distrustful_client(machines), server_hostname=HOST)
        with pytest.raises(TLSError):
            await distrustful.do_handshake()
        await distrustful.aclose()
        vanishing = server.connect()
        await vanishing.do_handshake()
        assert vanishing.transport_stream is not None
        await vanishing.transport_stream.aclose()
        assert await silent.receive_some() == b""
        await garbage.aclose()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert metrics.handshakes_failed == {
        FailureKind("TooSlowError", "", False): 1,
        FailureKind("PeerMisbehaved", "unexpected_message", False): 1,
        FailureKind("AlertReceived", "unknown_ca", True): 1,
    }
    assert metrics.connections_failed == {FailureKind("UnexpectedEOF", "", False): 1}
    counted = values(metrics)
    assert counted["handshakes_failed_total", ("AlertReceived", "unknown_ca", "peer")] == 1
    assert counted["handshakes_failed_total", ("PeerMisbehaved", "unexpected_message", "server")] == 1
    assert counted["handshakes_total", ("timed_out",)] == 1
    assert counted["handshakes_total", ("failed",)] == 2
    assert counted["handshakes_total", ("done",)] == 1
    assert counted["connections_failed_total", ("UnexpectedEOF", "", "")] == 1
    assert counted["connection_seconds_count", ()] == 4


async def test_a_refused_client_certificate_is_counted_once(machines: Machines) -> None:
    metrics = ServerMetrics()
    async with trio.open_nursery() as nursery:
        server = MemoryServer(
            nursery, echo, Machines(machines.name, machines.client, demanding_server(machines), machines.version)
        )
        await server.start(metrics=metrics)
        async with server.connect() as client:
            with pytest.raises(TLSError):
                await client.receive_some()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    ((kind, count),) = metrics.handshakes_failed.items()
    assert count == 1 and kind.error == "CertificateVerificationError" and not kind.sent_by_peer


async def test_one_object_can_count_for_several_servers() -> None:
    metrics = ServerMetrics()
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            server = MemoryServer(nursery, echo)
            await server.start(metrics=metrics)
            async with server.connect() as client:
                await talk(client)
        nursery.cancel_scope.cancel()
    assert metrics.handshakes_done.total() == 2


def test_the_text_has_a_value_for_everything_even_before_anything_happened() -> None:
    counted = values(ServerMetrics())
    assert counted["connections_open", ()] == 0
    assert counted["connections_refused_total", ("handshakes",)] == 0
    assert counted["handshake_seconds_bucket", ("+Inf",)] == 0
    assert {labels[0] for name, labels in counted if name == "handshakes_total"} == {
        *("done", "failed", "timed_out", "refused", "cut_off")
    }


def test_labels_of_the_caller_are_on_every_value() -> None:
    strange = 'a "quoted" \\ label\nof two lines'
    metrics = ServerMetrics()
    metrics.handshakes_done[AgreedParameters("TLSv1.3", "TLS_AES_128_GCM_SHA256", "", True)] += 3
    counted = values(metrics, {"worker": strange})
    assert counted and all(labels[0] == strange for name, labels in counted)
    assert counted["handshakes_done_total", (strange, "TLSv1.3", "TLS_AES_128_GCM_SHA256", "", "true")] == 3


@pytest.mark.parametrize("name", ["le", "alert", "two words", "1st", "größe", ""])
def test_a_label_that_cannot_be_one_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="label"):
        ServerMetrics().prometheus({name: "x"})


def test_a_histogram_counts_up_to_and_including_its_bounds() -> None:
    histogram = Histogram([1, 2, 5])
    for value in (0, 1, 1.5, 2, 4, 5, 6, 1000):
        histogram.observe(value)
    assert (histogram.counts, histogram.count, histogram.sum) == ([2, 2, 2, 2], 8, 1019.5)


@pytest.mark.parametrize("bounds", [[], [1, 1], [2, 1]])
def test_a_histogram_without_ascending_bounds_is_refused(bounds: list[float]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        Histogram(bounds)


def test_the_buckets_of_a_histogram_add_up() -> None:
    metrics = ServerMetrics()
    for seconds in (0.0005, 0.004, 0.004, 100):
        metrics.handshake_seconds.observe(seconds)
    counted = values(metrics)
    buckets = [value for (name, labels), value in counted.items() if name == "handshake_seconds_bucket"]
    assert buckets == sorted(buckets) and buckets[0] == 1 and buckets[-1] == 4
    assert counted["handshake_seconds_bucket", ("30.0",)] == 3
    assert counted["handshake_seconds_sum", ()] == pytest.approx(100.0085)
    assert counted["handshake_seconds_count", ()] == 4
