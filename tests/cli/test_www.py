"""``trio-tls serve --www``: the page about the visitor's own handshake, for curl, ``openssl s_client`` and others."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from typing import Any, cast

import pytest
import trio
import trio.testing

from trio_tls import ClientHelloInfo, TLSStream
from trio_tls.cli import main, page, registered
from trio_tls.cli.arguments import parser
from trio_tls.cli.facts import ConnectionFacts, connection_facts
from trio_tls.cli.page_html import html_of
from trio_tls.cli.problem import ExitStatus
from trio_tls.cli.serve import Journal, Server
from trio_tls.cli.serve_options import ServeOptions
from trio_tls.cli.site import site_of
from trio_tls.cli.trace import Trace
from trio_tls.cli.visit import Visit, VisitListener, VisitStream
from trio_tls.testing import CancelMode, Interrupter, sweep

from ..interop import peers
from ..interop.processes import command_named
from ..support import (
    HOST,
    ForeignStream,
    Machines,
    client_certificate,
    client_context,
    receive_exactly,
    server_config,
    socket_pair,
)
from .conftest import Files
from .driving import on_both_machines
from .test_serve import client, server

Capture = pytest.CaptureFixture[str]


class Page(HTMLParser):
    """What is on a page: its elements, its ids and its texts, each checked to be closed where it was opened."""

    VOID = frozenset({"meta", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data.strip())

    @property
    def facts(self) -> dict[str, str]:
        """Each fact by its name."""
        return {each: self.texts[place + 1] for place, each in enumerate(self.texts) if each in FACTS}


FACTS = (
    *("Version", "Cipher suite", "Key exchange group", "Our signature", "Application protocol (ALPN)"),
    *("Server name (SNI)", "Session", "Your certificate", "Our certificate", "Your address", "Our TLS"),
)


async def curl(files: Files, port: int, *arguments: str, path: str = "/") -> tuple[str, str]:
    """The head and the body that curl gets."""
    command = [command_named("curl", "curl"), "-sS", "-i", "--cacert", str(files.ca), *arguments]
    resolved = ("--resolve", f"{HOST}:{port}:127.0.0.1", f"https://{HOST}:{port}{path}")
    with trio.fail_after(30):
        done = await trio.run_process([*command, *resolved], capture_stdout=True)
    head, _, body = done.stdout.decode().partition("\r\n\r\n")
    return head, body


async def fetched(port: int, request: bytes, context: ssl.SSLContext | None = None) -> bytes:
    async with client(port, context) as stream:
        await stream.send_all(request)
        return await receive_exactly(stream, 1_000_000)


def hello(**changes: Any) -> ClientHelloInfo:
    facts: dict[str, Any] = {
        "server_name": None,
        "alpn_protocols": (),
        "versions": (0x0304,),
        "cipher_suites": (0x1301,),
        "groups": (0x1D,),
        "signature_schemes": (0x0403,),
        "extension_types": (43, 51),
        "has_session_id": False,
    }
    return ClientHelloInfo(**facts | changes)


def visit(*, group: str | None = "x25519", resumed: bool = False, drawn: bool = True, **changes: Any) -> Visit:
    facts = ConnectionFacts(*("TLSv1.3", "TLS_AES_128_GCM_SHA256", 128, group, None, None, None, resumed), (), (), ())
    trace = Trace(iter(range(100)).__next__, server_side=True)
    trace.begin("192.0.2.1:5")
    trace.message(sent=False, name="client_hello", size=1000, epoch="plaintext")
    trace.message(sent=True, name="hello_retry_request", size=100, epoch="plaintext")
    trace.message(sent=False, name="finished", size=36, epoch="handshake")
    ladder = trace.connections[0] if drawn else None
    return Visit("192.0.2.1:5", facts, facts.cipher_suite, hello(**changes), None, ladder)


# -- what it tells -------------------------------------------------------------------------------------------


@on_both_machines
async def test_curl_gets_the_page_about_its_own_handshake(files: Files, options: tuple[str, ...]) -> None:
    async with server("--cert", files.server, "--www", *options) as (run, port):
        await run.shows("(HTTPS)")
        head, body = await curl(files, port, "--http1.1")
        shown = Page(body)
        assert head.startswith("HTTP/1.1 200 OK\r\n")
        assert f"Content-Length: {len(body.encode())}" in head
        facts = shown.facts
        assert facts["Version"] == "TLS 1.3"
        assert facts["Cipher suite"].startswith("TLS_AES_")
        assert facts["Application protocol (ALPN)"] == "http/1.1"
        assert facts["Server name (SNI)"] == HOST
        assert facts["Session"] == "new"
        assert facts["Your certificate"] == "none"
        if options:
            assert facts["Key exchange group"].startswith("not told by Python 3.")
            assert facts["Our signature"].startswith("not told by Python 3.")
            assert facts["Our TLS"].startswith("OpenSSL 3.")
            assert "Python's ssl module does not tell of single messages" in body
        else:
            assert facts["Key exchange group"] in ("x25519", "X25519MLKEM768"), "as OpenSSL is old or new"
            assert facts["Our signature"] == "ecdsa_secp256r1_sha256"
            assert "Our certificate" in facts
            for each in ("ClientHello", "{EncryptedExtensions}", "{CertificateVerify}", "[NewSessionTicket]"):
                assert any(text.startswith(f"{each}, ") for text in shown.texts), each
        assert "server_name" in shown.texts
        assert "TLS_AES_256_GCM_SHA384" in body


async def test_the_same_as_json(files: Files) -> None:
    async with server("--cert", files.server, "--www") as (_run, port):
        head, body = await curl(files, port, "--http1.1", path="/json?x=1")
    facts = json.loads(body)
    assert "Content-Type: application/json" in head
    assert facts["version"] == "TLSv1.3"
    assert facts["server_name"] == HOST
    assert facts["server_signature_scheme"] == "ecdsa_secp256r1_sha256"
    assert {"number": 0, "name": "server_name"} in facts["offered"]["extensions"]
    assert facts["offered"]["alpn_protocols"] == ["http/1.1"]
    assert [each["name"] for each in facts["messages"]][:2] == ["client_hello", "server_hello"]
    assert facts["messages"][0]["sent"] is False


async def test_tls_1_2_is_told_with_its_registered_names(files: Files) -> None:
    async with server("--cert", files.server, "--www", "--openssl") as (_run, port):
        _, body = await curl(files, port, "--tls-max", "1.2", path="/json")
        _, shown = await curl(files, port, "--tls-max", "1.2")
    facts = json.loads(body)
    assert facts["version"] == "TLSv1.2"
    assert facts["cipher_suite"] in facts["offered"]["cipher_suites"]
    assert facts["messages"] is None
    assert "You speak TLS 1.2" in shown
    assert f"{facts['cipher_suite']} (agreed)" in shown


async def test_the_signature_is_the_one_that_openssl_has_checked(files: Files) -> None:
    async with server("--cert", files.server, "--www") as (_run, port):
        arguments = ("-CAfile", files.ca, "-sigalgs", "rsa_pss_rsae_sha256:ecdsa_secp256r1_sha256", "-ign_eof")
        async with peers.run("s_client", "-connect", f"127.0.0.1:{port}", *arguments) as peer:
            await peer.write(b"GET /json HTTP/1.1\r\n\r\n")
            output = (await peer.ends()).decode()
    assert "Peer signature type: ECDSA" in output
    assert "Peer signing digest: SHA256" in output
    assert '"server_signature_scheme": "ecdsa_secp256r1_sha256"' in output


@on_both_machines
async def test_a_resumed_session_is_told(files: Files, options: tuple[str, ...]) -> None:
    context = client_context()
    session: ssl.SSLSession | None = None
    async with server("--cert", files.server, "--www", *options) as (_run, port):
        for resumed in (False, True):
            async with client(port, context) as stream:
                if session is not None:
                    stream.session = session
                await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
                body = (await receive_exactly(stream, 1_000_000)).decode().partition("\r\n\r\n")[2]
                assert isinstance(stream.session, ssl.SSLSession)
                session = stream.session
            assert Page(body).facts["Session"] == ("resumed" if resumed else "new")
            assert ("session resumed" in body) is resumed
            if not options:
                assert ("{CertificateVerify}" in body) is not resumed


async def test_a_client_certificate_is_told(files: Files) -> None:
    demands = ("--client-cert", "request", "--ca-file", files.ca)
    context = client_context()
    client_certificate().configure_cert(context)
    async with server("--cert", files.server, "--www", *demands) as (_run, port):
        body = (await fetched(port, b"GET / HTTP/1.1\r\n\r\n", context)).decode().partition("\r\n\r\n")[2]
    shown = Page(body)
    assert shown.facts["Your certificate"].startswith("OU=Testing cert")
    assert "verified" in shown.texts
    assert any(text.startswith("{CertificateRequest}") for text in shown.texts)


# -- the page itself -----------------------------------------------------------------------------------------


def test_the_page_is_well_formed_and_asks_for_nothing_from_elsewhere() -> None:
    text = html_of(visit())
    shown = Page(text)
    ids = [attributes["id"] for _, attributes in shown.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = [attributes["aria-labelledby"] for _, attributes in shown.elements if "aria-labelledby" in attributes]
    assert set(named) <= set(ids)
    assert not {"script", "img", "iframe", "form"} & {tag for tag, _ in shown.elements}
    assert not any(name.startswith("on") or name == "style" for _, attributes in shown.elements for name in attributes)
    references = [attributes["href"] for _, attributes in shown.elements if "href" in attributes]
    assert [each for each in references if not (each or "").startswith("data:")] == ["/json"]
    assert not re.search(r"url\(|@import", text)
    assert text.count("<h1>") == 1


def test_its_style_is_the_one_that_the_policy_allows() -> None:
    style = html_of(visit()).partition("<style>")[2].partition("</style>")[0]
    allowed = "sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src '{allowed}'" in page.POLICY
    assert "unsafe" not in page.POLICY


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ("X25519MLKEM768", "You speak TLS 1.3, post-quantum"),
        ("x25519", "You speak TLS 1.3, not post-quantum"),
        (None, "Your client has offered no group that would be."),
    ],
)
def test_the_headline_says_whether_it_is_post_quantum(group: str | None, words: str) -> None:
    assert words in html_of(visit(group=group))


def test_without_a_group_it_tells_what_was_offered() -> None:
    assert "Your client has offered X25519MLKEM768." in html_of(visit(group=None, groups=(0x11EC, 0x1D)))


def test_a_retry_is_told_and_explained() -> None:
    shown = Page(html_of(visit()))
    assert "two round trips" in shown.texts
    assert "HelloRetryRequest" in shown.texts


def test_what_was_not_agreed_has_its_reason() -> None:
    assert "none of yours is served here" in html_of(visit(alpn_protocols=(b"h2",)))
    assert "your client offers none" in html_of(visit())
    assert "a resumed session is authenticated by its secret" in html_of(visit(resumed=True))


def test_grease_is_named_counted_and_never_taken_for_an_offer() -> None:
    greasy = html_of(visit(extension_types=(0x0A0A, 43, 51), cipher_suites=(0x1A1A, 0x1301)))
    assert "2 of its values are GREASE" in greasy
    assert '<tr class="grease"><td class="number">1</td><th scope="row">GREASE</th>' in greasy
    assert "1 of its values is GREASE" in html_of(visit(versions=(0x7A7A, 0x0304)))
    assert "None of its values is GREASE" in html_of(visit())


def test_what_a_client_says_cannot_become_a_part_of_the_page() -> None:
    evil = '"><script>alert(1)</script>\x1b[2J'
    text = html_of(visit(server_name=evil, alpn_protocols=(evil.encode(), b"\xff<b>")))
    assert "<script" not in text
    assert "\x1b" not in text
    assert "&lt;script&gt;" in text
    assert "\\xff&lt;b&gt;" in text


def test_every_number_has_a_name_or_stays_a_number() -> None:
    assert registered.extension_name(51) == "key_share"
    assert registered.extension_name(35) == "session_ticket"
    assert registered.extension_name(0x2A2A) == "GREASE"
    assert registered.extension_name(0x7001) == "0x7001"
    assert registered.extension_purpose(0x7001) == ""
    assert registered.extension_purpose(0x2A2A).startswith("nothing")
    assert registered.suite_name(0xC02B) == "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
    assert registered.group_name(0x11EC) == "X25519MLKEM768"
    assert registered.scheme_name(0x0807) == "ed25519"
    assert [registered.version_name(each) for each in (0x0303, 0x0A0A, 0x7F1C)] == ["TLS 1.2", "GREASE", "0x7f1c"]


# -- requests ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def answering(what: Visit) -> AsyncIterator[trio.abc.Stream]:
    """A visitor's plain stream to `page.answer`, which closes its own at the end."""
    here, there = trio.testing.memory_stream_pair()

    async def answer() -> None:
        async with there:
            await page.answer(there, what)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        yield here
        nursery.cancel_scope.cancel()


