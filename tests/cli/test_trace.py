"""``--trace`` and ``--trace-svg``: the ladder of a handshake as text, as JSON and as a picture."""

from __future__ import annotations

import io
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_tls import NamedGroup, Tracer
from trio_tls.cli import ladder
from trio_tls.cli.ladder_svg import drawn
from trio_tls.cli.paper import Paper
from trio_tls.cli.trace import Trace

from ..support import HOST, server_config, server_context
from .conftest import Files
from .driving import files_in, on_a_terminal, plain_server, running, said, serving

Capture = pytest.CaptureFixture[str]

SVG = "{http://www.w3.org/2000/svg}"

#: The docs show this picture.
SHOWN = Path(__file__, "../../../docs/_static/handshake.svg").resolve()


def trusting(files: Files) -> tuple[str | Path, ...]:
    return ("--ca-file", files.ca, "--server-name", HOST, "--check")


def told(text: str) -> list[str]:
    """What the ladder in this text tells, without times and sizes."""
    rungs = [line[11:-1] for line in text.splitlines() if re.match(r" *\d+\.\d\d  │", line)]
    directions = ["→ " if "▶" in rung else "← " if "◀" in rung else "" for rung in rungs]
    words = [re.sub(r", [\d,.]+ (bytes|ms)$", "", rung.strip("─▶◀◆…✓ ")) for rung in rungs]
    return [direction + each for direction, each in zip(directions, words, strict=True)]


def clock() -> Any:
    """A millisecond passes each time that it is looked at."""
    return iter(each / 1000 for each in range(10_000)).__next__


def retried() -> Trace:
    """What a client tells whose server asks for another key share, and for a certificate that it then rejects."""
    trace = Trace(clock())
    tracer: Tracer = trace
    trace.begin("server.example.org:443")
    tracer.message(sent=True, name="client_hello", size=1500, epoch="plaintext")
    tracer.want("read")
    tracer.want("read")
    tracer.message(sent=False, name="hello_retry_request", size=88, epoch="plaintext")
    tracer.message(sent=True, name="client_hello", size=333, epoch="plaintext")
    tracer.want("NeedVerification")
    tracer.message(sent=False, name="server_hello", size=187, epoch="plaintext")
    tracer.key_change(sent=False, epoch="handshake")
    tracer.key_change(sent=True, epoch="handshake")
    tracer.message(sent=False, name="finished", size=52, epoch="handshake")
    tracer.key_change(sent=False, epoch="application")
    tracer.message(sent=True, name="certificate", size=421, epoch="handshake")
    tracer.key_change(sent=True, epoch="application")
    trace.mark("handshake done")
    tracer.alert(sent=False, name="unknown_ca")
    return trace


RETRIED = """\
      ms  client                                          server.example.org:443
    1.00  │── ClientHello, 1,500 bytes ───────────────────────────────────────▶│
    2.00  │ … waits for the server, 1.00 ms                                    │
    3.00  │◀──────────────────────────────────── HelloRetryRequest, 88 bytes ──│
    4.00  │── ClientHello, 333 bytes ─────────────────────────────────────────▶│
    5.00  │ … waits for NeedVerification, 1.00 ms                              │
    6.00  │◀───────────────────────────────────────── ServerHello, 187 bytes ──│
    7.00  │ ◆ sends and receives with handshake keys                           │
    8.00  │◀─────────────────────────────────────────── {Finished}, 52 bytes ──│
    9.00  │ ◆ receives with application keys                                   │
   10.00  │── {Certificate}, 421 bytes ───────────────────────────────────────▶│
   11.00  │ ◆ sends with application keys                                      │
   12.00  │ ✓ handshake done                                                   │
   13.00  │◀──────────────────────────────────────────── [alert: unknown_ca] ──│
"""


def test_the_ladder_as_text() -> None:
    (connection,) = retried().connections
    output = io.StringIO()
    paper = Paper(output)
    for line in (*ladder.heading(connection), *ladder.lines(connection)):
        paper.segments(line)
    assert output.getvalue() == RETRIED
    assert {len(line) for line in RETRIED.splitlines()} == {ladder.WIDTH}


