"""Session tickets: a server's leave with its first write or its close, and a client resumes with them."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from trio_tls import CertificateVerificationError, TLSStream

from .blocking import concurrently, outcomes
from .peers import RecordingStream, client_of, distrustful_client, has_ticket, record_types
from .support import HOST, TIERS, Machines, machines_named, receive_exactly, tls_pair


@pytest.fixture(params=["ssl-1.3", "own"])
def tls13(request: pytest.FixtureRequest) -> Machines:
    """In TLS 1.2 a ticket is part of the handshake; only TLS 1.3 sends them afterwards (RFC 9846 section 4.7.1)."""
    return machines_named(request.param)


async def test_the_handshake_of_a_server_sends_no_tickets(tls13: Machines) -> None:
    """A peer that only writes would never read them, and a server that waits for that would hang."""
    transport, peer = trio.testing.memory_stream_pair()
    recording = RecordingStream(transport)
    server = TLSStream(recording, tls13.server, server_side=True)
    async with TLSStream(peer, tls13.client, server_hostname=HOST) as client, server:
        await concurrently(client.do_handshake, server.do_handshake)
        assert len(recording.sent) == 1  # ServerHello to Finished
        await server.send_all(b"x")
        tickets = [23] if tls13.is_own("server") else [23, 23]  # two of them, in as many records as the machine likes
        assert record_types(b"".join(recording.sent[1:])) == [*tickets, 23]
        assert await client.receive_some() == b"x"
        assert has_ticket(client.session)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("operation", ["send_all", "send_some", "flush", "send_eof", "aclose", "unwrap"])
async def test_tickets_leave_with(autojump_clock: MockClock, tls13: Machines, tier: str, operation: str) -> None:
    async with tls_pair(tls13, tier) as (client, server), trio.open_nursery() as nursery:
        assert not has_ticket(client.session)

        async def operate() -> None:
            if operation in {"send_all", "send_some"}:
                await getattr(server, operation)(b"x")
            elif operation == "flush":
                await server.flush()
                await server.send_eof()
            elif operation == "unwrap":
                transport, _ = await server.unwrap()
                await trio.aclose_forcefully(transport)
            else:
                await getattr(server, operation)()

        nursery.start_soon(operate)
        await client.receive_some()
        if operation == "unwrap":
            nursery.start_soon(client.send_eof)
        assert has_ticket(client.session)


@pytest.mark.parametrize("tier", TIERS)
async def test_a_server_that_never_sends_still_lets_its_clients_resume(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    quiet = {"https_compatible": True}
    async with tls_pair(machines, tier, server_options=quiet, client_options=quiet) as (client, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, b"upload")
            assert await receive_exactly(server, 6) == b"upload"
        await concurrently(server.aclose, client.receive_some)
        session = client.session
    assert has_ticket(session)
    if tier != "2-nested":  # there, both layers would be given the outer session's options
        async with tls_pair(machines, tier, client_options={"session": session}) as (client, server):
            assert client.session_reused
            assert server.session_reused


@pytest.mark.ssl_alone("our own machine ignores a session that does not fit: the next test")
async def test_a_session_of_another_context_is_misuse(machines: Machines) -> None:
    async with tls_pair(machines) as (client, server):
        await server.send_all(b"x")
        await client.receive_some()
        session = client.session
    transport, peer = trio.testing.memory_stream_pair()
    async with transport, peer:
        with pytest.raises(ValueError, match="different SSLContext"):
            TLSStream(transport, client_of(machines), server_hostname=HOST, session=session)
        with pytest.raises(TypeError, match="session must be an"):
            TLSStream(transport, machines.client, server_hostname=HOST, session="a ticket")  # type: ignore[call-overload]


async def test_a_session_of_another_config_is_not_offered_and_what_is_none_is_misuse() -> None:
    machines = machines_named("own")
    async with tls_pair(machines) as (client, server):
        await server.send_all(b"x")
        await client.receive_some()
        session = client.session
    other = Machines("own", distrustful_client(machines), machines.server, machines.version)
    async with tls_pair(other, handshake=False, client_options={"session": session}) as (client, server):
        at_client, _ = await outcomes(client.do_handshake, server.do_handshake)
        assert isinstance(at_client, CertificateVerificationError)  # the server was judged anew
    transport, peer = trio.testing.memory_stream_pair()
    async with transport, peer:
        with pytest.raises(TypeError, match="session must be a"):
            TLSStream(transport, machines.client, server_hostname=HOST, session="a ticket")  # type: ignore[call-overload]