async def everything(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([bytes(part) async for part in stream])


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"200 OK", b"<!DOCTYPE html>"),
        (b"GET /?again HTTP/1.0\n\n", b"200 OK", b"<!DOCTYPE html>"),
        (b"GET /json HTTP/1.1\r\n\r\n", b"200 OK", b'"version"'),
        (b"GET /favicon.ico HTTP/1.1\r\n\r\n", b"404 Not Found", b"/json for programs"),
        (b"GET https://elsewhere.example/ HTTP/1.1\r\n\r\n", b"404 Not Found", b"/json for programs"),
        (b"PUT / HTTP/1.1\r\n\r\n", b"405 Method Not Allowed", b"GET and HEAD only"),
        (b"x\n\n", b"400 Bad Request", b"no HTTP/1.1 request"),
        (b"\x00\xff \x80\n\n", b"400 Bad Request", b"no HTTP/1.1 request"),
        (b"GET / HTTP/2.0\r\n\r\n", b"400 Bad Request", b"no HTTP/1.1 request"),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000, b"200 OK", b"<!DOCTYPE html>"),
    ],
)
async def test_each_request_gets_its_answer(request_: bytes, status: bytes, words: bytes) -> None:
    async with answering(visit()) as stream:
        await stream.send_all(request_)
        assert isinstance(stream, trio.StapledStream)
        await stream.send_eof()
        response = await everything(stream)
    head, _, body = response.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert f"\r\nContent-Length: {len(body)}\r\n".encode() in head
    assert b"\r\nConnection: close" in head
    assert b"\r\nContent-Security-Policy: default-src 'none'; " in head
    assert words in body


