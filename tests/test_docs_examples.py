"""The examples of the manual do what the manual says."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trio
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from trio_tls import (
    AlertReceived,
    CertificateVerificationError,
    PrivatePolicy,
    TLSError,
    TLSStream,
    TrustAnchors,
    Verifier,
    open_tls_over_tcp_stream,
    serve_tls_over_tcp,
)

from .support import (
    HOST,
    ForeignStream,
    authority,
    client_certificate,
    client_context,
    receive_exactly,
    server_certificate,
    server_context,
    socket_pair,
)

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Files:
    """Paths of PEM files."""

    ca: str
    server: str
    client: str
    self_signed: str


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("certificates")
    paths = Files(*(str(folder / name) for name in ("ca.pem", "server.pem", "client.pem", "own.pem")))
    authority().cert_pem.write_to_path(paths.ca)
    server_certificate().private_key_and_cert_chain_pem.write_to_path(paths.server)
    client_certificate().private_key_and_cert_chain_pem.write_to_path(paths.client)
    Path(paths.self_signed).write_bytes(self_signed("localhost"))
    return paths


def self_signed(name: str) -> bytes:
    """As the command of the tutorial makes it: the key, and the certificate, which is a CA."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(timezone.utc)
    whose = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder(whose, whose, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=7))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


async def talk(
    client_config: Any, server_config: Any, *, hostname: str = HOST, session: Any = None
) -> tuple[TLSStream[Any], bytes]:
    """One connection, on which the server says hello: the client's stream, and what it received. Or its error."""
    a, b = trio.testing.memory_stream_pair()
    client = TLSStream(a, client_config, server_hostname=hostname, session=session)
    server = TLSStream(b, server_config, server_side=True)
    received, failures = b"", []

    async def serve() -> None:
        async with server:
            with suppress(TLSError):  # the client tells more
                await server.send_all(b"hello")

    with trio.fail_after(10):
        async with client, trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            try:
                received = await receive_exactly(client, 5)
            except TLSError as error:
                failures.append(error)
    if failures:
        raise failures[0]
    return client, received


@asynccontextmanager
async def serving(handler: Callable[[TLSStream[Any]], Awaitable[object]], config: Any) -> AsyncIterator[int]:
    """A server on loopback; its port."""
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(serve_tls_over_tcp, handler, 0, config, host="127.0.0.1"))
        yield listener.transport_listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def test_every_example_is_in_the_manual_and_in_a_test() -> None:
    manual = "".join(path.read_text() for path in EXAMPLES.parent.glob("*.rst"))
    tests = "".join(path.read_text() for path in Path(__file__).parent.rglob("test_*.py"))
    for path in (*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.txt")):
        assert f"literalinclude:: examples/{path.name}" in manual
        assert f'"{path.stem}"' in tests


async def test_starttls_begins_and_ends_tls_on_one_connection() -> None:
    plain_client, plain_server = socket_pair()

    async def server() -> None:
        assert await receive_exactly(plain_server, 9) == b"STARTTLS\n"
        await plain_server.send_all(b"ready\n")
        secure = TLSStream(plain_server, server_context(), server_side=True)
        assert await receive_exactly(secure, 6) == b"secret"
        plain, trailing = await secure.unwrap()
        assert trailing == b""
        await plain.send_all(b"in the clear")

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server)
            assert await example("starttls").client(plain_client, client_context(), HOST) == b"in the clear"
    for end in (plain_client, plain_server):
        await end.aclose()


async def test_any_stream_can_be_sent_to_with_timeouts_once_it_is_entered(
    autojump_clock: trio.testing.MockClock,
) -> None:
    transport, peer = socket_pair(buffer=4096)
    data = bytes(range(256)) * 4000

    async def server() -> None:
        async with TLSStream(peer, server_context(), server_side=True) as stream:
            received = await receive_exactly(stream, 100_000)
            await trio.sleep(2)  # the mock clock's: the client's timeouts expire meanwhile
            received += await receive_exactly(stream, len(data) - len(received))
            await stream.send_all(b"all" if received == data else b"garbled")

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server)
            answer = await example("any_stream").request(ForeignStream(transport), client_context(), HOST, data)
    assert answer == b"all"


async def test_the_graceful_server_tells_failures_and_stops(caplog: pytest.LogCaptureFixture) -> None:
    stop = trio.Event()
    failures: list[str] = []

    async def serve(task_status: trio.TaskStatus[object]) -> None:
        failures.extend(await example("graceful_server").main(server_context(), stop, task_status))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(serve)
            port = listener.transport_listener.socket.getsockname()[1]
            async with await trio.open_tcp_stream("127.0.0.1", port) as plain:
                await plain.send_all(b"GET / HTTP/1.1\r\n\r\n")
                async for _ in plain:
                    pass
            tcp = await trio.open_tcp_stream("127.0.0.1", port)
            async with TLSStream(tcp, client_context(), server_hostname=HOST) as stream:
                await stream.send_all(b"still here")
                assert await receive_exactly(stream, 10) == b"still here"
                stop.set()
                await stream.send_all(b"!")  # handlers may finish
                assert await stream.receive_some() == b"!"
    assert len(failures) == 1 and "HTTP" in failures[0]
    assert "HTTP" in caplog.text


