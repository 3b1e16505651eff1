"""Asking: for more than one record, for tickets, for what the handshake agreed on."""

from __future__ import annotations

import ssl

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from ..blocking import concurrently
from ..peers import certified_client, demanding_server, ends_of, has_ticket, server_of, trusting_client
from ..support import HOST, TIERS, Machines, machines_named, pattern, receive_exactly, tls_pair


@pytest.mark.parametrize("tier", TIERS)
async def test_p8_a6_one_receive_returns_more_than_one_record(
    autojump_clock: MockClock, machines: Machines, tier: str
) -> None:
    """trio.SSLStream and anyio: 16384 bytes at a time, whatever max_bytes says and however much is there."""
    data = pattern(300_000)
    async with tls_pair(machines, tier) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(server.send_all, data)
        await trio.testing.wait_all_tasks_blocked()
        parts: list[bytes] = []
        while sum(map(len, parts)) < len(data):
            parts.append(await client.receive_some(200_000))
        assert b"".join(parts) == data
        assert max(map(len, parts)) > 2 * 16384
        assert len(parts) < 15  # one by one it would be 19


@pytest.mark.parametrize("https_compatible", [False, True])
async def test_p11_a_client_that_only_uploads_gets_its_tickets(machines: Machines, https_compatible: bool) -> None:
    """trio.SSLStream: a TLS 1.3 server that never sends never sends tickets either, and nobody ever resumes."""
    options = {"https_compatible": https_compatible}
    async with tls_pair(machines, client_options=options, server_options=options) as (client, server):
        await client.send_all(b"upload")
        assert await receive_exactly(server, 6) == b"upload"
        await server.aclose()
        assert await client.receive_some() == b""
        session = client.session
        assert has_ticket(session)
    async with tls_pair(machines, client_options={"session": session}) as (again, _):
        assert again.session_reused


async def test_p31_the_chains_are_there(machines: Machines) -> None:
    """trio.SSLStream: AttributeError, though SSLObject has both since Python 3.13."""
    async with tls_pair(machines) as (client, server):
        leaf = client.getpeercert(binary_form=True)
        assert client.get_unverified_chain() == [leaf]
        verified = client.get_verified_chain()
        assert verified[0] == leaf
        assert len(verified) == 2  # and the CA
        assert server.get_unverified_chain() == []


async def test_p31_a_client_certificate_can_be_asked_for_after_the_handshake() -> None:
    """trio.SSLStream: AttributeError: verify_client_post_handshake."""
    machines = machines_named("ssl-1.3")  # it is there that RFC 9846 section 4.7.2 has it
    demanding, certified = demanding_server(machines), certified_client(machines)
    assert isinstance(demanding, ssl.SSLContext) and isinstance(certified, ssl.SSLContext)
    demanding.post_handshake_auth = certified.post_handshake_auth = True
    async with ends_of(machines, client=certified, server=demanding) as (client, server):
        await concurrently(client.do_handshake, server.do_handshake)
        assert server.getpeercert() is None
        server.verify_client_post_handshake()
        await server.send_all(b"who are you?")
        assert await client.receive_some() == b"who are you?"
        await client.send_all(b"see for yourself")
        assert await server.receive_some() == b"see for yourself"
        certificate = server.getpeercert()
        assert certificate is not None
        assert ("email", "client@example.org") in certificate["subjectAltName"]


async def test_p32_c5_a_session_given_to_the_constructor_is_resumed(machines: Machines) -> None:
    """trio.SSLStream: only by setting an attribute before the handshake."""
    async with tls_pair(machines) as (client, server):
        assert client.session_reused is False
        await server.send_all(b"and tickets")
        assert await client.receive_some() == b"and tickets"
        session = client.session
    async with tls_pair(machines, client_options={"session": session}) as (again, _):
        assert again.session_reused
        assert again.info is not None
        assert again.info.session_reused


@pytest.mark.ssl_alone("a settable session; our own machine takes it in the constructor alone")
async def test_p32_c5_a_session_set_before_the_handshake_is_resumed(machines: Machines) -> None:
    """trio.SSLStream: the same."""
    async with tls_pair(machines) as (client, server):
        await server.send_all(b"and tickets")
        assert await client.receive_some() == b"and tickets"
        session = client.session
    assert isinstance(session, ssl.SSLSession)
    async with tls_pair(machines, handshake=False) as (client, server):
        client.session = session
        await concurrently(client.do_handshake, server.do_handshake)
        assert client.session_reused


async def test_c2_an_unverified_certificate_is_there_in_binary_form(machines: Machines) -> None:
    """trio.SSLStream: the same; getpeercert() is {} without verification."""
    async with ends_of(machines, client=trusting_client(machines)) as (client, server):
        await concurrently(client.do_handshake, server.do_handshake)
        assert client.getpeercert() == {}
        leaf = client.getpeercert(binary_form=True)
        assert leaf is not None
        assert client.info is not None
        assert client.info.peer_chain == (leaf,)
        assert server.getpeercert() is None


@pytest.mark.ssl_alone("our own server knows the name: ConnectionInfo.server_name")
async def test_c2_a_server_behind_an_ssl_context_knows_the_asked_name_from_the_callback_alone(
    machines: Machines,
) -> None:
    """trio.SSLStream: the same; and the callback finds the stream's own context to replace."""
    asked: list[str | None] = []
    context, other = server_of(machines), server_of(machines)

    def callback(ssl_object: ssl.SSLObject, name: str | None, initial: ssl.SSLContext) -> None:
        asked.append(name)
        ssl_object.context = other

    context.sni_callback = callback
    async with ends_of(machines, server=context) as (client, server):
        await concurrently(client.do_handshake, server.do_handshake)
        assert asked == [HOST]
        assert server.server_hostname is None
        assert server.context is other


@pytest.mark.ssl_alone("our own machine has the standard types: the next test")
async def test_c4_channel_binding_is_the_same_at_both_ends_and_never_guessed(machines: Machines) -> None:
    """trio.SSLStream: tls-unique, on TLS 1.3 too, where RFC 9266 section 3 leaves it undefined; and nothing else.

    `ssl` offers no exporter, so it stays so on an ``ssl.SSLContext``: the other types are refused by name.
    """
    async with tls_pair(machines) as (client, server):
        assert client.get_channel_binding() == server.get_channel_binding("tls-unique")
        assert client.get_channel_binding() is not None
        for unknown in ("tls-exporter", "tls-server-end-point"):
            with pytest.raises(ValueError, match=unknown):
                client.get_channel_binding(unknown)


async def test_c4_our_own_machine_has_the_channel_bindings_of_tls_1_3() -> None:
    """trio.SSLStream: only tls-unique. RFC 9266 has tls-exporter for TLS 1.3, and tls-unique is not defined there."""
    async with tls_pair(machines_named("own")) as (client, server):
        for kind in ("tls-exporter", "tls-server-end-point"):
            binding = client.get_channel_binding(kind)
            assert binding is not None and binding == server.get_channel_binding(kind)
        assert client.get_channel_binding() is server.get_channel_binding("tls-unique") is None
        with pytest.raises(ValueError, match="tls-whatever"):
            client.get_channel_binding("tls-whatever")
