"""Interoperation with the ``openssl`` command on loopback, in both roles, in TLS 1.3 and 1.2."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography import x509

from trio_tls import Alert, AlertReceived, CertificateVerificationError, TLSError, TLSStream, UnexpectedEOF

from .. import certificates
from ..support import (
    HOST,
    Machines,
    authority,
    client_certificate,
    client_context,
    machines_named,
    receive_exactly,
    server_certificate,
    server_context,
)
from . import peers
from .peers import VERSION_OPTION, OpenSSL

pytestmark = pytest.mark.ssl_alone("our own machine against the command: tests/interop/tls13")

MEGABYTE = 1_000_000

#: ``SSL_OP_ALLOW_CLIENT_RENEGOTIATION`` of OpenSSL 3, which Python has no name for.
ALLOW_CLIENT_RENEGOTIATION = 1 << 8


TLS13, TLS12 = machines_named("ssl-1.3"), machines_named("ssl-1.2")


@dataclass(frozen=True)
class Files:
    """The test's certificates, as files for the command."""

    ca: Path
    server: Path
    client: Path
    strange: Path


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    directory = tmp_path_factory.mktemp("pem")
    made = Files(*(directory / f"{name}.pem" for name in ("ca", "server", "client", "strange")))
    authority().cert_pem.write_to_path(str(made.ca))
    server_certificate().private_key_and_cert_chain_pem.write_to_path(str(made.server))
    client_certificate().private_key_and_cert_chain_pem.write_to_path(str(made.client))
    certificates.of_strange_authority().private_key_and_cert_chain_pem.write_to_path(str(made.strange))
    return made


