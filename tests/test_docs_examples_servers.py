"""The examples of the page about names, files that change, and processes. "workers" is in `tests.test_workers`."""

from __future__ import annotations

import os
import signal
import ssl
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing

from trio_tls import (
    AlertReceived,
    ClientConfig,
    Identity,
    TLSError,
    TLSStream,
    open_tls_over_tcp_stream,
    serve_tls_over_tcp,
)

from .redis_server import redis_server
from .support import (
    HOST,
    authority,
    client_certificate,
    client_config,
    client_context,
    credential_of,
    receive_exactly,
    server_certificate,
)
from .test_docs_examples import example


def pem_for(folder: Path, *names: str, **options: Any) -> str:
    """A certificate and its key, in one file."""
    path = folder / f"{names[0].replace('*', 'any')}.pem"
    authority().issue_cert(*names, **options).private_key_and_cert_chain_pem.write_to_path(str(path))
    return str(path)


async def met(config: Any, name: str, client: Any = None) -> TLSStream[Any]:
    """The client's stream, after a handshake."""
    a, b = trio.testing.memory_stream_pair()
    stream = TLSStream(a, client or client_config(), server_hostname=name)
    failures: list[TLSError] = []
    async with stream, TLSStream(b, config, server_side=True) as server, trio.open_nursery() as nursery:

        async def handshake(end: TLSStream[Any]) -> None:
            try:
                await end.do_handshake()
            except TLSError as error:
                failures.append(error)

        nursery.start_soon(handshake, server)
        await handshake(stream)
    for failure in failures:
        if failure.sent_by_peer:  # it was told the client
            raise failure
    return stream


async def test_any_site_serves_each_name_with_its_own_tls(tmp_path: Path) -> None:
    any_site = example("any_site")
    config = any_site.table(pem_for(tmp_path, "www.example.org"), pem_for(tmp_path, "*.api.example.org"))
    own = client_config().replace(alpn_protocols=["http/1.1", "h2"])
    assert (await met(config, "www.example.org", own)).selected_alpn_protocol() == "h2"
    old = client_context(ssl.TLSVersion.TLSv1_2)
    old.set_alpn_protocols(["h2", "http/1.1"])
    stream = await met(config, "eu.api.example.org", old)
    assert (stream.version(), stream.selected_alpn_protocol()) == ("TLSv1.2", "http/1.1")
    with pytest.raises(AlertReceived, match="unrecognized_name"):
        await met(config, "example.org")


async def test_a_function_finds_the_certificate(tmp_path: Path) -> None:
    known = {"one.example.org": pem_for(tmp_path, "one.example.org")}

    async def certificate_for(name: str) -> str | None:
        await trio.lowlevel.checkpoint()
        return known.get(name)

    config = example("any_site").by_function(certificate_for)
    assert (await met(config, "one.example.org")).version() == "TLSv1.3"
    for name, client in (("two.example.org", None), (None, unnamed())):
        with pytest.raises(AlertReceived, match="unrecognized_name"):
            await met(config, name, client)  # type: ignore[arg-type]


def unnamed() -> ssl.SSLContext:
    context = client_context()
    context.check_hostname = False
    return context


@pytest.mark.parametrize("kind", ["own", "openssl"])
async def test_fresh_files_are_served_on_sighup(kind: str, tmp_path: Path) -> None:
    fresh_files = example("fresh_files")
    certificate, key, ca = (str(tmp_path / name) for name in ("cert.pem", "key.pem", "ca.pem"))
    authority().cert_pem.write_to_path(ca)

    def write() -> bytes:
        leaf = authority().issue_cert(HOST, "127.0.0.1")
        leaf.cert_chain_pems[0].write_to_path(certificate)
        leaf.private_key_pem.write_to_path(key)
        return ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())

    first = write()
    paths = (certificate, key, ca) if kind == "own" else (certificate, key)
    config = getattr(fresh_files, kind)(*paths)
    async with trio.open_nursery() as nursery:
        (listener, *_) = await nursery.start(fresh_files.main, 0, config)
        port = listener.transport_listener.socket.getsockname()[1]
        before = config.current

        async def shown() -> bytes | None:
            stream = await open_tls_over_tcp_stream("127.0.0.1", port, client_config(), server_hostname=HOST)
            async with stream:
                await stream.send_all(b"x")
                assert await stream.receive_some() == b"x"
                return stream.getpeercert(binary_form=True)

        assert await shown() == first
        second = write()
        os.kill(os.getpid(), signal.SIGHUP)
        with trio.fail_after(10):
            while config.current is before:  # noqa: ASYNC110  # a thread reads the files
                await trio.sleep(0.01)
        assert await shown() == second
        nursery.cancel_scope.cancel()