async def test_head_is_get_without_its_body() -> None:
    async with answering(visit()) as stream:
        await stream.send_all(b"HEAD / HTTP/1.1\r\n\r\n")
        response = await everything(stream)
    assert response.endswith(b"\r\n\r\n")
    assert b"<!DOCTYPE" not in response
    assert re.search(rb"Content-Length: \d{4,}", response)


async def test_who_asks_for_nothing_gets_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async with answering(visit()) as stream:
        assert await everything(stream) == b""
    assert trio.current_time() >= page.IDLE_TIMEOUT
    async with answering(visit()) as stream:
        await stream.send_all(b"GET")
        before = trio.current_time()
        assert b" 400 " in await everything(stream)
        assert trio.current_time() - before >= page.HEAD_TIMEOUT


async def test_a_refused_request_is_read_away_so_that_its_answer_arrives(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with answering(visit()) as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nContent-Length: 500000\r\n\r\n")
        await stream.send_all(b"x" * 500_000)
        assert b" 405 " in await everything(stream)
    assert trio.current_time() >= page.REST_TIMEOUT


async def test_a_connection_without_a_request_is_no_failure(files: Files) -> None:
    async with server("--cert", files.server, "--www") as (run, port):
        async with client(port) as stream:
            await stream.do_handshake()
            await run.shows("connected")
            assert stream.transport_stream is not None
            await trio.aclose_forcefully(stream.transport_stream)
        run.press_ctrl_c()
        assert await run.ends() == 130
    assert b"failed" not in run.out, "browsers connect ahead of need, and leave without close_notify"


# -- how the ClientHello is seen -----------------------------------------------------------------------------


async def test_a_visitor_who_speaks_no_tls_is_told_as_ever(files: Files) -> None:
    async with server("--cert", files.server, "--www") as (run, port):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
            await run.shows("failed: the peer does not speak TLS but HTTP")
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00")
            assert (await stream.receive_some())[:1] == b"\x15", "an alert"
            await run.shows("failed: ")
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"\x16\x03\x01\x02")
        await run.shows("ended in the middle of its ClientHello")


