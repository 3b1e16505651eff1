"""Failing: what the peer gets to know, what the caller gets to read, and how a connection may end."""

from __future__ import annotations

import ssl
import sys

import pytest
import trio
from trio.testing import MockClock

from trio_tls import AlertReceived, CertificateVerificationError, TLSError, TLSStream, UnexpectedEOF

from ..blocking import concurrently, outcomes
from ..peers import client_of, demanding_server, distrustful_client, ends_of, server_of, strict_server
from ..support import HOST, TIERS, Machines, socket_pair, tls_pair


def alert_name(error: object) -> str | None:
    assert isinstance(error, TLSError), repr(error)
    return error.alert.name if error.alert is not None else None


@pytest.mark.parametrize("tier", TIERS)
async def test_p3_a1_a_client_that_rejects_the_certificate_tells_the_server_why(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    """trio.SSLStream and anyio: the alert stays in a buffer, and the server waits until the client hangs up."""
    async with ends_of(machines, tier, client=distrustful_client(machines)) as (client, server):
        at_client, at_server = await outcomes(client.do_handshake, server.do_handshake)
        assert isinstance(at_client, CertificateVerificationError)
        assert isinstance(at_client, ssl.CertificateError)
        assert (alert_name(at_client), at_client.sent_by_peer) == ("unknown_ca", False)
        assert isinstance(at_server, AlertReceived)
        assert (alert_name(at_server), at_server.sent_by_peer) == ("unknown_ca", True)


@pytest.mark.parametrize("tier", TIERS)
async def test_p9_a_truncation_is_told_from_an_end(autojump_clock: MockClock, machines: Machines, tier: str) -> None:
    """trio.SSLStream: the same on Pythons whose contexts do not ignore it by default."""
    async with tls_pair(machines, tier) as (client, server):
        assert server.transport_stream is not None
        await trio.aclose_forcefully(server.transport_stream)
        for _ in range(2):
            with pytest.raises(UnexpectedEOF, match="truncated") as caught:
                await client.receive_some()
            assert isinstance(caught.value.__cause__, ssl.SSLEOFError)


@pytest.mark.ssl_alone("an option of SSLContext; our own machine leaves it to require_close_notify")
async def test_p9_a_context_that_was_told_to_ignore_truncation_is_obeyed(machines: Machines) -> None:
    """trio.SSLStream: the same."""
    context = client_of(machines)
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    async with ends_of(machines, client=context) as (client, server):
        await concurrently(client.do_handshake, server.do_handshake)
        assert server.transport_stream is not None
        await trio.aclose_forcefully(server.transport_stream)
        for _ in range(2):
            assert await client.receive_some() == b""


async def test_p10_an_end_that_requires_no_close_notify_may_still_send_it(machines: Machines) -> None:
    """trio.SSLStream: one flag for both; a strict peer of an https_compatible end sees a truncation."""
    a, b = socket_pair()
    client = TLSStream(a, machines.client, server_hostname=HOST, require_close_notify=False)
    strict = strict_server(machines, b)
    async with client, strict:
        await concurrently(client.do_handshake, strict.do_handshake)
        await client.aclose()
        assert await strict.receive_some() == b""


@pytest.mark.parametrize("tier", TIERS)
async def test_p16_a_client_without_a_certificate_learns_that_one_is_required(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    """trio.SSLStream: SSLEOFError, on TLS 1.3 only at the first receive, and no word of certificates."""
    expected = {"TLSv1.2": "handshake_failure", "TLSv1.3": "certificate_required"}[machines.version]
    async with ends_of(machines, tier, server=demanding_server(machines)) as (client, server):

        async def handshake_and_receive() -> None:
            await client.do_handshake()
            await client.receive_some()

        at_client, at_server = await outcomes(handshake_and_receive, server.do_handshake)
        assert isinstance(at_client, AlertReceived)
        assert alert_name(at_client) == expected
        assert "certificate" in str(at_client)
        assert isinstance(at_server, CertificateVerificationError)
        assert "no certificate" in str(at_server)


async def test_p16_the_alert_is_found_even_by_a_client_that_only_sends(
    autojump_clock: MockClock, machines: Machines
) -> None:
    """The server has closed when the client sends on; the alert is dug out from behind the reset."""
    async with ends_of(machines, server=demanding_server(machines)) as (client, server):

        async def serve() -> None:
            async with server:
                await server.do_handshake()

        async def send_for_ever() -> None:
            while True:
                await client.send_all(bytes(100_000))

        at_client, _ = await outcomes(send_for_ever, serve)
        assert isinstance(at_client, AlertReceived)


async def test_p24_every_error_says_what_happened_and_what_to_do(machines: Machines) -> None:
    """trio.SSLStream: str(BrokenResourceError()) is '', so that logs are full of nothing."""
    errors: list[Exception | None] = []
    async with ends_of(machines, client=distrustful_client(machines)) as (client, server):
        errors += await outcomes(client.do_handshake, server.do_handshake)
        errors += await outcomes(client.receive_some, server.receive_some, client.unwrap)
    async with ends_of(machines, server=demanding_server(machines)) as (client, server):
        errors += await outcomes(client.receive_some, server.receive_some)
    async with tls_pair(machines) as (client, server):
        assert server.transport_stream is not None
        await trio.aclose_forcefully(server.transport_stream)
        errors += await outcomes(client.receive_some, lambda: client.send_all(bytes(1000)))
        errors += await outcomes(client.unwrap)
    async with tls_pair(machines, handshake=False) as (client, server):
        assert server.transport_stream is not None
        await trio.aclose_forcefully(server.transport_stream)
        errors += await outcomes(client.do_handshake)
    assert len(errors) == 11
    for error in errors:
        assert isinstance(error, trio.BrokenResourceError)
        assert isinstance(error, TLSError)
        assert len(error.message) > 20
        assert error.hint
        assert str(error) == f"{error.message}. {error.hint}"


@pytest.mark.ssl_alone("a callback of SSLContext; what our own machine asks: tests/cancellation/test_needs_of_tls13.py")
async def test_p35_an_exception_in_the_sni_callback_is_told_at_both_ends(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """trio.SSLStream: the server sees CALLBACK_FAILED, the client an EOF."""
    printed: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: printed.append(unraisable.exc_value))
    bug = RuntimeError("a bug in the callback")

    def callback(ssl_object: object, name: object, context: object) -> None:
        raise bug

    context = server_of(machines)
    context.sni_callback = callback
    async with ends_of(machines, server=context) as (client, server):
        at_client, at_server = await outcomes(client.do_handshake, server.do_handshake)
        assert isinstance(at_client, AlertReceived)
        assert alert_name(at_client) == "handshake_failure"
        assert isinstance(at_server, TLSError)
        assert "a callback of the SSLContext raised" in str(at_server)
    assert printed == [bug]


@pytest.mark.parametrize("tier", TIERS)
async def test_p36_the_end_stays_the_end(autojump_clock: MockClock, machines: Machines, tier: str) -> None:
    """trio.SSLStream: https_compatible turns the first EOF into b"", and the second call is BrokenResourceError."""
    async with tls_pair(machines, tier, client_options={"https_compatible": True}) as (client, server):
        assert server.transport_stream is not None
        await trio.aclose_forcefully(server.transport_stream)
        for _ in range(3):
            assert await client.receive_some() == b""
            assert client.receive_nowait() == b""