@asynccontextmanager
async def our_client(
    machines: Machines,
    files: Files,
    *arguments: str | Path,
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[tuple[TLSStream[Any], OpenSSL]]:
    """Our client, connected to ``s_server``."""
    options = ("-cert", files.server, VERSION_OPTION[machines.version], *arguments)
    async with peers.s_server(*options) as (peer, transport):
        async with TLSStream(transport, context or machines.client, server_hostname=HOST) as client:
            yield client, peer


@asynccontextmanager
async def our_server(
    machines: Machines, files: Files, *arguments: str | Path, context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[TLSStream[Any], OpenSSL]]:
    """Our server, with ``s_client`` connected to it."""
    trust = ("-CAfile", files.ca, "-servername", HOST, "-verify_hostname", HOST, "-verify_return_error")
    async with peers.s_client(*trust, VERSION_OPTION[machines.version], *arguments) as (peer, transport):
        async with TLSStream(transport, context or machines.server, server_side=True) as server:
            yield server, peer


def lines_of(count: int) -> bytes:
    """``count`` bytes in lines of 100, of which no two are alike."""
    return b"".join(f"{number:099}\n".encode() for number in range(count // 100))


# -- data --------------------------------------------------------------------------------------------------


async def test_a_megabyte_goes_each_way_to_s_server(machines: Machines, files: Files) -> None:
    sent = lines_of(MEGABYTE)
    expected = b"".join(line[::-1] + b"\n" for line in sent.splitlines())
    async with our_client(machines, files, "-rev") as (client, _peer):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, sent)
            assert await receive_exactly(client, len(expected)) == expected
        assert client.info is not None and client.info.version == machines.version


async def test_a_megabyte_goes_each_way_to_s_client(machines: Machines, files: Files) -> None:
    sent = lines_of(MEGABYTE)
    async with our_server(machines, files, "-quiet") as (server, peer):

        async def echo() -> None:
            assert await receive_exactly(server, len(sent)) == sent
            await server.send_all(sent)
            await server.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(echo)
            await peer.write(sent)
        assert (await peer.ends()).endswith(sent)


# -- ending ------------------------------------------------------------------------------------------------


async def test_s_server_sees_our_end_as_an_orderly_one(machines: Machines, files: Files) -> None:
    async with our_client(machines, files) as (client, peer):
        await client.send_all(b"goodbye\n")
        await peer.shows("goodbye")
        await client.aclose()
        output = await peer.shows("DONE")
        assert b"ERROR" not in output and b"unexpected eof" not in output


async def test_s_client_sees_our_end_as_an_orderly_one(machines: Machines, files: Files) -> None:
    async with our_server(machines, files) as (server, peer):
        await server.send_all(b"goodbye\n")
        await peer.shows("goodbye")
        await server.aclose()
        output = await peer.ends()
        assert b"closed" in output and b"unexpected eof" not in output


async def test_we_see_the_end_of_s_server_as_an_orderly_one(machines: Machines, files: Files) -> None:
    async with our_client(machines, files, "-rev") as (client, _peer):
        await client.send_all(b"CLOSE\n")  # what s_server -rev ends at
        assert await client.receive_some() == b"", "close_notify: no UnexpectedEOF"


async def test_we_see_that_s_server_was_cut_off(machines: Machines, files: Files) -> None:
    async with our_client(machines, files) as (client, peer):
        await client.send_all(b"hello\n")
        await peer.shows("hello")
        await peer.typed("Q")  # closes the socket, without close_notify
        with pytest.raises(UnexpectedEOF, match="truncated"):
            await client.receive_some()


async def test_we_see_the_end_of_s_client_as_an_orderly_one(machines: Machines, files: Files) -> None:
    async with our_server(machines, files) as (server, peer):
        await server.do_handshake()
        await peer.shows("Verify return code: 0 (ok)")
        await peer.typed("Q")
        assert await server.receive_some() == b""


async def test_s_client_answers_our_half_close_with_its_own(machines: Machines, files: Files) -> None:
    async with our_server(machines, files) as (server, peer):
        await server.do_handshake()
        await peer.shows("Verify return code: 0 (ok)")
        await peer.write(b"before the end\n")
        assert await receive_exactly(server, 15) == b"before the end\n"
        await server.send_eof()
        assert await server.receive_some() == b""


# -- KeyUpdate ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("letter", ["K", "k"])
async def test_s_client_updates_its_keys_before_the_tickets_have_left(files: Files, letter: str) -> None:
    # "K" asks for our KeyUpdate in return. The tickets were encrypted before it, so they have to leave before it.
    async with our_server(TLS13, files) as (server, peer):
        await server.do_handshake()
        await peer.shows("Verify return code: 0 (ok)")
        await peer.typed(letter)
        await peer.shows("KEYUPDATE")
        await peer.write(b"with new keys\n")
        assert await receive_exactly(server, 14) == b"with new keys\n"
        await server.send_all(b"answered with new keys\n")
        await peer.shows("answered with new keys")


async def something_arrived(client: TLSStream[Any]) -> None:
    """Wait until the socket has something to read, as it has when s_server has obeyed a letter."""
    assert client.transport_stream is not None
    await trio.lowlevel.wait_readable(client.transport_stream.socket)


@pytest.mark.parametrize("letter", ["K", "k"])
async def test_s_server_updates_its_keys_in_the_middle_of_a_conversation(files: Files, letter: str) -> None:
    async with our_client(TLS13, files) as (client, peer):
        await client.send_all(b"before\n")
        await peer.shows("before")
        assert not client.is_readable(), "its tickets are no data"
        for number in range(3):
            await peer.typed(letter)
            await something_arrived(client)
            await peer.write(b"with new keys\n")
            assert await receive_exactly(client, 14) == b"with new keys\n"
            await client.send_all(f"answer {number}\n".encode())
            await peer.shows(f"answer {number}")


async def test_an_idle_client_answers_many_key_updates_and_is_not_readable_for_them(files: Files) -> None:
    async with our_client(TLS13, files) as (client, peer):
        await client.send_all(b"begin\n")
        await peer.shows("begin")
        assert not client.is_readable()
        for _ in range(20):
            await peer.typed("K")
            await something_arrived(client)
            assert not client.is_readable()
        await peer.write(b"with new keys\n")
        await something_arrived(client)
        assert client.is_readable()
        assert await receive_exactly(client, 14) == b"with new keys\n"
        await client.send_all(b"in step\n")
        await peer.shows("in step")


# -- renegotiation -----------------------------------------------------------------------------------------


async def test_s_client_renegotiates_where_our_context_allows_it(files: Files) -> None:
    context = server_context(ssl.TLSVersion.TLSv1_2)
    context.options |= ALLOW_CLIENT_RENEGOTIATION
    async with our_server(TLS12, files, context=context) as (server, peer):
        await server.do_handshake()
        await peer.shows("Verify return code: 0 (ok)")
        verified = peer.output.count(b"verify return:1")
        async with trio.open_nursery() as nursery:
            received: list[bytes] = []

            async def read() -> None:
                received.append(await receive_exactly(server, 6))

            nursery.start_soon(read)
            await peer.typed("R")
            await peer.shows("RENEGOTIATING")
            await peer.shows("verify return:1", times=2 * verified)
            await peer.write(b"after\n")
        assert received == [b"after\n"]
        await server.send_all(b"answered\n")
        await peer.shows("answered")


async def test_s_client_is_refused_a_renegotiation_where_our_context_does_not_allow_it(files: Files) -> None:
    async with our_server(TLS12, files) as (server, peer):
        await server.do_handshake()
        await peer.shows("Verify return code: 0 (ok)")
        async with trio.open_nursery() as nursery:
            errors: list[TLSError] = []

            async def read() -> None:
                try:
                    await server.receive_some()
                except TLSError as error:
                    errors.append(error)

            nursery.start_soon(read)
            await peer.typed("R")
            assert b"no renegotiation" in await peer.ends()
        (error,) = errors
        assert isinstance(error, AlertReceived) and error.alert is Alert.handshake_failure, "s_client's answer"


async def test_s_server_renegotiates_with_our_client(files: Files) -> None:
    async with our_client(TLS12, files) as (client, peer):
        await client.send_all(b"before\n")
        await peer.shows("before")
        await peer.typed("r")
        await something_arrived(client)
        await peer.write(b"after\n")
        assert await receive_exactly(client, 6) == b"after\n"
        await client.send_all(b"answered\n")
        await peer.shows("answered")
        await peer.typed("Q")
        assert b" 2 server accepts that finished" in await peer.ends()


# -- certificates ------------------------------------------------------------------------------------------


def demanding(machines: Machines) -> ssl.SSLContext:
    """A server context that requires a client certificate of the test CA."""
    context = server_context(machines.server.minimum_version)
    authority().configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def test_s_client_shows_its_certificate_to_our_server(machines: Machines, files: Files) -> None:
    async with our_server(machines, files, "-cert", files.client, context=demanding(machines)) as (server, peer):
        await server.send_all(b"welcome\n")
        await peer.shows("welcome")
        assert server.info is not None
        shown = x509.load_der_x509_certificate(server.info.peer_chain[0])
        assert shown == x509.load_pem_x509_certificate(client_certificate().cert_chain_pems[0].bytes())


@pytest.mark.parametrize("certificate", ["none", "strange"])
async def test_s_client_is_told_why_its_certificate_is_rejected(
    machines: Machines, files: Files, certificate: str
) -> None:
    arguments = ("-cert", files.strange) if certificate == "strange" else ()
    async with our_server(machines, files, *arguments, context=demanding(machines)) as (server, peer):
        with pytest.raises(CertificateVerificationError) as caught:
            await server.do_handshake()
        await server.aclose()
        assert caught.value.alert is not None
        words = caught.value.alert.name.replace("_", " ")
        assert f"alert {words}".encode() in await peer.ends()


async def test_our_client_shows_its_certificate_to_s_server(machines: Machines, files: Files) -> None:
    context = client_context(machines.client.minimum_version)
    client_certificate().configure_cert(context)
    demands = ("-CAfile", files.ca, "-Verify", "3", "-verify_return_error")
    async with our_client(machines, files, *demands, context=context) as (client, peer):
        await client.send_all(b"may I come in\n")
        output = await peer.shows("may I come in")
        assert b"-----BEGIN CERTIFICATE-----" in output and b"verify error" not in output


@pytest.mark.parametrize("certificate", ["none", "strange"])
async def test_our_client_is_told_why_its_certificate_is_rejected_by_s_server(
    machines: Machines, files: Files, certificate: str
) -> None:
    context = client_context(machines.client.minimum_version)
    if certificate == "strange":
        certificates.present(context, certificates.of_strange_authority())
        expected = Alert.unknown_ca
    else:
        expected = Alert.certificate_required if machines.version == "TLSv1.3" else Alert.handshake_failure
    demands = ("-CAfile", files.ca, "-Verify", "3", "-verify_return_error")
    async with our_client(machines, files, *demands, context=context) as (client, _peer):
        with pytest.raises(AlertReceived) as caught:
            await client.receive_some()
        assert caught.value.alert is expected and caught.value.sent_by_peer


async def test_s_client_does_not_trust_our_server_and_we_are_told(machines: Machines, files: Files) -> None:
    context = certificates.presenting(certificates.of_strange_authority(), machines.server.minimum_version)
    async with our_server(machines, files, context=context) as (server, _peer):
        with pytest.raises(AlertReceived) as caught:
            await server.do_handshake()
        assert caught.value.alert is Alert.unknown_ca


# -- ALPN --------------------------------------------------------------------------------------------------


def offering(machines: Machines, *protocols: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of both roles with these ALPN protocols: (client, server)."""
    client = client_context(machines.client.minimum_version)
    server = server_context(machines.server.minimum_version)
    for context in (client, server):
        context.set_alpn_protocols(list(protocols))
    return client, server


async def test_alpn_is_agreed_on_in_both_roles(machines: Machines, files: Files) -> None:
    client_side, server_side = offering(machines, "h2", "http/1.1")
    async with our_client(machines, files, "-alpn", "http/1.1,h2", context=client_side) as (client, _peer):
        await client.do_handshake()
        assert client.info is not None and client.info.alpn_protocol == "http/1.1"
    async with our_server(machines, files, "-alpn", "http/1.1", context=server_side) as (server, peer):
        await server.do_handshake()
        await peer.shows("ALPN protocol: http/1.1")
        assert server.info is not None and server.info.alpn_protocol == "http/1.1"


async def test_without_a_common_alpn_protocol_s_server_refuses_by_name(machines: Machines, files: Files) -> None:
    # This OpenSSL may have no reason for the alert; it is named all the same.
    client_side, _server_side = offering(machines, "spdy/1")
    async with our_client(machines, files, "-alpn", "h2", context=client_side) as (client, _peer):
        with pytest.raises(AlertReceived, match="no_application_protocol") as caught:
            await client.do_handshake()
        assert caught.value.alert is Alert.no_application_protocol and caught.value.sent_by_peer
        assert "ALPN" in caught.value.hint
        assert isinstance(caught.value.__cause__, ssl.SSLError)


# -- resumption --------------------------------------------------------------------------------------------


async def test_s_client_resumes_a_session_of_ours(machines: Machines, files: Files, tmp_path: Path) -> None:
    session = tmp_path / "session.pem"
    async with our_server(machines, files, "-sess_out", session) as (server, peer):
        await server.send_all(b"first\n")
        output = await peer.shows("first")
        assert b"New, TLSv1" in output
        await peer.typed("Q")
        assert await server.receive_some() == b""
        await peer.ends()
    async with our_server(machines, files, "-sess_in", session) as (server, peer):
        await server.send_all(b"second\n")
        output = await peer.shows("second")
        assert b"Reused, TLSv1" in output
        assert server.info is not None and server.info.session_reused


async def test_we_resume_a_session_of_s_server(machines: Machines, files: Files) -> None:
    options = ("-cert", files.server, VERSION_OPTION[machines.version], "-rev")
    async with peers.s_server(*options) as (_peer, transport):
        address = transport.socket.getpeername()
        async with TLSStream(transport, machines.client, server_hostname=HOST) as client:
            await client.send_all(b"abc\n")
            assert await receive_exactly(client, 4) == b"cba\n"
            session = client.session
            assert client.info is not None and not client.info.session_reused
        second = await trio.open_tcp_stream(*address)
        async with TLSStream(second, machines.client, server_hostname=HOST, session=session) as client:
            await client.send_all(b"def\n")
            assert await receive_exactly(client, 4) == b"fed\n"
            assert client.info is not None and client.info.session_reused


# -- this machinery ----------------------------------------------------------------------------------------


def test_a_missing_command_is_skipped_but_fails_in_continuous_integration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no openssl command"):
        peers.openssl_command()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no openssl command"):
        peers.openssl_command()