async def test_a_server_tells_its_counters_and_logs_json(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = example("metrics")
    shown: list[Any] = []
    async with trio.open_nursery() as nursery:
        autojump_clock.autojump_threshold = 0.2  # there are sockets
        (listener,) = await nursery.start(metrics.main, server_context(), shown.append)
        async with await trio.open_tcp_stream(*listener.transport_listener.socket.getsockname()) as plain:
            await plain.send_all(b"GET / HTTP/1.1\r\n\r\n")
            assert b"400 Bad Request" in await plain.receive_some()
        await trio.sleep(11)
        nursery.cancel_scope.cancel()
    assert shown[1].startswith("failed: [(FailureKind(error='PeerMisbehaved'")
    assert 'trio_tls_connections_accepted_total{instance="a"} 1\n' in shown[2]
    (record,) = [record for record in caplog.records if record.name == "trio_tls"]
    told = json.loads(metrics.AsJSON().format(record))
    assert (told["event"], told["error"], told["alert"]) == ("handshake_failed", "PeerMisbehaved", None)


async def test_one_port_serves_clients_with_tls_and_without(capsys: pytest.CaptureFixture[str]) -> None:
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(example("one_port").main, 0, server_context())
            port = listeners[0].socket.getsockname()[1]
            async with await trio.open_tcp_stream("127.0.0.1", port) as plain:
                await plain.send_all(b"hello\n")
                assert await receive_exactly(plain, 22) == b"hello, over plain TCP\n"
            tcp = await trio.open_tcp_stream("127.0.0.1", port)
            async with TLSStream(tcp, client_context(), server_hostname=HOST) as stream:
                await stream.send_all(b"hello\n")
                expected = b"hello, over TLS for server.example.org\n"
                assert await receive_exactly(stream, len(expected)) == expected
            async with await trio.open_tcp_stream("127.0.0.1", port) as broken:
                await broken.send_all(b"\x16\x03\x01\x00\x00")
                assert await broken.receive_some() == b""
            nursery.cancel_scope.cancel()
    assert "handshake record without content" in capsys.readouterr().out


@pytest.mark.parametrize("server", ["openssl_server", "own_server"])
@pytest.mark.parametrize("client", ["openssl_client", "own_client"])
async def test_either_end_chooses_its_tls_for_itself(files: Files, client: str, server: str) -> None:
    choosing = example("choosing")
    stream, received = await talk(getattr(choosing, client)(files.ca), getattr(choosing, server)(files.server))
    assert received == b"hello"
    assert stream.version() == "TLSv1.3"


@pytest.mark.parametrize("how", ["by_sender", "by_hand"])
async def test_a_send_that_times_out_goes_on(how: str, autojump_clock: trio.testing.MockClock) -> None:
    transport, peer = socket_pair(buffer=4096)
    data = bytes(range(256)) * 4000

    async def serve() -> None:
        async with TLSStream(peer, server_context(), server_side=True) as stream:
            received = await receive_exactly(stream, 100_000)
            await trio.sleep(12)
            received += await receive_exactly(stream, len(data) - len(received))
            assert received == data

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            async with TLSStream(transport, client_context(), server_hostname=HOST) as stream:
                await getattr(example("resuming"), how)(stream, data)
                assert stream.plaintext_sent == len(data)
    assert trio.current_time() >= 12


# -- whom to trust -----------------------------------------------------------------------------------------------


async def test_the_public_web_does_not_know_the_ca_of_the_tests() -> None:
    # ValueError: this machine trusts nobody at all.
    with pytest.raises((CertificateVerificationError, ValueError), match="server's certificate|no trust anchors"):
        await talk(example("trust").the_public_web(), server_context())


async def test_our_own_ca_is_trusted_and_one_key_of_it_can_be_asked_for(files: Files) -> None:
    trust = example("trust")
    assert (await talk(trust.our_own_ca(files.ca), server_context()))[1] == b"hello"
    ca = x509.load_pem_x509_certificate(authority().cert_pem.bytes())
    assert (await talk(trust.one_key_of_our_ca(files.ca, trust.pin_of(ca)), server_context()))[1] == b"hello"
    with pytest.raises(CertificateVerificationError, match="pinned"):
        await talk(trust.one_key_of_our_ca(files.ca, bytes(32)), server_context())


async def test_a_function_asks_the_inventory(files: Files) -> None:
    verifier = Verifier(TrustAnchors.from_files(files.ca), PrivatePolicy())
    asked: list[str] = []

    async def knows(fingerprint: str) -> bool:
        await trio.lowlevel.checkpoint()
        asked.append(fingerprint)
        return len(asked) == 1

    for refused in (False, True):
        config = example("trust").whom_the_inventory_knows(verifier, knows)
        if refused:
            with pytest.raises(CertificateVerificationError, match="Register the server first"):
                await talk(config, server_context())
        else:
            assert (await talk(config, server_context()))[1] == b"hello"
    leaf = x509.load_pem_x509_certificate(server_certificate().cert_chain_pems[0].bytes())
    assert asked == [leaf.fingerprint(hashes.SHA256()).hex()] * 2


async def test_a_server_greets_its_clients_by_their_certificates(files: Files) -> None:
    certificates = example("client_certificates")
    config = certificates.server_config(files.server, files.ca)
    name = x509.load_pem_x509_certificate(client_certificate().cert_chain_pems[0].bytes()).subject.rfc4514_string()
    with trio.fail_after(10):
        async with serving(certificates.greet, config) as port:
            for presents, outcome in ((True, f"hello, {name}\n".encode()), (False, None)):
                own = certificates.client_config(files.ca, files.client)
                config = own if presents else own.replace(credentials=None)
                async with await open_tls_over_tcp_stream("127.0.0.1", port, config) as stream:
                    if outcome is not None:
                        assert await receive_exactly(stream, len(outcome)) == outcome
                    else:
                        with pytest.raises(AlertReceived, match="certificate_required"):
                            await stream.receive_some()


async def test_each_name_gets_its_certificate_and_no_other_name_any(files: Files, tmp_path: Path) -> None:
    paths = []
    for name in ("one.example.org", "two.example.org"):
        paths.append(tmp_path / f"{name}.pem")
        authority().issue_cert(name).private_key_and_cert_chain_pem.write_to_path(str(paths[-1]))

    async def load(name: str) -> bytes | None:
        path = tmp_path / f"{name}.pem"
        return await trio.Path(path).read_bytes() if path.exists() else None

    by_name, client = example("by_name"), example("choosing").own_client(files.ca)
    for config in (by_name.known_sites(*map(str, paths)), by_name.sites_on_demand(load)):
        for name in ("one.example.org", "two.example.org", "one.example.org"):
            assert (await talk(client, config, hostname=name))[1] == b"hello"
        with pytest.raises(AlertReceived, match="unrecognized_name"):
            await talk(client, config, hostname="three.example.org")


async def test_a_key_that_is_elsewhere_signs(files: Files) -> None:
    pems = [pem.bytes() for pem in server_certificate().cert_chain_pems]
    key = serialization.load_pem_private_key(server_certificate().private_key_pem.bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    signed = 0

    async def ask_service(message: bytes) -> bytes:
        nonlocal signed
        await trio.lowlevel.checkpoint()
        signed += 1
        return key.sign(message, ec.ECDSA(hashes.SHA256()))

    config = example("remote_key").server_config(b"".join(pems), ask_service)
    assert (await talk(example("choosing").own_client(files.ca), config))[1] == b"hello"
    assert signed == 1


# -- sessions -----------------------------------------------------------------------------------------------------


async def test_a_session_is_saved_and_resumed_by_another_run_on_another_host(files: Files, tmp_path: Path) -> None:
    sessions, choosing = example("sessions"), example("choosing")
    saved = tmp_path / "session"
    secret = hashlib.sha256(b"shared").digest()
    assert sessions.load(saved) is None
    reused = []
    for _ in range(2):  # each time new configs, as another process and another host have them
        server = sessions.one_of_several_hosts(files.server, secret)
        stream, _ = await talk(choosing.own_client(files.ca), server, session=sessions.load(saved))
        assert stream.info is not None
        reused.append(stream.info.session_reused)
        assert not saved.exists()
        sessions.save(stream, saved)
        assert saved.stat().st_mode & 0o077 == 0
    assert reused == [False, True]
    saved.write_bytes(b"no session")
    assert sessions.load(saved) is None


async def test_a_client_on_an_sslcontext_resumes(files: Files) -> None:
    async def echo(stream: TLSStream[Any]) -> None:
        await stream.send_all(await stream.receive_some())

    with trio.fail_after(10):
        async with serving(echo, server_context()) as port:
            client = example("ssl_sessions").Client("127.0.0.1", port, client_context())
            assert [await client.ask(b"question") for _ in range(2)] == [(b"question", False), (b"question", True)]


# -- the rest ------------------------------------------------------------------------------------------------------


async def test_watching_prints_what_the_manual_shows(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watching, choosing = example("watching"), example("choosing")
    keylog = tmp_path / "keys.log"
    config = watching.watched(choosing.own_client(files.ca), str(keylog))
    await talk(config, choosing.own_server(files.server))

    def without_sizes(lines: str) -> list[str]:
        # How often it waits is up to the transport, and certificates are as long as they are.
        return [re.sub(r"\d+ bytes", "", line) for line in lines.splitlines() if not line.startswith("waiting")]

    assert without_sizes(capsys.readouterr().out) == without_sizes((EXAMPLES / "watching.txt").read_text())
    assert "SERVER_TRAFFIC_SECRET_0 " in keylog.read_text()


async def test_the_command_reports_on_the_server_of_the_tutorial_as_the_manual_shows(files: Files) -> None:
    async def listen(stream: TLSStream[Any]) -> None:
        await stream.receive_some()

    def labels(report: str) -> list[str]:
        return [line[:13].strip() for line in report.splitlines()]

    command = [sys.executable, "-m", "trio_tls", "connect", "--check", "--ca-file", files.self_signed]
    with trio.fail_after(60):
        async with serving(listen, example("choosing").openssl_server(files.self_signed)) as port:
            process = await trio.run_process([*command, f"localhost:{port}"], capture_stderr=True)
    assert labels(process.stderr.decode()) == labels((EXAMPLES / "connect.txt").read_text())


@pytest.mark.parametrize("client", ["openssl_client", "own_client"])
async def test_many_small_messages_arrive_and_then_an_answer(files: Files, client: str) -> None:
    lines = [b"%d\n" % number for number in range(100)]

    async def count(stream: TLSStream[Any]) -> None:
        received = await receive_exactly(stream, sum(map(len, lines)) + 4)
        await stream.send_all(b"%d" % (received.count(b"\n") - 1))

    with trio.fail_after(10):
        async with serving(count, server_context()) as port:
            config = getattr(example("choosing"), client)(files.ca)
            assert await example("nagle").report("127.0.0.1", port, config, lines) == b"100"


async def test_the_operating_system_decides(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", files.ca)
    with trio.fail_after(30):
        async with serving(lambda stream: stream.send_all(b"hello"), server_context()) as port:
            async with await example("system_trust").connect("127.0.0.1", port) as stream:
                assert await receive_exactly(stream, 5) == b"hello"


async def test_a_bound_login_is_admitted_and_is_worth_nothing_elsewhere(files: Files) -> None:
    binding, choosing = example("binding"), example("choosing")
    own_client, own_server = choosing.own_client(files.ca), choosing.own_server(files.server)

    async def attempt(password: bytes, *, relayed: bool = False) -> bool:
        ends = [trio.testing.memory_stream_pair() for _ in range(2)]
        streams = [(TLSStream(a, own_client, server_hostname=HOST), TLSStream(b, own_server)) for a, b in ends]
        (client, server), (outer, inner) = streams
        admitted: list[bool] = []

        async def admit(stream: TLSStream[Any]) -> None:
            admitted.append(await binding.admit(stream, b"secret"))

        async def relay() -> None:
            await outer.send_all(await receive_exactly(server, 32))

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(admit, inner if relayed else server)
                if relayed:
                    nursery.start_soon(relay)
                await binding.log_in(client, password)
        return admitted[0]

    assert await attempt(b"secret")
    assert not await attempt(b"guess")
    assert not await attempt(b"secret", relayed=True)


async def test_a_signal_renews_the_certificate(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "server.pem"
    client = example("choosing").own_client(files.ca)

    def issue() -> bytes:
        certificate = authority().issue_cert("127.0.0.1")
        certificate.private_key_and_cert_chain_pem.write_to_path(str(path))
        return ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())

    async def presented(port: int) -> bytes:
        async with await open_tls_over_tcp_stream("127.0.0.1", port, client.replace(session_cache=None)) as stream:
            await stream.do_handshake()
            assert stream.info is not None
            return stream.info.peer_chain[0]

    async def signalled(answer: str) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        while answer not in capsys.readouterr().out:
            await trio.lowlevel.checkpoint()

    first = issue()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(example("renewal").main, 0, str(path))
            port = listeners[0].transport_listener.socket.getsockname()[1]
            await trio.testing.wait_all_tasks_blocked()  # it listens for the signal, too
            assert await presented(port) == first
            path.write_text("garbage")
            await signalled("the old certificate stays")
            assert await presented(port) == first
            second = issue()
            await signalled("new connections get the new certificate")
            assert await presented(port) == second != first
            nursery.cancel_scope.cancel()


async def test_a_sweep_cancels_at_every_step(files: Files) -> None:
    choosing = example("choosing")
    configs = choosing.own_client(files.ca), choosing.own_server(files.server)
    assert await example("sweeping").survives_every_cancel(*configs) > 1