def test_policies_decide_by_path_and_verified_names() -> None:
    policies = example("policies")
    billing = Identity(None, (), (), (), (), ("spiffe://example.org/billing",), None, (), ())  # type: ignore[arg-type]
    operator = Identity(None, (), (), (), (), (), "me", (), ("operations",))  # type: ignore[arg-type]
    allowed = {
        (path, who): policies.allowed(path, client)
        for path in ("/health", "/invoices/1", "/admin/", "/other")
        for who, client in (("nobody", None), ("billing", billing), ("operator", operator))
    }
    assert [each for each, yes in allowed.items() if yes] == [
        ("/health", "nobody"),
        ("/health", "billing"),
        ("/health", "operator"),
        ("/invoices/1", "billing"),
        ("/admin/", "operator"),
    ]


async def test_a_server_asks_its_policies(tmp_path: Path) -> None:
    policies = example("policies")
    ca = str(tmp_path / "ca.pem")
    authority().cert_pem.write_to_path(ca)
    config = policies.server_config(pem_for(tmp_path, HOST), ca)
    operator = authority().issue_cert("operator@example.org", organization_unit_name="operations")
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(serve_tls_over_tcp, policies.answer, 0, config, host="127.0.0.1"))
        port = listener.transport_listener.socket.getsockname()[1]
        clients: list[tuple[ClientConfig, str, bytes]] = [
            (client_config(), "/health", b"200"),
            (client_config(), "/admin/", b"403"),
            (client_config().replace(credentials=credential_of(operator)), "/admin/", b"200"),
            (client_config().replace(credentials=credential_of(client_certificate())), "/admin/", b"403"),
        ]
        for client, path, status in clients:
            async with await open_tls_over_tcp_stream("127.0.0.1", port, client, server_hostname=HOST) as stream:
                await stream.send_all(f"GET {path} HTTP/1.0\r\n\r\n".encode())
                assert (await receive_exactly(stream, 12))[9:] == status
        async with await open_tls_over_tcp_stream("127.0.0.1", port, client_config(), server_hostname=HOST) as stream:
            await stream.send_all(b"GET")
            await stream.send_eof()
            assert await stream.receive_some() == b""
        nursery.cancel_scope.cancel()


async def test_shared_sessions_are_resumed_by_the_other_server_once(tmp_path: Path) -> None:
    main = example("shared_sessions").main
    certificate = str(tmp_path / "server.pem")
    server_certificate().private_key_and_cert_chain_pem.write_to_path(certificate)

    async def hello(stream: TLSStream[Any]) -> None:
        await stream.send_all(b"hello")

    async with redis_server(tmp_path) as connect, trio.open_nursery() as nursery:
        url = f"unix://{tmp_path}/redis.sock"
        ports = []
        for _ in range(2):
            (listener, *_) = await nursery.start(main, 0, certificate, url, hello)
            ports.append(listener.transport_listener.socket.getsockname()[1])

        async def resumed(port: int, session: Any) -> tuple[bool, Any]:
            stream = await open_tls_over_tcp_stream(
                "127.0.0.1", port, client_config(), server_hostname=HOST, session=session
            )
            async with stream:
                assert await receive_exactly(stream, 5) == b"hello"
                return bool(stream.session_reused), stream.session

        _, session = await resumed(ports[0], None)
        redis = connect()
        with trio.fail_after(10):
            while await redis.call("DBSIZE") != 2:  # noqa: ASYNC110  # another process keeps them
                await trio.sleep(0.01)
        assert [(await resumed(port, session))[0] for port in (ports[1], ports[0], ports[1])] == [True, False, False]
        nursery.cancel_scope.cancel()
