"""`trio_tls.asgi`: what an ASGI application may know of its client's connection."""

from __future__ import annotations

import dataclasses
import ssl
from typing import Any

import pytest

from trio_tls import NeedHandshakeError, TLSStream, accept_any_peer, compat
from trio_tls.asgi import TLSExtension, tls_extension

from .blocking import concurrently
from .peers import certified_client, demanding_server, ends_of
from .support import (
    HOST,
    Machines,
    client_certificate,
    machines_named,
    server_certificate,
    server_config,
    socket_pair,
    tls_pair,
)

PEM = "-----BEGIN CERTIFICATE-----\n"


async def test_a_client_without_a_certificate(machines: Machines) -> None:
    async with tls_pair(machines) as (_client, server):
        facts = tls_extension(server)
    assert facts["client_cert_chain"] == []
    assert facts["client_cert_name"] is None
    assert facts["client_cert_error"] is None
    assert facts["tls_version"] == {"TLSv1.3": 0x0304, "TLSv1.2": 0x0303}[machines.version]
    expected = server_certificate().cert_chain_pems[0].bytes().decode()
    assert facts["server_cert"] == (expected if machines.is_own("server") else None)


async def test_a_client_with_a_certificate(machines: Machines) -> None:
    ends = ends_of(machines, client=certified_client(machines), server=demanding_server(machines))
    async with ends as (client, server):
        await concurrently(client.do_handshake, server.do_handshake)
        facts = tls_extension(server)
    chain = facts["client_cert_chain"]
    assert chain[0] == client_certificate().cert_chain_pems[0].bytes().decode()
    assert all(each.startswith(PEM) for each in chain)
    assert facts["client_cert_name"] is not None and "trustme" in facts["client_cert_name"]


async def test_the_suite_is_the_number_of_the_registry(machines: Machines) -> None:
    async with tls_pair(machines) as (client, server):
        number = tls_extension(server)["cipher_suite"]
        name = client.cipher()
    assert name is not None
    # By OpenSSL's own list, and by RFC 9846 and RFC 5289.
    known = {each["name"]: each["id"] & 0xFFFF for each in ssl.create_default_context().get_ciphers()}
    assert number == known[name[0]]
    assert number in {0x1301, 0x1302, 0x1303, 0xC02B, 0xC02C, 0xC02F, 0xC030}


async def test_a_certificate_that_nobody_can_read_has_an_empty_name(monkeypatch: pytest.MonkeyPatch) -> None:
    server = server_config().replace(client_auth="required", verify=accept_any_peer)
    client = certified_client(machines_named("own"))
    async with ends_of(machines_named("own"), client=client, server=server) as (ours, theirs):
        await concurrently(ours.do_handshake, theirs.do_handshake)
        monkeypatch.setattr("cryptography.x509.load_der_x509_certificate", _unreadable)
        facts = tls_extension(theirs)
    assert facts["client_cert_name"] == ""
    assert len(facts["client_cert_chain"]) >= 1


def _unreadable(der: bytes) -> Any:
    raise ValueError("not DER")


async def test_a_chain_that_python_does_not_tell_is_at_least_the_certificate() -> None:
    """Before Python 3.13, `ssl` tells the client's certificate alone."""

    class Old(TLSStream[Any]):
        @property
        def info(self) -> Any:
            told = super().info
            return None if told is None else dataclasses.replace(told, peer_chain=())

    machines = machines_named("ssl-1.3")
    a, b = socket_pair()
    client = TLSStream(a, certified_client(machines), server_hostname=HOST)
    server = Old(b, demanding_server(machines), server_side=True)
    async with client, server:
        await concurrently(client.do_handshake, server.do_handshake)
        facts = tls_extension(server)
    assert facts["client_cert_chain"] == [client_certificate().cert_chain_pems[0].bytes().decode()]


async def test_the_handshake_has_to_be_done(machines: Machines) -> None:
    async with tls_pair(machines, handshake=False) as (_client, server):
        with pytest.raises(NeedHandshakeError):
            tls_extension(server)


async def test_it_is_about_servers(machines: Machines) -> None:
    async with tls_pair(machines) as (client, _server):
        with pytest.raises(ValueError, match="this one is a client's"):
            tls_extension(client)


# -- the application around an application ------------------------------------------------------------------------


async def scopes_seen(scope: dict[str, Any], stream: Any = None) -> Any:
    """The scope that the application sees, in a task that serves ``stream``."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    async def connection() -> None:
        if stream is not None:
            await stream.do_handshake()
        await TLSExtension(app)(scope, _nothing, _nothing)

    await connection()
    return seen[0]


async def _nothing(*arguments: Any) -> None:
    raise AssertionError("not called")


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_an_application_finds_the_facts_in_its_scope(machines: Machines, kind: str) -> None:
    async with tls_pair(machines, handshake=False) as (client, server):
        stream: Any = compat.SSLStream(server.transport_stream, machines.server, server_side=True)
        seen: list[Any] = []

        async def serve() -> None:
            seen.append(await scopes_seen({"type": kind, "extensions": {"other": {}}}, stream))
            seen.append(await scopes_seen({"type": kind}, stream))
            seen.append(await scopes_seen({"type": "lifespan"}, stream))
            seen.append(await scopes_seen({"type": kind, "extensions": {"tls": "the server's own"}}, stream))

        await concurrently(client.do_handshake, serve)
        facts = tls_extension(stream)
    assert seen == [
        {"type": kind, "extensions": {"other": {}, "tls": facts}},
        {"type": kind, "extensions": {"tls": facts}},
        {"type": "lifespan"},
        {"type": kind, "extensions": {"tls": "the server's own"}},
    ]


async def test_without_tls_there_is_no_extension() -> None:
    assert await scopes_seen({"type": "http", "extensions": {}}) == {"type": "http", "extensions": {}}