def test_a_wait_that_has_not_ended_has_no_duration() -> None:
    trace = Trace(clock())
    trace.begin("x:1")
    trace.want("read")
    (line,) = ladder.lines(trace.connections[0])
    assert "".join(text for text, _ in line).strip("│ \n").endswith("│ … waits for the server")


def test_the_picture_tells_the_same_and_stands_alone() -> None:
    trace = retried()
    trace.begin("<second> & last")
    trace.message(sent=True, name="client_hello", size=1500, epoch="plaintext")
    trace.alert(sent=True, name="close_notify")
    text = drawn(trace.connections)
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg"
    words = [each.text for each in root.iter(f"{SVG}text")]
    for connection in trace.connections:
        assert connection.title in words
        for number, rung in enumerate(connection.rungs):
            assert f"{1000 * rung.at:.2f}" in words
            told = ladder.label(rung) if rung.size or "alert" in rung.kind.value else None
            assert (told or ladder.note(connection, number)) in words
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"<script|href|url\(|@import", text)
    assert text.count("http") == 1, "the namespace alone"
    height = float(root.attrib["height"])
    assert all(float(each.attrib["y"]) < height for each in root.iter(f"{SVG}text"))


HANDSHAKE = [
    "→ ClientHello",
    "waits for the server",
    "← ServerHello",
    "sends and receives with handshake keys",
    "← {EncryptedExtensions}",
    "← {Certificate}",
    "← {CertificateVerify}",
    "← {Finished}",
    "→ {Finished}",
    "sends and receives with application keys",
    "handshake done: TLS_AES_128_GCM_SHA256, X25519MLKEM768",
    "→ [alert: close_notify]",
    "← [NewSessionTicket]",
    "← [NewSessionTicket]",
    "← [alert: close_notify]",
]

RETRY = ["← HelloRetryRequest", "→ ClientHello", "waits for the server"]


async def test_a_handshake_is_drawn_message_by_message(capsys: Capture, files: Files) -> None:
    async with serving(server_config()) as port:
        result = await said(capsys, "connect", f"127.0.0.1:{port}", *trusting(files), "--trace")
    assert result.status == 0
    drawing = [line for line in result.err.splitlines() if "│" in line or line.startswith("      ms  client")]
    assert {len(line) for line in drawing} == {80}
    assert drawing[0].endswith(f" 127.0.0.1:{port}")
    assert told(result.err) == HANDSHAKE


async def test_a_retry_is_told_from_an_answer(capsys: Capture, files: Files) -> None:
    server = server_config().replace(groups=[NamedGroup.secp384r1])
    async with serving(server) as port:
        chosen = ("--cipher", "tls_chacha20_poly1305_sha256", "--alpn", "h2")
        result = await said(capsys, "connect", f"127.0.0.1:{port}", *trusting(files), "--trace", *chosen)
    assert result.status == 0
    done = "handshake done: TLS_CHACHA20_POLY1305_SHA256, secp384r1"
    expected = [done if each.startswith("handshake done") else each for each in HANDSHAKE]
    assert told(result.err) == expected[:2] + RETRY + expected[2:]


async def test_a_handshake_that_fails_is_drawn_up_to_its_alert(capsys: Capture, files: Files, tmp_path: Path) -> None:
    picture = tmp_path / "failed.svg"
    async with serving(server_context()) as port:
        trust = ("--ca-file", files.strange_ca, "--server-name", HOST)
        where = ("connect", f"127.0.0.1:{port}", *trust, "--trace", "--trace-svg", picture)
        result = await said(capsys, *where)
    assert result.status == 5
    assert told(result.err)[-2:] == ["← {CertificateVerify}", "→ {alert: unknown_ca}"]
    assert result.err.index("alert: unknown_ca") < result.err.index("trio-tls: verification failed")
    assert "{alert: unknown_ca}" in [each.text for each in ElementTree.parse(picture).iter(f"{SVG}text")]