async def test_a_visitor_who_resets_is_told_so(files: Files) -> None:
    async with server("--cert", files.server, "--www") as (run, port):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"\x16")
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        stream.socket.close()
        await run.shows("failed: the client reset the connection")


class InPieces(ForeignStream):
    """Sends in pieces, and lets the other end see each."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        for place in range(0, len(data), 300):
            await self.wrapped.send_all(data[place : place + 300])
            await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parametrize("mode", CancelMode)
async def test_a_cancelled_look_at_the_clienthello_goes_on(machines: Machines, mode: CancelMode) -> None:
    async def scenario(interrupter: Interrupter) -> None:
        here, there = socket_pair()
        visitor = VisitStream(there, machines.server)
        client = TLSStream(InPieces(here), machines.client, server_hostname=HOST)
        async with visitor, client:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.do_handshake)
                await interrupter.call(visitor.do_handshake)
            told = await visitor.visit(connection_facts(visitor, verified=True))
            assert told.hello.server_name == HOST
            assert (told.ladder is not None) == machines.is_own("server")

    report = await sweep(scenario, mode)
    assert report.cancelled > 0


async def test_a_connection_that_cannot_be_served_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> VisitStream:
        raise ValueError

    monkeypatch.setattr("trio_tls.cli.visit.VisitStream", refuse)
    (plain,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with VisitListener(plain, server_config()) as visitors:
        async with await trio.open_tcp_stream("127.0.0.1", plain.socket.getsockname()[1]) as raw:
            with pytest.raises(ValueError):  # noqa: PT011
                await visitors.accept()
            assert await raw.receive_some() == b""


async def test_a_visitor_who_is_gone_in_the_middle_of_a_request_is_a_failure() -> None:
    class Gone(ForeignStream):
        async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
            if self.asked:
                raise trio.BrokenResourceError
            self.asked = True
            return b"GET"

        asked = False

    here, _ = trio.testing.memory_stream_pair()
    with pytest.raises(trio.BrokenResourceError):
        await page.answer(Gone(here), visit())
    gone = Gone(here)
    gone.asked = True
    await page.answer(gone, visit())  # nothing was asked for


async def test_a_visitor_who_does_not_take_the_answer_is_given_up(
    capsys: Capture, autojump_clock: trio.testing.MockClock
) -> None:
    options = ServeOptions.of(parser().parse_args(["serve", "--self-signed", "--www"]))
    with site_of(options.clients, several=False) as site:
        server = Server(options, site, Journal(options, site), trio.Event())
    here, there = trio.testing.lockstep_stream_pair()  # nothing can be sent to who does not receive
    visitor = TLSStream(here, client_context(), server_hostname=HOST)
    served: Any = VisitStream(cast("trio.SocketStream", there), server_config().replace(tickets=0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(served.do_handshake)
        await visitor.do_handshake()
        nursery.start_soon(visitor.send_all, b"GET / HTTP/1.1\r\n\r\n")
        await server.handle(served)
        nursery.cancel_scope.cancel()
    assert server.status == ExitStatus.NETWORK
    told = capsys.readouterr().out
    assert "the peer failed: the answer was not taken within 60 seconds. The client is slow, or gone\n" in told


def test_a_page_is_served_by_http_1_1_alone(capsys: Capture) -> None:
    assert main(["serve", "--self-signed", "--www", "--alpn", "h2,http/1.1"]) == 2
    assert "--www goes without --alpn h2" in capsys.readouterr().err
