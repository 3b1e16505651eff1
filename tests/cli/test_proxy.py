"""``trio-tls proxy`` as a process: clients that speak TLS, backends that speak it, what it tells, and how it ends."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_tls import TLSError, TLSStream
from trio_tls.cli import main
from trio_tls.cli.arguments import parser
from trio_tls.cli.backend import Backend
from trio_tls.cli.proxy import Proxy, ProxyEvents
from trio_tls.cli.proxy_options import ProxyOptions

from ..interop import peers
from ..support import (
    HOST,
    client_certificate,
    client_context,
    pattern,
    receive_exactly,
    server_config,
    server_context,
    socket_pair,
)
from .conftest import Files
from .driving import Running, echo, on_both_machines, plain_server, ran, running, serving, stop_now
from .test_serve import client

Capture = pytest.CaptureFixture[str]


@asynccontextmanager
async def proxy(*arguments: str | Path | int, listen: str | int = "127.0.0.1:0") -> AsyncIterator[tuple[Running, int]]:
    """The command, and the port where it listens."""
    async with running("proxy", listen, *arguments) as run:
        await run.shows("\n")
        found = re.search(rb"listening.*?127\.0\.0\.1:(\d+)", run.out)
        yield run, int(found[1]) if found else 0
        await stop_now(run)


async def plain_echo(stream: trio.SocketStream) -> None:
    with suppress(trio.BrokenResourceError):  # what the proxy cuts is reset
        async for data in stream:
            await stream.send_all(data)
        await stream.send_eof()


async def silent(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


def unchecked_context() -> ssl.SSLContext:
    context = client_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def everything(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([bytes(part) async for part in stream])


async def ended(run: Running, status: int = 130) -> None:
    run.press_ctrl_c()
    assert await run.ends() == status
    assert run.err == b""


# -- with the clients ----------------------------------------------------------------------------------------


@on_both_machines
async def test_clients_speak_tls_and_the_backend_does_not(files: Files, options: tuple[str, ...]) -> None:
    data = pattern(3_000_000)
    async with plain_server(plain_echo) as backend, proxy(backend, "--cert", files.server, *options) as (run, port):
        assert run.out == f"listening on 127.0.0.1:{port} (TLS) for 127.0.0.1:{backend} (plain)\n".encode()
        async with client(port) as stream, trio.open_nursery() as nursery:

            async def send() -> None:
                await stream.send_all(data)
                await stream.send_eof()

            nursery.start_soon(send)
            assert await everything(stream) == data
        await run.shows("connected: TLSv1.3 TLS_AES_")
        await run.shows(" ended: 3,000,000 bytes there, 3,000,000 back, ")
        await ended(run)
        assert run.out.endswith(b"\nstopped\n")


async def test_s_client_talks_through_it(files: Files) -> None:
    async with plain_server(plain_echo) as backend, proxy(backend, "--cert", files.server) as (run, port):
        arguments = ("-CAfile", files.ca, "-verify_return_error", "-connect", f"127.0.0.1:{port}")
        async with peers.run("s_client", *arguments) as peer:
            await peer.shows("Verify return code: 0 (ok)")
            await peer.write(b"to and fro\n")
            await peer.shows("to and fro\n", times=1)
        await ended(run)


async def test_a_throw_away_certificate(files: Files, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    async with plain_server(plain_echo) as backend, proxy(backend, "--self-signed", "--write-ca", ca) as (run, port):
        await run.shows(f"--ca-file {ca}\n")
        result = await ran("connect", f"localhost:{port}", "--ca-file", ca, "-q", stdin=b"hello\n")
        assert (result.status, result.out, result.err) == (0, "hello\n", "")


@on_both_machines
async def test_clients_have_to_present_a_certificate(files: Files, options: tuple[str, ...]) -> None:
    demand = ("--client-cert", "require", "--ca-file", files.ca)
    async with plain_server(plain_echo) as backend:
        async with proxy(backend, "--cert", files.server, *demand, *options) as (run, port):
            context = client_context()
            client_certificate().configure_cert(context)
            async with client(port, context) as stream:
                await stream.send_all(b"x")
                assert await stream.receive_some() == b"x"
            async with client(port) as stream:
                with pytest.raises(TLSError):
                    await stream.receive_some()
            await run.shows("failed: ")


async def test_unix_sockets_on_both_sides(files: Files, tmp_path: Path) -> None:
    front, back = tmp_path / "front", tmp_path / "back"
    sock = trio.socket.socket(socket.AF_UNIX)
    await sock.bind(str(back))
    sock.listen()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, plain_echo, [trio.SocketListener(sock)])
        async with proxy(f"unix:{back}", "--cert", files.server, listen=f"unix:{front}") as (run, _):
            assert run.out == f"listening on unix:{front} (TLS) for unix:{back} (plain)\n".encode()
            trust = ("--ca-file", files.ca, "--server-name", HOST)
            result = await ran("connect", "--unix", front, *trust, "-q", stdin=b"hello\n")
            assert (result.status, result.out) == (0, "hello\n")
            await ended(run)
        nursery.cancel_scope.cancel()
    assert not front.exists()


# -- with the backend ----------------------------------------------------------------------------------------


@on_both_machines
async def test_the_backend_speaks_tls_and_the_clients_do_not(files: Files, options: tuple[str, ...]) -> None:
    trust = ("--to-tls", "--backend-ca-file", files.ca, "--backend-name", HOST)
    async with serving(server_config()) as backend, proxy(backend, *trust, *options) as (run, port):
        assert f"127.0.0.1:{port} (plain) for 127.0.0.1:{backend} (TLS)".encode() in run.out
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"hello")
            await stream.send_eof()
            assert await everything(stream) == b"hello"
        await run.shows(" ended: 5 bytes there, 5 back")
        await ended(run)


async def test_tls_on_both_sides_with_a_certificate_of_ours_for_the_backend(files: Files) -> None:
    context = server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(files.ca)
    context.set_alpn_protocols(["echo"])
    theirs: list[Any] = []

    async def handler(stream: TLSStream[Any]) -> None:
        theirs.append((stream.selected_alpn_protocol(), stream.getpeercert()))
        await echo(stream)

    to_backend = ("--to-tls", "--backend-ca-file", files.ca, "--backend-cert", files.client, "--backend-alpn", "echo")
    async with serving(context, handler) as backend:
        arguments = (f"localhost:{backend}", "--cert", files.server, *to_backend)
        async with proxy(*arguments) as (_run, port), client(port) as stream:
            await stream.send_all(b"sealed twice")
            assert await receive_exactly(stream, 12) == b"sealed twice"
    assert theirs[0][0] == "echo"
    assert theirs[0][1]["subjectAltName"] == (("email", "client@example.org"),)


@on_both_machines
async def test_a_backend_that_cannot_be_believed_gets_nothing(files: Files, options: tuple[str, ...]) -> None:
    async with serving(server_config()) as backend:
        trust = ("--to-tls", "--backend-ca-file", files.strange_ca, "--backend-name", HOST)
        async with proxy(backend, *trust, *options) as (run, port):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                assert await stream.receive_some() == b""
            await run.shows(f"failed: TLS with the backend 127.0.0.1:{backend}: verification failed: ")
            await run.shows("give its certificate with --backend-ca-file")
        async with proxy(backend, "--to-tls", "--backend-insecure", *options) as (run, port):
            await run.shows("WARNING: --backend-insecure")
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(b"x")
                assert await stream.receive_some() == b"x"


# -- what goes wrong -----------------------------------------------------------------------------------------


@on_both_machines
async def test_without_a_backend_the_client_gets_an_end_and_the_log_a_reason(
    files: Files, options: tuple[str, ...]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = free.getsockname()[1]
        async with proxy(nobody, "--cert", files.server, *options) as (run, port):
            async with client(port) as stream:
                assert await stream.receive_some() == b"", "close_notify: nothing was cut short"
            await run.shows(f"failed: the backend is not there: nobody listens on 127.0.0.1:{nobody}")
            await ended(run)


async def test_a_backend_that_does_not_answer_is_given_up(files: Files) -> None:
    async with plain_server(silent) as backend:
        trust = ("--to-tls", "--backend-ca-file", files.ca, "--backend-name", HOST, "--timeout", "0.1")
        async with proxy(backend, *trust) as (run, port), await trio.open_tcp_stream("127.0.0.1", port) as stream:
            assert await stream.receive_some() == b""
            await run.shows(f"no connection to the backend 127.0.0.1:{backend} within 0.1 seconds")


@pytest.mark.parametrize(
    ("host", "words"),
    [("no-such-host.invalid", "the backend is not there: "), ("a..b", "a..b is no name that a host could have")],
)
async def test_a_backend_that_is_no_host(files: Files, host: str, words: str) -> None:
    async with proxy(f"{host}:1", "--cert", files.server) as (run, port), client(port) as stream:
        assert await stream.receive_some() == b""
        await run.shows(words)


@pytest.mark.parametrize(
    ("name", "words"),
    [(HOST, "the peer does not speak TLS"), ("a..b", "a..b is no name that a host could have")],
)
async def test_a_backend_that_speaks_no_tls_or_cannot_be_asked_for(files: Files, name: str, words: str) -> None:
    async def babbles(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            await stream.send_all(b"220 welcome\r\n")
            await stream.receive_some()

    trust = ("--to-tls", "--backend-ca-file", files.ca, "--backend-name", name)
    async with plain_server(babbles) as backend, proxy(backend, *trust) as (run, port):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            assert await stream.receive_some() == b""
        await run.shows(words)


@on_both_machines
async def test_a_failure_is_passed_on_as_one(files: Files, options: tuple[str, ...]) -> None:
    async def breaks_off(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            await stream.receive_some()
            await stream.send_all(b"half of an")
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        stream.socket.close()

    async with plain_server(breaks_off) as backend, proxy(backend, "--cert", files.server, *options) as (run, port):
        async with client(port) as stream:
            await stream.send_all(b"question")
            with pytest.raises(TLSError):
                await everything(stream)
        await run.shows(f"failed: the backend: 127.0.0.1:{backend} reset the connection")
        async with client(port) as stream:
            await stream.do_handshake()
            assert stream.transport_stream is not None
            await trio.aclose_forcefully(stream.transport_stream)
        await run.shows(", the client left without close_notify")


async def test_a_backend_that_leaves_without_close_notify_has_not_ended_in_order(files: Files) -> None:
    async def breaks_off(stream: TLSStream[Any]) -> None:
        await stream.receive_some()
        assert stream.transport_stream is not None
        await trio.aclose_forcefully(stream.transport_stream)

    trust = ("--to-tls", "--backend-ca-file", files.ca, "--backend-name", HOST)
    async with serving(server_config(), breaks_off) as backend, proxy(backend, *trust) as (run, port):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"x")
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        await run.shows(", the backend left without close_notify")


async def test_a_backend_that_resets_whoever_comes_ends_its_connections_alone(files: Files) -> None:
    async def resets(stream: trio.SocketStream) -> None:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        stream.socket.close()

    async with plain_server(resets) as backend:
        async with proxy(backend, "--cert", files.server, "--proxy-protocol", "v2") as (run, port):
            for _ in range(20):  # the reset may come before the header is sent, or after it
                with suppress(trio.BrokenResourceError):
                    async with client(port) as stream:
                        await stream.receive_some()
            await run.shows(f"failed: the backend: 127.0.0.1:{backend} ")
            await ended(run)


async def test_a_header_that_cannot_be_sent_is_a_failure_of_the_backend(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    arguments = ["proxy", "0", "80", "--to-tls", "--backend-insecure", "--proxy-protocol", "v2"]
    options = ProxyOptions.of(parser().parse_args(arguments))
    backend = Backend(options.backend, None, 1.0)
    ours, theirs = socket.socketpair()
    theirs.close()
    dialled = trio.SocketStream(trio.socket.from_stdlib_socket(ours))

    async def dial(_: Backend) -> trio.SocketStream:
        return dialled

    monkeypatch.setattr(Backend, "_dial", dial)
    here, there = socket_pair()
    async with here, there:
        await Proxy(options, None, backend, ProxyEvents(options, None)).take(here)
    told = "failed: the backend: 127.0.0.1:80 closed the connection while data was sent to it"
    assert told in capsys.readouterr().out
    assert dialled.socket.fileno() == -1


async def test_a_slow_client_gets_all_that_came_before_a_backend_left_without_close_notify(files: Files) -> None:
    data = pattern(200_000)

    async def leaves(stream: TLSStream[Any]) -> None:
        await stream.receive_some()
        await stream.send_all(data)
        transport = stream.transport_stream
        assert transport is not None
        await transport.send_eof()
        with suppress(trio.BrokenResourceError):
            await transport.receive_some()
        await trio.aclose_forcefully(transport)

    trust = ("--to-tls", "--backend-ca-file", files.ca, "--backend-name", HOST)
    async with serving(server_config(), leaves) as backend, proxy(backend, *trust, "--json") as (run, port):
        sock = trio.socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        await sock.connect(("127.0.0.1", port))
        async with trio.SocketStream(sock) as stream:
            await stream.send_all(b"x")
            got = b""
            with pytest.raises(trio.BrokenResourceError):
                while True:
                    got += await stream.receive_some(4096)
                    await trio.sleep(0.002)  # a slow client; nothing is waited for by this
            assert got == data
        await run.shows('"left_without_close_notify": "backend"')


async def test_of_many_that_fail_some_are_told(files: Files) -> None:
    async with plain_server(plain_echo) as backend, proxy(backend, "--cert", files.server, "-q") as (run, port):
        for _ in range(25):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
                with suppress(trio.BrokenResourceError):
                    await everything(stream)
        await ended(run)
        assert run.out.count(b" failed: ") == 10
        assert b"15 more failures of the kind PeerMisbehaved in " in run.out


@on_both_machines
async def test_sighup_reads_the_certificates_again(files: Files, tmp_path: Path, options: tuple[str, ...]) -> None:
    cert, ca = tmp_path / "cert.pem", tmp_path / "ca.pem"
    cert.write_bytes(files.server.read_bytes())
    ca.write_bytes(files.ca.read_bytes())

    async def presented(port: int) -> bytes:
        async with client(port, unchecked_context()) as stream:
            await stream.do_handshake()
            der = stream.getpeercert(binary_form=True)
            assert der is not None
            return der

    trust = ("--to-tls", "--backend-ca-file", ca, "--backend-name", HOST)
    async with serving(server_config()) as backend:
        async with proxy(backend, "--cert", cert, *trust, *options) as (run, port):
            before = await presented(port)
            cert.write_bytes(files.strange.read_bytes())
            run.process.send_signal(signal.SIGHUP)
            while run.out.count(b"the certificate's files were read again\n") < 2:  # those of either side
                await run._news.park()
            assert await presented(port) != before
            cert.write_bytes(b"no certificate")
            run.process.send_signal(signal.SIGHUP)
            await run.shows("the old certificate stays, since the new files cannot be used: ")
            assert await presented(port) != before
            ca.write_bytes(b"no certificate")
            run.process.send_signal(signal.SIGHUP)
            await run.shows("--backend-ca-file")
            async with client(port, unchecked_context()) as stream:
                await stream.send_all(b"x")
                assert await stream.receive_some() == b"x"
            await ended(run)


async def test_sighup_changes_nothing_where_there_are_no_files(files: Files) -> None:
    async with plain_server(plain_echo) as backend, proxy(backend, "--self-signed") as (run, port):
        run.process.send_signal(signal.SIGHUP)
        async with client(port, unchecked_context()) as stream:
            await stream.send_all(b"x")
            assert await stream.receive_some() == b"x"
        await ended(run)


async def test_garbage_disturbs_nobody(files: Files) -> None:
    async with plain_server(plain_echo) as backend, proxy(backend, "--cert", files.server) as (run, port):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
            await run.shows("failed: the peer does not speak TLS but HTTP")
        async with client(port) as stream:
            await stream.send_all(b"x")
            assert await stream.receive_some() == b"x"


# -- limits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["TLS", "plain"])
async def test_who_comes_when_it_is_full_waits(files: Files, side: str) -> None:
    tls = side == "TLS"
    sides = ("--cert", files.server) if tls else ("--to-tls", "--backend-ca-file", files.ca, "--backend-name", HOST)
    async with plain_server(plain_echo) as plain, serving(server_config()) as sealed:
        async with proxy(plain if tls else sealed, *sides, "--max-connections", 1) as (run, port):

            async def talk(word: bytes, stream: trio.abc.Stream) -> None:
                await stream.send_all(word)
                assert await stream.receive_some() == word

            first = await trio.open_tcp_stream("127.0.0.1", port)
            one = TLSStream(first, client_context(), server_hostname=HOST) if tls else first
            await talk(b"first", one)
            second = await trio.open_tcp_stream("127.0.0.1", port)
            other = TLSStream(second, client_context(), server_hostname=HOST) if tls else second
            async with trio.open_nursery() as nursery:
                nursery.start_soon(talk, b"second", other)
                await talk(b"first", one)
                assert run.out.count(b" connected") == 1
                await one.aclose()
            await other.aclose()


async def test_an_idle_connection_is_ended(files: Files) -> None:
    async with plain_server(silent) as backend:
        async with proxy(backend, "--cert", files.server, "--idle-timeout", "0.1") as (run, port):
            async with client(port) as stream:
                with pytest.raises(TLSError):
                    await stream.receive_some()
            await run.shows("failed: nothing has come from either end for 0.1 seconds")


# -- who the client is ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_the_backend_is_told_who_the_client_is(files: Files, version: str) -> None:
    heard: list[bytes] = []

    async def listens(stream: trio.SocketStream) -> None:
        heard.append(await everything(stream))

    async with plain_server(listens) as backend:
        arguments = (backend, "--cert", files.server, "--proxy-protocol", version, "--alpn", "x", "-q")
        async with proxy(*arguments) as (run, port):
            context = client_context()
            context.set_alpn_protocols(["x"])
            async with client(port, context) as stream:
                await stream.send_all(b"hello")
                assert stream.transport_stream is not None
                ours = stream.transport_stream.socket.getsockname()[1]
                await stream.send_eof()
                assert await stream.receive_some() == b""
            await ended(run)
    if version == "v1":
        assert heard == [f"PROXY TCP4 127.0.0.1 127.0.0.1 {ours} {port}\r\nhello".encode()]
    else:
        assert heard[0].startswith(b"\r\n\r\n\0\r\nQUIT\n\x21\x11")
        assert HOST.encode() in heard[0]
        assert b"TLSv1.3" in heard[0]
        assert heard[0].endswith(b"hello")


async def test_clients_of_a_unix_socket_have_no_address(files: Files, tmp_path: Path) -> None:
    heard: list[bytes] = []

    async def listens(stream: trio.SocketStream) -> None:
        heard.append(await everything(stream))

    path = tmp_path / "front"
    async with plain_server(listens) as backend:
        arguments = (backend, "--cert", files.server, "--proxy-protocol", "v1")
        async with proxy(*arguments, listen=f"unix:{path}") as (run, _):
            trust = ("--ca-file", files.ca, "--server-name", HOST)
            await ran("connect", "--unix", path, *trust, "-q", stdin=b"hello\n")
            await run.shows(" ended: ")
    assert heard == [b"PROXY UNKNOWN\r\nhello\n"]


# -- what it tells, and how it ends --------------------------------------------------------------------------


async def test_quiet_tells_failures_alone_and_json_everything(files: Files) -> None:
    async with plain_server(plain_echo) as backend:
        for option in ("-q", "--json"):
            async with proxy(backend, "--cert", files.server, option) as (run, port):
                async with client(port) as stream:
                    await stream.send_all(b"x")
                    assert await stream.receive_some() == b"x"
                    await stream.send_eof()
                    assert await stream.receive_some() == b""
                if option == "--json":
                    await run.shows('"end"')
                await ended(run)
            if option == "-q":
                assert b"connected" not in run.out
                assert b"ended" not in run.out
            else:
                events = [json.loads(line) for line in run.out.splitlines()]
                assert [each["event"] for each in events] == ["listening", "connection", "end", "stopped"]
                assert (events[0]["clients"], events[0]["to_backend"]) == ("tls", "plain")
                assert events[1]["server_name"] == HOST
                assert (events[2]["bytes_to_backend"], events[2]["bytes_to_client"]) == (1, 1)


@pytest.mark.parametrize("side", ["TLS", "plain"])
async def test_a_stop_lets_connections_finish_and_cuts_who_does_not(files: Files, side: str) -> None:
    tls = side == "TLS"
    sides = ("--cert", files.server) if tls else ("--to-tls", "--backend-ca-file", files.ca, "--backend-name", HOST)
    async with plain_server(plain_echo) as plain, serving(server_config()) as sealed:
        for finishes, grace in ((True, "20"), (False, "0.1")):
            async with proxy(plain if tls else sealed, *sides, "--stop-grace", grace) as (run, port):
                transport = await trio.open_tcp_stream("127.0.0.1", port)
                stream = TLSStream(transport, client_context(), server_hostname=HOST) if tls else transport
                async with stream:
                    await stream.send_all(b"1")
                    assert await stream.receive_some() == b"1"
                    run.press_ctrl_c()
                    await run.shows(f"stopping: 1 open connection has {grace} seconds to finish\n")
                    if finishes:
                        await stream.send_all(b"2")
                        assert await stream.receive_some() == b"2"
                        await stream.send_eof()
                        assert await stream.receive_some() == b""
                    else:
                        with pytest.raises(trio.BrokenResourceError):
                            await stream.receive_some()
                assert await run.ends() == 130
                assert run.out.endswith(b"\nstopped\n")


async def test_a_second_ctrl_c_ends_it_now(files: Files) -> None:
    async with plain_server(plain_echo) as backend, proxy(backend, "--cert", files.server) as (run, port):
        async with client(port) as stream:
            await stream.send_all(b"1")
            assert await stream.receive_some() == b"1"
            run.press_ctrl_c()
            await run.shows("stopping: ")
            run.press_ctrl_c()
            with pytest.raises(TLSError):
                await stream.receive_some()
        assert await run.ends() == 130


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["1", "2"], 2, "neither side speaks TLS: give --cert, --self-signed or --to-tls"),
        (["1", "2", "--cert", "x", "--self-signed"], 2, "give either --cert or --self-signed"),
        (["1", "2", "--to-tls", "--alpn", "h2"], 2, "--alpn needs --cert or --self-signed"),
        (["1", "2", "--to-tls", "--write-ca", "x"], 2, "--write-ca needs --cert or --self-signed"),
        (["1", "2", "--self-signed", "--backend-name", "x"], 2, "--backend-name needs --to-tls"),
        (["1", "2", "--self-signed", "--backend-ca-file", "x"], 2, "--backend-ca-file needs --to-tls"),
        (["1", "2", "--to-tls", "--backend-key", "x"], 2, "--backend-key needs --backend-cert"),
        (["1", "unix:x", "--to-tls"], 2, "a backend at unix:PATH needs --backend-name"),
        (["1", "2", "--to-tls", "--backend-ca-file", "/no/such"], 2, "--backend-ca-file /no/such: No such file"),
        (["1", "2", "--self-signed", "--tls-max", "1.2"], 2, "--tls-max 1.2 needs --openssl"),
        (["1", "2", "--self-signed", "--max-connections", "0"], 2, "a number from 1 to 1000000"),
        (["1", "example.org", "--self-signed"], 2, "HOST:PORT, PORT or unix:PATH, not 'example.org'"),
        (["1", "unix:", "--self-signed"], 2, "a port is a number from 0 to 65535"),
        (["192.0.2.1:4433", "2", "--self-signed"], 3, "192.0.2.1:4433 is no address of this machine"),
    ],
)
def test_a_mistake_is_one_sentence(capsys: Capture, arguments: list[str], status: int, sentence: str) -> None:
    assert main(["proxy", *arguments]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("trio-tls: ")
    assert sentence in captured.err