async def test_a_server_that_never_answers_is_drawn(capsys: Capture) -> None:
    async def silent(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with plain_server(silent) as port:
        result = await said(capsys, "connect", f"127.0.0.1:{port}", "--trace", "-q", "--timeout", "0.2")
    assert result.status == 3
    assert told(result.err) == HANDSHAKE[:2]


async def test_every_connection_gets_its_ladder(capsys: Capture, files: Files, tmp_path: Path) -> None:
    picture = tmp_path / "both.svg"
    async with serving(server_config()) as port:
        where = ("connect", f"127.0.0.1:{port}", *trusting(files), "--reconnect", 1)
        words = await said(capsys, *where, "--trace", "-q")
        facts = await said(capsys, *where, "--json", "--trace", "--trace-svg", picture)
    authenticated = ("← {Certificate}", "← {CertificateVerify}")
    resumed = [each for each in HANDSHAKE if each not in authenticated]
    resumed.remove("← [NewSessionTicket]")  # one in the place of the one that was used
    assert told(words.err) == HANDSHAKE + resumed
    assert facts.err == ""
    first, second = json.loads(facts.out)["trace"]
    assert len(first) == len(HANDSHAKE)
    assert first[0]["kind"] == "message"
    assert first[0]["name"] == "client_hello"
    assert first[0]["sent"] is True
    assert first[0]["size"] > 1000
    assert first[0]["epoch"] == "plaintext"
    assert [each["milliseconds"] for each in first] == sorted(each["milliseconds"] for each in first)
    assert len(second) == len(resumed)
    titles = [each.text for each in ElementTree.parse(picture).iter(f"{SVG}text")].count(f"127.0.0.1:{port}")
    assert titles == 2


async def test_no_trace_is_drawn_where_nothing_was_sent(capsys: Capture, tmp_path: Path) -> None:
    result = await said(capsys, "connect", "no-such-host.invalid", "--trace", "--trace-svg", tmp_path / "x", "-q")
    assert result.status == 3
    assert result.err.startswith("trio-tls: ")
    assert files_in(tmp_path) == []


async def test_a_picture_that_cannot_be_written_is_a_mistake(capsys: Capture, files: Files) -> None:
    async with serving(server_config()) as port:
        where = ("connect", f"127.0.0.1:{port}", *trusting(files), "-q", "--trace-svg", "/no/such/place/x.svg")
        result = await said(capsys, *where)
    assert result.status == 2
    assert "--trace-svg /no/such/place/x.svg: No such file or directory" in result.err


def test_an_output_without_lines_and_arrows_gets_others() -> None:
    plain = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    assert Paper(io.TextIOWrapper(io.BytesIO(), encoding="utf-8")).shows(ladder.DRAWN)
    assert not Paper(plain).shows(ladder.DRAWN)
    assert ladder.DRAWN.translate(ladder.ASCII).isascii()


async def test_an_output_without_lines_and_arrows_is_drawn_on_all_the_same(files: Files) -> None:
    async with serving(server_config()) as port:
        where = ("connect", f"127.0.0.1:{port}", *trusting(files), "--trace", "-q")
        async with running(*where, environment={"PYTHONIOENCODING": "ascii"}) as run:
            assert await run.ends() == 0
    assert b"|-- ClientHello, " in run.err
    assert run.err.isascii()


async def test_a_terminal_gets_a_ladder_in_colours(files: Files) -> None:
    async with serving(server_config()) as port:
        where = ("connect", f"127.0.0.1:{port}", *trusting(files), "--trace", "-q")
        async with on_a_terminal(*where) as run:
            assert await run.ends() == 0
    assert b"\x1b[1;33m ClientHello, " in run.out
    assert "◆ sends and receives with application keys".encode() in run.out


def test_the_docs_show_a_whole_handshake() -> None:
    words = [each.text or "" for each in ElementTree.parse(SHOWN).iter(f"{SVG}text")]
    for name in ("ClientHello", "{CertificateVerify}", "{Finished}", "[NewSessionTicket]", "[alert: close_notify]"):
        assert any(each.startswith(name) for each in words), name
